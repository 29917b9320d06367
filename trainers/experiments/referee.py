"""The referee: watches a trainer's progress, keeps the champion by its validation loss, and says when to stop and why.

Every method is judged by the same eyes: it offers chromosomes, the best on the validation split is the champion, and the
curves have one grid of passes for all. The test split is not known here.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evo_rnn.description import build, describe
from evo_rnn.evaluation.evaluator import LocalEvaluator
from evo_rnn.fitness import LOSSES, tolerances
from evo_rnn.network import Model
from evo_rnn.progress import Progress, State
from evo_rnn.shapes import Array, Genes
from evo_rnn.tasks.task import Task
from trainers.experiments.stopping import Criterion, Standing, first_met

KEPT = 4  # evaluators
PATIENT = 1024  # offered chromosomes that wait at most for the next point of the curves before they are judged


@dataclass(frozen=True)
class Row:
    """One point of every curve of a run: `metrics` when `passes` had been spent."""

    passes: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class Seen:
    """The last step seen."""

    step: int
    passes: float
    seconds: float
    metrics: Mapping[str, float]


class Referee:
    """Judges one run.

    Args:
        model: what is trained.
        task: its training and validation splits are used.
        criteria: when to stop; the first that is met gives the reason.
        grid: passes between two points of the curves; 0 makes every step a point.
        tolerance: standard deviations of the target that an output may be off and still count as learned.
        device: where validation is computed.
        spacing: passes between two points, at least, where steps are points.
    """

    def __init__(
        self,
        model: Model,
        task: Task,
        criteria: Sequence[Criterion],
        grid: float,
        tolerance: float = 0.1,
        device: str = "cpu",
        spacing: float = 0.0,
    ) -> None:
        self._criteria, self._grid, self._spacing = criteria, max(grid, 1.0) if grid else 0.0, spacing
        splits = {"train": task.train, "validation": task.validation}
        self._splits, self._loss, self._device = splits, task.loss, device
        self._own = model
        self._judges: dict[tuple[Model, str], LocalEvaluator] = {}
        self._tolerance = np.zeros(1) if LOSSES[task.loss].classes else tolerances(task.train, tolerance)
        self.champion: Genes = np.empty((0, model.layout.size), np.float32)
        self.model = model  # of the champion
        self._last = Seen(0, 0.0, 0.0, {})
        self._losses = {"train": np.inf, "validation": np.inf}  # the best so far
        self._changed = {"train": 0, "validation": 0}  # the step at which it was found
        self._pending: list[tuple[Model, Genes]] = []
        self._drawn, self._at = 0, 0.0  # points of the curves so far, and the passes of the last
        self._wall, self._clock = 0.0, time.monotonic()

    def watch(self, progress: Progress) -> tuple[list[Row], str]:
        """Look at one step: the new points of the curves, and why to stop, if at all."""
        self._last = Seen(progress.step, progress.passes, progress.seconds, progress.metrics)
        model = progress.model or self._own
        self._pending.append((model, progress.candidates))
        self._better("train", progress.loss)
        due = int(progress.passes // self._grid) if self._grid else self._drawn + (progress.passes >= self._next())
        if due > self._drawn or sum(len(genes) for _, genes in self._pending) >= PATIENT:
            self._select()
        points = [
            round(k * self._grid) if self._grid else round(progress.passes) for k in range(self._drawn + 1, due + 1)
        ]
        self._at = progress.passes if due > self._drawn else self._at
        self._drawn = max(due, self._drawn)
        leader = progress.candidates[:1]
        reason, goal = first_met(self._criteria, self._standing(model, leader))
        if goal:  # the network that met it is what was asked for, whatever another one does on the validation split
            self.model, self.champion, self._pending = model, leader.copy(), []
            self._losses["validation"] = float(self._judge(model, "validation")(leader)[0])
        return self._points(points), reason

    def settle(self) -> list[Row]:
        """Judge whatever is still waiting, when the run ends; the last point of the curves, if it is not there yet."""
        self._select()
        end = int(np.ceil(self._last.passes))
        return self._points([end] if end > round(self._drawn * self._grid if self._grid else self._at) else [])

    def spent(self) -> dict[str, float]:
        """Steps, passes and CPU seconds so far, and how many steps were broken networks only."""
        return {"steps": self._last.step, "passes": self._last.passes, "seconds": self._last.seconds}

    def _next(self) -> float:
        return self._at + self._spacing if self._drawn else 0.0

    def _better(self, split: str, loss: float) -> None:
        if loss < self._losses[split]:
            self._losses[split], self._changed[split] = float(loss), self._last.step

    def _judge(self, model: Model, split: str) -> LocalEvaluator:
        """The evaluator of a model on a split; those of the last few models are kept."""
        if (model, split) not in self._judges:
            if len(self._judges) >= KEPT:
                del self._judges[next(iter(self._judges))]
            self._judges[model, split] = LocalEvaluator(model, self._splits[split], self._loss, self._device)
        return self._judges[model, split]

    def _select(self) -> None:
        """Judge all who wait, those of one network together."""
        waiting: dict[Model, list[Genes]] = {}
        for model, offered in self._pending:
            waiting.setdefault(model, []).append(offered)
        self._pending = []
        for model, parts in waiting.items():
            genes = np.concatenate(parts)
            losses = self._judge(model, "validation")(genes)
            best = int(losses.argmin())
            if losses[best] < self._losses["validation"] or not len(self.champion):
                self.model, self.champion = model, genes[best : best + 1].copy()
                self._better("validation", losses[best])

    def _standing(self, model: Model, leader: Genes) -> Standing:
        def current(split: str) -> None:
            if split == "validation":
                self._select()

        def loss(split: str) -> float:
            current(split)
            return self._losses[split]

        def share(split: str) -> float:
            current(split)
            net, genes = (self.model, self.champion) if split == "validation" else (model, leader)
            return float(self._judge(net, split).learned(genes, self._tolerance)[0])

        def quiet(split: str) -> int:
            current(split)
            return self._last.step - self._changed[split]

        return Standing(self._last.step, self._last.passes, self._last.seconds, self._clocked(), loss, share, quiet)

    def _clocked(self) -> float:
        return self._wall + time.monotonic() - self._clock

    def _points(self, passes: list[int]) -> list[Row]:
        metrics = {
            "train/loss": self._losses["train"],
            "validation/loss": self._losses["validation"],
            "budget/passes": self._last.passes,
            "budget/seconds": self._last.seconds,
            **self._last.metrics,
        }
        return [Row(point, dict(metrics)) for point in passes]

    def state(self) -> dict[str, Array]:
        """Everything that a later referee needs to go on."""
        own = [self._drawn, self._at, self._clocked(), self._last.step, self._last.passes, self._last.seconds]
        numbers = [*self._losses.values(), *self._changed.values(), *own]
        alike = [genes for model, genes in self._pending if model == self._own]
        others = [(model, genes) for model, genes in self._pending if model != self._own]
        kept = np.concatenate(alike) if alike else np.empty((0, self._own.layout.size), np.float32)
        state: dict[str, Array] = {
            "champion": self.champion,
            "pending": kept,
            "numbers": np.array(numbers, dtype=np.float64),
        }
        if self.model != self._own:
            state["model"] = packed(self.model)
        for place, (model, genes) in enumerate(others):
            state |= {f"other/{place}/model": packed(model), f"other/{place}/genes": genes}
        return state

    def restore(self, state: State) -> None:
        """Take back what `state` gave."""
        self.champion = np.array(state["champion"])
        self.model = unpacked(state["model"]) if "model" in state else self._own
        self._pending = [(self._own, np.array(state["pending"]))] if len(state["pending"]) else []
        for place in range(sum(name.endswith("/model") for name in state)):
            part = f"other/{place}/"
            self._pending.append((unpacked(state[part + "model"]), np.array(state[part + "genes"])))
        train, validation, trained, validated, drawn, at, wall, step, passes, seconds = map(float, state["numbers"])
        self._last = Seen(int(step), passes, seconds, {})
        self._losses = {"train": train, "validation": validation}
        self._changed = {"train": int(trained), "validation": int(validated)}
        self._drawn, self._at, self._wall, self._clock = int(drawn), at, wall, time.monotonic()


def packed(model: Model) -> Array:
    """A network's description as bytes, for a checkpoint."""
    return np.frombuffer(json.dumps(describe(model)).encode(), dtype=np.uint8).copy()


def unpacked(text: Array) -> Model:
    """The network of a description in bytes."""
    made: Model = build(json.loads(bytes(text)))
    return made
