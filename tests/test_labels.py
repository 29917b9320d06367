"""Labels of rows: found where a table has dates or words for its rows, drawn as dates, and of no weight for learning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evo_rnn.tasks.file import from_file
from evo_rnn.tasks.labels import Labels, read_labels
from evo_rnn.tasks.sunspots import sunspots
from trainers.experiments.time_axis import time_axis

Y = np.sin(np.arange(120) / 5)
DAYS = pd.date_range("2024-02-27", periods=120, freq="D")
TEXTS = tuple(DAYS.strftime("%Y-%m-%d"))


@pytest.mark.parametrize(
    ("header", "row", "name", "text"),
    [
        ("y,Date,a", "1,2024-01-05,3", "Date", "2024-01-05"),
        ("a;y;Year", "1;2;1956", "Year", "1956"),
        ("station,y", "Kew,2", "station", "Kew"),
        ("a,y", "1,2", "", ""),
        ("a,y", "NA,2", "", ""),
        ("time,y,date", "7,2,x", "date", "x"),
        ('a,"year",y', '1," 1956",2', "year", "1956"),
    ],
)
def test_labels_are_a_column_of_dates_by_name_or_a_first_column_of_words(
    header: str, row: str, name: str, text: str, tmp_path: Path
) -> None:
    path = tmp_path / "table.csv"
    path.write_text(f"{header}\n{row}\n{row}\n")
    found = read_labels(path, ["y"], ["y"])
    assert (found.name, found.texts) == (name, (text, text) if name else ())
    assert len(found.columns) == len(header.replace(";", ",").split(","))


def test_what_is_predicted_is_no_label_whatever_it_is_called(tmp_path: Path) -> None:
    path = tmp_path / "laps.csv"
    path.write_text("time,speed\n61.5,3\n60.5,4\n")
    assert read_labels(path, ["speed"], ["time"]).name == ""
    assert read_labels(path, ["speed"], ["speed"]).name == "time"
    path.write_text("lap,speed\n?,3\n60.5,4\n")
    assert read_labels(path, ["speed"], ["lap"]).name == ""


def test_a_long_csv_file_has_a_label_for_every_row(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    pd.DataFrame({"y": np.arange(30_000), "date": [f"step {i}" for i in range(30_000)]}).to_csv(path, index=False)
    assert path.stat().st_size > 2**18, "more than one block"
    assert read_labels(path, ["y"]).texts == tuple(f"step {i}" for i in range(30_000))


def test_parquet_labels_are_dates_whether_a_column_or_the_index(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    for frame in (pd.DataFrame({"y": Y}, index=DAYS), pd.DataFrame({"y": Y, "when": DAYS})):
        frame.to_parquet(path)
        assert read_labels(path, ["y"], ["y"]).texts == TEXTS
    pd.DataFrame({"who": ["a", None], "y": [1.0, 2.0]}).to_parquet(path)
    assert read_labels(path, ["y"], ["y"]) == Labels(("who", "y"), "who", ("a", ""))
    pd.DataFrame({"a": [1, 2], "y": [1.0, 2.0]}).to_parquet(path)
    assert read_labels(path, ["y"], ["y"]) == Labels(("a", "y"))
    pd.DataFrame({"year": [1956.0, np.nan], "y": [1.0, 2.0]}).to_parquet(path)
    assert read_labels(path, ["y"]).texts == ("1956", "")


@pytest.mark.parametrize("name", ["gone.csv", "gone.parquet"])
def test_a_file_that_changed_meanwhile_has_no_labels(name: str, tmp_path: Path) -> None:
    assert read_labels(tmp_path / name, ["y"]) == Labels()
    (tmp_path / name).write_bytes(b"a,b\n1\n")
    assert read_labels(tmp_path / name, ["y"]) == Labels()


@pytest.mark.parametrize("horizon", [1, 3])
def test_a_step_is_called_what_the_row_it_predicts_is_called(horizon: int, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    pd.DataFrame({"date": TEXTS, "y": Y}).to_csv(path, index=False)
    task = from_file(path, target="y", horizon=horizon, scale=False)
    steps = task.test.targets[0, :, 0]
    assert len(task.labels) == len(steps)
    assert dict(zip(task.labels, steps, strict=True)) == dict(zip(TEXTS[horizon:], Y[horizon:], strict=True))


def test_sunspot_years_are_those_of_the_targets_and_labels_change_no_digest() -> None:
    task = sunspots()
    counted = [int(label) for label, counts in zip(task.labels, task.test.counts[0], strict=True) if counts]
    assert counted == list(range(1956, 2009))
    assert replace(task, labels=()).digest() == task.digest()


@pytest.mark.parametrize(
    ("labels", "kind", "first"),
    [
        (("1956", "1957", "1959"), "numbers", 1956.0),
        (("1970-01-02", "1970-01-03", "1970-01-05"), "dates", 1.0),
        (("1970-01-02T12:00:00+02:00", "1970-01-02 18:00", "1970-01-03"), "dates", 1.5),
        (("1970-02", "1970-03", "1970-04"), "dates", 31.0),
        (("Q1/70", "Q2/70", "Q3/70"), "words", 1.0),
        (("1957", "1956", "1958"), "words", 1.0),  # does not rise
        (("a", "a", "b"), "steps", 1.0),
        (("1956", "", "1958"), "steps", 1.0),
        (("1", "2", "inf"), "words", 1.0),
        (("1", "2"), "steps", 1.0),
        ((), "steps", 1.0),
    ],
)
def test_the_axis_is_of_dates_numbers_words_or_steps(labels: tuple[str, ...], kind: str, first: float) -> None:
    axis = time_axis(labels, 3)
    assert (axis.kind, axis.places[0]) == (kind, first)
    assert (np.diff(axis.places) > 0).all()
    assert axis.half > 0


@pytest.mark.parametrize(
    ("labels", "some"),
    [
        (TEXTS, "Mar"),
        (tuple(f"Q{i}" for i in range(120)), "Q59"),
        ((), "60"),
        (tuple(map(str, range(1900, 2020))), "1960"),
    ],
)
def test_ticks_are_in_the_words_of_the_data(labels: tuple[str, ...], some: str) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure()
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    axis = time_axis(labels, 120)
    axes.plot(axis.places, Y)
    axis.mark(axes.xaxis)
    canvas.draw()
    shown = [tick.get_text() for tick in axes.get_xticklabels()]
    assert some in shown or any(some in text for text in shown), shown
