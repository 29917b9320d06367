"""Signal-flow graphs and their transposes, the adjoint networks (Wan & Beaufays 1996, Neural Computation 8).

The paper: Diagrammatic derivation of gradient algorithms for neural networks. A graph wires nodes of a few kinds. Signals
fan out at branches only and meet at sums only, so each edge joins one way out to one way in, and transposing is nothing
but turning every edge round and giving every node its dual kind:

    input <-> output      sum <-> branch      gain w <-> gain w      f(a) <-> times f'(a(k))      delay <-> advance

The transpose is the adjoint network: driven by the error, run back in time, it carries dE/d(signal) on every edge.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from math import isfinite

from evo_rnn.errors import ConfigError
from trainers.gradient.signal_flow.functions import function

DUAL = {"input": "output", "sum": "branch", "gain": "gain", "function": "slope", "delay": "advance"}
DUAL |= {dual: kind for kind, dual in DUAL.items()}
MANY = -1  # one or more
WAYS = {"input": (0, 1), "output": (1, 0), "sum": (MANY, 1), "branch": (1, MANY)}  # in and out; the others have (1, 1)
BACKWARD = {"advance", "slope"}
HOLDS = ("delay", "advance")  # what leaves them now entered a step ago, so they cut a loop


@dataclass(frozen=True)
class Node:
    """One element of a graph.

    Args:
        name: unique in its graph.
        kind: a key of DUAL.
        of: a gain's weight by name, or its fixed number; a function's name; else empty.
    """

    name: str
    kind: str
    of: str | float = ""


Edge = tuple[str, str]  # from the node of the first name to the node of the second
Plan = tuple[tuple[Node, tuple[str, ...]], ...]


@dataclass(frozen=True)
class SignalFlowGraph:
    """Nodes and the edges between them; loops are welcome if each holds a delay.

    Raises:
        ConfigError: if a node is unknown or is wired as its kind cannot be, or if a loop holds no delay.
    """

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    def __post_init__(self) -> None:
        _check_nodes(self.nodes)
        _check_edges(self.nodes, self.edges)
        _ = self.plan  # refuses delay-free loops

    @cached_property
    def weights(self) -> tuple[str, ...]:
        """Names of the learned weights, by first appearance: the columns of weights (P, D). Gains may share one."""
        return tuple(dict.fromkeys(str(n.of) for n in self.nodes if n.kind == "gain" and isinstance(n.of, str)))

    @cached_property
    def plan(self) -> Plan:
        """Every node with the nodes that feed it, in an order in which one step can be computed."""
        feeds: dict[str, list[str]] = {node.name: [] for node in self.nodes}
        for source, target in self.edges:
            feeds[target].append(source)
        nodes = {node.name: node for node in self.nodes}
        now = {name: () if nodes[name].kind in HOLDS else sources for name, sources in feeds.items()}
        try:
            return tuple((nodes[name], tuple(feeds[name])) for name in TopologicalSorter(now).static_order())
        except CycleError as error:
            loop = " -> ".join(error.args[1])
            raise ConfigError(f"every loop should hold a delay but {loop} holds none. Put a delay in it.") from None

    @cached_property
    def backward(self) -> bool:
        """Whether it is an adjoint that runs back in time: it holds an advance or a slope."""
        return any(node.kind in BACKWARD for node in self.nodes)

    def names(self, kind: str) -> tuple[str, ...]:
        """Names of the nodes of one kind, in order: of "input" and "output", the columns of what goes in and comes out."""
        return tuple(node.name for node in self.nodes if node.kind == kind)

    def transpose(self) -> SignalFlowGraph:
        """The adjoint graph. The transpose of the transpose is the graph itself."""
        nodes = tuple(replace(node, kind=DUAL[node.kind]) for node in self.nodes)
        return SignalFlowGraph(nodes, tuple((target, source) for source, target in self.edges))


def _check_nodes(nodes: tuple[Node, ...]) -> None:
    twice = [name for name, count in Counter(node.name for node in nodes).items() if count > 1]
    if twice:
        raise ConfigError(f"nodes should have different names but {twice[0]!r} comes twice. Rename one.")
    for node in nodes:
        if node.kind not in DUAL:
            raise ConfigError(f"kind of {node.name!r} should be one of {', '.join(DUAL)} but is {node.kind!r}.")
        if node.kind in ("function", "slope"):
            function(str(node.of))
        if node.kind == "gain" and not (node.of if isinstance(node.of, str) else isfinite(node.of)):
            raise ConfigError(f"gain {node.name!r} should have a weight's name or a finite number but has {node.of!r}.")
    kinds = {node.kind for node in nodes}
    if kinds & {"delay", "function"} and kinds & BACKWARD:
        raise ConfigError("a graph should run forward or back in time but has nodes for both. Transpose it as a whole.")


def _check_edges(nodes: tuple[Node, ...], edges: tuple[Edge, ...]) -> None:
    names = {node.name for node in nodes}
    for name in (name for edge in edges for name in edge):
        if name not in names:
            raise ConfigError(f"edges should join nodes of the graph but {name!r} is none. Add it, or mend the name.")
    into, out = Counter(target for _, target in edges), Counter(source for source, _ in edges)
    for node in nodes:
        for way, want, came in zip(("in", "out"), WAYS.get(node.kind, (1, 1)), (into, out), strict=True):
            if came[node.name] != want and not (want == MANY and came[node.name]):
                count = "one or more" if want == MANY else want
                cure = "Join by a sum and part by a branch, or give it an output."
                raise ConfigError(
                    f"{node.kind} {node.name!r} should have {count} edges {way} but has {came[node.name]}. {cure}"
                )
