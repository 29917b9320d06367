"""A trial: one method, one seed, watched by a referee. It can be cut into slices anywhere without changing a bit.

A slice is a pure function of the trial's state, so any worker may do the next one, and a trial whose worker dies goes on
from the state that the last slice handed back.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from evo_rnn.description import build, describe
from evo_rnn.evaluation.evaluator import LocalEvaluator
from evo_rnn.evaluation.ray_evaluator import LOCAL, Compute
from evo_rnn.evaluation.worker import WorkerCache
from evo_rnn.fitness import LOSSES, tolerances
from evo_rnn.network import Model
from evo_rnn.progress import FRESH, State, Trainer
from evo_rnn.shapes import Array, Genes
from evo_rnn.tasks.task import Task
from trainers.experiments.referee import Referee, Row
from trainers.experiments.stopping import Criterion

EXHAUSTED = "early stopping: the trainer had nothing left to try"
PATIENCE = 30.0  # seconds between two slices, at most
SHARE = 0.05  # of the time that the reader of slices may take, if slices can be made longer


@dataclass(frozen=True)
class Rules:
    """How a trial is judged, the same for every method of a comparison.

    Args:
        criteria: when to stop.
        grid: passes between two points of the curves, the same for every method; 0 makes every step a point.
        spacing: passes between two points, at least, where steps are points.
        tolerance: standard deviations of the target within which an output counts as learned.
        device: as torch names it.
    """

    criteria: Sequence[Criterion]
    grid: float = 0.0
    spacing: float = field(default=0.0, kw_only=True)
    tolerance: float = 0.1
    device: str = "cpu"


@dataclass(frozen=True)
class Slice:
    """What one slice of a trial gives: new points, the state to go on from, and, when it is over, the reason and result.

    The state after the last slice is that before anything was settled: a trial can be prolonged from it. `model` describes
    the champion's network, where a trainer has changed it; it is empty where it is the run's own.
    """

    rows: list[Row]
    state: dict[str, Array]
    reason: str = ""
    result: Mapping[str, Any] = field(default_factory=dict)
    champion: Genes = field(default_factory=lambda: np.empty((0, 0), np.float32))
    model: Mapping[str, Any] = field(default_factory=dict)

    def champions(self, model: Model) -> Model:
        """The champion's network, in a run of `model`."""
        found: Model = build(self.model) if self.model else model
        return found


def slices(
    trainer: Trainer,
    model: Model,
    task: Task,
    rules: Rules,
    seed: int,
    *,
    state: State = FRESH,
    compute: Compute = LOCAL,
    seconds: float = 1.0,
) -> Iterator[Slice]:
    """Train until a criterion is met, handing back a slice about every `seconds` on the clock; the last has the result.

    Where the reader takes long over a slice, as over writing a large population to a slow disk, there are fewer.
    """
    referee = Referee(model, task, rules.criteria, rules.grid, rules.tolerance, rules.device, rules.spacing)
    mine, its = _split(state)
    if mine:
        referee.restore(mine)
    steps = trainer.train(model, task, seed, its, compute)
    rows: list[Row] = []
    due = time.monotonic() + seconds
    try:
        for progress in steps:
            points, reason = referee.watch(progress)
            rows += points
            if reason:
                state = _join(referee.state(), progress.checkpoint())
                yield _last(referee, model, task, rules, rows, reason, state)
                return
            if time.monotonic() >= due:
                handed = time.monotonic()
                yield Slice(rows, _join(referee.state(), progress.checkpoint()))
                taken = time.monotonic() - handed
                rows, due = [], time.monotonic() + max(seconds, min(taken / SHARE, PATIENCE))
        yield _last(referee, model, task, rules, rows, EXHAUSTED)
    finally:
        steps.close()  # type: ignore[attr-defined]


def advance(cache: WorkerCache, trainer: Trainer, seed: int, state: State, seconds: float) -> Slice:
    """The next slice of a trial, in a worker whose context has the model, the task and the rules."""
    values = cache.values
    compute = Compute(device=values["rules"].device)
    model, task, rules = build(values["model"]), values["task"], values["rules"]
    return next(slices(trainer, model, task, rules, seed, state=state, compute=compute, seconds=seconds))


def _last(
    referee: Referee, model: Model, task: Task, rules: Rules, rows: list[Row], reason: str, state: State = FRESH
) -> Slice:
    rows = rows + referee.settle()
    result = {"stop_reason": reason, **referee.spent(), **judge(referee.model, task, referee.champion, rules)}
    changed = describe(referee.model) if referee.model != model else {}
    return Slice(rows, dict(state), reason, result, referee.champion, changed)


def judge(model: Model, task: Task, champion: Genes, rules: Rules) -> dict[str, Any]:
    """The champion on every split; here, once, the test split is looked at."""
    tolerance = np.zeros(1) if LOSSES[task.loss].classes else tolerances(task.train, rules.tolerance)
    result: dict[str, Any] = {}
    for name, data in {"train": task.train, "validation": task.validation, "test": task.test, **task.spans}.items():
        evaluator = LocalEvaluator(model, data, task.loss, rules.device)
        result[f"{name}_loss"] = float(evaluator(champion)[0])
        if name == "train":
            result["learned"] = 100 * float(evaluator.learned(champion, tolerance)[0])
    return result | {"champion_sha256": fingerprint(champion, result["train_loss"])}


def fingerprint(champion: Genes, loss: float) -> str:
    """SHA-256 over the champion's genes (1, D) and its float64 training loss: equal exactly when both are, bit for bit."""
    genes = np.ascontiguousarray(champion, dtype="<f4")
    return hashlib.sha256(genes.tobytes() + np.array([loss], dtype="<f8").tobytes()).hexdigest()


def _join(referee: State, trainer: State) -> dict[str, Array]:
    return {f"referee/{name}": value for name, value in referee.items()} | {
        f"trainer/{name}": value for name, value in trainer.items()
    }


def _split(state: State) -> tuple[State, State]:
    mine, its = (
        {name.removeprefix(owner): value for name, value in state.items() if name.startswith(owner)}
        for owner in ("referee/", "trainer/")
    )
    return mine, its
