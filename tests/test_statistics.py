"""Statistics agree with their textbooks and with scipy, keep their invariances, and survive runs that failed."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from evo_rnn import statistics
from evo_rnn.statistics import (
    Estimate,
    cliffs_delta,
    cohen_dz,
    differences,
    holm,
    interquartile_means,
    interval,
    iqm,
    paired_interval,
    probability_of_improvement,
    signed_rank_p,
)

FINITE = st.floats(-1e6, 1e6, allow_subnormal=False)
VALUES = st.lists(FINITE, min_size=1, max_size=12)
ANY = st.floats(allow_nan=True, allow_infinity=True)
SMALL = st.integers(-3, 3).map(float)  # so that ties are common
PAIRS = st.lists(st.tuples(SMALL, SMALL), min_size=1, max_size=9).map(lambda rows: tuple(np.array(rows).T))
Values = np.ndarray[Any, Any]


# Interquartile mean ---------------------------------------------------------------------------------------------------


@given(VALUES, st.randoms(), st.floats(-100, 100), st.floats(0.01, 100))
def test_the_iqm_ignores_order_moves_with_shifts_and_scales_and_stays_inside(
    values: list[float], random: Any, shift: float, scale: float
) -> None:
    middle = iqm(values)
    shuffled = random.sample(values, len(values))
    assert iqm(shuffled) == middle
    assert min(values) <= middle <= max(values)
    assert iqm(scale * np.array(values) + shift) == pytest.approx(scale * middle + shift, rel=1e-9, abs=1e-6)
    assert iqm(-np.array(values)) == pytest.approx(-middle, rel=1e-9, abs=1e-9)


@given(st.integers(1, 5).flatmap(lambda k: st.lists(FINITE, min_size=4 * k, max_size=4 * k)))
def test_the_iqm_is_scipys_trimmed_mean_where_quarters_are_whole(values: list[float]) -> None:
    assert iqm(values) == pytest.approx(stats.trim_mean(values, 0.25), rel=1e-12, abs=1e-9)


@given(VALUES)
def test_the_iqm_is_the_trimmed_mean_of_every_value_written_four_times(values: list[float]) -> None:
    # The definition with fractions, without fractions: four copies of N values have whole quarters.
    assert iqm(values) == pytest.approx(stats.trim_mean(np.repeat(values, 4), 0.25), rel=1e-12, abs=1e-9)


def test_the_iqm_of_a_few_values_by_hand() -> None:
    assert iqm([3.0]) == 3.0
    assert iqm([1.0, 2.0]) == 1.5
    assert iqm([0.0, 6.0, 100.0]) == pytest.approx((0 + 4 * 6 + 100) / 6)
    assert iqm([-1e9, 1.0, 2.0, 4.0, 1e9]) == pytest.approx((0.75 * 1 + 2 + 0.75 * 4) / 2.5)
    assert iqm([1.0, 2.0, 3.0, math.inf]) == 2.5
    assert iqm([1.0, math.inf, math.inf]) == math.inf
    assert iqm([1e308, 1e308, 1e308]) == 1e308
    assert math.isnan(iqm([1.0, 2.0, 3.0, math.nan]))
    assert math.isnan(iqm([-math.inf, math.inf]))
    assert interquartile_means([[1.0, 3.0], [5.0, 6.0]]).tolist() == [2.0, 5.5]


# Intervals ------------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(VALUES, st.floats(-100, 100), st.floats(0.01, 100))
def test_an_interval_lies_within_the_values_and_moves_with_them(
    values: list[float], shift: float, scale: float
) -> None:
    low, high = interval(values, resamples=200)
    assert min(values) <= low <= high <= max(values)
    moved = interval(scale * np.array(values) + shift, resamples=200)
    assert moved == pytest.approx((scale * low + shift, scale * high + shift), rel=1e-9, abs=1e-6)


@given(FINITE)
def test_one_value_gives_an_interval_without_width(value: float) -> None:
    assert interval([value], resamples=50) == (value, value)


def test_an_interval_is_the_same_for_a_seed_and_wider_for_a_higher_level() -> None:
    values = np.random.default_rng(0).standard_normal(9)
    assert interval(values) == interval(values)
    assert interval(values) != interval(values, seed=1)
    wide, narrow = interval(values, level=0.99), interval(values, level=0.5)
    assert wide[0] < narrow[0] < iqm(values) < narrow[1] < wide[1]
    assert interval(values, functools.partial(np.median, axis=-1))[0] in values


def test_an_interval_agrees_with_scipys_percentile_bootstrap() -> None:
    values = np.random.default_rng(0).gamma(2.0, size=15)
    theirs = stats.bootstrap((values,), interquartile_means, method="percentile", n_resamples=20_000, rng=0)
    ours = interval(values, resamples=20_000)
    assert ours == pytest.approx(tuple(theirs.confidence_interval), abs=0.03)


@pytest.mark.parametrize("draw", [np.random.Generator.standard_normal, np.random.Generator.standard_exponential])
def test_a_95_percent_interval_of_20_values_holds_the_true_one_about_that_often(
    draw: Callable[[np.random.Generator, tuple[int, ...]], Values],
) -> None:
    rng = np.random.default_rng(0)
    truth = iqm(draw(rng, (400_000,)))
    bounds = [interval(row, resamples=400, seed=i) for i, row in enumerate(draw(rng, (800, 20)))]
    covered = np.mean([low <= truth <= high for low, high in bounds])
    assert 0.9 <= covered <= 0.97


def test_infinite_values_open_an_interval_and_never_make_it_nan() -> None:
    low, high = interval([1.0, 2.0, 3.0, math.inf])
    assert 1.0 <= low <= 3.0
    assert high == math.inf
    assert interval([-math.inf, 0.0, math.inf]) == (-math.inf, math.inf)
    assert interval([math.inf] * 3) == (math.inf, math.inf)


def test_a_paired_interval_sees_what_the_spread_between_seeds_hides() -> None:
    rng = np.random.default_rng(0)
    seeds = 100 * rng.standard_normal(10)
    a, b = seeds + rng.random(10), seeds + 2 + rng.random(10)
    low, high = paired_interval(a, b)
    assert -3 < low < high < -1
    assert paired_interval(b, a) == pytest.approx((-high, -low))
    assert interval(a)[1] > interval(b)[0]


# Probability of improvement and effect sizes --------------------------------------------------------------------------


@given(st.lists(SMALL, min_size=1, max_size=8), st.lists(SMALL, min_size=1, max_size=8))
def test_the_probability_of_improvement_is_mann_whitneys_u_over_all_pairs(a: list[float], b: list[float]) -> None:
    found = probability_of_improvement(a, b, resamples=50)
    assert found.value == pytest.approx(stats.mannwhitneyu(b, a).statistic / (len(a) * len(b)))
    assert found.value + probability_of_improvement(b, a, resamples=1).value == pytest.approx(1)
    assert found.value == pytest.approx(probability_of_improvement(b, a, lower_is_better=False, resamples=1).value)
    assert cliffs_delta(a, b) == pytest.approx(2 * found.value - 1)
    assert 0 <= found.low <= found.high <= 1


@given(PAIRS)
def test_only_the_order_of_values_matters_to_a_probability(pair: tuple[Values, Values]) -> None:
    a, b = pair
    for paired in (False, True):
        plain = probability_of_improvement(a, b, paired=paired, resamples=50)
        assert plain == probability_of_improvement(np.exp(a), np.exp(b), paired=paired, resamples=50)


def test_the_bootstrap_of_a_probability_is_that_of_drawing_the_runs_themselves() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal(6), rng.standard_normal(6) + 0.7
    counts = statistics._counts(6, 500, 3)
    drawn = statistics._resample(6, 500, 3)
    assert (counts == [[np.sum(row == i) for i in range(6)] for row in drawn]).all()
    slow = np.sort([probability_of_improvement(a[row], b[row], resamples=1).value for row in drawn])
    fast = probability_of_improvement(a, b, paired=True, resamples=500, seed=3)
    assert (fast.low, fast.high) == pytest.approx((slow[12], slow[-13]))


def test_runs_that_are_not_paired_are_drawn_apart() -> None:
    values = np.arange(8)
    assert probability_of_improvement(values, values, paired=True) == Estimate(0.5, 0.5, 0.5)
    apart = probability_of_improvement(values, values)
    assert apart.low < 0.3
    assert apart.high > 0.7


def test_a_clear_lead_a_tie_and_a_failed_run_have_the_probabilities_they_should() -> None:
    assert probability_of_improvement([1, 2], [3, 4]) == Estimate(1.0, 1.0, 1.0)
    assert probability_of_improvement([1, 1], [1, 1]) == Estimate(0.5, 0.5, 0.5)
    assert probability_of_improvement([1, math.inf], [2, math.inf]).value == pytest.approx((1 + 1 + 0 + 0.5) / 4)
    assert cliffs_delta([3, 4], [1, 2]) == -1.0


@given(PAIRS)
def test_cohens_dz_is_the_t_statistic_over_the_root_of_n(pair: tuple[Values, Values]) -> None:
    a, b = pair
    assume(len(set(a - b)) > 1)
    assert cohen_dz(a, b) == pytest.approx(stats.ttest_rel(a, b).statistic / np.sqrt(len(a)), abs=1e-12)
    assert cohen_dz(b, a) == pytest.approx(-cohen_dz(a, b), abs=1e-12)
    assert cohen_dz(1e-200 * a, 1e-200 * b) == pytest.approx(cohen_dz(a, b), abs=1e-12)


def test_cohens_dz_of_equal_constant_single_and_failed_differences() -> None:
    assert cohen_dz([1, 2], [1, 2]) == 0.0
    assert cohen_dz([1, 2], [2, 3]) == -math.inf
    assert math.isnan(cohen_dz([1], [2]))
    assert math.isnan(cohen_dz([1, math.inf], [2, 3]))


# Tests over pairs -----------------------------------------------------------------------------------------------------


@given(PAIRS)
def test_the_signed_rank_p_value_is_that_of_all_sign_flips(pair: tuple[Values, Values]) -> None:
    gaps = pair[0] - pair[1]
    gaps = gaps[gaps != 0]
    ranks = stats.rankdata(np.abs(gaps))
    sums = np.array([ranks[np.array(signs, bool)].sum() for signs in itertools.product((0, 1), repeat=len(gaps))])
    positive = ranks[gaps > 0].sum()
    expected = min(1.0, 2 * min(np.mean(sums <= positive), np.mean(sums >= positive)))
    assert signed_rank_p(*pair) == pytest.approx(expected)


def test_the_signed_rank_p_value_is_scipys_where_there_are_no_ties() -> None:
    rng = np.random.default_rng(0)
    for size in (5, 12, 40):
        a, b = rng.standard_normal(size), rng.standard_normal(size) + 0.3
        assert signed_rank_p(a, b) == pytest.approx(stats.wilcoxon(a, b, method="exact").pvalue)


def test_five_seeds_cannot_give_a_p_value_below_one_sixteenth() -> None:
    assert signed_rank_p([0, 1, 2, 3, 4], [1, 3, 5, 7, 9]) == 0.0625
    assert signed_rank_p([1, 2, 3, 4, math.inf], [1e9] * 4 + [math.inf]) == 0.125
    assert signed_rank_p([1], [1]) == 1.0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.randoms())
def test_holms_correction_never_lowers_a_p_value_or_changes_their_order(p: list[float], random: Any) -> None:
    adjusted = holm(p)
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(1, len(p) * np.array(p))).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()
    order = random.sample(range(len(p)), len(p))
    assert holm(np.array(p)[order]).tolist() == adjusted[order].tolist()


def test_holms_correction_of_his_own_kind_of_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]).tolist() == []


# Bad arguments --------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.tuples(ANY, ANY), min_size=1, max_size=6))
def test_no_value_whatever_makes_a_statistic_crash_or_warn(rows: list[tuple[float, float]]) -> None:
    a, b = np.array(rows).T
    iqm(a)
    interval(a, resamples=20)
    paired_interval(a, b, resamples=20)
    probability_of_improvement(a, b, paired=True, resamples=20)
    cohen_dz(a, b)


def test_empty_and_unpaired_arguments_are_refused() -> None:
    for call in (lambda: iqm([]), lambda: interval([]), lambda: probability_of_improvement([], [1])):
        with pytest.raises(ValueError, match="not an empty array"):
            call()
    for other in ([1, 2], []):
        with pytest.raises(ValueError, match="paired seeds"):
            differences([1], other)
    with pytest.raises(ValueError, match="between 0 and 1"):
        interval([1], level=95)
