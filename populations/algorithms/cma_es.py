"""Covariance matrix adaptation: Hansen and Ostermeier 2001; Hansen, "The CMA evolution strategy: a tutorial",
arXiv:1604.00772, 2016; through pycma. Separable: Ros and Hansen, PPSN 2008. Restarts: Auger and Hansen, CEC 2005 (IPOP);
Hansen, "Benchmarking a BI-population CMA-ES", GECCO 2009 (BIPOP).
"""  # noqa: D205 (the paper's name is the first sentence)

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from evo_rnn.errors import ConfigError
from evo_rnn.fitness import ranking
from evo_rnn.layout import Layout
from evo_rnn.seeds import generator
from evo_rnn.shapes import Array, Genes, Losses
from populations.algorithms import pycma
from populations.algorithms.evolution_strategy import (
    Units,
    check_settings,
    one_blas_thread,
    recognised,
    units_of,
    usable,
)

COVARIANCES = ("full", "separable")
RESTARTS = ("ipop", "bipop", "same")
MANY = 4000  # genes above which a full covariance takes gigabytes


@dataclass(frozen=True)
class CMAES:
    """A normal distribution learns its covariance from the best; it starts afresh where it has converged.

    Only the order of losses moves the distribution. When to start afresh is pycma's decision, which sees their values.

    Args:
        population: P, chromosomes in a generation. pycma's own 4 + 3 ln D is 17 for 100 genes and 24 for 1000.
        step: initial standard deviation, in half widths of the gene's initial range.
        covariance: "full", or "separable": one variance a gene, for many genes.
        restarts: "ipop": each with twice the chromosomes; "bipop": these and runs of few chromosomes and small steps in
            turn; "same": as before from elsewhere. What is more than P is asked for in several generations.
        largest: restarts grow to at most this many populations.
    """

    population: int = 24
    step: float = 0.5
    covariance: str = "full"
    restarts: str = "ipop"
    largest: int = 64

    def __post_init__(self) -> None:
        for name, known in (("covariance", COVARIANCES), ("restarts", RESTARTS)):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} should be one of {sorted(known)} but is {getattr(self, name)!r}.")
        check_settings(self, population=(4, np.inf), step=(1e-12, 1e6), largest=(1, np.inf))

    def begin(self, layout: Layout, seed: int) -> _CMAES:
        """A search in progress, from the middle of the initial ranges; restarts begin anywhere in them.

        Raises:
            ConfigError: if the network has one gene only, or more than 4,000 with a full covariance.
        """
        if layout.size < 2:
            raise ConfigError(f"cma_es needs at least 2 genes but the network has {layout.size}. Take snes.")
        if self.covariance == "full" and layout.size > MANY:
            message = f"covariance=full is for at most {MANY} genes but the network has {layout.size}."
            raise ConfigError(f"{message} Set covariance=separable.")
        return _CMAES(self, layout, seed)


@dataclass(frozen=True)
class Run:
    """One run between two starts, as plain numbers.

    Args:
        number: of starts before it.
        count: λ, chromosomes that pycma learns from at once, in populations.
        large: the count of the last run that was not a BIPOP run of few chromosomes.
        few: whether this is one of those.
        patience: iterations after which it ends; 0 stands for pycma's own.
        step: initial standard deviation.
        spent_few: evaluations of all runs of few chromosomes before it, the first run among them.
        spent_many: evaluations of the others.
    """

    number: int = 0
    count: int = 1
    large: int = 1
    few: int = 1
    patience: int = 0
    step: float = 0.0
    spent_few: int = 0
    spent_many: int = 0

    def array(self) -> Array:
        """Its fields (8,) float64."""
        return np.array(list(vars(self).values()), dtype=np.float64)

    @staticmethod
    def of(array: Array) -> Run:
        """The run with these fields."""
        kinds = [type(default) for default in vars(Run()).values()]
        return Run(*(kind(value) for kind, value in zip(kinds, array, strict=True)))


