"""Who becomes a parent: indices drawn from fitness, with the pressure that each rule is known for.

Every rule is `select(fitness (P,), count, generator) -> indices (count,)`. Fitness is higher-better, finite and >= 0,
and exactly 0 for an invalid chromosome, as `evo_rnn.fitness.reciprocal` gives it. Among equals the choice is uniform.
"""

from __future__ import annotations

import numpy as np

from evo_rnn.shapes import Array, Losses


def tournament(fitness: Losses, count: int, generator: np.random.Generator, *, size: int = 3) -> Array:
    """The fittest of `size` drawn with replacement, `count` times; of equals the first drawn wins.

    Goldberg and Deb 1991, A comparative analysis of selection schemes. It sees the order of fitness alone.
    """
    drawn = generator.integers(len(fitness), size=(count, size))
    winner = fitness[drawn].argmax(axis=1)
    return np.asarray(drawn[np.arange(count), winner])


def rank(fitness: Losses, count: int, generator: np.random.Generator, *, pressure: float = 1.8) -> Array:
    """Linear ranking: the fittest expects `pressure` (1 to 2) children, the least fit 2 - `pressure`; equals share.

    Baker 1985, Adaptive selection methods for genetic algorithms. It sees the order of fitness alone.
    """
    _, level, members = np.unique(fitness, return_inverse=True, return_counts=True)
    middle = (members.cumsum() - (members + 1) / 2)[level]  # mean place among equals, 0 for the least fit
    share = 2 - pressure + 2 * (pressure - 1) * middle / max(len(fitness) - 1, 1)
    return _spin(share, count, generator)


def roulette(fitness: Losses, count: int, generator: np.random.Generator) -> Array:
    """Chances in proportion to fitness; uniform where no chromosome is valid.

    Holland 1975. It sees the values, not only the order: near the optimum a reciprocal makes it extremely greedy.
    """
    return _spin(fitness, count, generator)


def _spin(share: Losses, count: int, generator: np.random.Generator) -> Array:
    """`count` indices with chances in proportion to `share (P,)`."""
    bounds = np.cumsum(share / share.max() if share.max() > 0 else np.ones(len(share)))
    chosen = np.searchsorted(bounds, generator.random(count) * bounds[-1], side="right")
    return np.asarray(
        np.minimum(chosen, np.flatnonzero(np.diff(bounds, prepend=0.0))[-1])
    )  # rounding may reach the very end
