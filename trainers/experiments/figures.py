"""comparison.png: how each method learned, what it cost, and how its champions did on the test split."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from evo_rnn.shapes import Array
from evo_rnn.statistics import interval, iqm
from trainers.experiments.curves import Curve, curve
from trainers.experiments.outcome import Comparison
from trainers.experiments.palette import LINES, MARKS, REFERENCE, colours, ordered
from trainers.experiments.wording import budget_text, model_text, number, parts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE, DPI = (16.0, 10.0), 100
SETTINGS = {
    "font.family": "DejaVu Sans",
    "font.size": 12,
    "text.parse_math": False,  # names are names, whatever is in them
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.titlelocation": "left",
    "axes.titlesize": 13,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "xtick.color": "#333333",
    "ytick.color": "#333333",
}
BASELINES = {"lagged_regression": ("lagged regression", (0, (4, 2))), "persistence": ("persistence", (0, (1, 1.5)))}
TALLEST = 20  # times the worst last value: what is above is the chaos of the first steps
WIDTH = 168  # characters of the caption's lines


def comparison_figure(comparison: Comparison, caption: str) -> Figure:
    """The picture of a comparison, 1600 x 1000 pixels.

    Above: validation loss against passes and against CPU seconds, interquartile mean and 95 % bootstrap band over the
    seeds. Below: the test loss of every run, with the interquartile mean and its interval, one panel for each span of
    the test split. At the foot the caption.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=SIZE, dpi=DPI, facecolor="white")
        lines = textwrap.wrap(caption, WIDTH)
        foot = 0.036 + 0.0225 * len(lines)
        count = len(comparison.methods)
        share = min(0.23 + 0.011 * max(count - 3, 0), 0.31)  # of the height, for the lower row
        middle = foot + 0.055 + share
        upper = figure.add_gridspec(1, 2, left=0.065, right=0.835, top=0.865, bottom=middle + 0.105, wspace=0.13)
        left, right = figure.add_subplot(upper[0]), figure.add_subplot(upper[1])
        _learning(left, right, comparison)
        _legend(figure, comparison)
        _tests(figure, comparison, foot + 0.055, middle)
        _words(figure, comparison, lines, foot)
        return figure


def _words(figure: Figure, comparison: Comparison, lines: Sequence[str], foot: float) -> None:
    seeds = len(comparison.seeds)
    title = f"{comparison.name}: {budget_text(comparison)}, {seeds} seed{'s' if seeds > 1 else ''}"
    figure.text(0.02, 0.962, title, fontsize=18, fontweight="bold", va="center")
    about = "; ".join(filter(None, [model_text(comparison.model), comparison.task.notes]))
    figure.text(0.02, 0.927, textwrap.shorten(about, 170, placeholder=" ..."), color="#555555", va="center")
    legend = "test loss: a mark a seed; bar: interquartile mean; box: its 95 % bootstrap interval"
    figure.text(0.5, foot + 0.004, legend, color="#333333", ha="center", va="bottom")
    figure.text(0.02, foot - 0.016, "\n".join(lines), va="top", linespacing=1.35, fontsize=12.5)


def _learning(left: Axes, right: Axes, comparison: Comparison) -> None:
    """Both learning panels, with one loss axis."""
    colour = colours(comparison.methods)
    ends: list[float] = []
    lows: list[float] = []
    tops: list[float] = []
    for axes, budget, even in ((left, "passes", True), (right, "budget/seconds", False)):
        drawn = {m: curve(comparison.of(m), "validation/loss", budget, even) for m in comparison.methods}
        drawn = {method: found for method, found in drawn.items() if len(found.spent)}
        furthest = max((found.spent[-1] for found in drawn.values()), default=1.0)
        for method, found in drawn.items():
            _draw(axes, found, colour[method], LINES.get(comparison.families[method], "-"), furthest if even else 0.0)
            ends.append(float(found.middle[-1]))
            tops.append(float(found.middle.max()))
            lows.append(float(found.low.min()))
        if even:
            axes.set_xlim(0, furthest * 1.02)
        elif drawn:
            axes.set_xscale("log")
    low, high = min(lows, default=0.1), min(max(tops, default=1.0), TALLEST * max(ends, default=1.0))
    regression = comparison.baselines.get("lagged_regression", {}).get("validation", np.nan)
    for axes in (left, right):
        axes.axhline(regression, color=REFERENCE, lw=1.2, ls=BASELINES["lagged_regression"][1], zorder=1.5)
        loss_axis(axes, "y", low * 0.96, max(high, low) * 1.2)
        axes.grid(visible=True)
    left.set_title(f"Validation loss ({comparison.task.loss}) against passes")
    right.set_title("against CPU seconds")
    left.set_xlabel("passes: one network over all training steps")
    right.set_xlabel("CPU seconds")
    left.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    _plain_log(right)


