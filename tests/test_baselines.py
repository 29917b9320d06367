"""Persistence and lagged regression: the published figures of the sunspots, and what must hold on any task."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import evo_rnn.baselines
from evo_rnn.baselines import baselines, lagged_regression, persistence
from evo_rnn.tasks import TASKS
from evo_rnn.tasks.task import Sequences, Task


def series_task(values: Any, lags: int = 3, train: int = 90, validation: int = 105) -> Task:
    """One step ahead on a series (T,) or (T, I), whose first column is the target."""
    columns = np.asarray(values, dtype=float).reshape(len(values), -1)
    place = np.arange(len(columns) - 1)

    def split(first: int, end: int) -> Sequences:
        counts = (place >= first) & (place < end)
        return Sequences(columns[None, :-1], columns[None, 1:, :1], counts[None], previous=columns[None, :-1, :1])

    return Task(
        "series", split(lags, train), split(train, validation), split(validation, len(columns)), outputs=1, lags=lags
    )


def linear_process(random: np.random.Generator, noise: float = 0.0) -> Any:
    """y(t+1) = 0.5 y(t) - 0.6 y(t-2) + 0.3 u(t-1) + 0.2, with another input u."""
    y, u = np.zeros(120), random.normal(size=120)
    y[:3] = random.normal(size=3)
    for t in range(2, 119):
        y[t + 1] = 0.5 * y[t] - 0.6 * y[t - 2] + 0.3 * u[t - 1] + 0.2 + noise * random.normal()
    return np.stack([y, u], axis=1)


def test_the_sunspot_baselines_are_those_of_the_literature() -> None:
    found = {
        name: {part: round(loss, 3) for part, loss in row.items()}
        for name, row in baselines(TASKS["sunspots"]()).items()
    }
    names = ("train", "validation", "1956-79", "1980-2008")
    assert [found["persistence"][name] for name in names] == [0.300, 0.427, 0.965, 0.566]
    assert [found["lagged_regression"][name] for name in names] == [0.132, 0.130, 0.368, 0.198]
    assert set(found["persistence"]) == set(found["lagged_regression"]) == {*names, "test"}


def test_persistence_is_off_by_the_slope_of_a_ramp() -> None:
    assert set(persistence(series_task(3.0 * np.arange(120))).values()) == {9.0}


def test_a_linear_process_is_found_exactly() -> None:
    assert max(lagged_regression(series_task(linear_process(np.random.default_rng(0)))).values()) < 1e-20


def test_too_few_lags_leave_an_error() -> None:
    task = replace(series_task(linear_process(np.random.default_rng(0))), lags=2)
    assert min(lagged_regression(task).values()) > 1e-3


def test_the_regression_is_least_squares_on_the_lagged_inputs() -> None:
    values = linear_process(np.random.default_rng(1), noise=0.5)
    task = series_task(values, lags=3)
    steps = np.arange(3, 90)
    rows = np.stack([values[steps - k, c] for k in range(3) for c in range(2)] + [np.ones(87)], axis=1)
    answers = values[steps + 1, 0]
    weights = np.linalg.lstsq(rows, answers, rcond=None)[0]
    expected = np.square(rows @ weights - answers).mean()
    assert expected > 0.01
    assert lagged_regression(task)["train"] == pytest.approx(expected, rel=1e-10)


def test_before_the_start_the_inputs_are_zero() -> None:
    """y(t) = x(t) + x(t-1) is exact from the first step only if x(-1) is 0."""
    x = np.random.default_rng(2).normal(size=(40, 5, 1))
    y = x + np.pad(x, ((0, 0), (1, 0), (0, 0)))[:, :-1]
    data = Sequences(x, y, np.ones((40, 5), dtype=bool))
    assert lagged_regression(Task("sum", data, data, data, outputs=1, lags=2))["train"] < 1e-25


def test_only_the_training_part_is_fitted() -> None:
    values = linear_process(np.random.default_rng(1), noise=0.5)
    other = values.copy()
    other[91:] += 100
    first, second = (baselines(series_task(v)) for v in (values, other))
    for name in first:
        assert first[name]["train"] == second[name]["train"]
        assert first[name]["validation"] != second[name]["validation"]


def test_the_number_of_rows_at_a_time_cannot_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    task = series_task(linear_process(np.random.default_rng(1), noise=0.5))
    whole = lagged_regression(task)
    monkeypatch.setattr(evo_rnn.baselines, "ROWS", 7)
    assert lagged_regression(task) == pytest.approx(whole, rel=1e-10)


def test_a_short_training_part_gets_fewer_lags_and_stays_sane() -> None:
    random = np.random.default_rng(3)
    task = series_task(random.normal(size=120), lags=12, train=32)
    assert task.train.counted == 20
    expected = replace(task, lags=1)
    assert lagged_regression(task) == lagged_regression(expected)
    assert 0.3 < lagged_regression(task)["train"] / task.train.targets[task.train.counts].var() <= 1


def test_more_inputs_than_steps_still_give_a_finite_answer() -> None:
    random = np.random.default_rng(4)
    data = Sequences(random.normal(size=(1, 5, 9)), random.normal(size=(1, 5, 1)), np.ones((1, 5), dtype=bool))
    assert np.isfinite(list(lagged_regression(Task("wide", data, data, data, outputs=1)).values())).all()


def test_where_nothing_is_known_persistence_is_the_mean_of_the_counted_training_targets() -> None:
    task = TASKS["adding"](length=10, sequences=300)
    counted = task.train.targets[task.train.counts]
    assert persistence(task)["train"] == pytest.approx(counted.var(), rel=1e-12)
    assert persistence(task)["test"] == pytest.approx(1 / 6, rel=0.2)


def test_for_classes_persistence_is_the_entropy_of_the_training_classes() -> None:
    task = TASKS["temporal_order"](length=10, sequences=200)
    share = np.bincount(task.train.targets[task.train.counts][:, 0].astype(int)) / 200
    assert persistence(task)["train"] == pytest.approx(-(share * np.log(share)).sum(), rel=1e-12)


def test_a_class_that_never_trained_is_a_finite_surprise() -> None:
    def data(classes: list[int]) -> Sequences:
        targets = np.array(classes, dtype=float)[None, :, None]
        return Sequences(np.zeros_like(targets), targets, np.ones((1, len(classes)), dtype=bool))

    task = Task("rare", data([0, 1] * 20), data([0, 1]), data([2, 2]), outputs=3, loss="cross_entropy")
    for row in baselines(task).values():
        assert row["train"] == pytest.approx(np.log(2), rel=0.01)
        assert 6 < row["test"] < 8


def test_regressed_classes_beat_guessing_where_a_line_can_tell_them_apart() -> None:
    x = np.random.default_rng(5).normal(size=(1, 400, 1))
    data = Sequences(x, (x > 0).astype(float), np.ones((1, 400), dtype=bool))
    task = Task("sign", data, data, data, outputs=2, loss="cross_entropy", lags=1)
    assert lagged_regression(task)["test"] < 0.6 < persistence(task)["test"]


@pytest.mark.parametrize("name", ["mackey_glass", "adding", "temporal_order", "delayed_xor", "strokes"])
def test_every_task_has_finite_baselines_on_every_split(name: str) -> None:
    lengths = {"mackey_glass": 40, "strokes": 2}
    task = TASKS[name](length=lengths.get(name, 12), sequences=6)
    for row in baselines(task).values():
        assert list(row) == list(task.splits)
        assert np.isfinite(list(row.values())).all()
