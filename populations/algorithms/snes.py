"""Separable natural evolution strategy: Schaul, Glasmachers and Schmidhuber, "High dimensions and heavy tails for
natural evolution strategies", GECCO 2011; Wierstra et al., "Natural evolution strategies", JMLR 15, 2014, algorithm 6.
"""  # noqa: D205 (the paper's name is the first sentence)

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from evo_rnn.layout import Layout
from evo_rnn.seeds import generator
from evo_rnn.shapes import Array, Genes, Losses
from populations.algorithms.evolution_strategy import (
    Units,
    check_settings,
    one_blas_thread,
    recognised,
    shortened,
    units_of,
    usable,
    utilities,
)

NARROW, WIDE = 1e-12, 1e6  # deviations in half widths stay between


@dataclass(frozen=True)
class SNES:
    """A normal distribution with one deviation a gene follows the natural gradient of the expected rank.

    Args:
        population: P, chromosomes in a generation. The paper's 4 + 3 ln D is 17 for 100 genes and 24 for 1000.
        step: initial standard deviation, in half widths of the gene's initial range.
        mean_rate: learning rate of the mean.
        width_rate: learning rate of the deviations; 0 stands for the paper's (3 + ln D) / (5 sqrt(D)).
    """

    population: int = 24
    step: float = 0.5
    mean_rate: float = 1.0
    width_rate: float = 0.0

    def __post_init__(self) -> None:
        check_settings(self, population=(1, np.inf), step=(NARROW, WIDE), mean_rate=(0, 10), width_rate=(0, 10))

    def begin(self, layout: Layout, seed: int) -> _SNES:
        """A search in progress, from the middle of the initial ranges."""
        return _SNES(self, layout, seed)


@dataclass
class _SNES:
    settings: SNES
    layout: Layout
    seed: int
    units: Units = field(init=False)
    generation: int = field(init=False, default=0)
    mean: Array = field(init=False)  # (D,) in half widths, as the deviations
    deviation: Array = field(init=False)  # (D,)

    def __post_init__(self) -> None:
        self.units, size = units_of(self.layout), self.layout.size
        self.mean, self.deviation = np.zeros(size), np.full(size, self.settings.step)

    @one_blas_thread()
    def ask(self) -> Genes:
        return self.units.genes(self.mean + self.deviation * self._noise())

    @one_blas_thread()
    def tell(self, genes: Genes, loss: Losses) -> None:
        genes, loss = usable(genes, loss, self.layout.size)
        noise = recognised(genes, self.ask(), self._noise(), self._foreign)
        worth, size = utilities(loss), self.layout.size
        rate = self.settings.width_rate or (3 + np.log(size)) / (5 * np.sqrt(size))
        self.mean = self.mean + self.settings.mean_rate * self.deviation * (worth @ noise)
        deviation = self.deviation * np.exp(rate / 2 * (worth @ (noise**2 - 1)))
        self.deviation = np.clip(deviation, NARROW, WIDE)
        self.generation += 1

    def state(self) -> dict[str, Array]:
        generation = np.array([self.generation], dtype=np.int64)
        return {"mean": self.mean.copy(), "deviation": self.deviation.copy(), "generation": generation}

    def restore(self, state: Mapping[str, Array]) -> None:
        self.mean, self.deviation = np.array(state["mean"]), np.array(state["deviation"])
        self.generation = int(state["generation"][0])

    def _noise(self) -> Array:
        stream = generator(self.seed, "snes", generation=self.generation)
        return stream.standard_normal((self.settings.population, self.layout.size))

    def _foreign(self, genes: Genes) -> Array:
        return shortened((self.units.units(genes) - self.mean) / self.deviation)
