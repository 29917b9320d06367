"""Reports: the winner first, the baselines told plainly, tables of equal columns, pictures that hold up."""

from __future__ import annotations

import csv
import io
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evo_rnn.cells import Elman
from evo_rnn.errors import DiskError
from evo_rnn.network import network
from evo_rnn.statistics import interval, iqm
from evo_rnn.tasks.delayed_xor import delayed_xor
from evo_rnn.tasks.sunspots import sunspots
from evo_rnn.tasks.task import Task
from trainers.experiments import predictions, tables
from trainers.experiments.curves import curve
from trainers.experiments.figures import comparison_figure, loss_axis
from trainers.experiments.outcome import Comparison, TrialRecord
from trainers.experiments.palette import COLOURS, OTHERS, colours
from trainers.experiments.referee import Row
from trainers.experiments.report import columns, full_verdict, markdown, note, table, write_report

TASK = sunspots()
MODEL = network(Elman(1, 5), 1)
CHAMPION = MODEL.layout.draw(np.random.default_rng(0), 1)
PARTS = ("test", "1956-79", "1980-2008")
HIGH = dict.fromkeys(("train", "validation", *PARTS), 0.9)
LOW = dict.fromkeys(("train", "validation", *PARTS), 0.01)
FAMILIES = {"ga": "evolution", "memetic": "memetic", "bptt": "gradient", "torch": "control"}


def trial(method: str, seed: int, loss: float, passes: int = 1000, task: Task = TASK, **others: Any) -> TrialRecord:
    """A run whose validation loss falls to `loss`, which its other losses are too unless told otherwise."""
    spent = np.linspace(passes / 10, passes, 10)
    rows = tuple(
        Row(
            int(p),
            {"validation/loss": loss * (1 + 3 * (1 - p / passes)), "budget/passes": p, "budget/seconds": p / 500},
        )
        for p in spent
    )
    found = {f"{name}_loss": others.get(name, loss) for name in task.splits}
    spending = {"steps": 10, "passes": float(passes), "seconds": passes / 500, "learned": 20.0}
    result = {"stop_reason": f"budget of {passes} passes spent", **spending, **found, "champion_sha256": "0" * 64}
    return TrialRecord(method, seed, rows, result, CHAMPION, MODEL)


def compared(
    losses: Mapping[str, Sequence[float]],
    baselines: Mapping[str, Mapping[str, float]] | None = None,
    task: Task = TASK,
) -> Comparison:
    trials = tuple(
        trial(method, seed, loss, task=task) for method in losses for seed, loss in enumerate(losses[method])
    )
    families = {method: FAMILIES.get(method, "evolution") for method in losses}
    given = {"persistence": HIGH, "lagged_regression": HIGH} if baselines is None else baselines
    return Comparison("compare sunspots", MODEL, task, 1000.0, families, trials, given)


CLEAR = {"ga": [0.30 + i / 1000 for i in range(8)], "bptt": [0.10 + i / 1000 for i in range(8)]}
ODD = {
    "one seed": {"ga": [0.2], "bptt": [0.3]},
    "one method": {"ga": [0.2, 0.3, 0.4]},
    "a failed run": {"ga": [0.2, np.inf, 0.4], "bptt": [0.3, 0.3, 0.3]},
    "a failed method": {"ga": [np.inf] * 3, "bptt": [0.3, 0.3, 0.3]},
    "all failed": {"ga": [np.inf] * 2, "bptt": [np.inf] * 2},
    "no loss at all": {"ga": [0.0, 0.0], "bptt": [0.0, 1e-9]},
    "far apart": {"ga": [1e-7, 2e-7], "bptt": [1e6, 2e6]},
    "ten methods, strange names": {f"{'very ' * i}$m_{i}^|": [0.1 + i / 50] * 3 for i in range(10)},
}

loss = st.floats(1e-6, 1e6) | st.just(float("inf"))
tables_of_losses = st.integers(1, 5).flatmap(
    lambda seeds: st.dictionaries(
        st.sampled_from(["ga", "bptt", "memetic", "torch", "other"]),
        st.lists(loss, min_size=seeds, max_size=seeds),
        min_size=1,
    )
)


@given(tables_of_losses)
@settings(max_examples=30, deadline=None)
def test_columns_are_of_one_length_best_first_baselines_last(losses: dict[str, list[float]]) -> None:
    comparison = compared(losses)
    found = columns(comparison)
    assert {len(cells) for cells in found.values()} == {len(losses) + 2}
    assert found["method"][0] == comparison.verdict.best
    assert found["method"][-2:] == ["lagged regression", "persistence"]
    means = found["test"][:-2]
    assert means == sorted(means)
    assert means == [iqm(losses[method]) for method in found["method"][:-2]]
    assert found["failed"][:-2] == [int(np.isinf(losses[method]).sum()) for method in found["method"][:-2]]


