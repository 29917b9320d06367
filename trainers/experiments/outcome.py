"""What came of a comparison: every trial's curves and result, the baselines, and the verdict that follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from evo_rnn.network import Model
from evo_rnn.shapes import Array, Genes
from evo_rnn.statistics import interval, iqm
from evo_rnn.tasks.task import Task
from evo_rnn.verdict import Verdict, verdict
from trainers.experiments.referee import Row
from trainers.experiments.trial import EXHAUSTED


@dataclass(frozen=True)
class TrialRecord:
    """One method with one seed.

    Args:
        method: the label in the comparison.
        seed: the run seed.
        rows: the points of its curves.
        result: `stop_reason`, `steps`, `passes`, `seconds`, `learned` (percent), `champion_sha256`, and for each split
            and span a `<name>_loss`.
        champion: (1, D) genes, selected on the validation split.
        model: what they are the weights of.
    """

    method: str
    seed: int
    rows: tuple[Row, ...]
    result: Mapping[str, Any]
    champion: Genes
    model: Model


@dataclass(frozen=True)
class Comparison:
    """Methods side by side.

    Args:
        name: for people.
        model: what all methods trained.
        task: what they learned.
        budget: passes each run could spend; 0 if there was another bound.
        families: "evolution", "gradient", "memetic" or "control", by method.
        trials: every run, in the order method, seed.
        baselines: `persistence` and `lagged_regression`, each a loss by split.
    """

    name: str
    model: Model
    task: Task
    budget: float
    families: Mapping[str, str]
    trials: tuple[TrialRecord, ...]
    baselines: Mapping[str, Mapping[str, float]]

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """Labels, in the order in which they were given."""
        return tuple(dict.fromkeys(trial.method for trial in self.trials))

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """Run seeds."""
        return tuple(dict.fromkeys(trial.seed for trial in self.trials))

    def of(self, method: str) -> list[TrialRecord]:
        """The runs of one method, by seed."""
        return [trial for trial in self.trials if trial.method == method]

    def values(self, method: str, key: str) -> Array:
        """One number of every run of a method, (N,)."""
        return np.array([trial.result[key] for trial in self.of(method)], dtype=np.float64)

    def early(self, method: str) -> int:
        """How many runs of a method ended by themselves, before any criterion was met."""
        return sum(trial.result["stop_reason"] == EXHAUSTED for trial in self.of(method))

    @cached_property
    def verdict(self) -> Verdict:
        """Who won on the test split."""
        return verdict({method: self.values(method, "test_loss") for method in self.methods})

    def summary(self) -> dict[str, Any]:
        """The numbers by method, as plain data."""
        return {method: self._line(method) for method in self.methods}

    def _line(self, method: str) -> dict[str, Any]:
        losses = self.values(method, "test_loss")
        low, high = interval(losses)
        keys = (
            "train_loss",
            "validation_loss",
            "passes",
            "seconds",
            "learned",
            *(f"{s}_loss" for s in self.task.spans),
        )
        line: dict[str, Any] = {"test_loss": {"iqm": iqm(losses), "low": low, "high": high}}
        line |= {key: iqm(self.values(method, key)) for key in keys}
        return line | {"runs": len(losses), "family": self.families[method], "early": self.early(method)}
