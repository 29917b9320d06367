"""Pictures of topology evolution: the genome, who descends from whom, loss against size, and what each mutation is worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from evo_rnn.cells.graph import Edge, Graph, X
from populations.topology.lives import Life, ancestors, pareto_front, successes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {
    "sigmoid": "#F0C05A",
    "tanh": "#7FB7DE",
    "relu": "#7CC7A2",
    "mul": "#E59A7A",
    "sum": "#D9D9D9",
    "identity": "#D9D9D9",
    "one_minus": "#D5B3D6",
    "const": "#FFFFFF",
    "x": "#FFFFFF",
}
SIGNS = {"sigmoid": "σ", "mul": "×", "sum": "+", "identity": "=", "one_minus": "1−", "const": "const"}
LINKS = {"full": "#333333", "diagonal": "#0072B2", "plain": "#9A9A9A"}
DPI = 100


def levels(graph: Graph) -> dict[str, int]:
    """How many nodes lie between the input, or the past, and each node, in one step."""
    found = {X: 0}
    for node in graph.plan.order:
        found[node.name] = 1 + max((found[e.source] for e in node.edges if e.delay == 0), default=0)
    return found


def draw_genome(graph: Graph, title: str = "") -> Figure:
    """Nodes from the input (left) to the heads; what is delayed is dashed and says by how much."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    depth = levels(graph)
    places = _places(depth)
    columns = max(depth.values()) + 1
    rows = max(list(depth.values()).count(level) for level in set(depth.values()))
    figure = Figure(figsize=(max(9.0, 1.7 * columns + 1.5), max(4.0, 1.05 * rows + 2.2)), dpi=DPI, facecolor="white")
    axes = figure.add_axes((0.01, 0.1, 0.98, 0.8))
    axes.set_xlim(-0.6, columns - 0.4)
    axes.set_ylim(-(rows + 1) / 2 - 0.2, (rows + 1) / 2 + 0.2)
    axes.axis("off")
    for node in graph.nodes:
        own = [edge for edge in node.edges if edge.source == node.name]
        for edge in node.edges:
            _link(axes, places[edge.source], places[node.name], edge, own.index(edge) + 1 if edge in own else 0)
    _nodes(axes, graph, places)
    figure.text(0.02, 0.95, title or f"{len(graph.nodes)} nodes", fontsize=13, fontweight="bold", va="center")
    kinds = [
        Line2D([], [], color=colour, label=label)
        for label, colour in zip(("matrix", "weight a unit", "as it is"), LINKS.values(), strict=True)
    ]
    kinds.append(Line2D([], [], color="#333333", ls=(0, (4, 2)), label="from an earlier step"))
    kinds.append(
        Line2D([], [], marker="o", ls="", mfc="white", mec="#000000", mew=2.2, ms=10, label="heard by the readout")
    )
    figure.legend(handles=kinds, loc="lower center", ncols=5, frameon=False, fontsize=9)
    return figure


def _places(depth: dict[str, int]) -> dict[str, tuple[float, float]]:
    """Columns by level; neighbours' rows are not on one line, so that links can be told apart."""
    import networkx as nx  # type: ignore[import-untyped]

    net = nx.DiGraph()
    for name, level in depth.items():
        net.add_node(name, level=level)
    rough = nx.multipartite_layout(net, subset_key="level", align="vertical")
    found = {}
    for level in set(depth.values()):
        column = sorted((name for name in depth if depth[name] == level), key=lambda name: -rough[name][1])
        for place, name in enumerate(column):
            found[name] = (float(level), (len(column) - 1) / 2 - place + 0.25 * ((level % 2) - 0.5))
    return found


def _nodes(axes: Axes, graph: Graph, places: dict[str, tuple[float, float]]) -> None:
    for name, (across, up) in places.items():
        op = X if name == X else graph.named[name].op
        head = name in graph.heads
        axes.scatter(
            [across],
            [up],
            s=620,
            c=COLOURS[op],
            edgecolors="#000000" if head else "#777777",
            linewidths=2.2 if head else 1.0,
            zorder=2,
        )
        sign = "x" if name == X else SIGNS.get(op, op)
        axes.text(across, up, sign, ha="center", va="center", fontsize=10, zorder=3)
        label = f"{graph.inputs} input{'s' * (graph.inputs > 1)}" if name == X else f"{name} ({graph.width(name)})"
        axes.text(across, up - 0.36, label, ha="center", va="center", fontsize=8, color="#222222", zorder=3)


