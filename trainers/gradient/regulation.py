"""Regulation of independent recurrent weights (Li et al. 2018, arXiv 1803.04831, section 3.2): a projection after a step.

A unit that hears itself by u passes a gradient on u^T times over T steps (eq. 4). |u| <= γ^(1/T) keeps it from growing
beyond γ, and |u| >= ε^(1/T) keeps it from falling below ε. No gradient is changed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from evo_rnn.errors import ConfigError
from evo_rnn.layout import Layout


def self_links(layout: Layout) -> Tensor:
    """(D,) bool: the genes of element-wise leaves `recurrent`, by which every unit hears itself; no time constants."""
    found = torch.zeros(layout.size, dtype=torch.bool)
    for leaf, start, end in layout.spans():
        named = leaf.name.split(".")[-1] == "recurrent"
        found[start:end] = named and len(leaf.shape) == 1 and leaf.targets == leaf.sources
    return found


def check_regulated(layout: Layout, most: float, least: float = 0.0) -> None:
    """Refuse bounds that cross, or a network without such weights.

    Raises:
        ConfigError: naming what could be used.
    """
    if not self_links(layout).any():
        raise ConfigError("regulation needs units that hear only themselves, as those of indrnn do. Use clip instead.")
    if not 0 <= least <= most:
        raise ConfigError(f"regulation should have 0 <= least <= most but has {least} and {most}.")


def regulated(layout: Layout, genes: Tensor, steps: int, most: float, least: float = 0.0) -> Tensor:
    """Chromosomes (P, D) with every independent recurrent weight in its bounds over sequences of `steps` steps.

    Args:
        layout: of the network.
        genes: (P, D).
        steps: T, over which credit should reach.
        most: γ, the largest factor of a gradient over T steps; the paper takes 2.
        least: ε, the smallest; 0 sets no bound.

    Raises:
        ConfigError: if no unit hears itself alone, or the bounds cross.
    """
    check_regulated(layout, most, least)
    links = self_links(layout).to(genes.device)
    size = genes.abs().clamp(least ** (1 / steps) if least else 0.0, most ** (1 / steps))
    return torch.where(links, torch.where(genes < 0, -size, size), genes)
