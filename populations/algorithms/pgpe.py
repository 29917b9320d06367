"""Policy gradients with parameter-based exploration: Sehnke et al., "Parameter-exploring policy gradients", Neural
Networks 23, 2010, symmetric sampling; ranked, with ClipUp (Toklu, Liskowski and Srivastava, PPSN 2020) or Adam.
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
    Adam,
    ClipUp,
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

OPTIMIZERS = ("clipup", "adam")
TURN = 0.2  # no deviation changes by more than this share in a generation (Toklu et al. 2020, section 4)


@dataclass(frozen=True)
class PGPE:
    """Mean and deviations of a normal distribution climb the gradient of the expected rank.

    Args:
        population: P, chromosomes in a generation, in mirrored pairs; if odd, the last is the mean.
        step: initial standard deviation, in half widths of the gene's initial range.
        optimizer: of the mean, "clipup" or "adam".
        rate: how far the mean may move in a generation, in initial deviations of a gene: ClipUp's speed limit is
            rate * step * sqrt(D), twice what one gradient adds; Adam's rate is rate * step.
        width_rate: learning rate of the deviations.
    """

    population: int = 30
    step: float = 0.5
    optimizer: str = "clipup"
    rate: float = 0.15
    width_rate: float = 0.2

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise ConfigError(f"optimizer should be one of {sorted(OPTIMIZERS)} but is {self.optimizer!r}.")
        check_settings(self, population=(2, np.inf), step=(1e-12, 1e6), rate=(1e-12, 1e6), width_rate=(0, 10))

    def begin(self, layout: Layout, seed: int) -> _PGPE:
        """A search in progress, from the middle of the initial ranges."""
        return _PGPE(self, layout, seed)


@dataclass
class _PGPE:
    settings: PGPE
    layout: Layout
    seed: int
    units: Units = field(init=False)
    optimizer: Adam | ClipUp = field(init=False)
    generation: int = field(init=False, default=0)
    mean: Array = field(init=False)  # (D,) in half widths, as the deviations
    deviation: Array = field(init=False)  # (D,)
    memory: Array = field(init=False)  # (2, D), the optimizer's

    def __post_init__(self) -> None:
        self.units, size, settings = units_of(self.layout), self.layout.size, self.settings
        self.mean, self.deviation, self.memory = np.zeros(size), np.full(size, settings.step), np.zeros((2, size))
        pace = settings.rate * settings.step
        speed = pace * size**0.5
        self.optimizer = Adam(pace) if settings.optimizer == "adam" else ClipUp(speed / 2, speed)

    @one_blas_thread()
    def ask(self) -> Genes:
        return self.units.genes(self.mean + self.deviation * self._noise())

    @one_blas_thread()
    def tell(self, genes: Genes, loss: Losses) -> None:
        genes, loss = usable(genes, loss, self.layout.size)
        noise = recognised(genes, self.ask(), self._noise(), self._foreign)
        worth, pairs = centred_ranks(loss), max(len(noise) // 2, 1)
        uphill = self.deviation * (worth @ noise) / (2 * pairs)  # eq. 13: a pair adds half its difference
        widen = self.deviation * (worth @ (noise**2 - 1)) / (2 * pairs)  # eq. 14: and half its sum; the baseline is 0
        move, self.memory = self.optimizer.move(self.memory, uphill, self.generation + 1)
        self.mean = self.mean + move
        turn = np.clip(self.settings.width_rate * widen, -TURN * self.deviation, TURN * self.deviation)
        self.deviation = np.clip(self.deviation + turn, 1e-12, 1e6)
        self.generation += 1

    def state(self) -> dict[str, Array]:
        arrays = {"mean": self.mean, "deviation": self.deviation, "memory": self.memory}
        generation = np.array([self.generation], dtype=np.int64)
        return {name: array.copy() for name, array in arrays.items()} | {"generation": generation}

    def restore(self, state: Mapping[str, Array]) -> None:
        self.mean, self.deviation = np.array(state["mean"]), np.array(state["deviation"])
        self.memory, self.generation = np.array(state["memory"]), int(state["generation"][0])

    def _noise(self) -> Array:
        stream = generator(self.seed, "pgpe", generation=self.generation)
        return mirrored(stream, self.settings.population, self.layout.size)

    def _foreign(self, genes: Genes) -> Array:
        return shortened((self.units.units(genes) - self.mean) / self.deviation)
