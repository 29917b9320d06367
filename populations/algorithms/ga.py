"""The genetic algorithm (Holland 1975; real-coded: Goldberg 1991), its matrix operators named in a DEAP Toolbox."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from deap.base import Toolbox

from evo_rnn.errors import ConfigError
from evo_rnn.fitness import ranking, reciprocal, sanitise
from evo_rnn.layout import Layout
from evo_rnn.seeds import generator
from evo_rnn.shapes import Array, Genes, Losses, check_shape
from populations.operators import CROSSOVERS, MUTATIONS, SELECTIONS, units_of

BLOCK = 2**18  # genes bred at a time: a megabyte; part of what a seed means, as every block draws in turn


@dataclass(frozen=True)
class GeneticAlgorithm:
    """Elites stay; children of selected parents are mutated.

    Args:
        population: P, chromosomes in a generation.
        elites: how many of the best go on unchanged, as the first rows.
        selection: a name in `SELECTIONS`.
        size: of a tournament.
        pressure: children that the fittest expects under rank selection, 1 to 2.
        crossover: a name in `CROSSOVERS`.
        mating: share of children with two parents; the others are copies of one.
        alpha: how far blend crossover reaches beyond the parents, in their distance.
        mutation: a name in `MUTATIONS`.
        rate: share of genes that a sparse mutation moves.
        step: standard deviation of a mutation, in half widths of the gene's initial range. A dense one wants half.
        decay: factor on the step in every generation.
        least: the step never falls below it.
        spread: width of the first generation, in initial ranges.
    """

    population: int = 100
    elites: int = 2
    selection: str = "tournament"
    size: int = 3
    pressure: float = 1.8
    crossover: str = "unit"
    mating: float = 0.9
    alpha: float = 0.3
    mutation: str = "sparse"
    rate: float = 0.2
    step: float = 0.3
    decay: float = 0.99
    least: float = 0.02
    spread: float = 1.0

    def __post_init__(self) -> None:
        for name, known in (("selection", SELECTIONS), ("crossover", CROSSOVERS), ("mutation", MUTATIONS)):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} should be one of {sorted(known)} but is {getattr(self, name)!r}.")
        bounds = {
            "population": (1, np.inf),
            "elites": (0, max(self.population - 1, 0)),
            "size": (1, np.inf),
            "pressure": (1, 2),
        }
        shares = dict.fromkeys(("mating", "rate", "decay"), (0, 1))
        widths = dict.fromkeys(("alpha", "step", "least", "spread"), (0, 1e6))
        for name, (low, high) in (bounds | shares | widths).items():
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} should be between {low} and {high} but is {getattr(self, name)}.")

    def toolbox(self, layout: Layout) -> Toolbox:
        """The operators under DEAP's names: `select`, `mate` and `mutate`, each with its settings."""
        settings: dict[str, dict[str, Any]] = {
            "tournament": {"size": self.size},
            "rank": {"pressure": self.pressure},
            "unit": {"units": units_of(layout)} if self.crossover == "unit" else {},
            "blend": {"alpha": self.alpha},
            "sparse": {"rate": self.rate},
        }
        box = Toolbox()
        box.register("select", SELECTIONS[self.selection], **settings.get(self.selection, {}))
        box.register("mate", CROSSOVERS[self.crossover], **settings.get(self.crossover, {}))
        box.register("mutate", MUTATIONS[self.mutation], **settings.get(self.mutation, {}))
        return box

    def begin(self, layout: Layout, seed: int) -> GeneticSearch:
        """A search in progress."""
        return GeneticSearch(self, layout, seed)


@dataclass
class GeneticSearch:
    """A genetic algorithm in progress. Register other operators in `toolbox` before the first `ask` to change it."""

    settings: GeneticAlgorithm
    layout: Layout
    seed: int
    toolbox: Toolbox = field(init=False)
    generation: int = field(init=False, default=0)
    parents: Genes = field(init=False)  # (N, D) what was told last
    loss: Losses = field(init=False)  # (N,)

    def __post_init__(self) -> None:
        self.toolbox = self.settings.toolbox(self.layout)
        self.parents, self.loss = np.empty((0, self.layout.size), np.float32), np.empty(0)

    def ask(self) -> Genes:
        """The first generation (P, D), or the elites of what was told and their children."""
        if not len(self.parents):
            return self.layout.draw(self._stream("start"), self.settings.population, self.settings.spread)
        genes = np.empty((self.settings.population, self.layout.size), np.float32)
        best = ranking(self.loss)[: self.settings.elites]
        best = best[np.isfinite(self.loss[best])]
        genes[: len(best)] = self.parents[best]
        with np.errstate(over="ignore", invalid="ignore"):  # genes that overflow get an infinite loss, that is all
            self._breed(genes[len(best) :])
        return genes

    def tell(self, genes: Genes, loss: Losses) -> None:
        """What was told are the parents of the next generation."""
        check_shape(genes, "genes", ("N", self.layout.size), "Is the search for another network?")
        check_shape(loss, "loss", (len(genes),), "Every chromosome has one loss.")
        self.parents, self.loss = np.array(genes, dtype=np.float32), sanitise(loss)
        self.generation += 1

    def state(self) -> dict[str, Array]:
        """The parents, their losses and the generation."""
        generation = np.array([self.generation], dtype=np.int64)
        return {"parents": self.parents.copy(), "loss": self.loss.copy(), "generation": generation}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take the place of the search that gave the state."""
        self.tell(state["parents"], state["loss"])
        self.generation = int(state["generation"][0])

    def _breed(self, children: Genes) -> None:
        """Fill `children`, block by block: what an operator makes on the way stays in the processor's cache."""
        count = len(children)
        chosen = self.toolbox.select(reciprocal(self.loss), 2 * count, self._stream("select"))
        mothers, fathers = chosen[:count], chosen[count:]
        alone = self._stream("alone").random(count) >= self.settings.mating
        fathers = np.where(alone, mothers, fathers)  # mated with itself, a chromosome stays as it is
        step, mating, mutation = self._step(), self._stream("mate"), self._stream("mutate")
        rows = max(BLOCK // self.layout.size, 1)
        for block in (slice(start, start + rows) for start in range(0, count, rows)):
            child = self.toolbox.mate(self.parents[mothers[block]], self.parents[fathers[block]], mating)
            children[block] = self.toolbox.mutate(child, step, mutation)

    def _step(self) -> Array:
        half = self.layout.ranges()[1]
        share = max(self.settings.step * self.settings.decay ** (self.generation - 1), self.settings.least)
        return share * np.where(half > 0, half, 1)  # a gene that starts at one point has no width to take a share of

    def _stream(self, word: str) -> np.random.Generator:
        return generator(self.seed, "ga", word, generation=self.generation)
