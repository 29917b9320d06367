"""How large a network is that links were cut from: the second objective of a search for small ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from evo_rnn.layout import Layout
from evo_rnn.shapes import Array, Genes
from populations.operators.units import _speakers, _unit


def links(layout: Layout, genes: Genes) -> Array:  # noqa: ARG001 (one form for all)
    """How many genes (N,) are not exactly 0."""
    return np.asarray(np.count_nonzero(genes, axis=1))


def cost(layout: Layout, genes: Genes) -> Array:
    """Multiply-adds (N,) a time step: one for every link whose target is heard, in the end, by an output.

    What a unit costs is counted where it is fed. A unit that no output hears, directly or through others, need not be
    computed at all. A link from the constant one is an addition, and is counted like any other.
    """
    present = genes != 0
    sources, targets, outputs, count = _graph(layout)
    heard = np.zeros((len(genes), count), dtype=bool)
    heard[:, outputs] = True
    inner = np.flatnonzero(sources >= 0)
    inner = inner[np.argsort(sources[inner], kind="stable")]
    speakers, starts = np.unique(sources[inner], return_index=True)
    for _ in range(count if len(inner) else 0):  # a path has no more links than there are units
        before = heard.copy()
        heard[:, speakers] |= np.logical_or.reduceat((present & heard[:, targets])[:, inner], starts, axis=1)
        if np.array_equal(before, heard):
            break
    return np.asarray((present & heard[:, targets]).sum(axis=1))


SIZES: dict[str, Callable[[Layout, Genes], Array]] = {"links": links, "cost": cost}


def _graph(layout: Layout) -> tuple[Array, Array, Array, int]:
    """For each link the unit that it comes from (-1 for inputs and the constant) and goes to; outputs; how many units.

    The gates of a unit are that unit. Outputs are the units that no link comes from in the plan of the network; where
    there are none, every unit may be one.
    """
    named = layout.links()
    owners = list(dict.fromkeys(_unit(link.target)[0] for link in named))
    speakers = _speakers({link.source for link in named}, owners)
    numbers: dict[tuple[str, str], int] = {}
    targets = np.array([numbers.setdefault(_unit(link.target), len(numbers)) for link in named], dtype=np.int64)

    def number(source: str) -> int:
        last = source.rpartition(".")[2]
        owner, index = _unit(source)
        inner = "[" in last and not last.startswith("x[")
        return numbers.get((speakers.get(owner, owner), index), -1) if inner else -1

    sources = np.array([number(link.source) for link in named], dtype=np.int64)
    silent = sorted(set(targets.tolist()) - set(sources.tolist())) or sorted(set(targets.tolist()))
    return sources, targets, np.array(silent, dtype=np.int64), len(numbers)
