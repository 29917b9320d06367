"""The asynchronous steady-state genetic algorithm: no generations, so no worker waits for the slowest child of one.

A child takes the place of the worst when it is better (GENITOR: Whitley 1989, The GENITOR algorithm and selection
pressure). Children are scored while others are bred, as in asynchronous parallel evolution (Alba and Troya 2001,
Analyzing synchronous and asynchronous parallel distributed genetic algorithms), but repeatably: brood n is bred from
what the broods 0 ... n - lag have left, inserted in this order, whoever has answered by then. So a result depends on
`lag`, and on no number of workers; results that come too early wait for their turn.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from evo_rnn.description import describe
from evo_rnn.errors import ConfigError
from evo_rnn.evaluation.pool import Pool, open_pool
from evo_rnn.evaluation.ray_evaluator import LOCAL, Compute
from evo_rnn.evaluation.worker import WorkerCache
from evo_rnn.fit import Fit
from evo_rnn.fitness import ranking
from evo_rnn.network import Model
from evo_rnn.progress import FRESH, OFFERED, Progress, State
from evo_rnn.shapes import Genes, Losses
from evo_rnn.tasks.task import Task
from evo_rnn.threads import Stopwatch
from populations.algorithms import GeneticAlgorithm
from populations.evolution import Unfitted, metrics
from populations.steady import Steady
from populations.stretch import evaluator_of

REAR = "populations.asynchronous:rear"


@dataclass(frozen=True)
class Asynchronous:
    """A trainer that breeds and scores without generations, in small broods.

    Args:
        algorithm: its population, selection, crossover and mutation; what else it says is about generations. A mutation
            step that decays does so every P children.
        brood: children that are scored together, by one worker in one call.
        lag: how many broods may be under way at once, at most as many as fill the population: 1 waits for each. Twice
            the number of workers keeps all of them busy.
        fit: improves every child before it is scored.
        inheritance: "lamarckian": what a child learned is bred from; "baldwinian": only its loss counts.
    """

    algorithm: GeneticAlgorithm = field(default_factory=GeneticAlgorithm)
    brood: int = 16
    lag: int = 4
    fit: Fit | Unfitted = field(default_factory=Unfitted)
    inheritance: str = "lamarckian"

    def __post_init__(self) -> None:
        for name in ("brood", "lag"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} should be at least 1 but is {getattr(self, name)}.")
        if self.inheritance not in ("lamarckian", "baldwinian"):
            raise ConfigError(f"inheritance should be lamarckian or baldwinian but is {self.inheritance!r}.")

    def train(
        self, model: Model, task: Task, seed: int, resume: State = FRESH, compute: Compute = LOCAL
    ) -> Iterator[Progress]:
        """Yield one progress every P children, for ever."""
        cost = 1.0 + self.fit.passes(model, task.train.inputs.shape[1])
        context = {"model": describe(model) if compute.workers else model, "task": task, "device": compute.device}
        steady = Steady(self.algorithm, self.brood, self.lag, model.layout, seed)
        steady.restore(resume)
        spent, elsewhere = map(float, resume["loop"]) if resume else (0.0, 0.0)
        with open_pool(min(compute.workers, steady.lag), context, **compute.options) as pool:
            watch, flight = Stopwatch(spent), Flight(pool, self.fit)
            for number, genes in steady.flight.items():
                flight.send(number, genes)
            while True:
                watch.start()
                for _ in range(steady.round):
                    born, fitted, losses, seconds = flight.back(steady.inserted)
                    steady.insert(fitted if self.inheritance == "lamarckian" else born, fitted, losses)
                    flight.send(*steady.propose())
                    elsewhere += seconds if compute.workers else 0.0
                yield _progress(steady, cost, watch.stop(), elsewhere)


@dataclass
class Flight:
    """Broods under way: sent in any number, taken back in the order of their own numbers."""

    pool: Pool
    fit: Fit | Unfitted
    numbers: dict[int, int] = field(default_factory=dict)  # of broods, by ticket
    back_early: dict[int, Reared] = field(default_factory=dict)

    def send(self, number: int, genes: Genes) -> None:
        """Have a brood scored."""
        self.numbers[self.pool.submit(REAR, self.fit, genes)] = number

    def back(self, number: int) -> Reared:
        """Wait for this brood; others that come wait for their turn."""
        while number not in self.back_early:
            ticket, reared = self.pool.next()
            self.back_early[self.numbers.pop(ticket)] = reared
        return self.back_early.pop(number)


Reared = tuple[Genes, Genes, Losses, float]  # born, fitted, how good, CPU seconds


def rear(cache: WorkerCache, fit: Fit | Unfitted, genes: Genes) -> Reared:
    """A brood (N, D), the same fitted, its losses (N,), and the CPU seconds it took.

    A child is always scored in the slot that its place in the brood gives it, so what else is under way cannot change a
    bit.
    """
    clock = time.thread_time()
    evaluator = evaluator_of(cache)
    fitted = genes if isinstance(fit, Unfitted) else evaluator.fit(fit, genes)
    losses = evaluator(fitted)
    return genes, fitted, losses, time.thread_time() - clock


def _progress(steady: Steady, cost: float, spent: float, elsewhere: float) -> Progress:
    kept = steady.state() | {"loop": np.array([spent, elsewhere])}
    step, passes = steady.inserted // steady.round, cost * steady.children
    first = ranking(steady.losses)[:OFFERED]
    return Progress(
        step,
        passes,
        spent + elsewhere,
        float(steady.losses.min()),
        steady.fitted[first],
        steady.losses[first],
        kept.copy,
        metrics(steady.genes, steady.losses),
    )
