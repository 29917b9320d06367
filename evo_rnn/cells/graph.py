"""A cell as a typed graph: what topology evolution changes, and one more cell for everybody else.

A node is an operation on vectors; an edge says what the node hears, through what, and from how long ago. Memory is an
edge with a delay, a time skip is one with a longer delay, and what has no delay must not go round in a circle. Nodes may
differ in width, so one graph describes a single cell, or a network of several cells and skip links: nodes that belong
together share the part of their names before the dot.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from evo_rnn.cells.cell import affine, linear, row, zeros
from evo_rnn.cells.plan import Group, Plan, Slot, planned
from evo_rnn.layout import Leaf, matrix, units, vector
from evo_rnn.shapes import Weights

X = "x"  # the input, as a source
THROUGH = ("full", "diagonal", "plain")
NAME = re.compile(r"[A-Za-z]\w{0,30}(\.[A-Za-z]\w{0,30})?", re.ASCII)
MOST, LONGEST, WIDEST = 500, 512, 4096  # nodes, steps of delay, units a node

OPERATIONS: dict[str, Callable[[Tensor], Tensor]] = {  # each is applied to the sum of what the node hears
    "sum": lambda total: total,
    "identity": lambda total: total,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "one_minus": lambda total: 1 - total,
}
OPS = (*OPERATIONS, "mul", "const")


@dataclass(frozen=True)
class Edge:
    """What a node hears.

    Args:
        source: the name of a node, or "x" for the input.
        through: "full", a matrix; "diagonal", a weight a unit; "plain", nothing.
        delay: steps ago; 0 is now.
    """

    source: str
    through: str = "full"
    delay: int = 0


@dataclass(frozen=True)
class Node:
    """An operation on a vector.

    Args:
        name: unique in its graph; `part.name` where it belongs to a part.
        op: "sum", "identity", "sigmoid", "tanh", "relu" and "one_minus" of the sum of what is heard; "mul", the product
            of what is heard; "const", the number `shift`, which hears nothing.
        width: units.
        edges: what it hears; nothing twice with one delay.
        bias: a trained number a unit is added to the sum.
        shift: a fixed number is, as the 1 that forget gates begin with.
    """

    name: str
    op: str
    width: int
    edges: tuple[Edge, ...] = ()
    bias: bool = False
    shift: float = 0.0


@dataclass(frozen=True)
class Graph:
    """Nodes, and which of them the readout hears. It is a `Cell`, so whatever trains or scores cells takes it.

    Args:
        inputs: I.
        nodes: in any order.
        heads: names of the nodes that are the output, in this order.

    Raises:
        ValueError: naming the node, and what it should be, if the graph is none that can be computed.
    """

    inputs: int
    nodes: tuple[Node, ...]
    heads: tuple[str, ...]

    def __post_init__(self) -> None:
        _check(self)
        self.plan  # noqa: B018 (refuses circles)

    def __str__(self) -> str:
        """In a line."""
        return f"Graph({self.inputs} inputs, {len(self.nodes)} nodes, heads {', '.join(self.heads)})"

    @cached_property
    def plan(self) -> Plan:
        """How a step is computed."""
        return planned(self)

    @cached_property
    def named(self) -> Mapping[str, Node]:
        """Nodes by name."""
        return {node.name: node for node in self.nodes}

    def width(self, source: str) -> int:
        """Units of a node, or the number of inputs."""
        return self.inputs if source == X else self.named[source].width

    @property
    def outputs(self) -> int:
        """Units of all heads together."""
        return sum(self.width(head) for head in self.heads)

    @property
    def hidden(self) -> int:
        """Units of the widest head: the size by which people know a cell."""
        return max(self.width(head) for head in self.heads)

    @cached_property
    def state(self) -> int:
        """Columns of everything that is remembered; the heads' values lead."""
        return sum(self.plan.widths)

    def heard(self) -> tuple[str, ...]:
        """Names of the output units."""
        return tuple(name for head in self.heads for name in units(head, self.width(head)))

    def leaves(self) -> tuple[Leaf, ...]:
        """One matrix for all nodes of a group and each source that they hear; biases; a vector a diagonal edge."""
        found: list[Leaf] = []
        for group in self.plan.groups:
            targets = self._units(group.nodes)
            found += [matrix(group.leaf(slot), targets, self._sources(slot)) for slot in group.slots]
            if group.bias:
                found.append(vector(group.biases, targets, ["one"], -0.5, 0.5))
        for source, nodes in self.plan.late.items():
            found.append(matrix(late(source), self._units(nodes), self._sources((source, 0))))
        for node in self.nodes:
            bound = 1.0 / node.width**0.5
            for edge in node.edges:
                if edge.through == "diagonal":
                    sources = self._sources((edge.source, edge.delay))
                    found.append(vector(diagonal(node, edge), units(node.name, node.width), sources, -bound, bound))
        return tuple(found)

    def _units(self, nodes: tuple[str, ...]) -> list[str]:
        return [name for node in nodes for name in units(node, self.width(node))]

    def _sources(self, slot: Slot) -> tuple[str, ...]:
        return units(spoken(slot), self.width(slot[0]))

    def start(self, weights: Weights, batch: int) -> Tensor:
        """Zeros."""
        return zeros(weights, batch, self.state)

    def step(self, weights: Weights, x: Tensor, s: Tensor) -> Tensor:
        """One tick: the groups, then node by node, then what is remembered."""
        plan = self.plan
        past = dict(zip(plan.slots, s.split(list(plan.widths), dim=2), strict=True))
        now: dict[str, Tensor] = {X: x}
        sums: dict[str, Tensor] = {}
        for group in plan.groups:
            _grouped(group, weights, past | {(X, 0): x}, now, sums)
        for node in plan.order:
            if node.name not in now:
                now[node.name] = self._node(node, weights, past, now, sums)
            if len(plan.late.get(node.name, ())) > 1:
                targets = plan.late[node.name]
                parts = linear(weights[late(node.name)], now[node.name]).split([self.width(t) for t in targets], dim=2)
                for target, part in zip(targets, parts, strict=True):
                    sums[target] = sums[target] + part if target in sums else part
        kept = [now[source] if delay == 1 else past[source, delay - 1] for source, delay in plan.slots]
        return torch.cat(kept, dim=2) if len(kept) > 1 else kept[0]

    def _node(
        self,
        node: Node,
        weights: Weights,
        past: Mapping[Slot, Tensor],
        now: Mapping[str, Tensor],
        sums: Mapping[str, Tensor],
    ) -> Tensor:
        if node.op == "const":
            return now[X].new_full((*now[X].shape[:2], node.width), node.shift)
        terms = [sums[node.name]] if node.name in sums else []
        for edge in node.edges:
            value = past[edge.source, edge.delay] if edge.delay else now[edge.source]
            if edge.through == "plain":
                terms.append(value)
            elif edge.through == "diagonal":
                terms.append(row(weights[diagonal(node, edge)]) * value)
            elif edge.delay == 0 and edge.source != X and len(self.plan.late[edge.source]) == 1:
                weight = weights[late(edge.source)]
                terms = [affine(weight, value, terms[0]) if terms else linear(weight, value), *terms[1:]]
        total = terms[0]
        for term in terms[1:]:
            total = total * term if node.op == "mul" else total + term
        return total if node.op == "mul" else _applied(node.op, total, node.shift)


