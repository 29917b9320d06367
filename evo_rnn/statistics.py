"""What a few seeds can say: interquartile means, bootstrap intervals, effect sizes and tests over paired seeds.

Everything is a pure function of numpy arrays over N runs, one value a seed. Where two methods are compared, their runs
are paired: entry i of both came from seed i. The choice of measures follows Agarwal et al., "Deep reinforcement
learning at the edge of the statistical precipice", NeurIPS 2021; that of tests follows Demšar, "Statistical comparisons
of classifiers over multiple data sets", JMLR 2006.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evo_rnn.seeds import generator

Values = NDArray[np.float64]
Statistic = Callable[[Values], Values]
"""Reduces the last axis: (..., N) -> (...)."""


@dataclass(frozen=True)
class Estimate:
    """A value and its bootstrap interval."""

    value: float
    low: float
    high: float


def interquartile_means(values: ArrayLike) -> Values:
    """Return the mean of the middle half of each row, (..., N) -> (...).

    A quarter of the weight is cut from each end; where N is no multiple of 4, the values at the two edges keep the
    fraction that is left of them, so five runs count 0, 0.75, 1, 0.75, 0. This is the trimmed mean as Rosenberger and
    Gasko (1983) define it. ``scipy.stats.trim_mean(x, 0.25)``, which rliable uses, cuts whole values only: the same for
    N = 4k, more of the tails otherwise. Infinite values in the cut quarters do not matter; NaN anywhere gives NaN.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64), axis=-1)
    size = ordered.shape[-1]
    if size == 0:
        raise ValueError("an interquartile mean needs at least one value, not an empty array")
    edges = np.arange(size + 1) / size
    weights = 2 * np.diff(np.clip(edges, 0.25, 0.75))
    (kept,) = np.nonzero(weights)
    middle = ordered[..., kept[0] : kept[-1] + 1]
    with np.errstate(invalid="ignore"):  # -inf + inf is NaN, which is the answer
        means = (middle * weights[kept]).sum(axis=-1)
    # Rounding must not carry a mean out of the range of what it averages.
    means = np.clip(means, middle[..., 0], middle[..., -1])
    return np.asarray(np.where(np.isnan(ordered[..., -1]), np.nan, means))


def iqm(values: ArrayLike) -> float:
    """Return the interquartile mean of values (N,); see ``interquartile_means`` for the definition."""
    return float(interquartile_means(np.ravel(np.asarray(values))))


