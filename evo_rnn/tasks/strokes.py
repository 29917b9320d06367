"""Pen strokes without borders: which corners were drawn, in order; when is not told (after Graves et al. 2006, ICML 23).

The input is the noisy velocity of a pen in the plane. A label is a corner: some steps one way, then some steps another
way. Its speed varies and pauses of random length lie between, so no step belongs to a label; the target is the string.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np

from evo_rnn.errors import ConfigError
from evo_rnn.seeds import generator
from evo_rnn.shapes import Array
from evo_rnn.tasks.task import SPLITS, Sequences, Task, check_least

WAYS = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])  # right, up, left, down
CORNERS = list(permutations(range(4), 2))  # label k is CORNERS[k - 1]
LEG, PAUSE = (2, 3), (1, 3)  # least and most steps


def strokes(length: int = 4, sequences: int = 100, seed: int = 0, labels: int = 4, noise: float = 0.2) -> Task:
    """Strings of pen strokes: 2 inputs, one output a label and one for none, judged by CTC.

    Args:
        length: the most labels of a sequence; each has 1 to that many. T is enough steps for the longest.
        sequences: B, how many sequences each split has.
        seed: of the strings and the noise.
        labels: how many kinds of strokes there are, 2 to 12.
        noise: standard deviation of the noise on each input, where a pen that moves has speed 1.

    Raises:
        ConfigError: if a setting is out of range.
    """
    check_least("length", length, 1)
    check_least("sequences", sequences, 1)
    if not 2 <= labels <= len(CORNERS):
        raise ConfigError(f"labels should be from 2 to {len(CORNERS)} but is {labels}.")
    if not noise >= 0:
        raise ConfigError(f"noise should be at least 0 but is {noise}.")
    train, validation, test = (
        _draw(generator(seed, "strokes", part), length, sequences, labels, noise) for part in SPLITS
    )
    return Task(
        "strokes",
        train,
        validation,
        test,
        outputs=labels + 1,
        loss="ctc",
        notes=f"strings of 1 to {length} pen strokes of {labels} kinds; error = -log p(string) in nats a step (CTC)",
    )


def _draw(random: np.random.Generator, length: int, sequences: int, labels: int, noise: float) -> Sequences:
    steps = length * (2 * LEG[1] + PAUSE[1]) + PAUSE[1]
    inputs = np.zeros((sequences, steps, len(WAYS[0])))
    targets, ends = np.zeros((sequences, steps, 1)), np.empty(sequences, dtype=np.int64)
    for b in range(sequences):
        string = random.integers(1, labels, size=random.integers(1, length, endpoint=True), endpoint=True)
        drawn = _written(random, string)
        ends[b] = len(drawn)
        inputs[b, : ends[b]] = drawn + random.normal(0.0, noise, drawn.shape)
        targets[b, : len(string), 0] = string  # at the front: their places tell nothing
    return Sequences(inputs, targets, np.arange(steps) < ends[:, None])


def _written(random: np.random.Generator, string: Array) -> Array:
    """The velocity (steps, 2) of a pen that draws the string."""
    rest = np.zeros((1, len(WAYS[0])))
    parts = [rest.repeat(random.integers(*PAUSE, endpoint=True), axis=0)]
    for label in string:
        parts += [WAYS[[way]].repeat(random.integers(*LEG, endpoint=True), axis=0) for way in CORNERS[label - 1]]
        parts.append(rest.repeat(random.integers(*PAUSE, endpoint=True), axis=0))
    return np.concatenate(parts)
