"""Which genomes are the same: without what nobody hears, by colours that neighbours refine, and by what they compute.

The colours are those of Weisfeiler and Leman 1968, over the nodes with their operations and the edges with their kinds and
delays, in both directions: two nodes of one colour hear alike and are heard alike. Names and orders do not matter.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from evo_rnn.cells.graph import Graph, Node, X
from evo_rnn.network import Network, network
from evo_rnn.shapes import Array, Weights

PROBE = 24  # steps of the sequence on which functions are compared


def pruned(graph: Graph) -> Graph:
    """The graph without nodes that no head hears, directly or through others."""
    heard, waiting = set(graph.heads), list(graph.heads)
    while waiting:
        for edge in graph.named[waiting.pop()].edges:
            if edge.source != X and edge.source not in heard:
                heard.add(edge.source)
                waiting.append(edge.source)
    if len(heard) == len(graph.nodes):
        return graph
    return Graph(graph.inputs, tuple(node for node in graph.nodes if node.name in heard), graph.heads)


def colours(graph: Graph) -> dict[str, str]:
    """A colour for every node, the same for nodes that cannot be told apart."""
    found = {node.name: _hash(_kind(node), node.name in graph.heads) for node in graph.nodes} | {X: _hash("input")}
    count = len(set(found.values()))
    while True:
        heard = {n.name: sorted((e.through, e.delay, found[e.source]) for e in n.edges) for n in graph.nodes}
        speaks: dict[str, list[tuple[str, int, str]]] = {name: [] for name in found}
        for node in graph.nodes:
            for edge in node.edges:
                speaks[edge.source].append((edge.through, edge.delay, found[node.name]))
        found = {name: _hash(old, heard.get(name, []), sorted(speaks[name])) for name, old in found.items()}
        finer = len(set(found.values()))
        if finer == count:
            return found
        count = finer


def digest(graph: Graph) -> str:
    """32 hexadecimal digits, equal for graphs that differ in names, in orders or in nodes that nobody hears."""
    graph = pruned(graph)
    return _hash(graph.inputs, sorted(colours(graph).values()))


def fingerprint(graph: Graph, seed: int = 0) -> str:
    """32 hexadecimal digits of what the heads say to a fixed noise, with weights that the colours of their ends name.

    Graphs of one digest have one fingerprint. So have graphs that are written differently and compute the same: a product
    with one factor and that factor, one minus one minus something and that something.
    """
    graph = pruned(graph)
    net = network(graph, 1)
    stream = np.random.default_rng(seed)
    inputs = torch.tensor(stream.normal(size=(1, PROBE, graph.inputs)))
    weights = net.layout.pack(_weights(net, graph))
    states = net.states(weights, inputs)[0, 0]
    heads = states[:, : graph.outputs].split([graph.width(head) for head in graph.heads], dim=1)
    said = sorted(" ".join(f"{value + 0.0:.6g}" for value in head.flatten().tolist()) for head in heads)
    return _hash(graph.inputs, said)


def _weights(net: Network, graph: Graph) -> Weights:
    """By what each link hears and who hears it; a unit's place in its node counts, the node's name does not."""
    depth = _depths(graph)
    found = {}
    for leaf in net.layout.leaves:
        values = np.zeros(leaf.shape)
        if leaf.name.startswith("cell."):
            rows = {target: depth[target.removeprefix("cell.").partition("[")[0]] for target in leaf.targets}
            for index, target in enumerate(leaf.targets):
                own = f"{rows[target]}[{target.partition('[')[2]}"
                several = leaf.shape[1] if len(leaf.shape) > 1 else 1
                drawn = _draw(own, several, _source(leaf.sources, index, several, depth))
                values[index] = drawn if len(leaf.shape) > 1 else drawn[0]
        found[leaf.name] = torch.tensor(values)[None]
    return found


def _source(sources: tuple[str, ...], index: int, several: int, depth: dict[str, str]) -> str:
    first = sources[0] if several > 1 or len(sources) == 1 else sources[index]
    name, at, rest = first.removeprefix("cell.").partition("[")[0].partition("@")
    return f"{depth.get(name, name)}{at}{rest}"


def _draw(target: str, count: int, source: str) -> Array:
    words = int(_hash(target, source)[:16], 16)
    drawn: Array = np.random.default_rng(words).normal(size=count) / max(count, 1) ** 0.5
    return drawn


def _depths(graph: Graph) -> dict[str, str]:
    """What each node computes, as far as it can be told from what it hears: colours in one direction."""
    simple = {node.name: _kind(node) for node in graph.nodes} | {X: "input"}
    for _ in range(len(graph.nodes)):
        simple = {X: "input"} | {
            n.name: _hash(_kind(n), sorted((e.through, e.delay, simple[e.source]) for e in n.edges))
            for n in graph.nodes
        }
    return simple


def _kind(node: Node) -> str:
    op = "sum" if node.op == "identity" or (node.op == "mul" and len(node.edges) == 1) else node.op
    return f"{op} {node.width} {int(node.bias)} {float(node.shift)!r}"


def _hash(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()
