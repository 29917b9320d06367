"""Delayed exclusive or (after Elman 1990, Finding structure in time, Cognitive Science 14): y(t) = x(t) xor x(t - d).

The smallest problem that needs both memory and a non-linear decision; a linear answer is right half of the time.
"""

from __future__ import annotations

import numpy as np

from evo_rnn.seeds import generator
from evo_rnn.tasks.task import SPLITS, Sequences, Task, check_least


def delayed_xor(length: int = 50, sequences: int = 16, seed: int = 0, delay: int = 1) -> Task:
    """The delayed exclusive or: one random bit a step, two classes.

    Args:
        length: T, steps of a sequence, of which the first `delay` do not count.
        sequences: B, how many sequences each split has.
        seed: of the bits.
        delay: d, how many steps back the other bit lies.

    Raises:
        ConfigError: if a setting is too small.
    """
    check_least("delay", delay, 1)
    check_least("length", length, delay + 1)
    check_least("sequences", sequences, 1)
    train, validation, test = (_draw(generator(seed, "delayed_xor", part), length, sequences, delay) for part in SPLITS)
    return Task(
        "delayed_xor",
        train,
        validation,
        test,
        outputs=2,
        loss="cross_entropy",
        notes=f"exclusive or with the bit {delay} steps back; error = cross entropy in nats, 0.693 for guessing",
    )


def _draw(random: np.random.Generator, length: int, sequences: int, delay: int) -> Sequences:
    bits = random.integers(2, size=(sequences, length))
    answer = bits ^ np.roll(bits, delay, axis=1)  # what rolls in at the start is washed out
    inputs, targets = (values[..., None].astype(np.float64) for values in (bits, answer))
    return Sequences(inputs, targets, np.ones((sequences, length), dtype=bool)).washed(delay)
