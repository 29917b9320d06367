"""What the evolution strategies share: units of half widths, foreign chromosomes, utilities, Adam and ClipUp.

A strategy searches in units u of the genes' initial ranges, u = (gene - middle) / half width, so that one setting suits
every network. What it learns from is the noise of each chromosome: how far it lies from the mean, in deviations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import numpy as np
from threadpoolctl import ThreadpoolController

from evo_rnn.errors import ConfigError
from evo_rnn.fitness import sanitise
from evo_rnn.layout import Layout
from evo_rnn.shapes import Array, Genes, Losses, check_shape

LARGEST = float(np.finfo(np.float32).max)  # a gene is finite whatever the search does


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """One thread for NumPy's products and eigenvectors inside: how many there are changes their last bits."""
    with _libraries().limit(limits=1, user_api="blas"):
        yield


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()


@dataclass(frozen=True)
class Units:
    """Genes in half widths of their initial range about its middle; a range without width counts as one of width 1."""

    middle: Array  # (D,) float64
    half: Array  # (D,) float64

    def genes(self, units: Array) -> Genes:
        """Chromosomes (P, D) float32, finite, of points (P, D) in units."""
        with np.errstate(over="ignore"):
            return np.asarray(np.clip(self.middle + self.half * units, -LARGEST, LARGEST), dtype=np.float32)

    def units(self, genes: Genes) -> Array:
        """Points (P, D) float64 of chromosomes (P, D)."""
        return (np.asarray(genes, dtype=np.float64) - self.middle) / self.half


def units_of(layout: Layout) -> Units:
    """The units of a network's genes."""
    middle, half = (each.astype(np.float64) for each in layout.ranges())
    return Units(middle, np.where(half > 0, half, 1.0))


def usable(genes: Genes, loss: Losses, size: int) -> tuple[Genes, Losses]:
    """What can be learned from: finite chromosomes (N, D) and their sanitised losses (N,).

    Raises:
        ValueError: if a shape does not fit.
    """
    check_shape(genes, "genes", ("N", size), "Is the search for another network?")
    check_shape(loss, "loss", (len(genes),), "Every chromosome has one loss.")
    genes = np.asarray(genes, dtype=np.float32)
    sound = np.isfinite(genes).all(axis=1)
    return genes[sound], sanitise(loss)[sound]


def recognised(genes: Genes, asked: Genes, drawn: Array, foreign: Callable[[Genes], Array]) -> Array:
    """What was `drawn` (P, D) for the chromosomes that were `asked`; `foreign` says it for all other `genes` (N, D)."""
    if np.array_equal(genes, asked):
        return drawn
    place = {row.tobytes(): index for index, row in enumerate(asked)}
    index = np.array([place.get(row.tobytes(), -1) for row in genes], dtype=np.int64)
    rows: Array = drawn[index] if len(drawn) else np.empty(genes.shape)
    others = index < 0
    rows[others] = foreign(genes[others])
    return rows


def shortened(noise: Array) -> Array:
    """Foreign noise (N, D), no longer than sqrt(D) + 2 D / (D + 2): Hansen, "Injecting external solutions", 2011, eq. 3.

    Chromosomes from elsewhere may lie many deviations away. They give a direction, but must not blow the search up.
    """
    size = noise.shape[1]
    length = np.sqrt((noise**2).sum(axis=1, keepdims=True))
    limit = size**0.5 + 2 * size / (size + 2)
    return np.asarray(noise * np.minimum(1.0, limit / np.maximum(length, 1e-300)))


def utilities(loss: Losses) -> Array:
    """Utilities (N,) of Wierstra et al. 2014, section 3.1: the better half counts by the logarithm of its rank.

    They sum to 0. Equal losses share what their ranks are worth, so chance never ranks them.
    """
    count = max(len(loss), 1)
    ranks = np.arange(1, len(loss) + 1)
    worth = np.maximum(0.0, np.log(count / 2 + 1) - np.log(ranks))
    return _shared(worth / max(worth.sum(), 1e-300) - 1 / count, loss)


def centred_ranks(loss: Losses) -> Array:
    """Ranks (N,) from 1/2 for the best to -1/2 for the worst (Salimans et al. 2017); equal losses share theirs."""
    return _shared(np.linspace(0.5, -0.5, len(loss)) if len(loss) > 1 else np.zeros(len(loss)), loss)


def _shared(worth: Array, loss: Losses) -> Array:
    """`worth` by rank (N,) given to losses (N,); each group of equal ones gets its mean."""
    _, group, size = np.unique(loss, return_inverse=True, return_counts=True)
    if len(size) < 2:
        return np.zeros(len(loss))  # exactly: ClipUp makes a whole step even of a rounding error
    total = np.add.reduceat(worth, np.cumsum(size) - size)
    return np.asarray((total / size)[group])


def mirrored(stream: np.random.Generator, count: int, size: int) -> Array:
    """Standard normal noise (count, size) in pairs e, -e (Brockhoff et al. 2010); one left over is the mean itself."""
    half: Array = stream.standard_normal((count // 2, size))
    return np.concatenate([half, -half, np.zeros((count % 2, size))])


@dataclass(frozen=True)
class Adam:
    """Kingma and Ba 2015, algorithm 1, uphill.

    Args:
        rate: length of a step in one gene.
        keep: of the mean gradient from step to step.
        keep_square: of the mean square.
        small: added to the root.
    """

    rate: float
    keep: float = 0.9
    keep_square: float = 0.999
    small: float = 1e-8

    def move(self, memory: Array, gradient: Array, count: int) -> tuple[Array, Array]:
        """The step (D,) along `gradient` (D,) and the memory (2, D) after it; `count` steps are done with this one."""
        mean = self.keep * memory[0] + (1 - self.keep) * gradient
        square = self.keep_square * memory[1] + (1 - self.keep_square) * gradient**2
        root = np.sqrt(square / (1 - self.keep_square**count)) + self.small
        return self.rate * mean / (1 - self.keep**count) / root, np.stack([mean, square])


@dataclass(frozen=True)
class ClipUp:
    """Toklu, Liskowski and Srivastava 2020, algorithm 1: normalised gradients, momentum, a speed limit.

    Args:
        rate: length of what a gradient adds to the velocity.
        speed: the longest velocity.
        keep: of the velocity from step to step.
    """

    rate: float
    speed: float
    keep: float = 0.9

    def move(self, memory: Array, gradient: Array, count: int) -> tuple[Array, Array]:  # noqa: ARG002 (as Adam's)
        """The step (D,) along `gradient` (D,) and the memory (2, D) after it, whose first row is the velocity."""
        length = np.sqrt((gradient**2).sum())
        velocity = self.keep * memory[0] + (self.rate / length * gradient if length > 0 else 0.0)
        fast = np.sqrt((velocity**2).sum())
        velocity = velocity * (self.speed / fast) if fast > self.speed else velocity
        return velocity, np.stack([velocity, memory[1]])


def check_settings(settings: object, **bounds: tuple[float, float]) -> None:
    """Raise if a field of `settings` is outside its bounds.

    Raises:
        ConfigError: naming the field, its bounds and its value.
    """
    for name, (low, high) in bounds.items():
        if not low <= getattr(settings, name) <= high:
            raise ConfigError(f"{name} should be between {low} and {high} but is {getattr(settings, name)}.")