@dataclass
class _CMAES:
    settings: CMAES
    layout: Layout
    seed: int
    units: Units = field(init=False)
    generation: int = field(init=False, default=0)
    run: Run = field(init=False)
    es: Any = field(init=False)  # pycma's, at work in units
    waiting: Array = field(init=False)  # (N, D) points that were told but are too few to learn from
    losses: Losses = field(init=False)  # (N,)
    drawn: Array = field(init=False)  # (P, D) points of this generation, or empty if nobody asked yet

    def __post_init__(self) -> None:
        self.units = units_of(self.layout)
        self._start(Run(step=self.settings.step))

    @one_blas_thread()
    def ask(self) -> Genes:
        return self.units.genes(self._points())

    @one_blas_thread()
    def tell(self, genes: Genes, loss: Losses) -> None:
        genes, loss = usable(genes, loss, self.layout.size)
        points = recognised(genes, self.ask(), self._points(), self._foreign)
        self.waiting = np.concatenate([self.waiting, points])
        self.losses = np.concatenate([self.losses, loss])
        self.drawn = self.drawn[:0]
        self.generation += 1
        if len(self.waiting) >= self.run.count * self.settings.population:
            order = ranking(self.losses)
            ended = pycma.tell(self.es, self.waiting[order], self.losses[order])
            self.waiting, self.losses = self.waiting[:0], self.losses[:0]
            if ended:
                self._start(self._next())

    def state(self) -> dict[str, Array]:
        own = {"waiting": self.waiting.copy(), "losses": self.losses.copy(), "run": self.run.array()}
        own["generation"] = np.array([self.generation], dtype=np.int64)
        return own | {f"pycma/{name}": array for name, array in pycma.numbers(self.es).items()}

    def restore(self, state: Mapping[str, Array]) -> None:
        self._start(Run.of(state["run"]))
        self.generation = int(state["generation"][0])
        self.waiting, self.losses = np.array(state["waiting"]), np.array(state["losses"])
        own = "pycma/"
        found = {name.removeprefix(own): value for name, value in state.items() if name.startswith(own)}
        pycma.set_numbers(self.es, found)

    def _points(self) -> Array:
        """What pycma draws for this generation (P, D)."""
        if not len(self.drawn):
            stream = generator(self.seed, "cma_es", generation=self.generation)
            self.drawn = pycma.ask(self.es, self.settings.population, stream)
        return self.drawn

    def _foreign(self, genes: Genes) -> Array:
        return pycma.shortened(self.es, self.units.units(genes))

    def _start(self, run: Run) -> None:
        """Begin a run: at the middle, or anywhere in the initial ranges."""
        start = np.zeros(self.layout.size)
        if run.number:
            start = generator(self.seed, "cma_es", "start", generation=run.number).uniform(-1, 1, self.layout.size)
        self.run, count = run, run.count * self.settings.population
        separable = self.settings.covariance == "separable"
        self.es = pycma.strategy(start, run.step, count, separable=separable, patience=run.patience)
        self.waiting, self.losses, self.drawn = np.empty((0, len(start))), np.empty(0), np.empty((0, len(start)))

    def _next(self) -> Run:
        """The run after this one. In bipop the kind of run that has spent less is next (Hansen 2009, section 2)."""
        done, settings = self.run, self.settings
        spent = int(self.es.countevals)
        done = replace(
            done, spent_few=done.spent_few + spent * done.few, spent_many=done.spent_many + spent * (not done.few)
        )
        following = replace(done, number=done.number + 1, few=0, patience=0, step=settings.step)
        if settings.restarts == "same":
            return following
        if settings.restarts == "ipop" or done.spent_few >= max(1, done.spent_many):
            large = min(2 * done.large, settings.largest)
            return replace(following, count=large, large=large)
        one, other = generator(self.seed, "cma_es", "few", generation=done.number).random(2)
        count = max(int((done.large / 2) ** (other**2)), 1)  # in whole populations, here and below
        patience = max(int(0.5 * done.spent_many / (count * settings.population)), 1)
        return replace(following, count=count, few=1, patience=patience, step=settings.step * 0.01**one)