def interval(
    values: ArrayLike,
    statistic: Statistic = interquartile_means,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a statistic of values (N,) (Efron 1979).

    With few values it is too narrow: in simulation with normal values a 95 % interval of the interquartile mean held
    the true one in 90 % of cases at N = 5, in 93 % at N = 20. One value gives an interval without width. Where infinite
    values leave a resample without a statistic (-inf and inf in its middle half), the interval is open to both sides.

    Args:
        values: One value a run, (N,).
        statistic: What to estimate; it reduces the last axis, as ``functools.partial(np.median, axis=-1)`` does.
        level: The share of intervals that should hold the true value.
        resamples: How many bootstrap samples to draw.
        seed: Equal seeds draw equal resamples.
    """
    data = np.ravel(np.asarray(values, dtype=np.float64))
    if data.size == 0:
        raise ValueError("an interval needs at least one value, not an empty array")
    return _percentiles(statistic(data[_resample(data.size, resamples, seed)]), level)


def paired_interval(
    a: ArrayLike,
    b: ArrayLike,
    statistic: Statistic = interquartile_means,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the bootstrap interval of a statistic of the differences a - b over paired seeds, both (N,)."""
    return interval(differences(a, b), statistic, level, resamples, seed)


def differences(a: ArrayLike, b: ArrayLike) -> Values:
    """Return a - b over paired seeds, (N,); two equal infinities (both runs failed) differ by 0."""
    first, second = _pair(a, b)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(np.where(first == second, 0.0, first - second))


def probability_of_improvement(
    a: ArrayLike,
    b: ArrayLike,
    lower_is_better: bool = True,
    *,
    paired: bool = False,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Return the probability that a run of a is better than a run of b: P(a < b) + P(a = b) / 2.

    It is the Mann-Whitney U statistic over the number of pairs, the A12 of Vargha and Delaney (2000), and it is
    (1 + ``cliffs_delta``) / 2.

    Args:
        a: One value a run, (N,).
        b: One value a run, (M,).
        lower_is_better: Whether smaller values are better, as losses are.
        paired: Whether entry i of both is from one seed; the bootstrap then draws seeds, not runs.
        level: As in ``interval``.
        resamples: As in ``interval``.
        seed: As in ``interval``.
    """
    first, second = _pair(a, b) if paired else (np.ravel(np.asarray(x, dtype=np.float64)) for x in (a, b))
    if not first.size or not second.size:
        raise ValueError("a probability of improvement needs runs of both methods, not an empty array")
    if not lower_is_better:
        first, second = -first, -second
    better = np.less.outer(first, second) + 0.5 * np.equal.outer(first, second)
    left = _counts(first.size, resamples, seed)
    right = left if paired else _counts(second.size, resamples, seed, index=1)
    draws = ((left @ better) * right).sum(axis=-1) / better.size
    return Estimate(float(better.mean()), *_percentiles(draws, level))


def cliffs_delta(a: ArrayLike, b: ArrayLike, lower_is_better: bool = True) -> float:
    """Return Cliff's delta (1993), P(a better) - P(b better): 1 where every run of a beats every run of b, -1 at worst.

    It is 2 * A12 - 1 with the A12 of ``probability_of_improvement``.
    """
    return 2 * probability_of_improvement(a, b, lower_is_better, resamples=1).value - 1


def cohen_dz(a: ArrayLike, b: ArrayLike) -> float:
    """Return Cohen's dz (1988) of paired seeds: the mean of a - b over its standard deviation, (N,) and (N,) -> ().

    It is the effect size that fits pairs, where Hedges' g would count the spread between seeds against the methods.
    Negative means that a is lower. It is 0 where all differences are 0, infinite where they are all the same, and NaN
    where there is one pair only or a run failed.
    """
    gaps = differences(a, b)
    if gaps.size < 2 or not np.isfinite(gaps).all():
        return math.nan
    largest = np.abs(gaps).max()
    if largest == 0:
        return 0.0
    gaps = gaps / largest  # so that neither squares nor sums of huge and tiny differences overflow or vanish
    if np.ptp(gaps) == 0:
        return math.copysign(math.inf, gaps[0])
    return float(gaps.mean() / gaps.std(ddof=1))


def signed_rank_p(a: ArrayLike, b: ArrayLike) -> float:
    """Return the exact two-sided p-value of Wilcoxon's signed-rank test (1945) over paired seeds.

    All 2**N ways to sign the ranks are counted, ties and failed runs included (by mid-ranks); pairs that are equal are
    left out. N pairs cannot give less than 2**(1 - N): five seeds 0.0625.
    """
    from scipy.stats import rankdata

    gaps = differences(a, b)
    gaps = gaps[gaps != 0]
    ranks = np.rint(2 * rankdata(np.abs(gaps))).astype(np.int64)  # doubled, so that mid-ranks are whole
    chance = np.zeros(ranks.sum() + 1)
    chance[0] = 1.0
    for rank in ranks:
        chance /= 2
        chance[rank:] += chance[:-rank].copy()
    positive = ranks[gaps > 0].sum()
    return float(min(1.0, 2 * min(chance[: positive + 1].sum(), chance[positive:].sum())))


def holm(p_values: ArrayLike) -> Values:
    """Return p-values (M,) adjusted for M comparisons by Holm's step-down method (1979), in the order given."""
    p = np.ravel(np.asarray(p_values, dtype=np.float64))
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)))
    return adjusted


def _pair(a: ArrayLike, b: ArrayLike) -> tuple[Values, Values]:
    first, second = (np.ravel(np.asarray(x, dtype=np.float64)) for x in (a, b))
    if first.size != second.size or not first.size:
        raise ValueError(f"paired seeds need one value of each method a seed, not {first.size} and {second.size}")
    return first, second


def _resample(size: int, resamples: int, seed: int, index: int = 0) -> NDArray[np.int64]:
    """Return bootstrap samples as indices (resamples, N)."""
    return generator(seed, "bootstrap", index=index).integers(size, size=(resamples, size))


def _counts(size: int, resamples: int, seed: int, index: int = 0) -> Values:
    """Return bootstrap samples as how often each run was drawn, (resamples, N)."""
    flat = _resample(size, resamples, seed, index) + size * np.arange(resamples)[:, None]
    return np.bincount(flat.ravel(), minlength=resamples * size).reshape(resamples, size).astype(np.float64)


def _percentiles(draws: Values, level: float) -> tuple[float, float]:
    """Return the order statistics that enclose the level; no interpolation, which infinities would spoil."""
    if not 0 < level < 1:
        raise ValueError(f"a level lies between 0 and 1, not at {level}")
    skip = int((1 - level) / 2 * (draws.size - 1))
    unknown = np.isnan(draws)
    low = np.sort(np.where(unknown, -np.inf, draws))[skip]
    high = np.sort(np.where(unknown, np.inf, draws))[-1 - skip]
    return float(low), float(high)