@given(tables_of_losses)
@settings(max_examples=30, deadline=None)
def test_json_is_what_mlflow_reads_and_csv_keeps_every_bit(losses: dict[str, list[float]]) -> None:
    found = columns(compared(losses))
    read = json.loads(tables.to_json(found), parse_constant=pytest.fail)  # NaN and Infinity are not JSON
    assert read["columns"] == list(found)
    assert [len(row) for row in read["data"]] == [len(found)] * (len(losses) + 2)
    rows = list(csv.DictReader(io.StringIO(tables.to_csv(found))))
    assert [float(row["test"]) for row in rows] == found["test"]


def test_the_table_is_the_file_that_mlflow_itself_would_write() -> None:
    import pandas

    found = columns(compared({"ga": [0.2, np.inf, 0.4], "bptt": [0.3, 0.3, 0.3]}))
    theirs = json.loads(
        pandas.DataFrame(found).to_json(orient="split", index=False, date_format="iso", double_precision=15)
    )
    ours = json.loads(tables.to_json(found))
    assert ours["columns"] == theirs["columns"]
    for own, other in zip(ours["data"], theirs["data"], strict=True):
        assert [x if isinstance(x, str) or x is None else pytest.approx(x) for x in own] == other
    assert json.loads(tables.TABLE_TAGS["mlflow.loggedArtifacts"]) == [{"path": tables.FILE, "type": "table"}]


@pytest.mark.parametrize(("baseline", "said"), [(LOW, "beat every method"), (HIGH, "lost to the best on all of it")])
def test_a_baseline_that_wins_or_loses_everywhere_is_told_so(baseline: dict[str, float], said: str) -> None:
    words = full_verdict(compared(CLEAR, {"lagged_regression": baseline}))
    assert f"Lagged regression {said}" in words
    assert words.startswith("bptt won")
    assert "rests on the test split (1956-79 and 1980-2008)" in words
    assert "Persistence" not in words
    if baseline is LOW:
        assert "on the test split (0.010 against 0.104 of bptt), 1956-79 (0.010" in words


def test_a_regression_that_wins_on_one_span_only_is_told_for_that_span() -> None:
    losses = {"train": 0.5, "validation": 0.5, "test": 0.5, "1956-79": 0.02, "1980-2008": 0.1036}
    words = full_verdict(compared(CLEAR, {"lagged_regression": losses, "persistence": HIGH}))
    assert (
        "Lagged regression beat every method on 1956-79 (0.020 against 0.104 of bptt), was level with the best on "
        "1980-2008 (0.104 against 0.104 of bptt) and lost to the best on the test split (0.500 against 0.104 of bptt)."
    ) in words
    assert "Persistence lost to the best on all of it." in words


def test_the_best_of_a_span_is_the_best_there_not_the_winner() -> None:
    special: dict[str, Any] = {"1956-79": 0.05}
    trials = [trial("ga", s, 0.3, **special) for s in range(3)] + [trial("bptt", s, 0.1) for s in range(3)]
    families = {"ga": "evolution", "bptt": "gradient"}
    words = full_verdict(Comparison("c", MODEL, TASK, 0.0, families, tuple(trials), {"lagged_regression": LOW}))
    assert "1956-79 (0.010 against 0.050 of ga)" in words
    assert "1980-2008 (0.010 against 0.100 of bptt)" in words


def test_methods_that_all_failed_lose_to_any_baseline() -> None:
    words = full_verdict(compared(ODD["all failed"]))
    assert words.startswith("Nobody won: every run failed.")
    assert "Lagged regression beat every method on the test split (0.900 against failed" in words


@pytest.mark.parametrize("losses", ODD.values(), ids=ODD)
def test_every_file_is_written_whatever_the_losses(losses: dict[str, list[float]], tmp_path: Path) -> None:
    comparison = compared(losses)
    files = {path.name: path for path in write_report(comparison, tmp_path / "new" / "report")}
    wanted = {"comparison.png", "comparison.json", "comparison.csv", "report.md"}
    works = np.isfinite(comparison.verdict.rows[0].iqm)
    assert set(files) == wanted | ({"predictions.png"} if works else set())
    assert pixels(files["comparison.png"]) == (1600, 1000)
    assert files["comparison.png"].stat().st_size > 20_000
    assert comparison.verdict.sentence in files["report.md"].read_text()
    if works:
        assert pixels(files["predictions.png"]) == (1600, 800)


def pixels(path: Path) -> tuple[int, int]:
    body = path.read_bytes()
    assert body.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", body[16:24])
    return width, height


