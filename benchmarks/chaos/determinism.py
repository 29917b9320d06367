"""One hash a problem, however the work is spread."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.chaos.problems import BLOCK, HIDDEN, Problem
from benchmarks.chaos.report import Report
from evo_rnn.evaluation.evaluator import Evaluator
from evo_rnn.evaluation.ray_evaluator import LOCAL, Compute, RayEvaluator
from evo_rnn.evaluation.ray_session import join_ray
from evo_rnn.network import Model
from evo_rnn.tasks.task import Sequences

POPULATIONS = (1, 15, 16, 17, 33, 48)
MORE = (31, 49, 64, 97)
GENERATIONS = 3


@dataclass(frozen=True)
class Shards(Compute):
    """The shards that `workers` processes would get, worked on in this one."""

    def evaluator(self, model: Model, data: Sequences, loss: str) -> Evaluator:
        """An evaluator without Ray."""
        made = RayEvaluator(model, data, loss, workers=0)
        made.workers = self.workers
        return made


@dataclass
class Kept:
    """An evaluator that outlives a search, so that its workers serve the next: their number is what is tried."""

    inner: RayEvaluator

    @property
    def seconds(self) -> float:
        """As the evaluator within."""
        return self.inner.seconds

    def __call__(self, *what: Any) -> Any:  # noqa: ANN401
        """As the evaluator within."""
        return self.inner(*what)

    def close(self) -> None:
        """Nothing yet."""


@dataclass(frozen=True)
class Lent(Compute):
    """Lends one evaluator to search after search on the same model and data."""

    kept: tuple[Kept, ...] = ()

    def evaluator(self, model: Model, data: Sequences, loss: str) -> Evaluator:  # noqa: ARG002
        """The one there is."""
        return self.kept[0]  # type: ignore[return-value]


def problems(cells: Iterable[str] = HIDDEN, populations: Iterable[int] = POPULATIONS) -> list[Problem]:
    """One a cell and a population."""
    return [Problem(cell, size, GENERATIONS) for cell, size in itertools.product(cells, populations)]


def in_process(found: dict[Problem, dict[str, str]], tried: list[Problem], shards: Iterable[int] = (1, 2, 4)) -> None:
    """Solve alone, and in the shards of so many workers."""
    for problem in tried:
        found[problem]["alone"] = problem.solve(LOCAL)
        for count in shards:
            found[problem][f"{count} shards"] = problem.solve(Shards(count))


def on_ray(found: dict[Problem, dict[str, str]], cell: str, workers: int, populations: Iterable[int]) -> None:
    """Solve the problems of one cell, one after another, on one pool."""
    first = Problem(cell)
    evaluator = RayEvaluator(first.model, first.task.train, first.task.loss, workers=workers)
    try:
        for problem in problems([cell], populations):
            found[problem][f"{workers} workers"] = problem.solve(Lent(workers, kept=(Kept(evaluator),)))
    finally:
        evaluator.close()


def islands(found: dict[Problem, dict[str, str]], cells: Iterable[str], workers: Iterable[int]) -> None:
    """Three populations side by side, alone and each in a worker where there are enough."""
    for cell, size in itertools.product(cells, (15, 17)):
        problem = Problem(cell, size, GENERATIONS, islands=3)
        for count in (0, *workers):
            found[problem][f"{count} workers"] = problem.solve(Compute(count))


def matrix(count: int, seed: int, folder: Path) -> Report:  # noqa: ARG001
    """Workers 0, 1, 2, 4 by populations by cells, and by islands where there are some."""
    report, populations = Report(independent=False), POPULATIONS + MORE
    found: dict[Problem, dict[str, str]] = defaultdict(dict)
    leave = join_ray("local", cpus=4, gpus=False, object_store_memory=100 * 2**20)
    try:
        in_process(found, problems(populations=populations))
        for cell, workers in itertools.product(HIDDEN, (1, 2, 4)):
            on_ray(found, cell, workers, populations)
        islands(found, HIDDEN, (1, 2, 4))
    finally:
        leave()
    judge(report, found)
    report.check("cells of the matrix", report.injected.total() >= count, report.injected.total())
    return report


def judge(report: Report, found: dict[Problem, dict[str, str]]) -> None:
    """One hash a problem, another for every problem; and the block must be smaller than most populations."""
    for problem, hashes in found.items():
        report.injected[problem.cell] += len(hashes)
        report.check("one hash", len(set(hashes.values())) == 1, f"{problem}: {hashes}")
        report.check("the block is 16", problem.block == BLOCK, f"{problem}: {problem.block}")
    firsts = {next(iter(hashes.values())) for hashes in found.values()}
    report.check("another problem has another hash", len(firsts) == len(found))
