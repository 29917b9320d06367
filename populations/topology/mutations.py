"""What may change in a graph, one short function each. Growth leaves the function as it was.

A mutation draws from a stream and returns a `Change`, or raises ValueError where what it drew makes no graph: another
draw is then tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from evo_rnn.cells.equations import nodes, parsed
from evo_rnn.cells.graph import Edge, Graph, Node, X, spoken
from evo_rnn.cells.named_graphs import GRAPHS
from populations.topology.canonical import pruned
from populations.topology.inheritance import Change

Stream = np.random.Generator
Kind = TypeVar("Kind")
SUMMING = ("sum", "identity", "sigmoid", "tanh", "relu", "one_minus")
LAYERS = ("elman", "lstm", "gru", "mgu")  # that a layer may begin as
READOUT = "readout.y"


@dataclass(frozen=True)
class Space:
    """The bounds of what is searched.

    Args:
        operations: that a node may become.
        max_nodes: of a graph.
        max_width: units of a node.
        max_delay: steps that an edge may look back.
    """

    operations: tuple[str, ...] = ("sigmoid", "tanh", "relu", "sum", "one_minus", "mul")
    max_nodes: int = 60
    max_width: int = 32
    max_delay: int = 10


def add_edge(graph: Graph, space: Space, stream: Stream) -> Change:
    """A node hears something more, from any time, at first with weight zero."""
    target = _pick([node for node in graph.nodes if node.op in SUMMING], stream)
    source = _pick([X, *(node.name for node in graph.nodes)], stream)
    same = graph.width(source) == target.width
    edge = Edge(source, "diagonal" if same and stream.random() < 0.3 else "full", _delay(space, stream))
    return Change(
        _with(graph, replace(target, edges=(*target.edges, edge))),
        frozenset({(target.name, spoken((source, edge.delay)))}),
    )


def add_node(graph: Graph, space: Space, stream: Stream) -> Change:
    """A node on an edge: in it, doing nothing yet, or beside it, heard at first with weight zero."""
    _room(graph, space, 1)
    target, edge = _pick([(node, edge) for node in graph.nodes for edge in node.edges], stream)
    name = _new(graph, "n")
    if target.op not in SUMMING or stream.random() < 0.3:
        middle = Node(name, "identity", graph.width(edge.source), (replace(edge, through="plain"),))
        changed = replace(target, edges=tuple(Edge(name, e.through) if e == edge else e for e in target.edges))
        renamed = {(target.name, spoken((name, 0))): (target.name, spoken((edge.source, edge.delay)))}
        return Change(_with(graph, changed, middle), renamed=renamed)
    op = _pick([op for op in space.operations if op in SUMMING], stream)
    beside = Node(name, op, target.width, (replace(edge, through="full"),), bias=True)
    changed = replace(target, edges=(*target.edges, Edge(name)))
    return Change(_with(graph, changed, beside), frozenset({(target.name, spoken((name, 0)))}))


MEMORY = """
{p}.i = sigmoid(W {s} + W {p}.c@1 + b)
{p}.f = sigmoid(W {s} + W {p}.c@1 + b + 1)
{p}.g = tanh(W {s} + b)
{p}.k = {p}.f * {p}.c@1
{p}.n = {p}.i * {p}.g
{p}.c = {p}.k + {p}.n
"""


def add_memory(graph: Graph, space: Space, stream: Stream) -> Change:
    """A whole gated memory beside a node, heard at first with weight zero."""
    _room(graph, space, 6)
    target = _pick([node for node in graph.nodes if node.op in SUMMING], stream)
    part = _new_part(graph, "memory")
    source = _pick([X, *(f"{head}@1" for head in graph.heads)], stream)
    added = nodes(MEMORY.format(p=part, s=source), target.width)
    delay = int(stream.integers(2))
    changed = replace(target, edges=(*target.edges, Edge(f"{part}.c", "full", delay)))
    return Change(_with(graph, changed, *added), frozenset({(target.name, spoken((f"{part}.c", delay)))}))


def add_layer(graph: Graph, space: Space, stream: Stream) -> Change:
    """A cell of the literature that hears a head, or the input, and is heard by the readout, at first with weight zero."""
    text = GRAPHS[_pick(LAYERS, stream)].strip()
    _room(graph, space, len(text.splitlines()))
    width = _pick([graph.width(head) for head in graph.heads], stream)
    source = _pick([X, *graph.heads], stream)
    part = _new_part(graph, "layer")
    own = parsed(text, graph.inputs, width, ("h",))

    def name(old: str) -> str:
        return source if old == X else f"{part}.{old}"

    added = [_renamed(node, name) for node in own.nodes]
    made = Graph(graph.inputs, (*graph.nodes, *added), (*graph.heads, f"{part}.h"))
    return Change(made, frozenset({(READOUT, f"{part}.h")}))


def change_operation(graph: Graph, space: Space, stream: Stream) -> Change:
    """Another operation on what a node hears."""
    node = _pick([node for node in graph.nodes if node.op != "const"], stream)
    op = _pick([op for op in space.operations if op != node.op], stream)
    bare = op == "mul"
    return Change(_with(graph, replace(node, op=op, bias=node.bias and not bare, shift=0.0 if bare else node.shift)))


def change_delay(graph: Graph, space: Space, stream: Stream) -> Change:
    """An edge looks back further, or less far; its weights stay."""
    node, edge = _pick([(node, edge) for node in graph.nodes for edge in node.edges], stream)
    near = edge.delay + int(_pick([-1, 1], stream))
    delay = near if stream.random() < 0.5 else _delay(space, stream)
    if not 0 <= delay <= space.max_delay or delay == edge.delay:
        raise ValueError(f"a delay should be another one, 0 to {space.max_delay}, but is {delay}.")
    changed = replace(node, edges=tuple(replace(e, delay=delay) if e == edge else e for e in node.edges))
    renamed = {(node.name, spoken((edge.source, delay))): (node.name, spoken((edge.source, edge.delay)))}
    return Change(_with(graph, changed), renamed=renamed)


def widen(graph: Graph, space: Space, stream: Stream) -> Change:
    """Units of a node, and of all nodes that go with it unit by unit, are doubled; the copies share what they say."""
    members, width = _component(graph, stream)
    more = max(1, int(stream.integers(1, width // 2 + 2)))
    if width + more > space.max_width:
        raise ValueError(f"a node should have {space.max_width} units at most but would have {width + more}.")
    origins = (*range(width), *stream.integers(width, size=more).tolist())
    parts = stream.uniform(0.25, 0.75, size=len(origins))  # unequal, or the copies would learn the same for ever
    totals = np.bincount(origins, parts, minlength=width)
    shares = tuple(float(part / totals[unit]) for part, unit in zip(parts, origins, strict=True))
    made = _resized(graph, members, len(origins))
    return Change(made, origins=dict.fromkeys(members, origins), shares=dict.fromkeys(members, shares))


def narrow(graph: Graph, space: Space, stream: Stream) -> Change:  # noqa: ARG001 (one form for all)
    """Some units of a node, and of all that go with it, are taken away."""
    members, width = _component(graph, stream)
    if width == 1:
        raise ValueError("a node should have 2 units at least to lose one but has 1.")
    kept = np.sort(stream.choice(width, size=width - int(stream.integers(1, width // 2 + 1)), replace=False))
    return Change(_resized(graph, members, len(kept)), origins=dict.fromkeys(members, tuple(kept.tolist())))


def tie_gates(graph: Graph, space: Space, stream: Stream) -> Change:  # noqa: ARG001
    """One gate becomes what another leaves (Greff et al. 2017: coupled input and forget gate)."""
    gates = [node for node in graph.nodes if node.op == "sigmoid"]
    first, second = _pick(gates, stream), _pick(gates, stream)
    if first == second or first.width != second.width:
        raise ValueError("two gates of one width should be there but are not.")
    return Change(_with(graph, Node(second.name, "one_minus", second.width, (Edge(first.name, "plain"),))))


def remove_edge(graph: Graph, space: Space, stream: Stream) -> Change:  # noqa: ARG001
    """A node hears less."""
    node, edge = _pick([(node, edge) for node in graph.nodes for edge in node.edges], stream)
    return Change(_with(graph, replace(node, edges=tuple(e for e in node.edges if e != edge))))


def remove_node(graph: Graph, space: Space, stream: Stream) -> Change:  # noqa: ARG001
    """A node goes, and whoever heard it hears the rest."""
    return Change(_without(graph, {_pick(graph.nodes, stream).name}))


def remove_layer(graph: Graph, space: Space, stream: Stream) -> Change:  # noqa: ARG001
    """A part goes, as a whole."""
    part = _pick(sorted(parts(graph)), stream)
    return Change(_without(graph, {node.name for node in graph.nodes if part_of(node.name) == part}))


Mutation = Callable[[Graph, Space, Stream], Change]
MUTATIONS: dict[str, Mutation] = {
    "add_edge": add_edge,
    "add_node": add_node,
    "add_memory": add_memory,
    "add_layer": add_layer,
    "change_operation": change_operation,
    "change_delay": change_delay,
    "widen": widen,
    "narrow": narrow,
    "tie_gates": tie_gates,
    "remove_edge": remove_edge,
    "remove_node": remove_node,
    "remove_layer": remove_layer,
}
GROWTH = ("add_edge", "add_node", "add_memory", "add_layer", "widen")  # leave the function as it was


def parts(graph: Graph) -> set[str]:
    """Names of the parts of a graph; nodes without a dot belong to none."""
    return {part_of(node.name) for node in graph.nodes} - {""}


def part_of(name: str) -> str:
    """The part that a node belongs to."""
    return name.partition(".")[0] if "." in name else ""


def _pick(those: Iterable[Kind], stream: Stream) -> Kind:
    some = list(those)
    if not some:
        raise ValueError("there should be something to choose from but is nothing.")
    return some[int(stream.integers(len(some)))]


def _delay(space: Space, stream: Stream) -> int:
    """Mostly the last step or this one; else any."""
    kind = stream.random()
    return 0 if kind < 0.3 else 1 if kind < 0.7 else int(stream.integers(1, space.max_delay + 1))


def _with(graph: Graph, *nodes: Node) -> Graph:
    """The graph with nodes changed, by name, or added; without what nobody hears."""
    changed = {node.name: node for node in nodes}
    kept = tuple(changed.pop(node.name, node) for node in graph.nodes)
    return pruned(Graph(graph.inputs, (*kept, *changed.values()), graph.heads))


def _without(graph: Graph, gone: set[str]) -> Graph:
    left = [
        replace(node, edges=tuple(edge for edge in node.edges if edge.source not in gone))
        for node in graph.nodes
        if node.name not in gone
    ]
    return pruned(Graph(graph.inputs, tuple(left), tuple(head for head in graph.heads if head not in gone)))


def _room(graph: Graph, space: Space, more: int) -> None:
    if len(graph.nodes) + more > space.max_nodes:
        raise ValueError(f"a graph should have {space.max_nodes} nodes at most but would have more.")


def _new(graph: Graph, letter: str) -> str:
    """A name that no node has, and that does not depend on anything but the graph."""
    return next(name for k in range(1, len(graph.nodes) + 2) if (name := f"{letter}{k}") not in graph.named)


def _new_part(graph: Graph, word: str) -> str:
    taken = parts(graph)
    return next(name for k in range(1, len(taken) + 2) if (name := f"{word}{k}") not in taken)


def _renamed(node: Node, name: Callable[[str], str]) -> Node:
    return replace(node, name=name(node.name), edges=tuple(replace(e, source=name(e.source)) for e in node.edges))


def _resized(graph: Graph, members: Iterable[str], width: int) -> Graph:
    chosen = set(members)
    resized = (replace(node, width=width) if node.name in chosen else node for node in graph.nodes)
    return Graph(graph.inputs, tuple(resized), graph.heads)


def _component(graph: Graph, stream: Stream) -> tuple[tuple[str, ...], int]:
    """A node, and all that must be as wide: those that hear each other unit by unit."""
    start = _pick(graph.nodes, stream)
    members, waiting = {start.name}, [start.name]
    beside: dict[str, set[str]] = {name: set() for name in (X, *graph.named)}
    for node in graph.nodes:
        for edge in node.edges:
            if edge.through != "full":
                beside[node.name].add(edge.source)
                beside[edge.source].add(node.name)
    while waiting:
        for name in sorted(beside[waiting.pop()] - members):
            members.add(name)
            waiting.append(name)
    if X in members:
        raise ValueError("nodes should not be as wide as the input but are.")
    return tuple(sorted(members)), start.width