def _grouped(
    group: Group, weights: Weights, known: Mapping[Slot, Tensor], now: dict[str, Tensor], sums: dict[str, Tensor]
) -> None:
    """The sums of a group in one product a source; nodes that hear nothing else are done at once."""
    total = [row(weights[group.biases])] if group.bias else []
    for slot in group.slots:
        weight = weights[group.leaf(slot)]
        total = [affine(weight, known[slot], total[0]) if total else linear(weight, known[slot])]
    if not group.slots:
        total = [total[0].expand(-1, now[X].shape[1], -1)]
    for run, part in zip(group.runs, total[0].split([sum(run.widths) for run in group.runs], dim=2), strict=True):
        done = _applied(run.op, part, run.shift) if run.op else part
        (now if run.op else sums).update(zip(run.nodes, done.split(list(run.widths), dim=2), strict=True))


def _applied(op: str, total: Tensor, shift: float) -> Tensor:
    return OPERATIONS[op](total + shift if shift else total)


def spoken(slot: Slot) -> str:
    """How a source is called in the names of genes: plainly where it is heard as usual, x now and a node a step ago."""
    source, delay = slot
    return source if delay == (source != X) else f"{source}@{delay}"


def late(source: str) -> str:
    """The leaf through which a node is heard in the same step."""
    return f"from.{source}"


