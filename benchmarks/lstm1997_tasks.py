"""What the trials of the 1997 experiments are shown: every trial (row) has sequences of its own.

The adding problem and temporal order are the paper's own versions; those of `evo_rnn.tasks` are the later, common ones or
fixed sets. Where the paper leaves something open, the choice is said here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from lstm1997_rule import Values
from numpy.typing import NDArray

from evo_rnn.seeds import generator
from evo_rnn.tasks.reber import SYMBOLS, coded, drawn, successors
from evo_rnn.tasks.temporal_order import SYMBOLS as ORDER_SYMBOLS

Numbers = NDArray[np.int64]
Block = tuple[Values, Numbers, Values]  # inputs (K, T, P, I), last steps (K, P), targets (K, P, O)
STRINGS, LONGEST = 256, 1000  # of a set; symbols, which no string has


def reber_set(seed: int, number: int) -> tuple[list[str], list[str]]:
    """256 training strings, which may repeat, and 256 test strings that are not among them."""
    train = drawn(generator(seed, "reber set", "train", number), STRINGS, LONGEST)
    return train, drawn(generator(seed, "reber set", "test", number), STRINGS, LONGEST, set(train))


class Strings:
    """Symbols for P trials: string after string, picked at random from a training set, each trial at its own place."""

    def __init__(self, sets: Sequence[Sequence[str]], seed: int) -> None:
        self.sets = [[np.array([SYMBOLS.index(symbol) for symbol in string]) for string in each] for each in sets]
        self.random = [generator(seed, "reber order", row) for row in range(len(sets))]
        self.left = [np.zeros((3, 0), dtype=np.int64) for _ in sets]

    def take(self, ticks: int, rows: Numbers) -> Numbers:
        """(3, ticks, rows): a symbol, the one that follows it, and whether it begins a string."""
        return np.stack([self._row(row, ticks) for row in rows], axis=2)

    def _row(self, row: int, ticks: int) -> Numbers:
        parts, have = [self.left[row]], self.left[row].shape[1]
        while have < ticks:
            string = self.sets[row][self.random[row].integers(len(self.sets[row]))]
            parts.append(np.stack([string[:-1], string[1:], np.arange(len(string) - 1) == 0]))
            have += len(string) - 1
        every = np.concatenate(parts, axis=1)
        self.left[row] = every[:, ticks:]
        return every[:, :ticks]


def examples(strings: Sequence[str]) -> tuple[Values, Values]:
    """Inputs and allowed next symbols, (B, T, 7) each; behind the end of a string everything is allowed."""
    steps = max(map(len, strings)) - 1
    inputs, allowed = np.zeros((len(strings), steps, 7)), np.ones((len(strings), steps, 7))
    for row, string in enumerate(strings):
        inputs[row, : len(string) - 1] = coded(string[:-1])
        allowed[row, : len(string) - 1] = coded(successors(string))
    return inputs, allowed


def adding_block(random: np.random.Generator, count: int, people: int, length: int = 100) -> Block:
    """Experiment 4: .5 + (X1 + X2) / 4 of two marked numbers in [-1, 1], after `length` to 1.1 `length` steps.

    If the first pair of a sequence is marked its number is 0, in the input too; its marker stays 1.
    """
    size, steps = (count, people), length + length // 10
    numbers, marks = random.uniform(-1, 1, (count, steps, people)), np.zeros((count, steps, people))
    last = random.integers(length, steps, size=size, endpoint=True) - 1
    first = random.integers(10, size=size)
    second = random.integers(length // 2 - 1, size=size)
    second += second >= first  # one of the first T / 2 - 1 that are not marked yet
    k, p = np.ogrid[:count, :people]
    marks[:, 0] = marks[k, last, p] = -1
    marks[k, first, p] = marks[k, second, p] = 1
    numbers[:, 0] = np.where(marks[:, 0] == 1, 0.0, numbers[:, 0])
    answer = 0.5 + (numbers[k, first, p] + numbers[k, second, p]) / 4
    return np.stack([numbers, marks], axis=3), last, answer[..., None]


def order_block(random: np.random.Generator, count: int, people: int, length: int = 100) -> Block:
    """Experiment 6a: which of X and Y came first and second among a, b, c, d; E begins and B ends a sequence."""
    size, steps, tenth = (count, people), length + length // 10, length // 10
    symbols = random.integers(ORDER_SYMBOLS.index("a"), ORDER_SYMBOLS.index("X"), size=(count, steps, people))
    last = random.integers(length, steps, size=size, endpoint=True) - 1
    places = (
        random.integers(tenth, 2 * tenth, size=size, endpoint=True),
        random.integers(5 * tenth, 6 * tenth, size=size, endpoint=True),
    )
    which = random.integers(2, size=(2, *size))
    k, p = np.ogrid[:count, :people]
    for place, kind in zip(places, which, strict=True):
        symbols[k, place, p] = ORDER_SYMBOLS.index("X") + kind
    symbols[:, 0] = ORDER_SYMBOLS.index("E")
    symbols[k, last, p] = ORDER_SYMBOLS.index("B")
    return np.eye(len(ORDER_SYMBOLS))[symbols], last, np.eye(4)[2 * which[0] + which[1]]