def test_a_task_without_spans_and_one_of_classes_are_reported_too(tmp_path: Path) -> None:
    task = delayed_xor()
    model = network(Elman(task.inputs, 3), task.outputs)
    trials = tuple(trial(method, 0, 0.4, task=task) for method in ("ga", "bptt"))
    comparison = Comparison("c", model, task, 0.0, {"ga": "", "bptt": ""}, trials, {})
    files = {path.name for path in write_report(comparison, tmp_path)}
    assert "comparison.png" in files
    assert "rests on" not in full_verdict(comparison)
    assert columns(comparison)["method"] == ["ga", "bptt"]


def test_report_and_note_say_the_verdict_before_any_number() -> None:
    comparison = compared(CLEAR)
    for text in (markdown(comparison), note(comparison)):
        assert 0 <= text.index(comparison.verdict.sentence) < text.index("| method |")
    text = markdown(comparison)
    for wanted in ("Seeds are paired: 0, 1,", "2,000 resamples", "validation split", "## Versions", "Elman, 5 hidden"):
        assert wanted in text
    assert "| ga | -0.2 | -0.2 to -0.2 | 1.00 (1.00 to 1.00) |" in text


def test_the_terminal_table_fits_a_hundred_columns() -> None:
    from rich.console import Console

    names = ["ga", "memetic", "baldwinian", "evolino", "bptt", "rtrl", "hybrid", "torch", "random"]
    losses = {name: [0.1 + i / 50, 0.2, np.inf] for i, name in enumerate(names)}
    losses["bptt"] = [0.01, 0.01, 0.01]
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(table(compared(losses)))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text
    rows = [line.split()[0] for line in text.splitlines() if line.strip() and "─" not in line]
    assert rows[:2] == ["method", "bptt"]
    assert rows[-2:] == ["lagged", "persistence"]
    assert len(rows) == len(names) + 3


def test_methods_that_stopped_early_are_marked_and_told() -> None:
    from rich.console import Console

    from trainers.commands.view import say_summary
    from trainers.experiments.trial import EXHAUSTED

    before = compared({"ga": [0.2, 0.3], "torch": [0.1, 0.1], "bptt": [0.4, 0.4]})
    early = [replace(each, result={**each.result, "stop_reason": EXHAUSTED}) for each in before.of("torch")]
    after = replace(before, trials=(*before.of("ga"), early[0], before.of("torch")[1], *before.of("bptt")))
    said = "Early stopping ended 1 of 2 runs of torch before the budget was spent."
    for comparison, told in ((before, False), (after, True)):
        screen = Console(width=100, record=True, file=io.StringIO())
        screen.print(table(comparison))
        say_summary(screen, {"verdict": "", "methods": comparison.summary(), "baselines": comparison.baselines})
        lines = [" ".join(line.split()) for line in screen.export_text().splitlines()]
        assert [line.startswith("torch * 0.1") for line in lines].count(True) == 2 * told
        assert lines.count(f"* {said}") == 2 * told
        assert (f"* {said}" in markdown(comparison)) == told
        assert not [line for line in lines if line.startswith(("ga *", "bptt *"))]
    assert (
        "early stopping" in dict(zip(columns(after)["method"], columns(after)["stopped because"], strict=True))["torch"]
    )


def test_a_disk_that_refuses_is_a_disk_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="cannot write the report to"):
        write_report(compared(ODD["one seed"]), tmp_path / "file" / "report")


def test_a_run_that_stopped_early_holds_its_last_value() -> None:
    early, late = trial("ga", 0, 0.1, passes=200), trial("ga", 1, 0.3, passes=1000)
    found = curve([early, late], "validation/loss", "passes")
    assert found.spent[-1] == 1000
    assert found.middle[-1] == pytest.approx(iqm([0.1, 0.3]))
    assert (found.low[-1], found.high[-1]) == interval([0.1, 0.3], resamples=500)
    assert np.all(np.diff(found.middle) <= 0)


def test_before_its_first_point_a_run_is_infinitely_bad_and_failed_runs_are_left_out() -> None:
    runs = [trial("ga", 0, 0.2), trial("ga", 1, 0.2, passes=2000), trial("ga", 2, np.inf)]
    found = curve(runs, "validation/loss", "passes")
    assert found.spent[0] == 200  # the first point of the second run; the first one's is at 100
    assert np.isfinite(found.middle).all()
    assert found.middle[-1] == 0.2
    assert not len(curve([runs[2]], "validation/loss", "passes").spent)


def test_long_curves_are_thinned_and_keep_both_ends() -> None:
    rows = tuple(Row(p, {"validation/loss": 1 / p}) for p in range(1, 5001))
    found = curve([TrialRecord("ga", 0, rows, {}, CHAMPION, MODEL)], "validation/loss", "passes", even=False)
    assert len(found.spent) <= 60
    assert (found.spent[0], found.spent[-1], found.middle[-1]) == (1, 5000, 1 / 5000)


