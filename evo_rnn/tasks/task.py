"""What a network must learn: sequences with the steps that count, split into training, validation and test."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from evo_rnn.errors import ConfigError
from evo_rnn.shapes import Array, check_shape

SPLITS = ("train", "validation", "test")


def _none() -> Array:
    return np.empty((0, 0, 0))


@dataclass(frozen=True, eq=False)
class Sequences:
    """B sequences of T steps, padded at the end where they are shorter.

    Args:
        inputs: (B, T, I) float64.
        targets: (B, T, O) float64; for classes (B, T, 1), the number of the class.
        counts: (B, T) bool: the steps that enter the loss. Washout, padding and other splits are False.
        previous: (B, T, O) what was last known of the target at each step, for the persistence baseline; may be empty.
    """

    inputs: Array
    targets: Array
    counts: Array
    previous: Array = field(default_factory=_none)

    def __post_init__(self) -> None:
        check_shape(self.inputs, "inputs", ("B", "T", "I"))
        batch, time = self.inputs.shape[:2]
        check_shape(self.targets, "targets", (batch, time, "O"), "Every step has a target, counted or not.")
        check_shape(self.counts, "counts", (batch, time))
        if not self.counts.any():
            raise ValueError(
                "counts should be True at one step at least but is False everywhere. Is the washout too long?"
            )

    @property
    def counted(self) -> int:
        """How many steps count."""
        return int(self.counts.sum())

    def arrays(self) -> dict[str, Array]:
        """The fields by name, for shipping."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def washed(self, steps: int) -> Sequences:
        """The same with the first `steps` steps of each sequence not counting."""
        return replace(self, counts=self.counts & (np.arange(self.counts.shape[1]) >= steps))


@dataclass(frozen=True, eq=False)
class Task:
    """One problem: three splits of data and how a network's answer is judged.

    Args:
        name: for people.
        train: what trainers see.
        validation: what champions are selected on.
        test: what is looked at once per reported champion.
        loss: a name in `evo_rnn.fitness.LOSSES`.
        outputs: O, how many values a network must give (for classes: how many classes).
        spans: parts of the test split that are reported apart, by name.
        lags: how many past inputs the linear regression baseline may use.
        notes: anything a report should say about the data: source, units of the loss.
        scaling: what a user's values were shifted and divided by, by column name.
        labels: (T,) years or dates of what is predicted at each step of the test split, for people; may be empty.
    """

    name: str
    train: Sequences
    validation: Sequences
    test: Sequences
    outputs: int
    loss: str = "mse"
    spans: Mapping[str, Sequences] = field(default_factory=dict)
    lags: int = 12
    notes: str = ""
    scaling: Mapping[str, Any] = field(default_factory=dict)
    labels: Sequence[str] = ()

    @property
    def inputs(self) -> int:
        """I."""
        return int(self.train.inputs.shape[2])

    @property
    def splits(self) -> dict[str, Sequences]:
        """Training, validation, test and the spans of the test split, by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test, **self.spans}

    def digest(self) -> str:
        """SHA-256 over every split, for provenance and for the guard of resumed runs; labels change nothing."""
        sums = hashlib.sha256(f"{self.loss} {self.outputs}".encode())
        for name, split in self.splits.items():
            sums.update(name.encode())
            for array in (split.inputs, split.targets, split.counts):
                sums.update(repr((array.shape, array.dtype.str)).encode() + np.ascontiguousarray(array).tobytes())
        return sums.hexdigest()


def check_least(setting: str, value: int, least: int) -> None:
    """Refuse a whole-number setting of a task that is too small.

    Raises:
        ConfigError: naming the setting, the least value and what came.
    """
    if value < least:
        raise ConfigError(f"{setting} should be at least {least} but is {value}.")
