"""Random search: every generation is drawn afresh. The baseline that every other search has to beat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from evo_rnn.errors import ConfigError
from evo_rnn.layout import Layout
from evo_rnn.seeds import generator
from evo_rnn.shapes import Array, Genes, Losses, check_shape


@dataclass(frozen=True)
class RandomSearch:
    """Fresh chromosomes in every generation; nothing is learned.

    Args:
        population: P, how many a generation.
        spread: width of the uniform draws, in initial ranges.
    """

    population: int = 100
    spread: float = 2.0

    def __post_init__(self) -> None:
        if self.population < 1:
            raise ConfigError(f"population should be at least 1 but is {self.population}.")
        if not 0 < self.spread < np.inf:
            raise ConfigError(f"spread should be a positive number but is {self.spread}.")

    def begin(self, layout: Layout, seed: int) -> _RandomSearch:
        """A search in progress."""
        return _RandomSearch(self, layout, seed)


@dataclass
class _RandomSearch:
    settings: RandomSearch
    layout: Layout
    seed: int
    generation: int = 0

    def ask(self) -> Genes:
        stream = generator(self.seed, "random", generation=self.generation)
        return self.layout.draw(stream, self.settings.population, self.settings.spread)

    def tell(self, genes: Genes, loss: Losses) -> None:
        check_shape(genes, "genes", ("N", self.layout.size), "Is the search for another network?")
        check_shape(loss, "loss", (len(genes),), "Every chromosome has one loss.")
        self.generation += 1

    def state(self) -> dict[str, Array]:
        return {"generation": np.array([self.generation], dtype=np.int64)}

    def restore(self, state: Mapping[str, Array]) -> None:
        self.generation = int(state["generation"][0])
