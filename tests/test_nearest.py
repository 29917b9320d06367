"""The nearest known name: a slip of the fingers is understood, a strange word is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evo_rnn.nearest import did_you_mean, nearest

KNOWN = ("ga", "random", "bptt", "tbptt", "rtrl", "hybrid", "memetic", "baldwinian", "evolino", "torch")


@pytest.mark.parametrize("known", KNOWN)
def test_two_neighbours_that_changed_places_are_one_slip(known: str) -> None:
    for place in range(len(known) - 1):
        slip = known[:place] + known[place + 1] + known[place] + known[place + 2 :]
        assert nearest(slip.upper(), KNOWN) == known


@pytest.mark.parametrize(("typed", "meant"), [("btpp", "bptt"), ("rtl", "rtrl"), ("gaa", "ga"), ("torhc", "torch")])
def test_letters_doubled_dropped_or_in_another_order_are_understood(typed: str, meant: str) -> None:
    assert nearest(typed, KNOWN) == meant
    assert did_you_mean(typed, KNOWN) == f" Did you mean {meant!r}?"


@pytest.mark.parametrize("typed", ["zzz", "", 17, "sgd"])
def test_a_word_like_none_asks_nothing(typed: object) -> None:
    assert did_you_mean(typed, KNOWN) == ""
    assert nearest("ga", []) == ""


@given(st.text(max_size=3000), st.lists(st.text(max_size=40), max_size=5))
def test_whatever_is_typed_a_known_name_or_nothing_comes(typed: str, known: list[str]) -> None:
    assert nearest(typed, known) in ["", *known]
