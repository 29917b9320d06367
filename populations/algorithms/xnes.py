"""Exponential natural evolution strategy: Glasmachers et al., "Exponential natural evolution strategies", GECCO 2010;
Wierstra et al., "Natural evolution strategies", JMLR 15, 2014, algorithm 5.
"""  # noqa: D205 (the paper's name is the first sentence)

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from evo_rnn.errors import ConfigError
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

NARROW, WIDE = 1e-12, 1e6  # the scale in half widths stays between
MANY = 2000  # genes above which a generation takes minutes: time grows as D**3


@dataclass(frozen=True)
class XNES:
    """A normal distribution with a full covariance follows the natural gradient of the expected rank.

    Args:
        population: P, chromosomes in a generation. The paper's 4 + 3 ln D is 17 for 100 genes and 24 for 1000.
        step: initial standard deviation, in half widths of the gene's initial range.
        mean_rate: learning rate of the mean.
        width_rate: learning rate of scale and shape; 0 stands for the paper's (9 + 3 ln D) / (5 D sqrt(D)).
    """

    population: int = 24
    step: float = 0.5
    mean_rate: float = 1.0
    width_rate: float = 0.0

    def __post_init__(self) -> None:
        check_settings(self, population=(1, np.inf), step=(NARROW, WIDE), mean_rate=(0, 10), width_rate=(0, 10))

    def begin(self, layout: Layout, seed: int) -> _XNES:
        """A search in progress, from the middle of the initial ranges.

        Raises:
            ConfigError: if the network has more than 2,000 genes.
        """
        if layout.size > MANY:
            raise ConfigError(f"xnes is for at most {MANY} genes but the network has {layout.size}. Take snes.")
        return _XNES(self, layout, seed)


@dataclass
class _XNES:
    settings: XNES
    layout: Layout
    seed: int
    units: Units = field(init=False)
    generation: int = field(init=False, default=0)
    mean: Array = field(init=False)  # (D,) in half widths
    scale: float = field(init=False)  # in half widths
    shape: Array = field(init=False)  # (D, D), of determinant 1: noise z becomes the point mean + scale * shape @ z

    def __post_init__(self) -> None:
        self.units, size = units_of(self.layout), self.layout.size
        self.mean, self.scale, self.shape = np.zeros(size), self.settings.step, np.eye(size)

    @one_blas_thread()
    def ask(self) -> Genes:
        return self.units.genes(self.mean + self.scale * self._noise() @ self.shape.T)

    @one_blas_thread()
    def tell(self, genes: Genes, loss: Losses) -> None:
        genes, loss = usable(genes, loss, self.layout.size)
        noise = recognised(genes, self.ask(), self._noise(), self._foreign)
        worth, size = utilities(loss), self.layout.size
        rate = self.settings.width_rate or (9 + 3 * np.log(size)) / (5 * size * np.sqrt(size))
        move = worth @ noise  # gradient of the mean
        whole = (worth * noise.T) @ noise - worth.sum() * np.eye(size)  # gradient of the covariance
        growth = np.trace(whole) / size  # its part that is scale, the rest is shape
        self.mean = self.mean + self.settings.mean_rate * self.scale * (self.shape @ move)
        self.scale = float(np.clip(self.scale * np.exp(rate / 2 * growth), NARROW, WIDE))
        self.shape = self.shape @ exponential(rate / 2 * (whole - growth * np.eye(size)))
        self.generation += 1

    def state(self) -> dict[str, Array]:
        scale, generation = np.array([self.scale]), np.array([self.generation], dtype=np.int64)
        return {"mean": self.mean.copy(), "scale": scale, "shape": self.shape.copy(), "generation": generation}

    def restore(self, state: Mapping[str, Array]) -> None:
        self.mean, self.shape = np.array(state["mean"]), np.array(state["shape"])
        self.scale, self.generation = float(state["scale"][0]), int(state["generation"][0])

    def _noise(self) -> Array:
        stream = generator(self.seed, "xnes", generation=self.generation)
        return stream.standard_normal((self.settings.population, self.layout.size))

    def _foreign(self, genes: Genes) -> Array:
        return shortened(np.linalg.solve(self.shape, (self.units.units(genes) - self.mean).T).T / self.scale)


def exponential(matrix: Array) -> Array:
    """The exponential (D, D) of a symmetric matrix (D, D)."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return np.asarray((vectors * np.exp(values)) @ vectors.T)