def diagonal(node: Node, edge: Edge) -> str:
    """The leaf of a diagonal edge."""
    return f"{node.name}.by.{edge.source}@{edge.delay}"


def _check(graph: Graph) -> None:
    parts = isinstance(graph.nodes, tuple) and all(isinstance(node, Node) for node in graph.nodes)
    _want(parts, "nodes should be a tuple of Node", graph.nodes)
    names = [node.name for node in graph.nodes]
    _want(type(graph.inputs) is int and graph.inputs >= 1, "inputs should be at least 1", graph.inputs)
    _want(0 < len(names) <= MOST, f"nodes should be 1 to {MOST}", len(names))
    _want(
        len(set(names)) == len(names),
        "nodes should have different names",
        sorted(n for n in names if names.count(n) > 1),
    )
    known = {X: graph.inputs} | {node.name: node.width for node in graph.nodes}
    _want(bool(graph.heads) and set(graph.heads) <= set(names), "heads should be names of nodes", list(graph.heads))
    _want(len(set(graph.heads)) == len(graph.heads), "heads should be different nodes", list(graph.heads))
    for node in graph.nodes:
        _check_node(node, known)
    weighty = any(node.bias or any(edge.through != "plain" for edge in node.edges) for node in graph.nodes)
    _want(weighty, "a graph should have a weight", "without one")


def _check_node(node: Node, known: Mapping[str, int]) -> None:
    at = f"node {str(node.name)[:40]!r}"
    _want(isinstance(node.name, str) and NAME.fullmatch(node.name), f"{at}: its name should be letters", node.name)
    _want(node.name not in (X, "one"), f"{at}: its name should not be x or one", node.name)
    _want(node.op in OPS, f"{at}: op should be one of {', '.join(OPS)}", node.op)
    _want(
        isinstance(node.edges, tuple) and all(isinstance(edge, Edge) for edge in node.edges),
        f"{at}: edges should be a tuple of Edge",
        "not",
    )
    _want(type(node.width) is int and 1 <= node.width <= WIDEST, f"{at}: width should be 1 to {WIDEST}", node.width)
    _want(
        isinstance(node.shift, int | float) and math.isfinite(node.shift), f"{at}: shift should be finite", node.shift
    )
    if node.op == "const":
        _want(not node.edges and not node.bias, f"{at}: a const should hear nothing", len(node.edges))
        return
    _want(bool(node.edges) or node.bias, f"{at} should hear something", "nothing")
    heard = [(edge.source, edge.delay) for edge in node.edges]
    _want(len(set(heard)) == len(heard), f"{at}: nothing should be heard twice with one delay", heard)
    if node.op == "mul":
        _want(not node.bias and not node.shift, f"{at}: a mul should have no bias and no shift", node.shift)
    for edge in node.edges:
        _want(edge.source in known, f"{at}: it should hear x or a node", edge.source)
        _want(edge.through in THROUGH, f"{at}: an edge should be one of {', '.join(THROUGH)}", edge.through)
        fine = type(edge.delay) is int and 0 <= edge.delay <= LONGEST
        _want(fine, f"{at}: a delay should be 0 to {LONGEST}", edge.delay)
        _want(node.op != "mul" or edge.through != "full", f"{at}: a mul should hear plain or diagonal", edge.through)
        fits = edge.through == "full" or known[edge.source] == node.width
        wanted = f"{at}: what it hears {edge.through} from {edge.source!r} should have {node.width} units"
        _want(fits, wanted, known[edge.source])


def _want(fine: object, wanted: str, came: object) -> None:
    if not fine:
        raise ValueError(f"{wanted} but is {str(came)[:100]}.")