def _link(axes: Axes, source: Sequence[float], target: Sequence[float], edge: Edge, loop: int) -> None:
    """An arrow; a node's links to itself are loops above it, the k-th (from 1) outside the others."""
    from matplotlib.patches import FancyArrowPatch

    past = edge.delay > 0
    bend = -1.2 - 0.7 * loop if loop else 0.32 if past else 0.06
    (left, low), (right, high) = (source, target)
    ends = ((left - 0.07, low + 0.1), (left + 0.07, low + 0.1)) if loop else ((left, low), (right, high))
    arrow = FancyArrowPatch(
        *ends,
        connectionstyle=f"arc3,rad={bend}",
        arrowstyle="-|>",
        mutation_scale=11,
        shrinkA=2 if loop else 15,
        shrinkB=2 if loop else 16,
        color=LINKS[edge.through],
        lw=1.3 if edge.through == "full" else 1.1,
        ls=(0, (4, 2)) if past else "-",
        alpha=0.75,
        zorder=1,
    )
    axes.add_patch(arrow)
    if edge.delay > 1:
        (x0, y0), (x1, y1) = axes.transData.transform(ends)
        peak = ((x0 + x1) / 2 + bend / 2 * (y1 - y0), (y0 + y1) / 2 - bend / 2 * (x1 - x0))  # of the arc
        place = axes.transData.inverted().transform(peak)
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
        across = place[0] + 0.12 * bool(loop)
        axes.text(across, place[1], f"−{edge.delay}", fontsize=8, ha="center", va="center", bbox=box, zorder=4)


def draw_population(lives: Mapping[int, Life], title: str = "") -> Figure:
    """Four panels: loss by birth, loss against size with the Pareto front, the lineage of the best, the mutations' worth."""
    from matplotlib.figure import Figure

    born = [life for life in lives.values() if np.isfinite(life.loss)]
    figure = Figure(figsize=(13, 9), dpi=DPI, facecolor="white", layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", color="#555555")
    above, beside, below, last = figure.subplots(2, 2).ravel()
    if not born:
        figure.text(0.5, 0.5, "no genome could be trained", ha="center", fontsize=14)
        return figure
    losses = np.array([life.loss for life in born])
    above.scatter([life.number for life in born], losses, s=14, c=[life.rung for life in born], cmap="viridis")
    above.plot(
        [life.number for life in born], np.minimum.accumulate(losses), color="#D55E00", lw=1.5, label="best so far"
    )
    above.set(
        yscale="log",
        xlabel="genome, by birth",
        ylabel="validation loss (median)",
        title="Every genome; darker: less training",
    )
    above.legend(frameon=False)
    sizes = np.array([life.genes for life in born])
    beside.scatter(sizes, losses, s=14, color="#7FB7DE")
    front = pareto_front(born)
    beside.step(
        [life.genes for life in front], [life.loss for life in front], where="post", color="#D55E00", marker="o", ms=4
    )
    beside.set(
        yscale="log",
        xscale="log",
        xlabel="genes",
        ylabel="validation loss (median)",
        title="Loss against size, and the Pareto front",
    )
    _lineage(below, lives, min(born, key=lambda life: (life.loss, life.number)))
    names, shares, counts = _worth(lives)
    last.barh(names, shares, color="#44AA99")
    for place, count in enumerate(counts):
        last.text(0.01, place, f"of {count}", va="center", fontsize=8)
    last.set(xlim=(0, 1), xlabel="share of children better than their parent", title="What each mutation is worth")
    for axes in (above, beside, last):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _lineage(axes: Axes, lives: Mapping[int, Life], best: Life) -> None:
    line = ancestors(lives, best)
    known = {life.number for life in line}
    for life in lives.values():
        if (
            np.isfinite(life.loss)
            and life.parent in lives
            and np.isfinite(lives[life.parent].loss)
            and life.number not in known
        ):
            parent = lives[life.parent]
            axes.plot([parent.number, life.number], [parent.loss, life.loss], color="#CCCCCC", lw=0.7, zorder=1)
    axes.plot([life.number for life in line], [life.loss for life in line], color="#332288", marker="o", ms=5, zorder=2)
    for life in line:
        axes.annotate(life.operator, (life.number, life.loss), xytext=(4, 5), textcoords="offset points", fontsize=8)
    axes.set(yscale="log", xlabel="genome, by birth", ylabel="validation loss (median)", title="Lineage of the best")
    axes.spines[["top", "right"]].set_visible(False)


def _worth(lives: Mapping[int, Life]) -> tuple[list[str], list[float], list[int]]:
    found = sorted(successes(lives).items(), key=lambda item: item[1][0] / item[1][1])
    return [name for name, _ in found], [good / tried for _, (good, tried) in found], [tried for _, (_, tried) in found]
