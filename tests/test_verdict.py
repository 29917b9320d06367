"""A verdict names a winner where there is one, says so where there is none, and claims no more than its seeds carry."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evo_rnn.verdict import Verdict, verdict

RNG = np.random.default_rng(0)
NOISE = {name: RNG.random(20) for name in ("ga", "bptt", "rtrl")}
LOSSES = st.integers(1, 6).flatmap(
    lambda n: st.dictionaries(
        st.sampled_from(["ga", "bptt", "rtrl", "hybrid"]), st.lists(st.floats(), min_size=n, max_size=n), min_size=1
    )
)


def ahead_by(gap: float, seeds: int, **more: Any) -> Verdict:
    losses = {name: values[:seeds] + (name != "ga") * gap for name, values in NOISE.items()}
    return verdict({**losses, **more}, resamples=500)


def test_a_clear_winner_is_named_with_the_methods_it_beat_and_the_seeds() -> None:
    found = ahead_by(5.0, 10)
    assert found.winner == found.best == found.rows[0].method == "ga"
    second, third = (row.method for row in found.rows[1:])
    assert found.sentence == (
        f"ga won: its loss was lower than that of {second} and {third} over 10 paired seeds (p <= 0.0039)."
    )
    for pair in found.pairs:
        assert pair.low <= pair.difference <= pair.high < 0
        assert pair.probability.value == 1.0
        assert pair.effect < -2
        assert pair.p == pytest.approx(2 / 2**9)
    assert [row.iqm for row in found.rows] == sorted(row.iqm for row in found.rows)


def test_five_seeds_carry_a_lead_and_no_win_however_large() -> None:
    found = ahead_by(1e6, 5)
    assert found.winner == ""
    assert found.best == "ga"
    assert all(pair.ahead and not pair.beaten for pair in found.pairs)
    assert found.sentence.startswith("Nobody won yet: ga was ahead of ")
    assert "on 5 paired seeds, which is too few to call (p >= 0.062 whatever happens): at least 7 are needed." in (
        found.sentence
    )


@pytest.mark.parametrize(("methods", "needed"), [(2, 6), (3, 7), (7, 8)])
def test_as_many_seeds_as_the_sentence_asks_for_are_enough(methods: int, needed: int) -> None:
    def judge(seeds: int) -> Verdict:
        names = [f"method {i}" for i in range(methods)]
        return verdict({name: i + 0.01 * RNG.random(seeds) for i, name in enumerate(names)}, resamples=200)

    assert f"at least {needed} are needed" in judge(needed - 1).sentence
    assert judge(needed).winner == "method 0"


def test_methods_that_do_not_differ_leave_nobody_the_winner() -> None:
    found = verdict(NOISE)
    assert found.winner == ""
    assert found.sentence.startswith(f"Nobody won: {found.best} had the lowest loss, but 20 paired seeds do not")


def test_a_winner_over_some_is_no_winner_and_the_rest_are_named() -> None:
    losses = {
        "ga": NOISE["ga"],
        "bptt": NOISE["ga"] + RNG.normal(0, 0.1, 20) + 0.01,
        "random search": NOISE["rtrl"] + 9,
    }
    found = verdict(losses)
    assert found.winner == ""
    assert found.sentence == (
        f"Nobody won outright: over 20 paired seeds {found.best} had the lowest loss and beat random search, "
        f"but cannot be told apart from {found.pairs[0].other}."
    )


def test_a_sure_lead_wins_however_small_and_its_probability_says_how_small() -> None:
    found = verdict({"ga": 100 * NOISE["ga"], "bptt": 100 * NOISE["ga"] + 0.001 + RNG.random(20) / 1000})
    assert found.winner == "ga"
    assert found.pairs[0].probability.value < 0.55


def test_a_small_p_value_alone_is_no_win() -> None:
    # Nine clear leads make the ranks significant; the middle half of the differences may lie on either side of 0.
    gaps = [10.0 + i for i in range(9)] + [0.1 + i / 100 for i in range(4)] + [-0.105 - i / 100 for i in range(7)]
    (pair,) = (found := verdict({"ga": np.zeros(20), "bptt": np.array(gaps)})).pairs
    assert pair.p < 0.05
    assert pair.high > 0
    assert (pair.ahead, pair.beaten, found.winner) == (False, False, "")


def test_identical_losses_are_a_tie() -> None:
    same = {"ga": [1.0, 2.0, 3.0], "bptt": [1.0, 2.0, 3.0]}
    found = verdict(same)
    assert found.sentence == "Nobody won: all methods had the same losses on 3 paired seeds."
    assert (found.pairs[0].difference, found.pairs[0].effect, found.pairs[0].p) == (0.0, 0.0, 1.0)
    assert verdict({"ga": [1.0], "bptt": [1.0]}).sentence == "Nobody won: all methods had the same losses on one seed."


def test_one_seed_shows_nothing_and_one_method_has_no_rival() -> None:
    found = verdict({"ga": [1.0], "bptt": [2.0]})
    assert found.sentence.startswith("One seed shows nothing: ga had the lowest loss")
    assert found.winner == ""
    assert (found.rows[0].low, found.rows[0].high) == (1.0, 1.0)
    alone = verdict({"ga": [1.0, 2.0]})
    assert alone.sentence == "Only ga was tried: there is nothing to compare it with."
    assert alone.winner == ""


@pytest.mark.parametrize("failure", [math.nan, math.inf, -math.inf])
def test_a_failed_run_counts_as_the_worst(failure: float) -> None:
    found = ahead_by(5.0, 10, descent=np.full(10, failure))
    assert found.winner == "ga"
    assert found.rows[-1].method == "descent"
    assert (found.rows[-1].iqm, found.rows[-1].failed) == (math.inf, 10)
    assert found.sentence.endswith(" 10 of 40 runs failed and count as the worst.")
    some = verdict({"ga": [1.0] * 7 + [failure], "bptt": [2.0 + i for i in range(8)]})
    assert some.best == "ga"
    assert some.rows[0].failed == 1
    assert some.winner == ""
    assert some.pairs[0].probability.value == pytest.approx((7 * 1 * 8) / 64)


def test_a_comparison_in_which_every_run_failed_has_no_winner() -> None:
    found = verdict({"ga": [math.nan] * 5, "bptt": [math.inf] * 5})
    assert found.sentence == "Nobody won: every run failed."
    assert found.winner == ""
    assert found.pairs[0].difference == 0.0


@settings(deadline=None, max_examples=60)
@given(LOSSES)
@example({"ga": [0.0] * 6, "bptt": [*[0.0] * 4, 1.7976931348623157e308, -9.9792015476736e291]})
def test_no_losses_whatever_make_it_crash_or_let_five_seeds_win(losses: dict[str, list[float]]) -> None:
    found = verdict(losses, resamples=50)
    assert found.sentence.endswith(".")
    assert "\n" not in found.sentence
    assert found.best in losses
    assert len(found.pairs) == len(losses) - 1
    if found.seeds <= 5:
        assert found.winner == ""


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(12)), st.floats(-5, 5), st.sampled_from([0.5, 2.0, 8.0]))
def test_the_order_of_seeds_and_the_unit_of_the_loss_do_not_change_who_won(
    order: list[int], shift: float, scale: float
) -> None:
    losses = {name: values[:12] + (name == "bptt") for name, values in NOISE.items()}
    plain = verdict(losses, resamples=300)
    other = verdict({name: scale * values[order] + shift for name, values in losses.items()}, resamples=300)
    assert other.best == plain.best
    assert [pair.p for pair in other.pairs] == pytest.approx([pair.p for pair in plain.pairs])
    assert [pair.effect for pair in other.pairs] == pytest.approx([pair.effect for pair in plain.pairs])


def test_with_no_difference_between_methods_a_win_is_rare() -> None:
    rng = np.random.default_rng(0)
    verdicts = [verdict(dict(zip("abcde", rng.random((5, 10)), strict=True)), resamples=200) for _ in range(200)]
    assert sum(bool(found.winner) for found in verdicts) == 0
    assert np.mean([any(pair.beaten for pair in found.pairs) for found in verdicts]) <= 0.1
    # The control: the intervals alone would have claimed more.
    assert np.mean([any(pair.ahead for pair in found.pairs) for found in verdicts]) > 0.15


def test_a_verdict_cannot_be_changed_and_is_the_same_again() -> None:
    assert ahead_by(0.1, 8) == ahead_by(0.1, 8)
    with pytest.raises(dataclasses.FrozenInstanceError):
        ahead_by(0.1, 8).winner = "ga"  # type: ignore[misc]


@pytest.mark.parametrize("losses", [{}, {"ga": []}, {"ga": [1.0], "bptt": [1.0, 2.0]}])
def test_a_table_with_holes_is_refused(losses: dict[str, list[float]]) -> None:
    with pytest.raises(ValueError, match="one loss a seed of every method"):
        verdict(losses)