def test_methods_keep_their_colours_and_no_two_share_one() -> None:
    assert colours(["ga", "bptt"])["ga"] == colours(["x", "ga"])["ga"] == COLOURS["ga"]
    many = colours([*COLOURS, *(f"method {i}" for i in range(len(OTHERS)))])
    assert len(set(many.values())) == len(COLOURS) + len(OTHERS)
    assert colours(["mine"]) == colours(["mine"])


@given(st.floats(1e-9, 1e9), st.floats(1.0, 1e9))
@settings(max_examples=40, deadline=None)
def test_a_loss_axis_has_readable_ticks_however_short_or_long(low: float, ratio: float) -> None:
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    loss_axis(axes, "y", low, low * ratio)
    ticks, labels = axes.get_yticks(), [label.get_text() for label in axes.get_yticklabels()]
    assert 2 <= len(ticks) <= 16
    assert len(set(labels)) == len(labels)
    for tick, label in zip(ticks, labels, strict=True):
        assert float(label) == pytest.approx(tick, rel=1e-3)


def words_of(figure: Any) -> list[Any]:
    """Every text of a figure, drawn."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    FigureCanvasAgg(figure).draw()
    beyond = {  # matplotlib keeps ticks outside the view, and does not draw them
        tick.label1
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
        if not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
    }
    texts = [text for text in figure.findobj(Text) if text not in beyond]
    return [text for text in texts if text.get_visible() and text.get_text().strip()]


@pytest.mark.parametrize("seeds", [1, 30])
@pytest.mark.parametrize("count", [2, 10])
def test_no_label_lies_on_another_or_off_the_picture(seeds: int, count: int) -> None:
    names = ["ga", "memetic", "baldwinian", "evolino", "bptt", "rtrl", "hybrid", "torch", "random", "cma_es"][:count]
    random = np.random.default_rng(count)
    comparison = compared({name: list(0.3 * np.exp(0.4 * random.standard_normal(seeds))) for name in names})
    figure = comparison_figure(comparison, full_verdict(comparison))
    boxes = [(text.get_text(), text.get_window_extent()) for text in words_of(figure)]
    legend, *_ = figure.legends
    panels = [axes.get_window_extent() for axes in figure.axes]
    for text, box in boxes:
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= 1600, text
        assert box.y1 <= 1000, text
        inside = [panel for panel in panels if panel.padded(-2).overlaps(box)]
        assert not inside, f"{text} lies on the data"
    for index, (text, box) in enumerate(boxes):
        hits = [other for other, against in boxes[index + 1 :] if box.padded(-1).overlaps(against.padded(-1))]
        assert not hits, f"{text!r} lies on {hits}"
    assert not any(legend.get_window_extent().padded(-4).overlaps(panel) for panel in panels)


def test_the_regression_drawn_is_the_one_whose_loss_is_reported() -> None:
    from evo_rnn.baselines import lagged_answers, lagged_regression

    outputs = lagged_answers(TASK)(TASK.test)
    errors = (outputs - TASK.test.targets)[TASK.test.counts]
    assert np.square(errors).mean() == pytest.approx(lagged_regression(TASK)["test"], rel=1e-12)


def test_predictions_are_drawn_in_the_units_of_the_data() -> None:
    comparison = compared({"ga": [0.3, 0.1, 0.2], "bptt": [0.5, 0.5, 0.5]})
    assert predictions.middle_champion(comparison).seed == 2
    above, below = predictions.predictions_figure(comparison).axes
    years, truth = (np.asarray(values) for values in above.lines[0].get_data())
    assert truth[[0, -1]] == pytest.approx([141.7, 2.9], abs=0.01)  # sunspots of 1956 and 2008
    assert years.tolist() == list(range(1956, 2009))
    assert below.get_xlabel() == "test split"
    (shade,) = [patch for patch in above.patches if patch.get_facecolor()[0] < 1]
    assert shade.get_extents().transformed(above.transData.inverted()).intervalx == pytest.approx([1979.5, 2008.5])


def test_without_labels_and_with_too_many_steps_the_axis_counts_them() -> None:
    from evo_rnn.tasks.mackey_glass import mackey_glass

    task = mackey_glass(length=3000)
    losses = {"ga": [0.3], "bptt": [0.5]}
    below = predictions.predictions_figure(compared(losses, baselines={}, task=task)).axes[1]
    assert below.get_xlabel() == f"step of the test split (the first 300 of {task.test.counted} steps)"
    assert np.asarray(below.lines[0].get_xdata()).tolist() == list(range(1, 301))
