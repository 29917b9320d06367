"""What a search begins with: the graph of a cell that is known, and the input beside its heads."""

from __future__ import annotations

from evo_rnn.cells import GRU, LSTM, Edge, Elman, Graph, Node
from evo_rnn.cells.cell import Cell
from evo_rnn.cells.graph import X
from evo_rnn.cells.named_graphs import graph as named_graph


def as_graph(cell: Cell) -> Graph:
    """A cell as the graph that computes the same.

    Raises:
        ValueError: if it is none that a graph is known of.
    """
    if isinstance(cell, Graph):
        return cell
    kinds = {Elman: "elman", LSTM: "lstm", GRU: "gru"}
    name = kinds.get(type(cell), "")
    if not name or not isinstance(cell, Elman | LSTM | GRU):
        raise ValueError(f"the model should be an elman, an lstm, a gru or a graph, to begin with, but is {cell}.")
    name += "_peepholes" * (isinstance(cell, LSTM) and cell.peepholes)
    name += "_before" * (isinstance(cell, GRU) and cell.reset == "before")
    return named_graph(name, cell.inputs, cell.hidden)


def with_skip(graph: Graph) -> Graph:
    """The graph with the input beside its heads."""
    if any(graph.named[head].op == "identity" and graph.named[head].edges == (SKIP,) for head in graph.heads):
        return graph
    name = next(name for name in ("now", *(f"now{k}" for k in range(999))) if name not in graph.named)
    return Graph(graph.inputs, (*graph.nodes, Node(name, "identity", graph.inputs, (SKIP,))), (*graph.heads, name))


SKIP = Edge(X, "plain")
