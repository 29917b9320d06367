"""The adding problem (Hochreiter and Schmidhuber 1997, Long short-term memory, Neural Computation 9, experiment 4).

In the form of Le, Jaitly and Hinton 2015 (arXiv 1504.00941), which IndRNN uses too: one input is noise from [0, 1], the
other marks two places; the answer, due at the last step, is the sum of the two marked numbers.
"""

from __future__ import annotations

import numpy as np

from evo_rnn.seeds import generator
from evo_rnn.tasks.task import SPLITS, Sequences, Task, check_least


def adding(length: int = 100, sequences: int = 128, seed: int = 0) -> Task:
    """The adding problem; the best constant answer, 1, has an expected loss of 1/6.

    Args:
        length: T, steps of a sequence.
        sequences: B, how many sequences each split has.
        seed: of the sequences.

    Raises:
        ConfigError: if a setting is too small.
    """
    check_least("length", length, 2)
    check_least("sequences", sequences, 1)
    train, validation, test = (_draw(generator(seed, "adding", part), length, sequences) for part in SPLITS)
    return Task(
        "adding",
        train,
        validation,
        test,
        outputs=1,
        notes=f"adding problem, {length} steps; error = mean squared error, 1/6 for the best constant answer",
    )


def _draw(random: np.random.Generator, length: int, sequences: int) -> Sequences:
    numbers = random.random((sequences, length))
    first = random.integers(length, size=sequences)
    second = (first + 1 + random.integers(length - 1, size=sequences)) % length  # any other place
    marks = np.zeros((sequences, length))
    rows = np.arange(sequences)
    marks[rows, first] = marks[rows, second] = 1
    answer = numbers[rows, first] + numbers[rows, second]
    targets = np.repeat(answer[:, None, None], length, axis=1)
    counts = np.tile(np.arange(length) == length - 1, (sequences, 1))
    return Sequences(np.stack([numbers, marks], axis=2), targets, counts)