def _draw(axes: Axes, found: Curve, colour: str, line: object, furthest: float) -> None:
    begun = np.isfinite(found.high)  # where a run has not begun the band would have no end
    axes.fill_between(found.spent, found.low, found.high, where=begun, color=colour, alpha=0.13, lw=0)
    axes.plot(found.spent, found.middle, color=colour, ls=line, lw=2.0)
    axes.plot(found.spent[-1], found.middle[-1], marker="o", ms=4.5, color=colour)
    if furthest > 1.02 * found.spent[-1]:  # it stopped early and keeps what it had
        axes.plot([found.spent[-1], furthest], [found.middle[-1]] * 2, color=colour, lw=1.0, alpha=0.5)


def _legend(figure: Figure, comparison: Comparison) -> None:
    """Methods under the names of their families, to the right of the upper panels."""
    from matplotlib.lines import Line2D

    colour, none = colours(comparison.methods), Line2D([], [], ls="")
    handles: list[Any] = []
    labels: list[str] = []
    for family, methods in ordered({m: comparison.families[m] for m in comparison.methods}).items():
        handles.append(none)
        labels.append(family or "methods")
        for method in methods:
            style: dict[str, Any] = {"ls": LINES.get(family, "-"), "marker": MARKS.get(family, "o"), "ms": 5, "lw": 2.2}
            handles.append(Line2D([], [], color=colour[method], **style))
            labels.append(clipped(method, 20))
    if comparison.baselines:
        handles.append(none)
        labels.append("baselines")
    for name, (label, line) in BASELINES.items():
        if name in comparison.baselines:
            handles.append(Line2D([], [], color=REFERENCE, lw=1.4, ls=line))
            labels.append(label)
    legend = figure.legend(handles, labels, loc="upper left", bbox_to_anchor=(0.845, 0.875), frameon=False, fontsize=11,
                  handlelength=3.4, labelspacing=0.32, borderaxespad=0.0)  # fmt: skip
    for handle, text in zip(handles, legend.get_texts(), strict=True):
        text.set_fontweight("bold" if handle is none else "normal")


def _tests(figure: Figure, comparison: Comparison, bottom: float, top: float) -> None:
    """One panel a part of the test split, methods from best to worst on all of it."""
    order = [row.method for row in comparison.verdict.rows]
    failed = {row.method: row.failed for row in comparison.verdict.rows}
    panels = parts(comparison)[:4]
    labels = [clipped(m, 20) + (f" ({failed[m]} failed)" if failed[m] else "") for m in order]
    left = 0.04 + 0.0057 * max(map(len, labels))
    grid = figure.add_gridspec(1, len(panels), left=left, right=0.975, top=top, bottom=bottom, wspace=0.07)
    low, high = _extent(comparison, panels)
    for index, part in enumerate(panels):
        axes = figure.add_subplot(grid[index])
        for row, method in enumerate(order):
            _dots(axes, comparison, method, comparison.values(method, f"{part}_loss"), row, high)
        for name, (_, line) in BASELINES.items():
            axes.axvline(
                comparison.baselines.get(name, {}).get(part, np.nan), color=REFERENCE, lw=1.6, ls=line, zorder=1.5
            )
        axes.set_ylim(len(order) - 0.45, -0.55)
        axes.set_yticks(range(len(order)), labels if index == 0 else [""] * len(order))
        axes.tick_params(axis="y", length=0)
        axes.set_title("Test loss of the champions" if part == "test" else f"Test loss of the champions, {part}")
        loss_axis(axes, "x", low, high)
        axes.grid(visible=True, axis="x")
        for edge in range(len(order) - 1):
            axes.axhline(edge + 0.5, color="#EEEEEE", lw=0.8, zorder=0.5)


