"""Forecasts of a table: each prediction beside the truth that came, and a loss that anyone can compute again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evo_rnn.cells import Elman
from evo_rnn.champion import Champion, columns_of, load, predict_table, save
from evo_rnn.forecast import forecast
from evo_rnn.network import network
from evo_rnn.tasks.file import from_file

HORIZON = 2
ROWS = 90


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, ROWS)).round(4)
    days = pd.date_range("2024-01-01", periods=ROWS, freq="D").strftime("%Y-%m-%d")
    return pd.DataFrame({"date": days, "a": a, "y": 5 + 3 * a, "z": b - a})


@pytest.fixture
def champion(table: pd.DataFrame, tmp_path: Path) -> Champion:
    """One that reads a and predicts y and z."""
    table.to_csv(tmp_path / "train.csv", index=False)
    settings = {"target": ["y", "z"], "inputs": ["a"], "horizon": HORIZON}
    task = from_file(tmp_path / "train.csv", **settings)  # type: ignore[arg-type]
    model = network(Elman(1, 3), 2)
    genes = model.layout.draw(np.random.default_rng(1), 1)
    return load(save(tmp_path / "champion", model, genes, task, columns=columns_of("file", settings)))


def written(frame: pd.DataFrame, folder: Path, suffix: str = ".csv") -> Path:
    path = folder / f"new{suffix}"
    frame.to_csv(path, index=False) if suffix == ".csv" else frame.to_parquet(path)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_prediction_stands_beside_the_row_the_date_and_what_came(
    suffix: str, table: pd.DataFrame, champion: Champion, tmp_path: Path
) -> None:
    path = written(table, tmp_path, suffix)
    columns = forecast(champion, path).columns()
    assert list(columns) == ["row", "date", "y_in_2", "z_in_2", "y_in_2_truth", "z_in_2_truth"]
    first = 2 if suffix == ".csv" else 1
    assert columns["row"] == list(range(first, first + ROWS))
    assert columns["date"] == table["date"].tolist()
    for name in ("y", "z"):
        np.testing.assert_array_equal(columns[f"{name}_in_2_truth"][:-HORIZON], table[name][HORIZON:])
        assert np.isnan(np.array(columns[f"{name}_in_2_truth"][-HORIZON:], dtype=float)).all()
        np.testing.assert_array_equal(columns[f"{name}_in_2"], predict_table(champion, path)[f"{name}_in_2"])


def test_the_loss_is_the_mean_square_in_the_units_of_training_over_rows_where_all_is_known(
    table: pd.DataFrame, champion: Champion, tmp_path: Path
) -> None:
    holes = table.assign(y=table["y"].where(table.index % 7 != 0))
    found = forecast(champion, written(holes, tmp_path))
    errors = []
    for name in ("y", "z"):
        ahead = holes[name].shift(-HORIZON)
        errors.append((found.said[f"{name}_in_2"] - ahead) / champion.card.scaling[name]["scale"])
    squares = np.square(np.array(errors))
    known = np.isfinite(squares).all(axis=0)
    assert found.judged == known.sum() > 50
    assert found.loss == pytest.approx(squares[:, known].mean(), rel=1e-9)


def test_of_the_training_file_the_loss_over_its_test_rows_is_the_one_that_was_reported(
    table: pd.DataFrame, champion: Champion, tmp_path: Path
) -> None:
    from evo_rnn.evaluation.evaluator import LocalEvaluator

    task = from_file(tmp_path / "train.csv", target=["y", "z"], inputs=["a"], horizon=HORIZON, washout=0)
    first = int(np.flatnonzero(task.test.counts[0])[0])
    reported = LocalEvaluator(champion.model, task.test)(champion.genes)[0]
    unknown = table.assign(y=table["y"].where(table.index >= first + HORIZON))
    found = forecast(champion, written(unknown, tmp_path))
    assert found.judged == task.test.counted
    assert found.loss == pytest.approx(reported, rel=1e-6)


def test_where_a_target_is_absent_empty_or_no_number_there_are_predictions_and_no_loss(
    table: pd.DataFrame, champion: Champion, tmp_path: Path
) -> None:
    absent = forecast(champion, written(table[["a", "y"]], tmp_path))
    assert list(absent.columns()) == ["row", "y_in_2", "z_in_2", "y_in_2_truth"]
    assert (absent.judged, absent.remark) == (0, "")
    for wrong, said in ((table.assign(y=np.nan), "no value at all"), (table.assign(y="?"), "'?' is not a number")):
        found = forecast(champion, written(wrong, tmp_path))
        assert list(found.columns()) == ["row", "date", "y_in_2", "z_in_2"]
        assert np.isnan(found.loss)
        assert said in found.remark
        np.testing.assert_array_equal(found.said["y_in_2"], absent.said["y_in_2"])


def test_a_file_shorter_than_the_horizon_has_no_truth(table: pd.DataFrame, champion: Champion, tmp_path: Path) -> None:
    found = forecast(champion, written(table[:2], tmp_path))
    assert len(found.columns()["row"]) == 2
    assert found.judged == 0


def test_a_column_of_the_users_called_row_is_kept(table: pd.DataFrame, champion: Champion, tmp_path: Path) -> None:
    named = table.rename(columns={"date": "row"})
    columns = forecast(champion, written(named, tmp_path)).columns()
    assert columns["row"] == table["date"].tolist()
