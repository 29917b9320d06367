"""Differential evolution (Storn and Price 1997, Differential evolution: a simple and efficient heuristic)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from evo_rnn.errors import ConfigError
from evo_rnn.fitness import ranking
from evo_rnn.layout import Layout
from evo_rnn.seeds import generator
from evo_rnn.shapes import Array, Genes, Losses
from populations.algorithms.told import bounded, guests, received

STRATEGIES = ("rand/1/bin", "current-to-best/1/bin")


@dataclass(frozen=True)
class DifferentialEvolution:
    """Every member is challenged by one trial vector, made of differences of other members; the better one stays.

    Args:
        population: P, members and trials in a generation; at least 4.
        strategy: "rand/1/bin", or "current-to-best/1/bin", which is more greedy.
        weight: F, the factor on a difference.
        dither: F is drawn for every trial, uniformly within this of `weight` (Das, Konar and Chakraborty 2005).
        crossing: CR, the chance of a gene to come from the mutant.
        spread: width of the first generation, in initial ranges.
    """

    population: int = 30
    strategy: str = "current-to-best/1/bin"
    weight: float = 0.6
    dither: float = 0.3
    crossing: float = 0.9
    spread: float = 2.0

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise ConfigError(f"strategy should be one of {list(STRATEGIES)} but is {self.strategy!r}.")
        bounds = {"population": (4, np.inf), "weight": (0, 2), "dither": (0, 2), "crossing": (0, 1), "spread": (0, 1e6)}
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} should be between {low} and {high} but is {getattr(self, name)}.")

    def begin(self, layout: Layout, seed: int) -> _DifferentialEvolution:
        """A search in progress."""
        return _DifferentialEvolution(self, layout, seed)


@dataclass
class _DifferentialEvolution:
    settings: DifferentialEvolution
    layout: Layout
    seed: int
    generation: int = 0
    members: Genes = field(init=False)  # (P, D)
    loss: Losses = field(init=False)  # (P,), infinite where not told yet

    def __post_init__(self) -> None:
        self.members = self.layout.draw(self._stream("start"), self.settings.population, self.settings.spread)
        self.loss = np.full(self.settings.population, np.inf)

    def ask(self) -> Genes:
        if not self.generation:
            return self.members.copy()
        with np.errstate(over="ignore", invalid="ignore"):
            mutants = bounded(self._mutants(), self.members)
        return np.where(self._crossed(), mutants, self.members)

    def tell(self, genes: Genes, loss: Losses) -> None:
        """Row i challenges member i, whatever was refined in it; rows beyond P are guests."""
        genes, loss = received(genes, loss, self.layout.size)
        trials = min(len(loss), self.settings.population)
        better = np.flatnonzero(loss[:trials] <= self.loss[:trials])  # equals too: the search drifts over plateaus
        self.members[better], self.loss[better] = genes[better], loss[better]
        leaving, entering = guests(self.loss, loss[trials:])
        self.members[leaving], self.loss[leaving] = genes[trials + entering], loss[trials + entering]
        self.generation += 1

    def state(self) -> dict[str, Array]:
        generation = np.array([self.generation], dtype=np.int64)
        return {"members": self.members.copy(), "loss": self.loss.copy(), "generation": generation}

    def restore(self, state: Mapping[str, Array]) -> None:
        self.members, self.loss = np.array(state["members"]), np.array(state["loss"])
        self.generation = int(state["generation"][0])

    def _mutants(self) -> Genes:
        """Equations 2 (rand/1) and 10 (to best): v = base + F (difference)."""
        x, stream = self.members, self._stream("weight")
        count, dither = len(x), self.settings.dither
        weight = (self.settings.weight + dither * (2 * stream.random((count, 1)) - 1)).astype(np.float32)
        # r1, r2, r3: different from each other and from i, the first three of a random order of the others
        order = np.argsort(self._stream("partners").random((count, count - 1)), axis=1)[:, :3]
        r1, r2, r3 = (order + (order >= np.arange(count)[:, None])).T
        if self.settings.strategy == "rand/1/bin":
            mutants: Genes = x[r1] + weight * (x[r2] - x[r3])
        else:
            best = x[ranking(self.loss)[0]]
            mutants = x + weight * (best - x) + weight * (x[r1] - x[r2])
        return mutants

    def _crossed(self) -> Array:
        """Equation 4: each gene by chance CR, and one at least."""
        stream = self._stream("cross")
        count, size = self.members.shape
        chosen = stream.random((count, size), dtype=np.float32) < self.settings.crossing
        chosen[np.arange(count), stream.integers(size, size=count)] = True
        return chosen

    def _stream(self, word: str) -> np.random.Generator:
        return generator(self.seed, "differential_evolution", word, generation=self.generation)
