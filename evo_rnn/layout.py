"""Where each weight lies in a chromosome: one gene is one weight link, one network is one chromosome.

A leaf is one weight array of a network. Its first axis lists the target units, its remaining axes the sources; a vector
whose sources and targets are equally many is element-wise. `Layout.links` names every gene: chromosomes can be read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from evo_rnn.shapes import Genes, Weights, check_shape


@dataclass(frozen=True)
class Leaf:
    """One weight array of a network.

    Args:
        name: dotted, unique in a network.
        shape: without the population axis.
        targets: unit names along the first axis.
        sources: unit names along the flattened other axes, or one name a target, or one name for all.
        low: lower end of the uniform range that initial weights are drawn from.
        high: its upper end.
        free: flat indices of the links that exist, in order; empty means all of them. Absent links are zero.
    """

    name: str
    shape: tuple[int, ...]
    targets: tuple[str, ...]
    sources: tuple[str, ...]
    low: float
    high: float
    free: tuple[int, ...] = ()

    @cached_property
    def full(self) -> int:
        """Number of entries of the weight array."""
        return prod(self.shape)

    @property
    def size(self) -> int:
        """Number of genes: of the links that exist."""
        return len(self.free) or self.full


@dataclass(frozen=True)
class Link:
    """What one gene is: the link from `source` to `target`, entry `index` of the leaf `leaf`."""

    leaf: str
    index: tuple[int, ...]
    source: str
    target: str


def units(name: str, count: int) -> tuple[str, ...]:
    """Names of `count` units: `h[0]`, `h[1]`, ..."""
    return tuple(f"{name}[{i}]" for i in range(count))


def matrix(name: str, targets: Sequence[str], sources: Sequence[str], free: tuple[int, ...] = ()) -> Leaf:
    """A dense leaf (targets, sources), drawn from ±1/sqrt(fan-in)."""
    bound = 1.0 / max(len(sources), 1) ** 0.5
    return Leaf(name, (len(targets), len(sources)), tuple(targets), tuple(sources), -bound, bound, free)


def vector(name: str, targets: Sequence[str], sources: Sequence[str], low: float, high: float) -> Leaf:
    """An element-wise leaf (targets,): a bias, a peephole, an independent recurrent weight."""
    return Leaf(name, (len(targets),), tuple(targets), tuple(sources), low, high)


def prefixed(prefix: str, leaves: Sequence[Leaf], known: Mapping[str, str] = MappingProxyType({})) -> tuple[Leaf, ...]:
    """The same leaves with `prefix.` before leaf and unit names; sources in `known` get the name that it gives."""

    def full(name: str) -> str:
        return name if name == "one" else f"{prefix}.{name}"

    return tuple(
        replace(
            leaf,
            name=f"{prefix}.{leaf.name}",
            targets=tuple(map(full, leaf.targets)),
            sources=tuple(known.get(name) or full(name) for name in leaf.sources),
        )
        for leaf in leaves
    )


def under(prefix: str, weights: Weights) -> Weights:
    """The weights whose names begin with `prefix.`, without it."""
    start = prefix + "."
    return {name.removeprefix(start): value for name, value in weights.items() if name.startswith(start)}


@dataclass(frozen=True)
class Layout:
    """The order of all genes of a network: leaf after leaf, each in row-major order."""

    leaves: tuple[Leaf, ...]
    indices: Mapping[str, Tensor] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        names = [leaf.name for leaf in self.leaves]
        if len(set(names)) < len(names):
            raise ValueError(f"leaves should have different names but are {names}. Prefix the parts of the network.")
        masked = {leaf.name: torch.tensor(leaf.free) for leaf in self.leaves if leaf.free}
        object.__setattr__(self, "indices", masked)

    @cached_property
    def size(self) -> int:
        """D, the number of genes."""
        return sum(leaf.size for leaf in self.leaves)

    def spans(self) -> Iterator[tuple[Leaf, int, int]]:
        """Each leaf with the first gene of it and the gene after its last."""
        start = 0
        for leaf in self.leaves:
            yield leaf, start, start + leaf.size
            start += leaf.size

    def unpack(self, genes: Tensor) -> Weights:
        """Weights (P, *shape) of chromosomes (P, D); views where every link exists, differentiable everywhere.

        Raises:
            ValueError: if `genes` is not (P, D).
        """
        check_shape(genes, "genes", ("P", self.size), "Was the population made for another network?")
        weights: dict[str, Tensor] = {}
        for leaf, start, end in self.spans():
            part = genes[:, start:end]
            if leaf.free:
                index = self.indices[leaf.name].to(genes.device)
                part = genes.new_zeros(len(genes), leaf.full).index_copy(1, index, part)
            weights[leaf.name] = part.view(len(genes), *leaf.shape)
        return weights

    def pack(self, weights: Weights) -> Tensor:
        """Chromosomes (P, D) of weights (P, *shape): the inverse of `unpack`.

        Raises:
            ValueError: if a leaf is missing or has another shape.
        """
        parts = []
        for leaf in self.leaves:
            if leaf.name not in weights:
                raise ValueError(f"weights should have a leaf {leaf.name!r} but have {sorted(weights)}.")
            value = weights[leaf.name]
            check_shape(value, leaf.name, ("P", *leaf.shape))
            flat = value.flatten(1)
            parts.append(flat[:, self.indices[leaf.name]] if leaf.free else flat)
        return torch.cat(parts, dim=1)

    def links(self) -> list[Link]:
        """For every gene, in order: its leaf, index, source unit and target unit."""
        return [link for leaf in self.leaves for link in _links(leaf)]

    def draw(self, generator: np.random.Generator, count: int, spread: float = 1.0) -> Genes:
        """`count` random chromosomes (P, D), uniform in each leaf's range widened by `spread` about its middle."""
        middle, half = self.ranges()
        unit = generator.random((count, self.size), dtype=np.float32) * 2 - 1
        return (middle + spread * half * unit).astype(np.float32)

    def ranges(self) -> tuple[Genes, Genes]:
        """Middle and half width (D,) of every gene's initial range."""
        low = np.concatenate([np.full(leaf.size, leaf.low, np.float32) for leaf in self.leaves])
        high = np.concatenate([np.full(leaf.size, leaf.high, np.float32) for leaf in self.leaves])
        return (low + high) / 2, (high - low) / 2


def _links(leaf: Leaf) -> Iterator[Link]:
    for flat in leaf.free or range(leaf.full):
        index = tuple(int(i) for i in np.unravel_index(flat, leaf.shape))
        row, column = divmod(flat, leaf.full // leaf.shape[0])
        if len(leaf.shape) == 1:
            column = row if len(leaf.sources) > 1 else 0
        yield Link(leaf.name, index, leaf.sources[column], leaf.targets[row])
