"""Crossover of genomes: a child takes a whole part, a cell or a memory, from another genome in place of one of its own.

Parts are swapped as wholes, as in CoDeepNEAT (Liang et al. 2019, Evolutionary neural AutoML for deep learning), because
single links of two genomes do not correspond. A part that comes in hears what the part that goes has heard, and speaks
for it; links between them are new, unless they have the same names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from evo_rnn.cells.graph import Edge, Graph, X
from populations.topology.canonical import pruned
from populations.topology.inheritance import Change
from populations.topology.mutations import part_of


def crossed(graph: Graph, other: Graph, stream: np.random.Generator) -> Change:
    """`graph` with one of its parts replaced by one of `other`'s; as it was where this makes no graph.

    Args:
        graph: of the one parent, who passes on the weights.
        other: of the other.
        stream: what is drawn from.
    """
    mine, theirs = _parts(graph), _parts(other)
    out = mine[int(stream.integers(len(mine)))]
    into = theirs[int(stream.integers(len(theirs)))]
    try:
        return Change(pruned(_swapped(graph, other, out, into)))
    except ValueError:
        return Change(graph)


def _parts(graph: Graph) -> list[str]:
    return sorted({part_of(node.name) for node in graph.nodes})


def _swapped(graph: Graph, other: Graph, out: str, into: str) -> Graph:
    gone = [node for node in graph.nodes if part_of(node.name) == out]
    come = [node for node in other.nodes if part_of(node.name) == into]
    kept = [node for node in graph.nodes if part_of(node.name) != out]
    width = max(node.width for node in gone)
    names = {node.name: _joined(out, node.name) for node in come}
    outside = [e.source for node in gone for e in node.edges if part_of(e.source) != out and e.source != X]
    heads = [node.name for node in come if node.name in other.heads]
    voice = names[heads[0] if heads else come[-1].name]
    before = {node.name for node in gone}
    after = set(names.values())

    def heard(edge: Edge) -> Edge:
        """What an incoming node hears: its own part, x, or what the part that went has heard."""
        if edge.source in names:
            return replace(edge, source=names[edge.source])
        return edge if edge.source == X else Edge(outside[0] if outside else X, "full", edge.delay)

    def spoken(edge: Edge) -> Edge:
        """What a node that stays hears instead of the part that went."""
        gone_for_good = edge.source in before and edge.source not in after
        return replace(edge, source=voice) if gone_for_good else edge

    fresh = [replace(node, name=names[node.name], width=width, edges=_once(map(heard, node.edges))) for node in come]
    stays = [replace(node, edges=_once(map(spoken, node.edges))) for node in kept]
    lost = any(head in before for head in graph.heads)
    left = tuple(head for head in graph.heads if head not in before)
    return Graph(graph.inputs, (*stays, *fresh), (voice, *left) if lost else left)


def _once(edges: Iterable[Edge]) -> tuple[Edge, ...]:
    found: dict[tuple[str, int], Edge] = {}
    for edge in edges:
        found.setdefault((edge.source, edge.delay), edge)
    return tuple(found.values())


def _joined(part: str, name: str) -> str:
    last = name.rpartition(".")[2]
    return f"{part}.{last}" if part else last
