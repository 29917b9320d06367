"""The order in which a graph is computed: what can be one matrix product is one, what can be one activation is one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evo_rnn.cells.graph import Graph, Node

Slot = tuple[str, int]  # a source and its delay


@dataclass(frozen=True)
class Run:
    """Neighbours in a group with one operation.

    Args:
        op: of all of them, if they hear nothing but the group's sources; else empty.
        shift: theirs.
        nodes: names.
        widths: units of each.
    """

    op: str
    shift: float
    nodes: tuple[str, ...]
    widths: tuple[int, ...]


@dataclass(frozen=True)
class Group:
    """Nodes that hear the same sources through matrices, all of them known before the step: x now, or anything delayed.

    Args:
        number: of the group.
        slots: the sources.
        bias: whether the nodes have one.
        runs: the nodes.
    """

    number: int
    slots: tuple[Slot, ...]
    bias: bool
    runs: tuple[Run, ...]

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names in the order of the rows of the matrices."""
        return tuple(name for run in self.runs for name in run.nodes)

    @property
    def biases(self) -> str:
        """The leaf of the biases."""
        return f"group{self.number}.bias"

    def leaf(self, slot: Slot) -> str:
        """The leaf through which a source is heard."""
        return f"group{self.number}.{slot[0]}@{slot[1]}"


@dataclass(frozen=True)
class Plan:
    """How a step is computed.

    Args:
        order: nodes, each after all that it hears without delay.
        slots: what the state keeps: first the heads, then all others that are heard later, each as (source, delay).
        widths: columns of each slot.
        groups: see `Group`.
        late: by source, the nodes that hear it through a matrix in the same step.
    """

    order: tuple[Node, ...]
    slots: tuple[Slot, ...]
    widths: tuple[int, ...]
    groups: tuple[Group, ...]
    late: dict[str, tuple[str, ...]]


def planned(graph: Graph) -> Plan:
    """The plan of a graph.

    Raises:
        ValueError: if nodes hear each other in a circle without delay.
    """
    order = _order(graph)
    slots = _slots(graph)
    late: dict[str, tuple[str, ...]] = {}
    for node in order:
        for edge in node.edges:
            if edge.through == "full" and edge.delay == 0 and edge.source != "x":
                late[edge.source] = (*late.get(edge.source, ()), node.name)
    return Plan(order, slots, tuple(graph.width(source) for source, _ in slots), _groups(order), late)


def _order(graph: Graph) -> tuple[Node, ...]:
    waiting = {node.name: {e.source for e in node.edges if e.delay == 0 and e.source != "x"} for node in graph.nodes}
    found: list[Node] = []
    while waiting:
        free = [name for name, heard in waiting.items() if not heard & waiting.keys()]
        if not free:
            circle = ", ".join(sorted(waiting)[:8])
            raise ValueError(
                f"what has no delay should not go round in a circle but does among {circle}. Delay an edge."
            )
        found += [graph.named[name] for name in free]
        for name in free:
            del waiting[name]
    return tuple(found)


def _slots(graph: Graph) -> tuple[Slot, ...]:
    longest: dict[str, int] = {}
    for node in graph.nodes:
        for edge in node.edges:
            longest[edge.source] = max(longest.get(edge.source, 0), edge.delay)
    heads = [(head, 1) for head in graph.heads]
    names = ("x", *(node.name for node in graph.nodes))
    others = [(name, delay) for name in names for delay in range(1, longest.get(name, 0) + 1)]
    return (*heads, *(slot for slot in others if slot not in heads))


def _groups(order: tuple[Node, ...]) -> tuple[Group, ...]:
    alike: dict[tuple[tuple[Slot, ...], bool], list[Node]] = {}
    for node in order:
        early = tuple(
            sorted((e.source, e.delay) for e in node.edges if e.through == "full" and _early(e.source, e.delay))
        )
        if early or node.bias:
            alike.setdefault((early, node.bias), []).append(node)
    return tuple(Group(k, slots, bias, _runs(nodes)) for k, ((slots, bias), nodes) in enumerate(alike.items()))


def _early(source: str, delay: int) -> bool:
    return source == "x" or delay > 0


def _runs(nodes: list[Node]) -> tuple[Run, ...]:
    """Nodes of one operation side by side; a fixed shift is part of it."""
    alike: dict[tuple[str, float], list[Node]] = {}
    for node in nodes:
        alone = all(edge.through == "full" and _early(edge.source, edge.delay) for edge in node.edges)
        alike.setdefault((node.op, node.shift) if alone else ("", 0.0), []).append(node)
    return tuple(
        Run(op, shift, tuple(n.name for n in those), tuple(n.width for n in those))
        for (op, shift), those in alike.items()
    )
