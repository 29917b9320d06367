"""The desk from which training is launched in Python: `run` one trainer, or `compare` several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evo_rnn.evaluation.ray_evaluator import LOCAL, Compute
from evo_rnn.network import Model
from evo_rnn.progress import Trainer
from evo_rnn.tasks.task import Task
from evo_rnn.tracking import MemoryTracker, Tracker
from trainers.experiments.book import Book, RunPage, model_params, settings_of, short_name
from trainers.experiments.builders import POINTS
from trainers.experiments.outcome import Comparison
from trainers.experiments.race import race
from trainers.experiments.stopping import Criterion, Passes
from trainers.experiments.trial import Rules, slices


def run(
    trainer: Trainer,
    model: Model,
    task: Task,
    *,
    seed: int = 0,
    passes: float = 30_000,
    until: Sequence[Criterion] = (),
    compute: Compute = LOCAL,
    tracker: Tracker | None = None,
) -> Mapping[str, Any]:
    """Train once, and judge the champion on every split.

    Args:
        trainer: what improves the chromosomes.
        model: what they are the weights of.
        task: what to learn.
        seed: of every random stream.
        passes: the budget; one pass is one network over all counted training steps once.
        until: other criteria to stop at.
        compute: where the population is scored.
        tracker: where the run is written; by default in memory only.

    Returns:
        `stop_reason`, `steps`, `passes`, `seconds` (CPU), `learned` (percent), `champion` (1, D), `champion_sha256` and a
        `<split>_loss` for train, validation, test and every span.
    """
    params = {"seed": seed, "task": task.name, "budget.passes": passes, **model_params(model)}
    params |= {"method": type(trainer).__name__.lower(), **settings_of(trainer, "trainer")}
    name = f"{params['method']} - {short_name(model)} - seed {seed}"
    page = RunPage(tracker or MemoryTracker(), name, model, task, params, {"evo.seed": str(seed)})
    rules = Rules((*until, Passes(passes)), passes / POINTS, device=compute.device)
    for piece in slices(trainer, model, task, rules, seed, compute=compute):
        page.write(piece)
    return {**piece.result, "champion": piece.champion}


def compare(
    trainers: Mapping[str, Trainer],
    model: Model,
    task: Task,
    *,
    seeds: int | Sequence[int] = 5,
    passes: float = 30_000,
    until: Sequence[Criterion] = (),
    compute: Compute = LOCAL,
    tracker: Tracker | None = None,
    families: Mapping[str, str] | None = None,
) -> Comparison:
    """Train the same model with every trainer and every seed under one budget.

    Args:
        trainers: by the name to call them.
        model: what all of them train.
        task: what all of them learn.
        seeds: how many, or which.
        passes: the budget of every run.
        until: other criteria to stop at.
        compute: `Compute(workers=2)` spreads the trials over two Ray workers; the result is the same.
        tracker: where the runs are written; by default in memory only.
        families: "evolution", "gradient", "memetic" or "control", by name; for reports.

    Returns:
        Every trial, the baselines and the verdict.
    """
    chosen = range(seeds) if isinstance(seeds, int) else seeds
    rules = Rules((*until, Passes(passes)), passes / POINTS, device=compute.device)
    kinds = families or dict.fromkeys(trainers, "")
    book = Book(task.name, trainers, model, task, kinds, chosen, passes, tracker or MemoryTracker())
    for event in race(trainers, model, task, rules, chosen, compute=compute):
        book.write(event)
    return book.close()
