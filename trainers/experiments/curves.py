"""The learning curves of one method over its seeds, brought to one axis: interquartile mean and bootstrap band."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evo_rnn.shapes import Array
from evo_rnn.statistics import interquartile_means, interval
from trainers.experiments.outcome import TrialRecord

POINTS = 60
RESAMPLES = 500  # of each point: a band needs no third digit


@dataclass(frozen=True, eq=False)
class Curve:
    """A method's loss against what it had spent; all (N,), in order of `spent`. Only `high` may be infinite."""

    spent: Array
    middle: Array
    low: Array
    high: Array


def curve(trials: Sequence[TrialRecord], metric: str, budget: str, even: bool = True) -> Curve:
    """The curve of some runs of one method.

    Between two points a run keeps its last value, and so it does after its end: one that stopped early counts with what
    it reached. Values that are not finite are left out. The curve begins where all runs have a point.

    Args:
        trials: the runs.
        metric: what to draw.
        budget: the metric that is spent, or "passes" for that of the points themselves.
        even: whether points lie evenly in what is spent; else in its logarithm.
    """
    runs = [_series(trial, metric, budget) for trial in trials]
    runs = [(spent, values) for spent, values in runs if len(spent)]
    if not runs:
        return Curve(*(np.empty(0) for _ in range(4)))
    first, last = min(spent[0] for spent, _ in runs), max(spent[-1] for spent, _ in runs)
    at = np.unique(np.concatenate([spent for spent, _ in runs]))
    if len(at) > POINTS:
        at = np.linspace(first, last, POINTS) if even or first <= 0 else np.geomspace(first, last, POINTS)
        at[0], at[-1] = first, last  # rounding must not lose the ends
    held = np.stack([_held(spent, values, at) for spent, values in runs], axis=1)
    low, high = np.array([interval(row, resamples=RESAMPLES) for row in held]).T
    middle = interquartile_means(held)
    begun = np.isfinite(middle)
    return Curve(at[begun], middle[begun], low[begun], high[begun])


def _held(spent: Array, values: Array, at: Array) -> Array:
    """The last value before or at each place, (N,)."""
    place = np.searchsorted(spent, at, side="right") - 1
    return np.where(place < 0, np.inf, values[np.maximum(place, 0)])


def _series(trial: TrialRecord, metric: str, budget: str) -> tuple[Array, Array]:
    """What was spent and the value there, (N,) each; of several points at one place the last."""
    pairs = [
        (float(row.passes) if budget == "passes" else row.metrics.get(budget, np.nan), row.metrics.get(metric, np.nan))
        for row in trial.rows
    ]
    spent, values = np.array(sorted(dict(pairs).items()), dtype=np.float64).reshape(-1, 2).T
    fine = np.isfinite(spent) & np.isfinite(values)
    return spent[fine], values[fine]
