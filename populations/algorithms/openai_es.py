"""OpenAI's evolution strategy: Salimans et al., "Evolution strategies as a scalable alternative to reinforcement
learning", arXiv:1703.03864, 2017, algorithm 1, with mirrored noise, centred ranks and Adam.
"""  # noqa: D205 (the paper's name is the first sentence)

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from evo_rnn.layout import Layout
from evo_rnn.seeds import generator
from evo_rnn.shapes import Array, Genes, Losses
from populations.algorithms.evolution_strategy import (
    Adam,
    Units,
    centred_ranks,
    check_settings,
    mirrored,
    one_blas_thread,
    recognised,
    shortened,
    units_of,
    usable,
)


@dataclass(frozen=True)
class OpenAIES:
    """The mean of a round cloud climbs the gradient of the expected rank, by Adam.

    Args:
        population: P, chromosomes in a generation, in mirrored pairs; if odd, the last is the mean.
        step: standard deviation of the cloud, in half widths of the gene's initial range.
        rate: of Adam, in half widths.
        decay: factor on step and rate in every generation.
        least: neither falls below this share of what it was.
        shrink: share of the mean that is taken away in a gradient's units: weight decay, 0.005 in the paper.
    """

    population: int = 30
    step: float = 0.2
    rate: float = 0.1
    decay: float = 0.99
    least: float = 0.05
    shrink: float = 0.0

    def __post_init__(self) -> None:
        widths = dict.fromkeys(("step", "rate"), (1e-12, 1e6))
        check_settings(self, population=(2, np.inf), decay=(0, 1), least=(0, 1), shrink=(0, 1), **widths)

    def begin(self, layout: Layout, seed: int) -> _OpenAIES:
        """A search in progress, from the middle of the initial ranges."""
        return _OpenAIES(self, layout, seed)


@dataclass
class _OpenAIES:
    settings: OpenAIES
    layout: Layout
    seed: int
    units: Units = field(init=False)
    generation: int = field(init=False, default=0)
    mean: Array = field(init=False)  # (D,) in half widths
    memory: Array = field(init=False)  # (2, D), Adam's

    def __post_init__(self) -> None:
        self.units = units_of(self.layout)
        self.mean, self.memory = np.zeros(self.layout.size), np.zeros((2, self.layout.size))

    @one_blas_thread()
    def ask(self) -> Genes:
        return self.units.genes(self.mean + self._share() * self.settings.step * self._noise())

    @one_blas_thread()
    def tell(self, genes: Genes, loss: Losses) -> None:
        genes, loss = usable(genes, loss, self.layout.size)
        noise = recognised(genes, self.ask(), self._noise(), self._foreign)
        deviation = self._share() * self.settings.step
        uphill = centred_ranks(loss) @ noise / (max(len(noise), 1) * deviation)  # line 11, a pair counting twice
        adam = Adam(self._share() * self.settings.rate)
        move, self.memory = adam.move(self.memory, uphill - self.settings.shrink * self.mean, self.generation + 1)
        self.mean = self.mean + move
        self.generation += 1

    def state(self) -> dict[str, Array]:
        generation = np.array([self.generation], dtype=np.int64)
        return {"mean": self.mean.copy(), "memory": self.memory.copy(), "generation": generation}

    def restore(self, state: Mapping[str, Array]) -> None:
        self.mean, self.memory = np.array(state["mean"]), np.array(state["memory"])
        self.generation = int(state["generation"][0])

    def _share(self) -> float:
        return max(self.settings.decay**self.generation, self.settings.least, 1e-12)

    def _noise(self) -> Array:
        stream = generator(self.seed, "openai_es", generation=self.generation)
        return mirrored(stream, self.settings.population, self.layout.size)

    def _foreign(self, genes: Genes) -> Array:
        return shortened((self.units.units(genes) - self.mean) / (self._share() * self.settings.step))
