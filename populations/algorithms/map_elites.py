"""MAP-Elites (Mouret and Clune 2015, Illuminating search spaces by mapping elites): the best of each kind of network.

A kind is a cell of a grid over two things that follow from genes alone: the share of links that are cut, and how strong
the links are on average, in half widths of their initial range.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from evo_rnn.errors import ConfigError
from evo_rnn.layout import Layout
from evo_rnn.seeds import generator
from evo_rnn.shapes import Array, Genes, Losses
from populations.algorithms.told import bounded, received, widths


@dataclass(frozen=True)
class MapElites:
    """An archive of the best network of every kind: how many links are cut, how strong the others are.

    Args:
        population: P, children in a generation.
        cells: of the grid along each of its two axes.
        strongest: the mean strength of links where the grid ends, in half widths; what is stronger is in the last cell.
        step: standard deviation of a mutation, in half widths.
        rate: share of genes that a mutation moves.
        cut: share of links that a mutation removes, and of those that are cut that it draws afresh.
        spread: width of the first generation, in initial ranges.
    """

    population: int = 100
    cells: int = 8
    strongest: float = 2.0
    step: float = 0.15
    rate: float = 0.2
    cut: float = 0.05
    spread: float = 1.0

    def __post_init__(self) -> None:
        highs = {"rate": 1, "cut": 1, "step": 1e6, "spread": 1e6, "strongest": 1e6, "cells": 1000, "population": np.inf}
        for name, high in highs.items():
            low = 1 if name in ("cells", "population") else 1e-6 if name == "strongest" else 0
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} should be between {low:g} and {high:g} but is {getattr(self, name)}.")

    def begin(self, layout: Layout, seed: int) -> Archive:
        """A search in progress."""
        return Archive(self, layout, seed)


@dataclass
class Archive:
    """MAP-Elites in progress: the elites, each with its cell."""

    settings: MapElites
    layout: Layout
    seed: int
    generation: int = 0
    elites: Genes = field(init=False)  # (N, D), by cell
    loss: Losses = field(init=False)  # (N,)

    def __post_init__(self) -> None:
        self.elites, self.loss = np.empty((0, self.layout.size), np.float32), np.empty(0)

    def ask(self) -> Genes:
        """The first generation (P, D), or mutants of elites that are drawn uniformly (algorithm 1)."""
        options, count = self.settings, self.settings.population
        fresh = self.layout.draw(self._stream("start"), count, options.spread)
        if not len(self.elites):
            return fresh
        parents = self.elites[self._stream("select").integers(len(self.elites), size=count)]
        stream = self._stream("mutate")
        step = np.float32(options.step) * widths(self.layout)
        noise = stream.standard_normal(parents.shape, dtype=np.float32) * step
        moves, changes = stream.random((2, *parents.shape), dtype=np.float32) < [[[options.rate]], [[options.cut]]]
        with np.errstate(over="ignore", invalid="ignore"):
            moved = bounded(np.where(moves, parents + noise, parents), parents)
        changed = np.where(changes, np.float32(0), moved)
        return np.where(parents != 0, changed, np.where(changes, fresh, np.float32(0)))

    def tell(self, genes: Genes, loss: Losses) -> None:
        """Each takes its cell if that is empty or its elite is worse; of equals the one that came first stays."""
        genes, loss = received(genes, loss, self.layout.size)
        genes, loss = np.concatenate([self.elites, genes]), np.concatenate([self.loss, loss])
        cell = self.cell(genes)
        order = np.lexsort((np.arange(len(loss)), loss, cell))
        first = np.unique(cell[order], return_index=True)[1]
        self.elites, self.loss = genes[order[first]], loss[order[first]]
        self.generation += 1

    def cell(self, genes: Genes) -> Array:
        """The cell (N,) of chromosomes (N, D): row by share of links that are cut, column by strength of the others."""
        present = genes != 0
        share = 1 - present.mean(axis=1)
        with np.errstate(over="ignore"):
            size = np.abs(genes / widths(self.layout)).sum(axis=1, dtype=np.float64) / np.maximum(
                present.sum(axis=1), 1
            )
        places = np.stack([share, np.minimum(size / self.settings.strongest, 1)]) * self.settings.cells
        row, column = np.minimum(places.astype(np.int64), self.settings.cells - 1)
        return np.asarray(row * self.settings.cells + column)

    def state(self) -> dict[str, Array]:
        """The elites, their losses and the generation."""
        generation = np.array([self.generation], dtype=np.int64)
        return {"elites": self.elites.copy(), "loss": self.loss.copy(), "generation": generation}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take the place of the search that gave the state."""
        self.elites, self.loss = np.array(state["elites"]), np.array(state["loss"])
        self.generation = int(state["generation"][0])

    def _stream(self, word: str) -> np.random.Generator:
        return generator(self.seed, "map_elites", word, generation=self.generation)
