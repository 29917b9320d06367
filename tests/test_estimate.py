"""The time that is left, as a race tells it."""

from __future__ import annotations

import io
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from trainers.commands import terminal
from trainers.commands.estimate import in_words, remaining
from trainers.experiments.race import Event
from trainers.experiments.referee import Row
from trainers.experiments.trial import Slice


@given(st.dictionaries(st.sampled_from("abc"), st.floats(0.1, 1e4), min_size=1), st.integers(2, 5), st.data())
def test_where_runs_go_on_as_they_went_the_estimate_is_exact(
    costs: Mapping[str, float], seeds: int, data: st.DataObject
) -> None:
    share = st.floats(0, 1)
    shares = {m: [1.0, *data.draw(st.lists(share, min_size=seeds, max_size=seeds))] for m in costs}
    done, whole = (sum(costs[m] * size(each) for m, each in shares.items()) for size in (sum, len))
    found = remaining(done / 2, shares, {m: [cost] for m, cost in costs.items()})  # two workers
    assert found == pytest.approx((whole - done) / 2, rel=1e-9, abs=1e-6)


def test_nothing_is_said_before_a_run_is_over_unless_it_is_alone() -> None:
    assert remaining(10, {"ga": [0.9, 0.5], "bptt": [0.9, 0.0]}, {"ga": [], "bptt": []}) < 0
    assert remaining(10, {"ga": [0.04]}, {}) < 0
    assert remaining(10, {"ga": [0.5]}, {}) == pytest.approx(10)


def test_a_method_of_which_no_run_is_over_costs_what_the_others_do() -> None:
    assert remaining(6, {"ga": [1.0], "bptt": [0.0]}, {"ga": [3.0], "bptt": []}) == pytest.approx(6)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-1, ""), (0, "about 10 s left"), (44, "about 40 s left"), (720, "about 12 min left"), (9000, "about 2.5 h left")],
)
def test_the_words_are_round(seconds: float, said: str) -> None:
    assert in_words(seconds) == said


@pytest.mark.parametrize("interactive", [True, False])
def test_a_race_says_what_is_left_after_its_first_run_and_nothing_at_its_end(
    interactive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("trainers.commands.terminal.time.monotonic", lambda: clock[0])
    screen = Console(file=io.StringIO(), width=80, force_terminal=interactive, legacy_windows=False)
    row = Row(100, {"validation/loss": 0.25})
    with terminal.Board(screen, ["ga", "bptt"], 2, 100.0).shown() as board:
        said = []
        for method, seed in (("ga", 0), ("bptt", 0), ("ga", 1), ("bptt", 1)):
            clock[0] += 60.0
            board.update(Event(method, seed, Slice([row], {}, "spent", {"seconds": 55.0})))
            said.append(board._left())
    assert said == ["about 3 min left", "about 2 min left", "about 60 s left", ""]
    assert isinstance(screen.file, io.StringIO)
    lines = screen.file.getvalue().splitlines()
    if not interactive:
        assert lines[0] == "   60 s   25 %  1/4 runs, best validation loss 0.25 by ga, about 3 min left"
        assert lines[-1] == "  240 s  100 %  4/4 runs, best validation loss 0.25 by ga"
