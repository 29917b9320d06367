"""Temporal order (Hochreiter and Schmidhuber 1997, Long short-term memory, Neural Computation 9, experiment 6a).

A sequence begins with E and ends with B; between are random a, b, c, d, but X or Y at two far places. Which came first
and which second is the class: XX, XY, YX or YY.
"""

from __future__ import annotations

import numpy as np

from evo_rnn.seeds import generator
from evo_rnn.tasks.task import SPLITS, Sequences, Task, check_least

SYMBOLS = "EBabcdXY"  # one input each
CLASSES = ("XX", "XY", "YX", "YY")


def temporal_order(length: int = 100, sequences: int = 128, seed: int = 0) -> Task:
    """The temporal order task: 8 inputs, 4 classes, judged at the last step of each sequence.

    With n = `length`, sequences have n to 1.1 n symbols; the first X or Y is n/10 to n/5 symbols after E, the second
    n/2 to 0.6 n. With 100 these are the paper's ranges.

    Args:
        length: symbols of the shortest sequences; T is a tenth more, padded with zeros after the B.
        sequences: B, how many sequences each split has.
        seed: of the sequences.

    Raises:
        ConfigError: if a setting is too small.
    """
    check_least("length", length, 10)
    check_least("sequences", sequences, 1)
    train, validation, test = (_draw(generator(seed, "temporal_order", part), length, sequences) for part in SPLITS)
    return Task(
        "temporal_order",
        train,
        validation,
        test,
        outputs=len(CLASSES),
        loss="cross_entropy",
        notes=f"temporal order of two symbols in {length} to {_tenths(length, 11)}; error = cross entropy in nats",
    )


def _draw(random: np.random.Generator, length: int, sequences: int) -> Sequences:
    rows, steps = np.arange(sequences), np.arange(_tenths(length, 11))
    symbols = random.integers(SYMBOLS.index("a"), SYMBOLS.index("X"), size=(sequences, len(steps)))
    last = random.integers(length, len(steps), size=sequences, endpoint=True) - 1
    first_place = random.integers(_tenths(length, 1), _tenths(length, 2), size=sequences, endpoint=True)
    second_place = random.integers(_tenths(length, 5), _tenths(length, 6), size=sequences, endpoint=True)
    order = random.integers(2, size=(sequences, 2))
    symbols[:, 0] = SYMBOLS.index("E")
    symbols[rows, first_place] = SYMBOLS.index("X") + order[:, 0]
    symbols[rows, second_place] = SYMBOLS.index("X") + order[:, 1]
    symbols[rows, last] = SYMBOLS.index("B")
    inputs = np.eye(len(SYMBOLS))[symbols]
    inputs[steps > last[:, None]] = 0
    answer = (2 * order[:, 0] + order[:, 1]).astype(np.float64)
    targets = np.repeat(answer[:, None, None], len(steps), axis=1)
    return Sequences(inputs, targets, steps == last[:, None])


def _tenths(length: int, tenths: int) -> int:
    return length * tenths // 10
