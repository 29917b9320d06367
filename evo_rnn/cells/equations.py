"""Graphs as equations and back: what a person writes, reads, and finds beside a champion.

One node a line. `W` is a matrix, `w` a weight a unit, `b` a bias, `@1` a step ago, `[3]` three units:

    f = sigmoid(W x + W h@1 + w c@1 + b + 1)
    k = f * c@1

>>> from evo_rnn.cells.equations import parsed, written
>>> cell = parsed("h = tanh(W x + W h@1 + b)", inputs=1, width=8, heads=("h",))
>>> print(written(cell))
h = tanh(W x + W h@1 + b)
"""

from __future__ import annotations

import re
from collections import Counter

from evo_rnn.cells.graph import Edge, Graph, Node

LINE = re.compile(r"\s*([\w.]+)\s*(?:\[(\d+)\])?\s*=\s*(.+?)\s*", re.ASCII)
CALL = re.compile(r"(\w+)\s*\((.*)\)", re.ASCII)
TERM = re.compile(r"(?:([Ww])\s+)?([A-Za-z][\w.]*)(?:@(\d+))?", re.ASCII)
NUMBER = re.compile(r"-?\d+(\.\d+)?(e-?\d+)?", re.ASCII)
KIND = {"W": "full", "w": "diagonal", "": "plain"}
SIGN = {kind: f"{sign} " if sign else "" for sign, kind in KIND.items()}


def parsed(text: str, inputs: int, width: int, heads: tuple[str, ...]) -> Graph:
    """The graph that equations say.

    Args:
        text: one node a line; a node without `[units]` has `width`.
        inputs: I.
        width: H.
        heads: the nodes that the readout hears.

    Raises:
        ValueError: naming the line that is none, or what the graph lacks.
    """
    return Graph(inputs, nodes(text, width), heads)


def nodes(text: str, width: int) -> tuple[Node, ...]:
    """The nodes that equations say, whatever else is in their graph.

    Raises:
        ValueError: naming the line that is none.
    """
    return tuple(_node(line, width) for line in text.strip().splitlines() if line.strip())


def written(graph: Graph) -> str:
    """The equations of a graph, in the order in which they are computed; widths where they are not the usual one."""
    usual = Counter(node.width for node in graph.nodes).most_common(1)[0][0]
    return "\n".join(_line(node, usual) for node in graph.plan.order)


def _node(line: str, width: int) -> Node:
    found = LINE.fullmatch(line)
    if not found:
        raise ValueError(f"an equation should look like `h = tanh(W x + W h@1 + b)` but is {line[:80]!r}.")
    name, own, right = found.groups()
    units = int(own) if own else width
    call = CALL.fullmatch(right)
    if not call and "*" in right:
        return Node(name, "mul", units, tuple(_edge(term, line) for term in right.split("*")))
    op, inner = call.groups() if call else ("sum", right)
    terms = [term.strip() for term in inner.split("+")]
    numbers = [float(term) for term in terms if NUMBER.fullmatch(term)]
    edges = tuple(_edge(term, line) for term in terms if term != "b" and not NUMBER.fullmatch(term))
    return Node(name, op, units, edges, "b" in terms, sum(numbers))


def _edge(term: str, line: str) -> Edge:
    found = TERM.fullmatch(term.strip())
    if not found:
        raise ValueError(f"a term should look like `W h@1`, `w c` or `x` but is {term[:40]!r} in {line[:80]!r}.")
    sign, source, delay = found.groups()
    return Edge(source, KIND[sign or ""], int(delay or 0))


def _line(node: Node, usual: int) -> str:
    left = node.name if node.width == usual else f"{node.name}[{node.width}]"
    terms = [f"{SIGN[edge.through]}{edge.source}{f'@{edge.delay}' if edge.delay else ''}" for edge in node.edges]
    if node.op == "mul" and len(terms) > 1:
        return f"{left} = {' * '.join(terms)}"
    terms += ["b"] * node.bias + [format(node.shift, "g")] * (node.shift != 0 or node.op == "const")
    inner = " + ".join(terms)
    return f"{left} = {inner}" if node.op == "sum" else f"{left} = {node.op}({inner})"
