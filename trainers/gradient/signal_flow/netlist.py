"""Graphs written as netlists, one line a node, with the branches put in where signals fan out."""

from __future__ import annotations

from collections import Counter

from evo_rnn.errors import ConfigError
from trainers.gradient.signal_flow.graph import DUAL, Edge, Node, SignalFlowGraph

NAMED = ("gain", "function", "slope")  # their second word is the weight, number or function


def wired(**lines: str) -> SignalFlowGraph:
    """The graph of a netlist: each node's name, and its line `kind [weight, number or function] sources...`.

    A learned weight has a name and a fixed one is a number. Sources may come before or after what they feed.

    >>> leaky = wired(x="input", u="gain w x", s="sum u r", d="delay s", r="gain 0.9 d", h="function tanh s", y="output h")
    >>> leaky.weights
    ('w',)

    Raises:
        ConfigError: if a line cannot be read, or the graph cannot be built.
    """
    nodes: list[Node] = []
    edges: list[Edge] = []
    for name, line in lines.items():
        kind, *words = line.split() or [""]
        if kind not in DUAL:
            raise ConfigError(f"line {name!r} should begin with one of {', '.join(DUAL)} but is {line!r}.")
        if kind in NAMED and len(words) != 2:
            raise ConfigError(f"line {name!r} should read '{kind} <name> <source>' but is {line!r}.")
        of, sources = (words[0], words[1:]) if kind in NAMED else ("", words)
        nodes.append(Node(name, kind, _number(of) if kind == "gain" else of))
        edges.extend((source, name) for source in sources)
    return SignalFlowGraph(*_branched(nodes, edges))


def _number(word: str) -> str | float:
    try:
        return float(word)
    except ValueError:
        return word


def _branched(nodes: list[Node], edges: list[Edge]) -> tuple[tuple[Node, ...], tuple[Edge, ...]]:
    """The same wiring with a branch behind every node whose signal goes to several places."""
    places = Counter(source for source, _ in edges)
    wide = [node.name for node in nodes if node.kind != "branch" and places[node.name] > 1]
    behind = {name: f"{name}.branch" for name in wide}
    branches = [Node(branch, "branch") for branch in behind.values()]
    stems = list(behind.items())
    return (*nodes, *branches), (*((behind.get(source, source), target) for source, target in edges), *stems)
