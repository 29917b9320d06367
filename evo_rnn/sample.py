"""Minibatches with common random numbers: whoever asks at the same step gets the same sequences.

Networks that are compared on the same few sequences differ by what they are and not by what they saw (common random
numbers: Law and Kelton, Simulation Modeling and Analysis; in evolution strategies: Salimans et al. 2017, section 2.1).
"""

from __future__ import annotations

import numpy as np

from evo_rnn.seeds import generator
from evo_rnn.tasks.task import Sequences

EVERY: tuple[int, ...] = ()  # stands for all sequences


def sample(data: Sequences, count: int, seed: int, step: int) -> tuple[int, ...]:
    """Which `count` sequences of `data` (B, T, I) step `step` is about, ascending; `EVERY` where they would be all.

    Sequences where no step counts teach nothing and are not drawn. The stream is ("minibatch", step) of the run's seed.
    """
    useful = np.flatnonzero(data.counts.any(axis=1))
    if not 0 < count < len(useful):
        return EVERY
    chosen = generator(seed, "minibatch", generation=step).choice(useful, count, replace=False)
    return tuple(int(index) for index in np.sort(chosen))


def share(data: Sequences, chosen: tuple[int, ...]) -> float:
    """The share of counted steps that lie in the chosen sequences: what a pass over them costs."""
    return float(data.counts[list(chosen)].sum() / data.counts.sum()) if chosen else 1.0


def pick(data: Sequences, chosen: tuple[int, ...]) -> Sequences:
    """The chosen sequences alone, in that order."""
    if not chosen:
        return data
    rows = list(chosen)
    return Sequences(data.inputs[rows], data.targets[rows], data.counts[rows])
