"""A task from the user's own file: nothing leaks from the future, targets lie where the horizon says, errors help."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evo_rnn.baselines import baselines, persistence
from evo_rnn.errors import ConfigError, DataError
from evo_rnn.tasks.file import from_file, inputs_from_file, unscale
from evo_rnn.tasks.task import Task

Write = Callable[[Mapping[str, Any]], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    return lambda columns: write_csv(tmp_path / "data.csv", columns)


def write_csv(path: Path, columns: Mapping[str, Any]) -> Path:
    rows = zip(*columns.values(), strict=True)
    path.write_text("\n".join([",".join(columns), *(",".join(map(cell, row)) for row in rows)]) + "\n")
    return path


def cell(value: float) -> str:
    return "" if np.isnan(value) else repr(float(value))


def noise(rows: int = 100, seed: int = 0) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return {"u": 5 + 3 * random.normal(size=rows), "v": random.normal(size=rows), "y": 7 * random.normal(size=rows) - 2}


def raw(task: Task, part: str, kind: str, columns: list[str]) -> Any:
    """An array of a split in the units of the file, (T, columns)."""
    return unscale(getattr(getattr(task, part), kind)[0], task.scaling, columns)


def targets_that_count(task: Task, part: str) -> Any:
    return raw(task, part, "targets", ["y"])[getattr(task, part).counts[0], 0]


# --- what lies where ------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(horizon=st.integers(1, 9), washout=st.integers(0, 20), rows=st.integers(60, 90))
def test_on_a_ramp_every_target_is_the_horizon_ahead_of_its_input(
    tmp_path_factory: pytest.TempPathFactory, horizon: int, washout: int, rows: int
) -> None:
    path = write_csv(tmp_path_factory.mktemp("ramp") / "ramp.csv", {"y": np.arange(rows)})
    task = from_file(path, target="y", horizon=horizon, washout=washout)
    for part in ("train", "validation", "test"):
        x, y, last = (raw(task, part, kind, ["y"]) for kind in ("inputs", "targets", "previous"))
        np.testing.assert_allclose(x[:, 0], np.arange(len(x)), atol=1e-9)
        np.testing.assert_allclose(y, x + horizon, atol=1e-9)
        np.testing.assert_allclose(last, x, atol=1e-9)
    counted = [targets_that_count(task, part) for part in ("train", "validation", "test")]
    np.testing.assert_allclose(np.concatenate(counted), np.arange(horizon + washout, rows), atol=1e-9)
    assert [round(c[-1]) + 1 for c in counted] == [round(0.7 * rows), round(0.85 * rows), rows]
    assert persistence(task)["test"] == pytest.approx((horizon / task.scaling["y"]["scale"]) ** 2)


def test_inputs_and_targets_are_the_columns_that_were_asked_for(write: Write) -> None:
    columns = noise()
    task = from_file(write(columns), target=["y", "v"], inputs=["u", "v"], washout=0)
    assert (task.inputs, task.outputs, task.name) == (2, 2, "data")
    np.testing.assert_allclose(raw(task, "test", "inputs", ["u", "v"]), np.stack([columns["u"], columns["v"]], 1)[:-1])
    np.testing.assert_allclose(raw(task, "test", "targets", ["y", "v"]), np.stack([columns["y"], columns["v"]], 1)[1:])
    np.testing.assert_allclose(
        raw(task, "test", "previous", ["y", "v"]), np.stack([columns["y"], columns["v"]], 1)[:-1]
    )


def test_a_target_is_its_own_input_unless_others_are_named(write: Write) -> None:
    path = write(noise())
    assert from_file(path, target="y").digest() == from_file(path, target=["y"], inputs="y").digest()


def test_parquet_and_csv_give_the_same_task(write: Write, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = noise()
    pq.write_table(pa.table(columns), tmp_path / "data.parquet")
    first, second = (from_file(p, target="y", inputs=["u"]) for p in (write(columns), tmp_path / "data.parquet"))
    assert first.digest() == second.digest()
    assert first.scaling == second.scaling


# --- scaling and leakage --------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(row=st.integers(70, 96), column=st.sampled_from(["u", "y"]), change=st.sampled_from([1e6, -3.0, 0.1]))
def test_nothing_after_the_training_part_reaches_training(
    tmp_path_factory: pytest.TempPathFactory, row: int, column: str, change: float
) -> None:
    path, columns = tmp_path_factory.mktemp("leak") / "data.csv", noise()
    before = from_file(write_csv(path, columns), target="y", inputs=["u", "y"], horizon=3)
    columns[column][row] += change
    after = from_file(write_csv(path, columns), target="y", inputs=["u", "y"], horizon=3)
    assert before.digest() != after.digest()
    assert before.scaling == after.scaling
    for name, array in before.train.arrays().items():
        np.testing.assert_array_equal(array, after.train.arrays()[name])


def test_the_scaling_is_mean_and_deviation_of_the_training_rows(write: Write) -> None:
    columns = noise()
    task = from_file(write(columns), target="y", inputs=["u"])
    for name in ("u", "y"):
        assert task.scaling[name]["shift"] == pytest.approx(columns[name][:70].mean(), rel=1e-12)
        assert task.scaling[name]["scale"] == pytest.approx(columns[name][:70].std(), rel=1e-12)


def test_the_unit_of_the_loss_is_the_training_variance(write: Write) -> None:
    columns = noise(4000)
    scaled, plain = (from_file(write(columns), target="y", scale=scale) for scale in (True, False))
    variance = columns["y"][:2800].var()
    for name, row in baselines(plain).items():
        for part, loss in row.items():
            assert baselines(scaled)[name][part] == pytest.approx(loss / variance)
    assert baselines(scaled)["lagged_regression"]["test"] == pytest.approx(1, abs=0.15)
    assert "variance of the training rows" in scaled.notes
    assert "not scaled" in plain.notes


def test_a_constant_input_is_only_shifted_and_the_notes_say_so(write: Write) -> None:
    columns = noise() | {"u": np.where(np.arange(100) < 70, 0.1, 0.3)}
    task = from_file(write(columns), target="y", inputs=["u", "v"])
    assert task.scaling["u"] == {"shift": pytest.approx(0.1), "scale": 1.0}
    assert "'u' is constant in the training rows" in task.notes
    assert "'v'" not in task.notes


def test_a_constant_target_is_refused_unless_it_is_allowed(write: Write) -> None:
    path = write(noise() | {"y": np.where(np.arange(100) < 70, 4.0, np.arange(100))})
    with pytest.raises(DataError, match=r"column 'y'.*constant"):
        from_file(path, target="y")
    task = from_file(path, target="y", allow_constant_target=True)
    assert not task.train.targets.any()
    assert task.scaling["y"] == {"shift": 4.0, "scale": 1.0}


# --- gaps -----------------------------------------------------------------------------------------------------------


def gappy() -> dict[str, Any]:
    columns = noise()
    columns["u"][[5, 6, 80]] = np.nan
    columns["y"][[0, 30, 31, 75, 90]] = np.nan
    return columns


def test_targets_that_are_not_known_do_not_count_and_persistence_uses_the_last_that_was(write: Write) -> None:
    columns = gappy() | {"u": noise()["u"]}
    task = from_file(write(columns), target="y", inputs=["u"], missing_targets="mask", washout=0)
    counted = np.concatenate([targets_that_count(task, part) for part in ("train", "validation", "test")])
    np.testing.assert_allclose(counted, columns["y"][1:][~np.isnan(columns["y"][1:])])
    last = raw(task, "test", "previous", ["y"])[:, 0]
    assert last[0] == pytest.approx(np.nanmean(columns["y"][:70])), "nothing known yet: the training mean"
    np.testing.assert_allclose(last[[29, 30, 31, 32]], columns["y"][[29, 29, 29, 32]])
    assert task.scaling["y"]["scale"] == pytest.approx(np.nanstd(columns["y"][:70]))


def test_zero_with_mask_puts_the_training_mean_and_says_where(write: Write) -> None:
    columns = gappy() | {"y": noise()["y"]}
    task = from_file(write(columns), target="y", inputs=["u", "v"], missing="zero_with_mask")
    x = task.test.inputs[0]
    assert task.inputs == 4
    known = ~np.isnan(columns["u"][:-1])
    np.testing.assert_array_equal(x[:, 2], known)
    np.testing.assert_array_equal(x[:, 3], 1)
    assert not x[~known, 0].any()
    assert task.scaling["u"]["shift"] == pytest.approx(np.nanmean(columns["u"][:70]))


def test_ffill_repeats_the_last_known_input(write: Write) -> None:
    columns = gappy() | {"y": noise()["y"]}
    x = raw(from_file(write(columns), target="y", inputs=["u"], missing="ffill"), "test", "inputs", ["u"])[:, 0]
    np.testing.assert_allclose(x[[5, 6, 80]], columns["u"][[4, 4, 79]])


def test_gaps_are_refused_by_default(write: Write) -> None:
    with pytest.raises(DataError, match="column 'u'"):
        from_file(write(gappy()), target="v", inputs=["u"])
    with pytest.raises(DataError, match="column 'y'"):
        from_file(write(gappy()), target="y", inputs=["v"])


# --- new data -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["error", "ffill", "zero_with_mask"])
def test_new_data_are_scaled_as_the_task_was(write: Write, missing: str) -> None:
    columns = noise() if missing == "error" else gappy()
    path = write(columns | {"y": noise()["y"]})
    task = from_file(path, target="y", inputs=["v", "u"], missing=missing)
    x = inputs_from_file(path, ["v", "u"], task.scaling, missing)
    assert x.shape == (1, 100, task.inputs)
    np.testing.assert_array_equal(x[:, :-1], task.test.inputs)


def test_unscaled_outputs_are_in_the_units_of_the_file(write: Write) -> None:
    columns = noise()
    task = from_file(write(columns), target=["y", "u"])
    back = unscale(np.broadcast_to(task.test.targets, (3, 1, 99, 2)), task.scaling, ["y", "u"])
    np.testing.assert_allclose(back[2, 0], np.stack([columns["y"], columns["u"]], axis=1)[1:])


def test_a_column_without_scaling_is_refused(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"lacks \['u'\]"):
        inputs_from_file(write(noise()), ["u"], {"y": {"shift": 0.0, "scale": 1.0}})


# --- what cannot be a task ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "wrong", "message"),
    [
        (18, {}, "leave known targets 0 to train, 2 to validate, 3 to test"),
        (100, {"horizon": 60}, "0 to train"),
        (4, {"washout": 0}, "0 to validate"),
    ],
)
def test_a_series_that_is_too_short_is_refused_with_its_numbers(
    write: Write, rows: int, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        from_file(write(noise(rows)), target="y", **wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"horizon": 0}, {"washout": -1}, {"lags": 0}, {"train": 0.0}, {"validation": 0.0}, {"train": 0.9}, {"target": ""},
     {"missing": "guess"}, {"missing_targets": "guess"}],
)  # fmt: skip
def test_a_setting_out_of_range_is_refused(write: Write, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        from_file(write(noise()), **({"target": "y"} | wrong))


def test_a_column_that_is_not_there_is_refused_by_name(write: Write) -> None:
    with pytest.raises(DataError, match="'z'"):
        from_file(write(noise()), target="z")
