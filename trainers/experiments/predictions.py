"""predictions.png: what the best method's middle champion and the lagged regression said, against what came."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from evo_rnn.baselines import lagged_answers
from evo_rnn.evaluation.evaluator import LocalEvaluator
from evo_rnn.fitness import LOSSES
from evo_rnn.shapes import Array
from evo_rnn.tasks.file import unscale
from evo_rnn.tasks.task import Sequences, Task
from trainers.experiments.figures import DPI, SETTINGS
from trainers.experiments.outcome import Comparison, TrialRecord
from trainers.experiments.palette import REFERENCE, TRUTH, colours
from trainers.experiments.time_axis import TimeAxis, time_axis
from trainers.experiments.wording import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = (16.0, 8.0)
MOST = 300  # steps that can be told apart in one picture


def can_draw(comparison: Comparison) -> bool:
    """Whether the task is one sequence with one output, and there is a champion that works."""
    task = comparison.task
    plain = task.outputs == 1 and len(task.test.inputs) == 1 and not LOSSES[task.loss].classes
    return plain and bool(np.isfinite(comparison.verdict.rows[0].iqm))


def predictions_figure(comparison: Comparison, target: str = "") -> Figure:
    """The test split step by step, 1600 x 800 pixels: the truth and two predictions above, their errors below.

    Args:
        comparison: one that `can_draw`.
        target: the column that is predicted, whose scaling is undone; by default the only one that has a scaling.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    trial = middle_champion(comparison)
    task, method = comparison.task, trial.method
    counted = np.flatnonzero(task.test.counts[0])[:MOST]
    evaluator = LocalEvaluator(trial.model, task.test, task.loss)
    said = {method: evaluator.predict(trial.champion)[0], "lagged regression": lagged_answers(task)(task.test)}
    regression = comparison.baselines.get("lagged_regression", {}).get("test", np.nan)
    losses = {method: trial.result["test_loss"], "lagged regression": regression}
    target, undone = _scale(task, target)
    truth, *answers = (undone(series[0, counted]) for series in (task.test.targets, *said.values()))
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=SIZE, dpi=DPI, facecolor="white")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2.4, 1))
        figure.subplots_adjust(left=0.065, right=0.985, top=0.8, bottom=0.085, hspace=0.12)
        axis = _axis(task, counted)
        above.plot(axis.places, truth, color=TRUTH, lw=1.6, marker="o", ms=3.5, label="truth")
        styles = ((colours(comparison.methods)[method], "-", 2.2), (REFERENCE, (0, (4, 2)), 1.5))
        for name, answer, (colour, line, width) in zip(said, answers, styles, strict=True):
            above.plot(
                axis.places, answer, color=colour, ls=line, lw=width, label=f"{name} (test loss {number(losses[name])})"
            )
            below.plot(axis.places, answer - truth, color=colour, ls=line, lw=width)
        below.axhline(0, color=TRUTH, lw=1.0)
        above.set_ylabel(target)
        below.set_ylabel("prediction - truth")
        axis.mark(below.xaxis)
        below.set_xlabel(_step_label(task, axis))
        _spans(above, below, task, counted, axis)
        title = f"{task.name}: predictions on the test split"
        figure.text(0.02, 0.955, title, fontsize=18, fontweight="bold", va="center")
        about = f"the middle one of {method}'s {len(comparison.seeds)} champions (seed {trial.seed}); {task.notes}"
        figure.text(0.02, 0.912, about[:170], color="#555555", va="center")
        figure.legend(loc="upper right", bbox_to_anchor=(0.99, 0.898), ncols=3, frameon=False)
        return figure


def middle_champion(comparison: Comparison) -> TrialRecord:
    """The run of the best method whose test loss is the median; of two the lower."""
    trials = sorted(comparison.of(comparison.verdict.best), key=lambda trial: trial.result["test_loss"])
    return trials[(len(trials) - 1) // 2]


def _scale(task: Task, target: str) -> tuple[str, Callable[[Array], Array]]:
    """The axis label, and what undoes the scaling of outputs (N, 1) to (N,)."""
    name = target or (next(iter(task.scaling)) if len(task.scaling) == 1 else "")
    if name not in task.scaling:
        return "target, scaled as in training", lambda outputs: outputs[:, 0]
    return name, lambda outputs: unscale(outputs, task.scaling, [name])[:, 0]


def _axis(task: Task, counted: Array) -> TimeAxis:
    known = len(task.labels) == task.test.counts.shape[1]
    return time_axis([task.labels[step] for step in counted] if known else [], len(counted))


def _step_label(task: Task, axis: TimeAxis) -> str:
    drawn, what = len(axis.places), "step of the test split" if axis.kind == "steps" else "test split"
    return what + (f" (the first {drawn} of {task.test.counted} steps)" if drawn < task.test.counted else "")


def _spans(above: Axes, below: Axes, task: Task, counted: Array, axis: TimeAxis) -> None:
    """Every other span is shaded; each has its name at the top."""
    for index, (name, span) in enumerate(task.spans.items()):
        inside = np.flatnonzero(_counts(span, counted))
        if not len(inside):
            continue
        first, last = axis.places[inside[0]] - axis.half, axis.places[inside[-1]] + axis.half
        for axes in (above, below) if index % 2 else ():
            axes.axvspan(first, last, color="#F3F3F3", lw=0, zorder=0)
        above.text((first + last) / 2, 1.015, name, transform=above.get_xaxis_transform(), ha="center", color="#333333")


def _counts(span: Sequences, steps: Array) -> Array:
    """Which of the steps (N,) a span counts; it may end before the test split does."""
    length = span.counts.shape[1]
    inside: Array = (steps < length) & span.counts[0, np.minimum(steps, length - 1)]
    return inside
