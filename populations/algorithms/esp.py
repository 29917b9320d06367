"""Enforced subpopulations, ESP (Gomez and Miikkulainen 1997, Incremental evolution of complex general behavior)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from evo_rnn.errors import ConfigError
from evo_rnn.fitness import ranking
from evo_rnn.layout import Layout
from evo_rnn.seeds import generator
from evo_rnn.shapes import Array, Genes, Losses
from populations.algorithms.told import bounded, received, widths
from populations.operators import uniform, units_of


@dataclass(frozen=True)
class Esp:
    """Every unit of the network has its own subpopulation of neurons; a neuron is as good as its networks on average.

    The average is taken of their ranks, so that the order of losses is all that matters.

    Args:
        population: P, networks tried in a generation.
        neurons: in every subpopulation; so each takes part in about `population` / `neurons` networks.
        parents: share of a subpopulation, the best, that is recombined.
        children: share of a subpopulation, the worst, that children replace.
        rate: share of the genes of a child that are mutated.
        step: scale of the Cauchy mutation, in half widths of the gene's initial range.
        patience: generations without a better network, after which a burst mutation begins the subpopulations anew.
        burst: scale of the Cauchy noise around the best network in a burst, in half widths.
        spread: width of the first generation, in initial ranges.
    """

    population: int = 30
    neurons: int = 10
    parents: float = 0.25
    children: float = 0.5
    rate: float = 0.2
    step: float = 0.05
    patience: int = 20
    burst: float = 0.1
    spread: float = 1.0

    def __post_init__(self) -> None:
        counts = {"population": (1, np.inf), "neurons": (2, np.inf), "patience": (1, np.inf)}
        shares = dict.fromkeys(("parents", "children", "rate"), (0, 1))
        widest = dict.fromkeys(("step", "burst", "spread"), (0, 1e6))
        for name, (low, high) in (counts | shares | widest).items():
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} should be between {low} and {high} but is {getattr(self, name)}.")

    def begin(self, layout: Layout, seed: int) -> _Esp:
        """A search in progress."""
        return _Esp(self, layout, seed)


@dataclass
class _Esp:
    settings: Esp
    layout: Layout
    seed: int
    generation: int = 0
    units: Array = field(init=False)  # (D,) whose gene it is
    neurons: Genes = field(init=False)  # (M, D): row m has the neuron m of every subpopulation
    best: Genes = field(init=False)  # (1, D) the best network so far
    loss: Losses = field(init=False)  # (1,) of it
    stale: int = 0  # generations since then

    def __post_init__(self) -> None:
        self.units = units_of(self.layout)
        self.neurons = self.layout.draw(self._stream("start"), self.settings.neurons, self.settings.spread)
        self.best, self.loss = np.zeros((1, self.layout.size), np.float32), np.full(1, np.inf)

    def ask(self) -> Genes:
        return self._gathered(self.neurons, self._teams())

    def tell(self, genes: Genes, loss: Losses) -> None:
        """Row i is network i, whatever was refined in it; rows beyond P are guests."""
        genes, loss = received(genes, loss, self.layout.size)
        self.stale += 1
        if len(loss) and loss[first := ranking(loss)[0]] < self.loss[0]:
            self.best, self.loss, self.stale = genes[[first]], loss[[first]], 0
        if np.isfinite(loss).any():
            self._learn(genes, loss)
        self.generation += 1

    def state(self) -> dict[str, Array]:
        counts = np.array([self.generation, self.stale], dtype=np.int64)
        return {"neurons": self.neurons.copy(), "best": self.best.copy(), "loss": self.loss.copy(), "counts": counts}

    def restore(self, state: Mapping[str, Array]) -> None:
        self.neurons, self.best, self.loss = (np.array(state[name]) for name in ("neurons", "best", "loss"))
        self.generation, self.stale = map(int, state["counts"])

    def _learn(self, genes: Genes, loss: Losses) -> None:
        """Judge the neurons by their networks, let guests in, breed; or burst where that leads nowhere any more."""
        if self.stale >= self.settings.patience:
            self.neurons, self.stale = self._burst(), 0
            return
        teams = self._teams()[: len(loss)]
        _, rank = np.unique(loss, return_inverse=True)
        cost, latest = self._judged(rank[: len(teams)], teams, genes)
        for guest in ranking(loss[len(teams) :]) + len(teams):  # each as one neuron a subpopulation: in for the worst
            worst = cost.argmax(axis=0)
            better = rank[guest] < cost.max(axis=0)
            latest = np.where(
                (np.arange(len(cost))[:, None] == worst)[:, self.units] & better[self.units], genes[guest], latest
            )
            cost[worst[better], np.flatnonzero(better)] = rank[guest]
        self.neurons = self._bred(latest, cost)

    def _judged(self, rank: Array, teams: Array, genes: Genes) -> tuple[Losses, Genes]:
        """The mean rank (M, G) of each neuron's networks, and the neurons (M, D) as their best networks had them.

        A neuron without a network counts as the worst. The genes differ from the neurons where they were refined.
        """
        shape = len(self.neurons), teams.shape[1]
        total, taken, column = np.zeros(shape), np.zeros(shape), np.arange(shape[1])
        latest = self.neurons
        for row in np.lexsort((np.arange(len(rank)), rank))[::-1]:  # the best comes last and so overwrites
            total[teams[row], column] += rank[row]
            taken[teams[row], column] += 1
            latest[teams[row][self.units], np.arange(len(self.units))] = genes[row]
        worst = float(rank.max(initial=0)) + 1
        return np.where(taken > 0, total / np.maximum(taken, 1), worst), latest

    def _bred(self, neurons: Genes, cost: Losses) -> Genes:
        """In every subpopulation, children of the best neurons, some with Cauchy noise, replace the worst."""
        s, stream = self.settings, self._stream("breed")
        ordered = self._gathered(neurons, np.argsort(cost, axis=0, kind="stable"))
        count, groups = round(s.children * len(neurons)), cost.shape[1]
        parents = stream.integers(max(round(s.parents * len(neurons)), 1), size=(2, count, groups))
        children = uniform(self._gathered(ordered, parents[0]), self._gathered(ordered, parents[1]), stream)
        hit = stream.random(children.shape, dtype=np.float32) < s.rate
        return np.concatenate(
            [ordered[: len(neurons) - count], self._noisy(children, np.multiply(s.step, hit), stream)]
        )

    def _burst(self) -> Genes:
        """Delta-coding: neurons near those of the best network, which is one of them (Gomez and Miikkulainen 1999)."""
        around = np.repeat(self.best, len(self.neurons), axis=0)
        scale = np.full((len(around), 1), self.settings.burst)
        scale[0] = 0
        return self._noisy(around, scale, self._stream("burst"))

    def _noisy(self, genes: Genes, scale: Array, stream: np.random.Generator) -> Genes:
        noise = np.clip(stream.standard_cauchy(genes.shape), -1e6, 1e6) * scale * widths(self.layout)
        with np.errstate(over="ignore"):
            return bounded((genes + noise).astype(np.float32), genes)

    def _teams(self) -> Array:
        """Which neuron (P, G) of every subpopulation is in which network: random orders, one after the other.

        So every neuron takes part as often as any other, give or take one.
        """
        groups, size, count = int(self.units.max()) + 1, len(self.neurons), self.settings.population
        keys = self._stream("teams").random((-(-count // size), size, groups))
        return np.argsort(keys, axis=1).reshape(-1, groups)[:count]

    def _gathered(self, neurons: Genes, rows: Array) -> Genes:
        """Networks (N, D) with the neurons rows (N, G): one of each subpopulation."""
        return neurons[rows[:, self.units], np.arange(len(self.units))]

    def _stream(self, word: str) -> np.random.Generator:
        return generator(self.seed, "esp", word, generation=self.generation)
