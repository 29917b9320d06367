"""Chromosomes as lineages of seeds: a child travels as 10 bytes, its parent's number and a seed, not as D genes.

Such et al. 2017, Deep neuroevolution (arXiv:1712.06567), section 3.1 and its supplement: a chromosome is the list of the
seeds that made it, and whoever keeps the parents rebuilds a child with one vector of noise. Here a worker keeps the
parents of the last generation. New parents come as (whose child, seed); what a worker cannot rebuild, or rebuilds to
other bits than the digest says, it asks for, and gets whole. So the wire cannot change a result.

The noise is NumPy's `standard_normal` on Philox, whose stream may change between versions of NumPy (NEP 19); workers of
another version are refused when they start, and the digests would notice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from evo_rnn.layout import Layout
from evo_rnn.seeds import generator
from evo_rnn.shapes import Array, Genes

NOBODY = b""  # the digest of no parent
ITSELF = -1  # the seed of who is the parent, unchanged


@dataclass(frozen=True)
class Litter:
    """How a generation comes about: row k is parent `parent[k]` plus the noise of `seeds[k]`.

    Args:
        parents: (N, D) float32.
        origins: of each parent, the digest of its own parent and its seed, as far as that is known.
        parent: (P,) whose child each row is.
        seeds: (P,) of its noise; `ITSELF` for a parent that goes on.
        power: of the mutation, in half widths of a gene's initial range.
    """

    parents: Genes
    origins: tuple[tuple[bytes, int], ...]
    parent: Array
    seeds: Array
    power: float

    def genes(self, layout: Layout) -> Genes:
        """The chromosomes (P, D), rebuilt."""
        return rebuilt(layout, self.parents, self.parent, self.seeds, self.power)

    def parcels(self, cuts: Sequence[tuple[int, int]]) -> list[Parcel]:
        """The rows between each pair of cuts, to be sent."""
        narrow = self.parent.astype(np.min_scalar_type(len(self.parents)))
        digests = tuple(map(digest, self.parents))
        return [
            Parcel(digests, self.origins, narrow[start:stop], self.seeds[start:stop], self.power)
            for start, stop in cuts
        ]


@dataclass(frozen=True)
class Parcel:
    """A shard as it travels: parents by their digests, everything else as in `Litter`."""

    digests: tuple[bytes, ...]
    origins: tuple[tuple[bytes, int], ...]
    parent: Array
    seeds: Array
    power: float


@runtime_checkable
class Bred(Protocol):
    """A search whose next generation has a known litter."""

    def litter(self) -> Litter | tuple[()]:
        """How what `ask` answers comes about; empty where it is not bred, as the first generation."""
        ...


@runtime_checkable
class Expecting(Protocol):
    """An evaluator that can make use of it."""

    def expect(self, litter: Litter | tuple[()]) -> None:
        """The chromosomes of the next call are those of the litter."""
        ...


def digest(row: Genes) -> bytes:
    """16 bytes that stand for one chromosome."""
    return hashlib.blake2b(np.ascontiguousarray(row).tobytes(), digest_size=16).digest()


def rebuilt(layout: Layout, parents: Genes, parent: Array, seeds: Array, power: float) -> Genes:
    """Chromosomes (P, D) float32 from their parents (N, D): the one place where noise is added."""
    half = layout.ranges()[1]
    step = np.float32(power) * np.where(half > 0, half, 1).astype(np.float32)
    genes = parents[parent.astype(np.int64)]
    with np.errstate(over="ignore", invalid="ignore"):
        for row, seed in zip(genes, seeds.tolist(), strict=True):
            if seed != ITSELF:
                row += step * generator(seed, "noise").standard_normal(layout.size, dtype=np.float32)
    return genes


def parents_of(kept: dict[bytes, Genes], layout: Layout, parcel: Parcel, whole: Mapping[bytes, Genes]) -> list[bytes]:
    """Bring a worker's parents up to date; return the digests of those that it lacks.

    Args:
        kept: parents by digest; afterwards those of the parcel alone, as far as they are known.
        layout: of the network.
        parcel: names them.
        whole: those that were sent as they are.
    """
    found: dict[bytes, Genes] = {}
    for name, (grand, seed) in zip(parcel.digests, parcel.origins, strict=True):
        row = np.array(whole[name]) if name in whole else kept.get(name, np.empty(0, np.float32))
        if not len(row) and grand in kept:
            row = rebuilt(layout, kept[grand][None], np.zeros(1, np.int64), np.array([seed]), parcel.power)[0]
        if len(row) and digest(row) == name:
            found[name] = row
    lacking = [name for name in dict.fromkeys(parcel.digests) if name not in found]
    kept.clear()
    kept.update(found)
    return lacking


def unpacked(kept: Mapping[bytes, Genes], layout: Layout, parcel: Parcel) -> Genes:
    """The chromosomes (P, D) of a parcel whose parents are all kept."""
    parents = np.stack([kept[name] for name in parcel.digests])
    return rebuilt(layout, parents, parcel.parent, parcel.seeds, parcel.power)
