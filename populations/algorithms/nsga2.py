"""NSGA-II (Deb, Pratap, Agarwal and Meyarivan 2002, IEEE Trans. Evol. Comp. 6): a front of errors against sizes.

Sorting into fronts and crowding distances are DEAP's. Crowding is measured on ranks of the loss, not on its values: so
only the order of losses matters, as in the other searches, and a front is even in its order, not in its units.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from deap import base
from deap.tools import emo

from evo_rnn.errors import ConfigError
from evo_rnn.layout import Layout
from evo_rnn.seeds import generator
from evo_rnn.shapes import Array, Genes, Losses
from populations.algorithms.told import bounded, received, widths
from populations.operators import sparse, unit, units_of
from populations.sizes import SIZES


@dataclass(frozen=True)
class NSGA2:
    """A front between error and size: fewer links, or fewer multiplications at test time.

    Args:
        population: P, children in a generation, and the most parents.
        against: "links": genes that are not exactly 0; or "cost": multiply-adds a time step, where a link that is cut
            costs nothing and neither does what only reaches units that nobody hears.
        mating: share of children with two parents.
        rate: share of genes that a mutation moves.
        step: standard deviation of a mutation, in half widths of the gene's initial range.
        cut: share of links that a mutation removes.
        grow: share of the links that are cut that a mutation draws afresh.
        spread: width of the first generation, in initial ranges.
    """

    population: int = 100
    against: str = "links"
    mating: float = 0.9
    rate: float = 0.2
    step: float = 0.15
    cut: float = 0.05
    grow: float = 0.05
    spread: float = 1.0

    def __post_init__(self) -> None:
        if self.against not in SIZES:
            raise ConfigError(f"against should be one of {', '.join(SIZES)} but is {self.against!r}.")
        if self.population < 1:
            raise ConfigError(f"population should be at least 1 but is {self.population}.")
        shares = dict.fromkeys(("mating", "rate", "cut", "grow"), 1.0)
        for name, high in (shares | {"step": 1e6, "spread": 1e6}).items():
            if not 0 <= getattr(self, name) <= high:
                raise ConfigError(f"{name} should be between 0 and {high:g} but is {getattr(self, name)}.")

    def begin(self, layout: Layout, seed: int) -> FrontSearch:
        """A search in progress."""
        return FrontSearch(self, layout, seed)


@dataclass
class FrontSearch:
    """NSGA-II in progress; `front` is what it has found."""

    settings: NSGA2
    layout: Layout
    seed: int
    generation: int = 0
    parents: Genes = field(init=False)  # (N, D), N <= P, the least crowded of the best fronts
    loss: Losses = field(init=False)  # (N,)

    def __post_init__(self) -> None:
        self.parents, self.loss = np.empty((0, self.layout.size), np.float32), np.empty(0)
        self.units = units_of(self.layout)

    def ask(self) -> Genes:
        """The first generation (P, D), or the children of binary tournaments by front and crowding (section III C)."""
        count, options = self.settings.population, self.settings
        if not len(self.parents):
            return self.layout.draw(self._stream("start"), count, options.spread)
        place = np.arange(len(self.parents))  # parents are kept in the order of selection: best front first
        drawn = self._stream("select").integers(len(place), size=(2 * count, 2)).min(axis=1)
        mothers, fathers = drawn[:count], drawn[count:]
        alone = self._stream("alone").random(count) >= options.mating
        fathers = np.where(alone, mothers, fathers)
        with np.errstate(over="ignore", invalid="ignore"):
            child = unit(self.parents[mothers], self.parents[fathers], self._stream("mate"), units=self.units)
            return bounded(self._mutated(child), self.parents[mothers])

    def tell(self, genes: Genes, loss: Losses) -> None:
        """Of parents and those told, the P of the best fronts survive, the last front by crowding (section III D)."""
        genes, loss = received(genes, loss, self.layout.size)
        genes, loss = np.concatenate([self.parents, genes]), np.concatenate([self.loss, loss])
        stay = selected(loss, self.size(genes), self.settings.population)
        self.parents, self.loss = genes[stay], loss[stay]
        self.generation += 1

    def size(self, genes: Genes) -> Array:
        """The second objective (N,) of chromosomes (N, D)."""
        return SIZES[self.settings.against](self.layout, genes)

    def front(self) -> tuple[Losses, Array, Genes]:
        """What nothing found so far dominates, without copies and the invalid: losses, sizes and genes, by size."""
        sizes = self.size(self.parents)
        order = np.lexsort((self.loss, sizes))
        best, kept = np.inf, []
        for row in order:
            if self.loss[row] < best:
                best = self.loss[row]
                kept.append(row)
        return self.loss[kept], sizes[kept], self.parents[kept]

    def state(self) -> dict[str, Array]:
        """The parents in order of selection, their losses and the generation."""
        generation = np.array([self.generation], dtype=np.int64)
        return {"parents": self.parents.copy(), "loss": self.loss.copy(), "generation": generation}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take the place of the search that gave the state."""
        self.parents, self.loss = np.array(state["parents"]), np.array(state["loss"])
        self.generation = int(state["generation"][0])

    def _mutated(self, genes: Genes) -> Genes:
        """Links that are there move or are cut; those that are not may grow, as in the first generation."""
        options, present = self.settings, genes != 0
        moved = sparse(genes, options.step * widths(self.layout), self._stream("mutate"), rate=options.rate)
        fresh = self.layout.draw(self._stream("fresh"), len(genes), options.spread)
        chance = self._stream("links").random(genes.shape, dtype=np.float32)
        kept = np.where(chance < options.cut, np.float32(0), moved)
        return np.where(present, kept, np.where(chance < options.grow, fresh, np.float32(0)))

    def _stream(self, word: str) -> np.random.Generator:
        return generator(self.seed, "nsga2", word, generation=self.generation)


class _Both(base.Fitness):  # type: ignore[misc]  # DEAP's only way to say what is to be small
    weights = (-1.0, -1.0)


@dataclass(eq=False)
class _Point:
    """What DEAP sees of a chromosome."""

    row: int
    fitness: _Both


def selected(loss: Losses, size: Array, count: int) -> Array:
    """The rows (K,) of the best `count`, best front first, in a front the least crowded first; of equals the first."""
    rank = np.unique(loss, return_inverse=True)[1]
    points = [_Point(row, _Both(values)) for row, values in enumerate(zip(rank.tolist(), size.tolist(), strict=True))]
    rows: list[int] = []
    for front in emo.sortLogNondominated(points, count) if points else []:
        front.sort(key=lambda point: point.row)  # so that no order of DEAP's is part of what a seed means
        emo.assignCrowdingDist(front)
        front.sort(key=lambda point: -point.fitness.crowding_dist)
        rows += [point.row for point in front]
    return np.array(rows[:count], dtype=np.int64)
