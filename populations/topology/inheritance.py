"""What a child inherits: weights by the names of what they link, so that growth leaves a network's function as it was.

What is new and read through a link of weight zero changes nothing (and still has a slope, as the link has one); a unit
that is doubled keeps what it hears, and its two copies share what it says (Chen, Goodfellow and Shlens 2016, Net2Net).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from evo_rnn.cells.graph import Graph
from evo_rnn.network import Network
from evo_rnn.shapes import Array, Genes

End = tuple[str, str]  # who hears and what is heard, by node


@dataclass(frozen=True)
class Change:
    """A child's graph and what its weights come from.

    Args:
        graph: the child's.
        silent: links, by the node that hears and the source as genes name it, that begin at zero if they are new. The
            readout is the node "readout.y".
        renamed: the parent's link, where it is not of the same name.
        origins: by node, for each unit the parent's unit that it is a copy of; nodes that are not here have the same.
        shares: by node, for each unit the part of that unit's voice that it takes over.
    """

    graph: Graph
    silent: frozenset[End] = frozenset()
    renamed: Mapping[End, End] = field(default_factory=dict)
    origins: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    shares: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


def inherited(parent: Network, genes: Genes, child: Network, change: Change, fresh: Genes) -> Genes:
    """Chromosomes (K, D') of a child.

    Args:
        parent: a graph and a readout.
        genes: (K, D) its chromosomes.
        child: the changed graph and a readout.
        change: how it came from its parent.
        fresh: (K, D') where weights come from that the parent had no link for.
    """
    known = {key: place for place, key in enumerate(_table(parent))}
    found = np.array(fresh, dtype=genes.dtype)
    for place, (target, row, source, column) in enumerate(_table(child)):
        old_target, old_source = change.renamed.get((target, source), (target, source))
        name, _, _ = old_source.partition("@")
        old_row = _origin(change, old_target, row)
        old_column = _origin(change, name, column)
        before = known.get((old_target, old_row, old_source, old_column), -1)
        if before >= 0:
            share = change.shares.get(name, ())
            whole = not share or column < 0 or _elementwise(child, place)
            found[:, place] = genes[:, before] * (1.0 if whole else share[column])
        elif (target, source) in change.silent:
            found[:, place] = 0.0
    return found


def _origin(change: Change, node: str, unit: int) -> int:
    copies = change.origins.get(node, ())
    return copies[unit] if copies and unit >= 0 else unit


Place = tuple[str, int, str, int]  # target node and unit, source and unit


@lru_cache(maxsize=256)
def _table(net: Network) -> tuple[Place, ...]:
    found = []
    for link in net.layout.links():
        target, row = _split(link.target)
        source, column = _split(link.source)
        found.append((target, row, source, column))
    return tuple(found)


@lru_cache(maxsize=256)
def _vectors(net: Network) -> Array:
    return np.concatenate([np.full(leaf.size, len(leaf.shape) == 1) for leaf in net.layout.leaves])


def _elementwise(net: Network, place: int) -> bool:
    return bool(_vectors(net)[place])


def _split(name: str) -> tuple[str, int]:
    """`cell.layer1.h@2[3]` is unit 3 of `layer1.h@2`; what has no number has unit -1."""
    short = name.removeprefix("cell.")
    base, bracket, rest = short.partition("[")
    return base, int(rest[:-1]) if bracket else -1
