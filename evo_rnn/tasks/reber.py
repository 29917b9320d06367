"""The embedded Reber grammar: predict the next symbol (Reber 1967; Smith and Zipser 1989; Fahlman 1991).

As in Hochreiter and Schmidhuber 1997, Neural Computation 9, experiment 1. A string is B, then T or P, then a string of
Reber's grammar, then that same T or P again, then E: the symbol before the last needs the second one remembered.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from evo_rnn.errors import ConfigError
from evo_rnn.seeds import generator
from evo_rnn.shapes import Array
from evo_rnn.tasks.task import SPLITS, Sequences, Task, check_least

SYMBOLS = "BTPSXVE"
EDGES = ({"T": 1, "P": 2}, {"S": 1, "X": 3}, {"T": 2, "V": 4}, {"X": 2, "S": 5}, {"P": 3, "V": 5}, {"E": 6})  # by node
SHORTEST = 9  # symbols
TRIES = 10_000  # strings in a row that may be refused


def embedded_reber(length: int = 60, sequences: int = 256, seed: int = 0) -> Task:
    """Next-symbol prediction on strings of the embedded Reber grammar: 7 inputs, 7 classes.

    Symbols are drawn as the paper says, one of two edges at a time. Strings may repeat within a split, but no string of
    the training split is in another one. Where two symbols may follow no network can know which, so the best expected
    loss is ln 2 times the share of such steps.

    Args:
        length: symbols of the longest string that is used; 1 in 10^5 has more than 50. T is one less than the longest has.
        sequences: B, how many strings each split has.
        seed: of the strings.

    Raises:
        ConfigError: if a setting is too small, or if hardly any other strings are left for validation and test.
    """
    check_least("length", length, SHORTEST)
    check_least("sequences", sequences, 1)
    train = drawn(generator(seed, "embedded_reber", "train"), sequences, length)
    validation, test = (
        drawn(generator(seed, "embedded_reber", part), sequences, length, set(train)) for part in SPLITS[1:]
    )
    return Task(
        "embedded_reber",
        _sequences(train),
        _sequences(validation),
        _sequences(test),
        outputs=len(SYMBOLS),
        loss="cross_entropy",
        notes="next symbol of the embedded Reber grammar; error = cross entropy in nats",
    )


def embedded_string(random: np.random.Generator) -> str:
    """One string, with even odds at every fork."""
    outer, inner, node = "TP"[random.integers(2)], "B", 0
    while node < len(EDGES):
        symbols = tuple(EDGES[node])
        inner += symbols[random.integers(len(symbols))]
        node = EDGES[node][inner[-1]]
    return f"B{outer}{inner}{outer}E"


def drawn(random: np.random.Generator, count: int, length: int, used: Collection[str] = ()) -> list[str]:
    """`count` strings of at most `length` symbols, none of them in `used`.

    Raises:
        ConfigError: if they do not come.
    """
    found: list[str] = []
    tries = 0
    while len(found) < count:
        string, tries = embedded_string(random), tries + 1
        if len(string) <= length and string not in used:
            found.append(string)
            tries = 0
        if tries > TRIES:
            raise ConfigError(
                f"length should leave room for strings outside the {len(used)} of the training split but is {length}: "
                f"{TRIES} strings in a row were too long or known. Give a larger length or fewer sequences."
            )
    return found


def successors(string: str) -> list[str]:
    """The symbols that the grammar allows after each symbol of a string but the last."""
    allowed, node = ["TP", "B", "".join(EDGES[0])], 0
    for symbol in string[3:-2]:
        node = EDGES[node][symbol]
        allowed.append("".join(EDGES[node]) if node < len(EDGES) else string[1])
    return [*allowed, "E"]


def coded(texts: Sequence[str]) -> Array:
    """(len(texts), 7): a one for each symbol of each text."""
    return np.array([[float(symbol in text) for symbol in SYMBOLS] for text in texts])


def predicted(outputs: Array, allowed: Array) -> Array:
    """Whether the outputs (..., 7) of the allowed symbols (..., 7) are all above all others: the paper's test (...)."""
    is_allowed = allowed > 0
    lowest = np.where(is_allowed, outputs, np.inf).min(axis=-1)
    best: Array = lowest > np.where(is_allowed, -np.inf, outputs).max(axis=-1)
    return best


def _sequences(strings: Sequence[str]) -> Sequences:
    steps = max(map(len, strings)) - 1
    inputs, targets = np.zeros((len(strings), steps, len(SYMBOLS))), np.zeros((len(strings), steps, 1))
    counts = np.zeros((len(strings), steps), dtype=bool)
    for row, string in enumerate(strings):
        inputs[row, : len(string) - 1] = coded(string[:-1])
        targets[row, : len(string) - 1, 0] = [SYMBOLS.index(symbol) for symbol in string[1:]]
        counts[row, : len(string) - 1] = True
    return Sequences(inputs, targets, counts)
