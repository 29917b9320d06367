"""Fixed searches, and the one number that says whether two of them came out alike."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from evo_rnn.cells import CELLS
from evo_rnn.evaluation.evaluator import Evaluator, LocalEvaluator
from evo_rnn.evaluation.ray_evaluator import LOCAL, Compute, RayEvaluator
from evo_rnn.network import Network, network
from evo_rnn.progress import Progress, Trainer
from evo_rnn.tasks.adding import adding
from evo_rnn.tasks.task import Sequences, Task
from populations.algorithms import GeneticAlgorithm
from populations.evolution import Evolution
from populations.islands import Islands

HIDDEN = {"elman": 32, "gru": 12, "lstm": 12}  # on 256 sequences the engine's block is 16 for all of them
BLOCK = 16


@dataclass(frozen=True)
class Problem:
    """A search that is the same every time.

    Args:
        cell: a name in `HIDDEN`.
        population: P.
        generations: how many.
        length: steps of a sequence; what an evaluation costs is in proportion.
        seed: of the search.
        islands: how many populations side by side.
    """

    cell: str = "lstm"
    population: int = 48
    generations: int = 4
    length: int = 8
    seed: int = 0
    islands: int = 1

    @property
    def task(self) -> Task:
        """What is learned."""
        return _task(self.length)

    @property
    def model(self) -> Network:
        """What learns it."""
        return network(CELLS[self.cell](self.task.inputs, HIDDEN[self.cell]), self.task.outputs)

    @property
    def trainer(self) -> Trainer:
        """How."""
        one = Evolution(GeneticAlgorithm(population=self.population, elites=min(2, self.population - 1)))
        return one if self.islands == 1 else Islands((one,) * self.islands, every=2)

    def solve(self, compute: Compute = LOCAL) -> str:
        """Search, and return the fingerprint of every generation's losses and of all that is left at the end."""
        steps = self.trainer.train(self.model, self.task, self.seed, compute=compute)
        try:
            return fingerprint(list(itertools.islice(steps, self.generations)))
        finally:
            steps.close()  # type: ignore[attr-defined]

    @property
    def block(self) -> int:
        """How many chromosomes are scored together."""
        return LocalEvaluator(self.model, self.task.train, self.task.loss).block


@cache
def _task(length: int) -> Task:
    return adding(length=length, sequences=256)


def fingerprint(steps: list[Progress]) -> str:
    """SHA-256 over what was seen of each generation and, but for the seconds, the state at the end."""
    digest = hashlib.sha256()
    for step in steps:
        digest.update(np.float64(step.loss).tobytes() + step.candidates.tobytes() + step.losses.tobytes())
    for name, array in sorted(steps[-1].checkpoint().items()):
        content = np.delete(array, 2) if name.endswith("loop") else array  # its third number is seconds
        digest.update(name.encode() + np.ascontiguousarray(content).tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Watched(Compute):
    """A compute whose evaluators can be reached from outside, by an injector of faults."""

    made: list[RayEvaluator] = field(default_factory=list)

    def pids(self) -> list[int]:
        """Of the workers that there are now."""
        pools: list[Any] = [evaluator.pool for evaluator in self.made]
        return [worker.pid for pool in pools for worker in list(pool.workers)]

    def evaluator(self, model: Any, data: Sequences, loss: str) -> Evaluator:  # noqa: ANN401 (a Model)
        """An evaluator on Ray workers."""
        self.made.append(RayEvaluator(model, data, loss, workers=self.workers, **self.options))
        return self.made[-1]
