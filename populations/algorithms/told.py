"""What every search does with what it is told: checks, copies, makes it finite, and lets guests in."""

from __future__ import annotations

import numpy as np

from evo_rnn.fitness import ranking, sanitise
from evo_rnn.layout import Layout
from evo_rnn.shapes import Array, Genes, Losses, check_shape


def received(genes: Genes, loss: Losses, size: int) -> tuple[Genes, Losses]:
    """Copies of chromosomes (N, D) and losses (N,), all that is not usable made harmless.

    A loss that is not a finite number >= 0 is infinite. A chromosome that is not finite is invalid whatever its loss;
    its broken genes become 0, so that no difference or mean of chromosomes can spread them.

    Raises:
        ValueError: if a shape does not fit.
    """
    check_shape(genes, "genes", ("N", size), "Is the search for another network?")
    check_shape(loss, "loss", (len(genes),), "Every chromosome has one loss.")
    copied: Genes = np.array(genes, dtype=np.float32)
    finite = np.isfinite(copied)
    copied[~finite] = 0
    return copied, np.where(finite.all(axis=1), sanitise(loss), np.inf)


def guests(loss: Losses, coming: Losses) -> tuple[Array, Array]:
    """Which members (K,) give way to which of the guests (K,): the best guest to the worst member, while it is better.

    So the members afterwards are the best of both, and who stays keeps its place.

    Args:
        loss: of the members.
        coming: losses of the guests.
    """
    count = min(len(loss), len(coming))
    leaving, entering = ranking(loss)[::-1][:count], ranking(coming)[:count]
    better = coming[entering] < loss[leaving]
    return leaving[better], entering[better]


def widths(layout: Layout) -> Genes:
    """What a step of 1 means for each gene (D,): half its initial range, or 1 where it starts at one point."""
    half = layout.ranges()[1]
    return np.where(half > 0, half, np.float32(1))


def bounded(genes: Genes, fallback: Genes) -> Genes:
    """`genes` (N, D), with those of `fallback` where they are not finite: arithmetic on huge genes overflows."""
    return np.where(np.isfinite(genes), genes, fallback).astype(np.float32, copy=False)