def _dots(axes: Axes, comparison: Comparison, method: str, losses: Array, row: int, edge: float) -> None:
    colour = colours(comparison.methods)[method]
    known = losses[np.isfinite(losses)]
    if not len(known):
        return
    low, high = interval(known)
    middle, half = iqm(known), 0.36
    if middle > edge:
        axes.text(edge, row, f"{number(middle)} \u2192 ", color=colour, ha="right", va="center")
    axes.fill_betweenx([row - half, row + half], low, high, color=colour, alpha=0.22, lw=0, zorder=2)
    axes.plot([middle, middle], [row - half, row + half], color=colour, lw=3.0, solid_capstyle="butt", zorder=4)
    spread = (np.arange(len(known)) % 5 - 2) * 0.11 if len(known) > 1 else np.zeros(1)  # beside, not upon each other
    mark = MARKS.get(comparison.families[method], "o")
    axes.scatter(known, row + spread, s=26, marker=mark, color=colour, edgecolors="white", linewidths=0.6, zorder=3)


def _extent(comparison: Comparison, panels: Sequence[str]) -> tuple[float, float]:
    """The same loss axis for all panels: all marks and both baselines, unless a few are far away."""
    losses = np.concatenate([comparison.values(m, f"{p}_loss") for m in comparison.methods for p in panels])
    lines = [comparison.baselines.get(name, {}).get(part, np.nan) for name in BASELINES for part in panels]
    known = np.array([value for value in (*losses, *lines) if np.isfinite(value) and value > 0])
    if not len(known):
        return 0.1, 1.0
    return float(known.min()) / 1.06, float(min(known.max(), TALLEST * np.median(known))) * 1.06


def loss_axis(axes: Axes, which: str, low: float, high: float) -> None:
    """A logarithmic axis from `low` to `high`, with some four to eight round numbers on it, however short it is."""
    low = max(low, 1e-12)
    high = max(high, low * 1.05)
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    (axes.set_xlim if which == "x" else axes.set_ylim)(low, high)
    ticks = _round_numbers(low, high)
    axis.set_ticks(ticks, [f"{tick:.4g}" for tick in ticks])
    axis.set_ticks([], minor=True)


def _round_numbers(low: float, high: float) -> list[float]:
    """The fewest of some series of round numbers of which at least five lie between `low` and `high`."""
    decades = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    series = [(1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), (*np.arange(1, 2, 0.2), *np.arange(2, 10, 0.5))]
    series += [tuple(np.arange(100, 1000, 5) / 100), tuple(np.arange(100, 1000) / 100)]
    step = max(1, round(len(decades) / 8))
    for leads in series:
        marks = [
            float(f"{lead:.4g}") * 10.0 ** float(d)
            for d in decades[:: step if len(leads) == 1 else 1]
            for lead in leads
        ]
        inside = [float(f"{mark:.6g}") for mark in marks if low <= mark <= high]
        if len(inside) >= 5:
            break
    return _apart(inside, low, high)


def _apart(ticks: list[float], low: float, high: float) -> list[float]:
    """Those of the ticks that are far enough from the one before for both labels to be read."""
    kept = ticks[:1]
    least = np.log(high / low) / 14
    for tick in ticks[1:]:
        if np.log(tick / kept[-1]) >= least:
            kept.append(tick)
    return kept


def _plain_log(axes: Axes) -> None:
    low, high = axes.get_xlim()
    if axes.get_xscale() == "log":
        loss_axis(axes, "x", low, high)


def clipped(text: str, limit: int) -> str:
    """At most `limit` characters of a text."""
    return text if len(text) <= limit else text[: limit - 3] + "..."
