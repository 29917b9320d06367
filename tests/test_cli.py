"""The command line as a user meets it: what each command prints, keeps, refuses, and leaves behind when it is killed."""

from __future__ import annotations

import csv
import errno
import json
import os
import pty
import re
import resource
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import psutil
import pytest
import yaml

from evo_rnn.errors import RetryError
from trainers import cli
from trainers.commands import launch
from trainers.commands.plan import planned
from trainers.experiments.named import NAMED
from trainers.gradient import ESTIMATORS

ROOT = Path(__file__).resolve().parent.parent
RUN_KEYS = {"run_id", "status", "stop_reason", "passes", "seconds", "train_loss", "validation_loss", "test_loss"}
RUN_KEYS |= {"baselines", "champion_sha256"}
SMALL = ("budget.passes=60", "method.population=10", "model.hidden=2")


class Called(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)


Call = Callable[..., Called]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run a command in this process."""

    def now(*arguments: str) -> Called:
        monkeypatch.setattr(sys, "argv", ["evo-rnn", *arguments])
        capsys.readouterr()
        code = cli.exit_code()
        return Called(code, *capsys.readouterr())

    return now


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, migrated_database: Path) -> Path:
    """A directory with data, a store, and in it a comparison and two single runs, made once."""
    place = tmp_path_factory.mktemp("house")
    shutil.copyfile(migrated_database, place / "mlflow.db")
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 90)).round(6)
    table = pd.DataFrame({"a": a, "b": b, "y": 5 + np.convolve(a + 0.5 * b, [1, 0.5, 0.2])[:90].round(6)})
    table.to_csv(place / "data.csv", index=False)
    table.to_parquet(place / "data.parquet")
    table[["b", "a"]].iloc[:30].to_csv(place / "new.csv", index=False)
    commands = {
        "file": ["run", "data.csv", "--target", "y", "--inputs", "a,b", "--horizon", "3", *SMALL, "--json"],
        "adding": ["run", "adding", *SMALL, "task.length=8", "task.sequences=4", "--json"],
        "compare": ["compare", "data.csv", "--target", "y", "--methods", "ga,random", "--seeds", "2"],
    }
    commands["compare"] += ["budget.passes=60", "--workers", "0", "--json"]
    before, argv, out = Path.cwd(), sys.argv, sys.stdout
    os.chdir(place)
    try:
        for name, arguments in commands.items():
            sys.argv = ["evo-rnn", *arguments]
            with (place / f"{name}.json").open("w") as sys.stdout:
                assert cli.exit_code() == 0
    finally:
        sys.argv, sys.stdout = argv, out
        os.chdir(before)
    return place


@pytest.fixture
def made(house: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the commands of the house printed; the house is the working directory."""
    monkeypatch.chdir(house)
    return {name: json.loads((house / f"{name}.json").read_text()) for name in ("file", "adding", "compare")}


# What is printed


def test_compare_prints_a_verdict_and_every_method_as_data(made: dict[str, Any]) -> None:
    found = made["compare"]
    assert {"experiment_id", "run_id", "verdict", "methods"} <= set(found)
    assert set(found["methods"]) == {"ga", "random"}
    for line in found["methods"].values():
        assert {"test_loss", "validation_loss", "passes", "seconds", "runs"} <= set(line)
        assert set(line["test_loss"]) == {"iqm", "low", "high"}
        assert line["test_loss"]["low"] <= line["test_loss"]["iqm"] <= line["test_loss"]["high"]
        assert line["runs"] == 2
    assert found["verdict"].endswith(".")


def test_run_prints_its_result_as_data_and_show_the_same(made: dict[str, Any], call: Call) -> None:
    found = made["file"]
    assert set(found) >= RUN_KEYS
    assert found["status"] == "FINISHED"
    assert found["stop_reason"] == "budget of 60 passes spent"
    assert set(found["baselines"]) == {"persistence", "lagged_regression"}
    assert re.fullmatch(r"[0-9a-f]{64}", found["champion_sha256"])
    shown = call("show", found["run_id"], "--json").data
    assert {key: shown[key] for key in found} == found
    assert shown["name"] == "ga - elman2 - seed 0"


def test_show_of_a_comparison_has_what_compare_printed(made: dict[str, Any], call: Call) -> None:
    found = made["compare"]
    shown = call("show", found["run_id"], "--json").data
    assert {key: shown[key] for key in found} == found
    assert shown["status"] == "FINISHED"
    text = call("show", found["run_id"])
    assert text.code == 0
    assert all(word in text.out for word in ("ga", "random", "lagged regression", "persistence", "95 %"))
    assert found["verdict"] in " ".join(text.out.split())


def test_people_read_on_standard_error_where_standard_output_carries_data(
    new_store: Callable[[], str], call: Call
) -> None:
    new_store()
    done = call("run", "sunspots", *SMALL, "--json")
    assert done.data["status"] == "FINISHED"
    assert "annual sunspot numbers" in done.err
    assert "60/60" not in done.out
    plain = call("run", "sunspots", *SMALL)
    assert plain.err == ""
    assert plain.out.splitlines()[-4].startswith("Made: 1 run with its champion in mlflow.db, experiment 1, run ")
    assert [line[:18] for line in plain.out.splitlines()[-3:]] == [
        "Next: evo-rnn ui  ",
        "      evo-rnn show",
        "      evo-rnn pred",
    ]
    assert not re.search(r"\x1b|/60 runs", plain.out), "no bars and no colours where there is no terminal"


@pytest.mark.parametrize(
    ("kind", "some"),
    [
        ("models", {"elman", "frnn", "lstm", "gru", "indrnn"}),
        ("algorithms", {"ga", "random"}),
        ("estimators", set(ESTIMATORS)),
        ("methods", {"ga", "memetic", "evolino", "bptt", "rtrl", "hybrid", "torch", "random"}),
        ("tasks", {"sunspots", "mackey_glass", "adding", "temporal_order", "delayed_xor", "file"}),
        ("losses", {"mse", "cross_entropy"}),
        ("experiments", {"sunspots", "mackey_glass", "delayed_xor", "adding", "temporal_order", "strokes"}),
        ("runs", {"ga - elman8 - seed 1", "random - elman8 - seed 0", "compare data - ga, random - 2 seeds"}),
    ],
)
def test_list_names_everything_of_a_kind(
    kind: str, some: set[str], house: Path, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    monkeypatch.chdir(house)
    rows = call("list", kind, "--json").data
    assert {row["name"] for row in rows} >= some
    text = call("list", kind)
    assert text.code == 0
    assert len(text.out.splitlines()) == len(rows) + 1, "a line each, and a heading"
    assert all(name in text.out for name in some)


def test_estimators_are_listed_with_their_traits_and_what_they_cost(call: Call) -> None:
    rows = {row["name"]: row for row in call("list", "estimators", "--json").data}
    assert list(rows) == list(ESTIMATORS)
    for name, row in rows.items():
        traits = ESTIMATORS[name].traits
        assert (row["exact"], row["unbiased"], row["needs"]) == (traits.exact, traits.unbiased, traits.needs)
        assert (
            row["local in"]
            == {(0, 0): "", (1, 0): "time", (0, 1): "space", (1, 1): "time and space"}[
                traits.local_in_time, traits.local_in_space
            ]
        )
        assert row["cost"] > 1
    assert rows["bptt"]["sees"] == 256
    assert (rows["rtrl"]["sees"], rows["hybrid"]["sees"]) == (1, 32)
    assert rows["rtrl"]["kept"] == 32 * (32 * 33 + 32), "hidden x weights"
    assert rows["diagonal"]["example"] == "indrnn32"
    assert rows["rtrl"]["cost"] > rows["hybrid"]["cost"] > rows["bptt"]["cost"]


def test_list_without_a_kind_names_the_kinds_and_version_the_version(call: Call) -> None:
    from importlib.metadata import version

    from trainers.commands.browse import KINDS

    done = call("list")
    assert (done.code, done.err) == (0, "")
    assert [line.split()[0] for line in done.out.splitlines()[1:-1]] == list(KINDS)
    assert [row["name"] for row in call("list", "--json").data] == list(KINDS)
    for name in KINDS:
        assert call("list", name, "--json").code == 0
    assert call("--version") == (0, f"evo-rnn {version('evo-rnn')}\n", "")


def test_there_may_be_no_runs_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("list", "runs", "--json").data == []
    assert "evo-rnn compare sunspots" in call("list", "runs").out
    for command in (["show", "latest"], ["predict", "latest", "x.csv"], ["ui"]):
        done = call(*command)
        assert (done.code, done.err) == (
            2,
            "evo-rnn: there are no runs here yet. Make some: evo-rnn compare sunspots.\n",
        )
    assert not list(tmp_path.iterdir()), "looking makes nothing"


def test_a_run_is_found_by_the_beginning_of_its_id_by_its_name_and_as_the_latest(
    made: dict[str, Any], call: Call
) -> None:
    wanted = made["compare"]["run_id"]
    for name in (wanted, wanted[:12], "compare data - ga, random - 2 seeds", "latest"):
        assert call("show", name, "--json").data["run_id"] == wanted, name
    ambiguous = call("show", "")
    assert ambiguous.code == 2
    assert re.search(r"'' fits 7: [0-9a-f]{8}, [0-9a-f]{8}, [0-9a-f]{8}, \.\.\.\. Give", ambiguous.err)
    unknown = call("show", "ga - elman2 - seed 7")
    assert unknown.code == 2
    assert unknown.err.endswith("is none. Did you mean 'ga - elman2 - seed 0'?\n")


# A user's table


def test_the_champion_of_a_users_file_predicts_new_rows_as_the_library_does(made: dict[str, Any], call: Call) -> None:
    from evo_rnn.champion import load
    from evo_rnn.tasks.file import inputs_from_file, unscale
    from evo_rnn.tracking import open_client

    done = call("predict", made["file"]["run_id"], "new.csv", "-o", "out.csv")
    assert (done.code, done.out) == (0, "")
    assert done.err == "Made: out.csv, 30 rows of y_in_3 by the champion of ga - elman2 - seed 0\n"
    assert list(pd.read_csv("out.csv")) == ["row", "y_in_3"], "new.csv has neither dates nor the target"
    client = open_client(f"sqlite:///{Path.cwd()}/mlflow.db")
    champion = load(client.download_artifacts(made["file"]["run_id"], "champion"))
    inputs = inputs_from_file("new.csv", ("a", "b"), champion.card.scaling)
    wanted = unscale(champion.predict(inputs)[0].astype(float), champion.card.scaling, ("y",))
    np.testing.assert_allclose(pd.read_csv("out.csv")["y_in_3"], wanted[:, 0], rtol=1e-8)
    assert call("predict", made["file"]["run_id"], "new.csv").out == Path("out.csv").read_text()


def test_parquet_gives_what_csv_gives(
    made: dict[str, Any], new_store: Callable[[], str], house: Path, call: Call
) -> None:
    new_store()
    options = ("--target", "y", "--inputs", "a,b", "--horizon", "3", *SMALL, "--json")
    found = call("run", str(house / "data.parquet"), *options).data
    assert found["champion_sha256"] == made["file"]["champion_sha256"]
    assert found["test_loss"] == made["file"]["test_loss"]


def test_of_a_comparison_the_champion_with_the_best_validation_predicts(made: dict[str, Any], call: Call) -> None:
    runs = [row for row in call("list", "runs", "--json").data if row["parent"] == made["compare"]["run_id"]]
    assert len(runs) == 4
    losses = {row["name"]: call("show", row["run_id"], "--json").data["validation_loss"] for row in runs}
    done = call("predict", "latest", "data.csv", "-o", "best.csv")
    assert done.code == 0
    made_line, loss_line = done.err.splitlines()
    assert made_line.endswith(f"by the champion of {min(losses, key=losses.__getitem__)}")
    assert re.fullmatch(r"Loss: mse [\d.]+, scaled as in training, over 89 rows whose truth is in the file", loss_line)
    rows = list(csv.reader(Path("best.csv").read_text().splitlines()))
    assert rows[0] == ["row", "y_in_1", "y_in_1_truth"]
    assert len(rows) == 91
    assert [rows[1][0], rows[-1][0], rows[-1][2]] == ["2", "91", ""], "lines of the file, and no truth after its end"
    table = pd.read_csv("data.csv")
    assert [float(row[2]) for row in rows[1:-1]] == pytest.approx(table["y"].tolist()[1:], rel=1e-8)


def test_predict_prints_its_loss_and_its_columns_as_data(made: dict[str, Any], call: Call) -> None:
    run = made["file"]["run_id"]
    done = call("predict", run, "data.csv", "--json")
    assert list(done.data["columns"]) == ["row", "y_in_3", "y_in_3_truth"]
    assert done.data["columns"]["y_in_3_truth"][-3:] == [None] * 3
    assert done.data["loss"]["rows"] == 87
    assert f"mse {done.data['loss']['mse']:.4g}," in done.err
    short = call("predict", run, "new.csv", "-o", "short.csv", "--json").data
    assert short == {"name": "ga - elman2 - seed 0", "loss": {"mse": None, "rows": 0}}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("new.csv", "-o", "new.csv"), 2, ("-o", "data file itself")),
        (("new.csv", "-o", "nowhere/out.csv"), 2, ("-o", "nowhere")),
        (("new.csv", "-o", "."), 2, ("-o", "something else")),
        (("absent.csv",), 65, ("absent.csv", "no such data file")),
        (("out.txt",), 65, ("out.txt", "no column 'a'")),
    ],
)
def test_predict_refuses_what_cannot_be_and_harms_no_file(
    arguments: tuple[str, ...], code: int, words: tuple[str, ...], made: dict[str, Any], call: Call
) -> None:
    Path("out.txt").write_text("y\n1\n2\n")
    before = Path("new.csv").read_bytes()
    done = call("predict", made["file"]["run_id"], *arguments)
    assert (done.code, done.out, done.err.count("\n")) == (code, "", 1)
    assert all(word in done.err for word in words), done.err
    assert Path("new.csv").read_bytes() == before


def test_a_champion_without_columns_says_so(made: dict[str, Any], call: Call) -> None:
    done = call("predict", made["adding"]["run_id"], "new.csv")
    assert (done.code, done.out) == (2, "")
    assert "'adding'" in done.err
    assert "trained on a table" in done.err


# Configs


@pytest.mark.parametrize("cell", ["elman", "lstm", "gru", "indrnn"])
@pytest.mark.parametrize("command", ["run", "compare"])
def test_a_dry_run_prints_a_config_that_resolves_to_itself(
    command: str, cell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    monkeypatch.chdir(tmp_path)
    first = call(command, "sunspots", f"model.cell={cell}", "--dry-run")
    assert (first.code, first.err) == (0, "")
    Path("again.yaml").write_text(first.out)
    assert call(command, "again.yaml", "--dry-run").out == first.out
    resolved = yaml.safe_load(first.out)
    assert resolved["model"]["cell"] == cell
    assert ("methods" in resolved) == (command == "compare")
    assert [path.name for path in tmp_path.iterdir()] == ["again.yaml"]
    from trainers.commands.request import Request

    planned(Request("again.yaml"), many=command == "compare")  # and it can be run


@pytest.mark.parametrize("name", NAMED)
def test_every_named_experiment_can_be_planned(name: str) -> None:
    from trainers.commands.request import Request

    plan = planned(Request(name), many=True)
    assert plan.model.layout.size > 0
    assert plan.config.methods.keys() == NAMED[name]["methods"].keys()


def test_options_and_overrides_reach_the_config(house: Path, monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    monkeypatch.chdir(house)

    def resolved(*arguments: str) -> Any:
        done = call(*arguments, "--dry-run")
        assert done.code == 0, done.err
        return yaml.safe_load(done.out)

    found = resolved("compare", "sunspots", "--methods", "ga,rtrl", "--seeds", "3", "methods.ga.population=7")
    assert (found["seeds"], list(found["methods"])) == (3, ["ga", "rtrl"])
    assert found["methods"]["ga"]["population"] == 7
    assert found["methods"]["rtrl"]["learning_rates"] == [0.1, 0.03], "the method's own defaults"
    found = resolved("run", "sunspots", "--method", "rtrl", "method.restarts=2", "model.hidden=9")
    assert found["method"]["learning_rates"] == [0.1, 0.03]
    assert (found["method"]["restarts"], found["model"]["hidden"]) == (2, 9)
    found = resolved("run", "data.csv", "--target", "y", "--inputs", "a,b", "--horizon", "3", "--workers", "0")
    task = found["task"]
    assert (task["target"], task["inputs"], task["horizon"], task["washout"]) == (["y"], ["a", "b"], 3, 12)
    assert found["compute"]["workers"] == 0
    found = resolved("run", "sunspots", "--ray", str(ROOT / "ray_configs" / "in_process.yaml"))
    assert (found["compute"]["workers"], found["compute"]["device"]) == (0, "cpu")
    for name in ("in_process", "laptop", "one_gpu", "multi_gpu"):  # the others are for Ray itself
        assert resolved("compare", "sunspots", "--ray", str(ROOT / "ray_configs" / f"{name}.yaml"))["compute"]


def test_a_yaml_file_with_three_ways_to_stop_stops_at_the_first(new_store: Callable[[], str], call: Call) -> None:
    new_store()
    Path("mine.yaml").write_text(
        "task: sunspots\nmodel: {cell: gru, hidden: 2}\nmethod: {name: ga, population: 8}\nbudget: {passes: 1e6}\n"
        "stop: {learned: 99, loss: 1e-9, generations: 4}\ncompute: {workers: 0}\n"
    )
    found = call("run", "mine.yaml", "--json").data
    assert "4 generations" in found["stop_reason"]
    assert found["passes"] == 32


MISTAKES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "no such command": (("lst",), ("'lst'", "Did you mean 'list'? See: evo-rnn --help")),
    "no config": (("run",), ("Missing argument 'CONFIG'", "See: evo-rnn run --help")),
    "no such option": (("run", "sunspots", "--sed", "1"), ("--sed",)),
    "no such experiment": (("run", "sunspotz"), ("'sunspotz'", "Did you mean 'sunspots'?")),
    "letters in another order": (("run", "sunspots", "--method", "btpp"), ("method.name", "Did you mean 'bptt'?")),
    "what others call it": (("run", "sunspots", "stop.percent=95"), ("Did you mean 'stop.learned'?",)),
    "no loss to choose": (("run", "sunspots", "loss=mae"), ("The task says", "list losses", "stop.loss")),
    "no such kind": (("list", "model"), ("KIND", "Did you mean 'models'?")),
    "no target": (("run", "data.csv"), ("data.csv", "--target COLUMN")),
    "target of no table": (("run", "sunspots", "--target", "y"), ("--target", "CSV or Parquet")),
    "no methods": (("compare", "sunspots", "--methods", ","), ("--methods", "list methods")),
    "misspelt method": (("compare", "sunspots", "--methods", "gaa"), ("methods.gaa", "Did you mean 'ga'?")),
    "odd label": (("compare", "sunspots", "methods={'a[b]': {name: ga}}"), ("methods", "letters")),
    "misspelt setting": (("run", "sunspots", "method.populatoin=3"), ("method.populatoin", "'method.population'?")),
    "strange setting": (("run", "sunspots", "method.grid=3"), ("method.grid", "Known here: population")),
    "setting of a task": (("run", "adding", "task.lenght=3"), ("task.lenght", "Did you mean 'task.length'?")),
    "text for a length": (("run", "adding", "task.length=long"), ("task.length", "whole number", "'long'")),
    "short length": (("run", "adding", "task.length=1"), ("adding", "length", "at least 2", "is 1")),
    "other section": (("run", "sunspots", "workers=2"), ("workers", "Did you mean 'compute.workers'?")),
    "workers": (("run", "sunspots", "compute.workers=-3"), ("compute.workers", "0 to 10000", "-3")),
    "device": (("run", "sunspots", "compute.device=gpu"), ("compute.device", "cuda:NUMBER", "'gpu'")),
    "choice": (("run", "sunspots", "stop.on=valid"), ("stop.on", "'validation'?")),
    "fraction": (("run", "sunspots", "model.hidden=2.5"), ("model.hidden", "whole number", "2.5")),
    "too small": (("run", "sunspots", "model.hidden=0"), ("model.hidden", "at least 1", "is 0")),
    "no end": (("run", "sunspots", "budget.passes=0"), ("budget.passes", "stop.generations")),
    "no section": (("run", "sunspots", "methods.ga=3"), ("methods.ga", "section", "3")),
    "no fit": (("run", "sunspots", "--method", "diagonal"), ("method: Diagonal needs units", "Use hybrid or rtrl")),
    "no fit among many": (
        ("compare", "sunspots", "--methods", "ga,lstm1997"),
        ("methods.lstm1997: LSTM1997 needs", "bptt or hybrid"),
    ),
    "no horizon": (
        ("run", "sunspots", "--method", "hybrid", "method.horizon=0"),
        ("method.horizon", "at least 1", "is 0"),
    ),
    "rare steps": (
        ("run", "sunspots", "--method", "tbptt", "method.every=20"),
        ("method.every", "at most the horizon, 16", "raise horizon"),
    ),
    "unknown rule": (("run", "sunspots", "--method", "rtlr"), ("method.name", "'rtlr'", "Did you mean 'rtrl'?")),
    "regulation": (("run", "sunspots", "--method", "rtrl", "method.regulation=2"), ("method: regulation", "Use clip")),
    "no meaning": (("run", "sunspots", "model.reset=before"), ("model.reset", "'elman'")),
    "no override": (("run", "sunspots", "hidden"), ("'hidden'", "key=value")),
    "absent ray file": (("run", "sunspots", "--ray", "absent.yaml"), ("absent.yaml", "no such")),
    "wrong ray file": (("run", "sunspots", "--ray", "ray.yaml"), ("ray.yaml: worker is", "Did you mean 'workers'?")),
    "no store": (("run", "sunspots", "tracking.uri=mlruns"), ("mlruns", "sqlite:///")),
    "seed": (("run", "sunspots", "seed=-1"), ("seed", "at least 0", "-1")),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_in_one_line_with_its_cure_and_exit_code_2(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ray.yaml").write_text("worker: 2\n")
    arguments, words = MISTAKES[name]
    done = call(*arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), done.err
    assert done.err.startswith("evo-rnn: ")
    assert all(word in done.err for word in words), done.err
    assert [path.name for path in tmp_path.iterdir()] == ["ray.yaml"], "nothing is written"


# Exit codes


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (RetryError("the cluster\nwent away. Try again."), 75, "the cluster went away. Try again."),
        (OSError(errno.ENOSPC, "No space left on device", "x.db"), 74, "x.db: No space left on device. Make room"),
        (OSError(errno.EFBIG, "File too large"), 74, "the disk: File too large"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (SystemExit(signal.SIGTERM), 143, "stopped by a signal"),
        (
            ZeroDivisionError("division\nby zero"),
            70,
            "this is a bug, please report it: ZeroDivisionError: division by zero",
        ),
        (BrokenPipeError(errno.EPIPE, "of a socket"), 70, "this is a bug"),
    ],
)
def test_every_kind_of_failure_has_its_exit_code(
    error: BaseException, code: int, said: str, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(launch, "run", fail)
    done = call("run", "sunspots")
    assert (done.code, done.out) == (code, "")
    lines = [line for line in done.err.splitlines() if line]
    assert lines[-1].startswith(f"evo-rnn: {said}")
    assert (lines[0] == "Traceback (most recent call last):") == (code == 70)
    assert len(lines) == 1 or code == 70


def command(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """A command in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
    return subprocess.Popen(
        [sys.executable, "-m", "trainers.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **options,
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_disk_that_is_full_is_exit_code_74_and_a_reader_that_is_gone_141(unbuffered: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "trainers.cli", "list", "experiments"],
            stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (
        74,
        "evo-rnn: the disk: No space left on device. Make room and try again.\n",
    )
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "trainers.cli", "list", "experiments"],
        stdout=writer, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_disk_that_fills_up_in_a_run_is_exit_code_74(house: Path, tmp_path: Path) -> None:
    shutil.copyfile(house / "mlflow.db", tmp_path / "mlflow.db")
    size = (tmp_path / "mlflow.db").stat().st_size

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (256, 256))

    done = command("run", "sunspots", *SMALL, cwd=tmp_path, preexec_fn=small_files)
    _, err = done.communicate(timeout=60)
    assert done.returncode == 74, err
    assert err.splitlines()[-1].startswith("evo-rnn: ")
    assert "Traceback" not in err
    assert (tmp_path / "mlflow.db").stat().st_size == size


# The same champion everywhere


@pytest.mark.ray
def test_another_process_with_two_workers_finds_the_champion_that_this_one_found_alone(
    made: dict[str, Any], house: Path, tmp_path: Path
) -> None:
    shutil.copyfile(house / "mlflow.db", tmp_path / "mlflow.db")
    options = ("--target", "y", "--inputs", "a,b", "--horizon", "3", *SMALL, "--json", "--workers", "2")
    done = command("run", str(house / "data.csv"), *options, cwd=tmp_path)
    out, err = done.communicate(timeout=120)
    assert done.returncode == 0, err
    assert "on 2 Ray workers" in err
    found = json.loads(out)
    for key in ("champion_sha256", "test_loss", "passes"):
        assert found[key] == made["file"][key]


# Killed


class Started(NamedTuple):
    """A command in another process, and what its descendants have in their environment."""

    process: subprocess.Popen[str]
    place: Path
    mark: str

    def kin(self) -> list[psutil.Process]:
        """The process and its descendants, also those that left its group or lost their parent."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("EVO_RNN_TEST") == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found


@pytest.fixture
def start(house: Path, tmp_path: Path) -> Iterator[Callable[..., Started]]:
    """Start a command in a new directory that has a store; whatever is left of it at the end is killed."""
    all_started: list[Started] = []

    def now(*arguments: str) -> Started:
        mark = uuid.uuid4().hex
        place = tmp_path / mark
        place.mkdir()
        shutil.copyfile(house / "mlflow.db", place / "mlflow.db")
        started = Started(command(*arguments, cwd=place, env={"EVO_RNN_TEST": mark}), place, mark)
        all_started.append(started)
        return started

    yield now
    for started in all_started:
        for process in started.kin():
            process.kill()
        started.process.communicate()


def statuses(place: Path) -> list[str]:
    """Of the runs that the house did not have, the oldest first."""
    with sqlite3.connect(place / "mlflow.db") as store:
        rows = store.execute("SELECT status FROM runs WHERE name LIKE '%elman5%' OR name LIKE '%sunspots%'").fetchall()
    return [status for (status,) in rows]


def wait_until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)


ENDLESS = ("compare", "sunspots", "--methods", "ga,bptt", "--seeds", "2", "budget.passes=1000000000")


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGINT, 130, "interr"),
        pytest.param(signal.SIGTERM, 143, "stopped by", marks=pytest.mark.nightly),  # ordinarily with Ray, below
    ],
)
def test_a_signal_ends_the_runs_as_killed_at_once(
    number: int, code: int, said: str, start: Callable[..., Started]
) -> None:
    started = start(*ENDLESS, "--workers", "0")
    wait_until(lambda: "RUNNING" in statuses(started.place))
    _stop_and_check(started, number, code, said)


def test_the_next_command_ends_the_runs_of_a_process_that_was_killed(
    start: Callable[..., Started], monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    killed = start(*ENDLESS, "--workers", "0")
    wait_until(lambda: "RUNNING" in statuses(killed.place))
    monkeypatch.chdir(killed.place)
    assert call("show", "latest", "--json").data["status"] == "RUNNING"
    killed.process.kill()
    killed.process.communicate()
    assert "RUNNING" in statuses(killed.place)
    rows = [row for row in call("list", "runs", "--json").data if "sunspots" in row["name"] or "elman5" in row["name"]]
    assert rows
    assert {row["status"] for row in rows} == {"KILLED"}
    assert "There is no result" in call("show", "latest").out


@pytest.mark.ray
def test_a_signal_leaves_no_ray_process_behind(start: Callable[..., Started]) -> None:
    started = start(*ENDLESS, "--workers", "2")
    wait_until(lambda: len(started.kin()) > 4)  # Ray and its workers are up
    _stop_and_check(started, signal.SIGTERM, 143, "stopped by")


def _stop_and_check(started: Started, number: int, code: int, said: str) -> None:
    began = time.monotonic()
    started.process.send_signal(number)
    _, err = started.process.communicate(timeout=30)
    assert time.monotonic() - began < 10
    assert started.process.returncode == code, err
    assert [line for line in err.splitlines() if line][-1].startswith(f"evo-rnn: {said}")
    assert "Traceback" not in err
    assert set(statuses(started.place)) == {"KILLED"}
    wait_until(lambda: not started.kin(), 5)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.nightly)]
)
def test_the_ui_prints_the_link_and_goes_with_its_server_when_it_is_stopped(
    number: int, code: int, start: Callable[..., Started]
) -> None:
    started = start("ui")
    assert started.process.stdout is not None
    url = re.fullmatch(r"MLflow is at (http://127\.0\.0\.1:\d+)\n", started.process.stdout.readline())
    assert url is not None
    assert url[1] in started.process.stdout.readline()
    assert len(started.kin()) > 1
    began = time.monotonic()
    started.process.send_signal(number)
    started.process.communicate(timeout=30)
    assert time.monotonic() - began < 10
    assert started.process.returncode == code
    wait_until(lambda: not started.kin(), 5)


# On a terminal


def test_on_a_terminal_there_are_bars_and_nothing_wider_than_it(house: Path, tmp_path: Path) -> None:
    shutil.copyfile(house / "mlflow.db", tmp_path / "mlflow.db")
    text = _on_terminal(80, tmp_path, "run", "sunspots", "budget.passes=20000", "--workers", "0")
    assert "━" in text
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    lines = [line.rstrip() for line in re.split(r"[\r\n]+", plain) if line.strip()]
    assert re.search(r"passes, validation 0\.\d+", plain)
    assert not [line for line in lines if len(line) > 80 and not line.startswith("Made: ")]
    assert [line.split()[0] for line in lines[-5:]] == ["champion", "Made:", "Next:", "evo-rnn", "evo-rnn"]
    assert "Warning" not in plain


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_heading_and_no_number_of_a_comparison_is_cut_whatever_the_terminal(
    width: int, made: dict[str, Any]
) -> None:
    from rich.console import Console

    from trainers.commands.view import say_summary

    screen = Console(width=width)
    with screen.capture() as shown:
        say_summary(screen, made["compare"])
    lines = shown.get().splitlines()
    assert "…" not in shown.get()
    assert max(map(len, lines)) <= width
    assert ("train" in shown.get()) == (width > 60)
    names = [line.split()[0] for line in lines if line.startswith((" ga", " random", " lagged", " persistence"))]
    assert sorted(names[:2]) == ["ga", "random"]
    assert names[2:] == ["lagged", "persistence"]


def _on_terminal(columns: int, place: Path, *arguments: str) -> str:
    """What a command writes to a terminal of this width."""
    import fcntl
    import struct
    import termios

    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    environment |= {"PYTHONPATH": str(ROOT), "TERM": "xterm"}
    driver, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "trainers.cli", *arguments],
        stdin=terminal, stdout=terminal, stderr=terminal, cwd=place,
        env=environment,
    )  # fmt: skip
    os.close(terminal)
    content = b""
    while process.poll() is None or select.select([driver], [], [], 0.2)[0]:
        try:
            content += os.read(driver, 65536) if select.select([driver], [], [], 0.2)[0] else b""
        except OSError:  # the other end is closed
            break
    assert process.wait(30) == 0, content.decode()
    os.close(driver)
    return content.decode()


# Help and doctor


@pytest.mark.parametrize(
    "arguments", [(), *((name,) for name in ("run", "compare", "resume", "list", "show", "predict", "ui", "doctor"))]
)
def test_help_is_whole_and_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    probe = (
        "import sys\nfrom trainers import cli\n"
        f"sys.argv = ['evo-rnn', *{arguments!r}, '--help']\ncode = cli.exit_code()\n"
        "heavy = {'torch', 'ray', 'mlflow', 'pandas', 'matplotlib', 'scipy', 'numpy', 'deap', 'yaml'}\n"
        "print(code, sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, cwd=ROOT, check=True,
        env={**os.environ, "COLUMNS": "100"},
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "0 []"
    assert "Usage: evo-rnn " + " ".join(arguments) in done.stdout
    assert "[[" not in done.stdout
    assert done.stderr == ""


def test_doctor_examines_everything_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    from trainers.commands import doctor

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "_ray", lambda: "not asked")  # a test of its own costs seconds
    rows = {row["name"]: row for row in call("doctor", "--json").data}
    assert {"python", "packages", "machine", "gpu", "disk", "evaluation", "tracking", "ray"} == set(rows)
    assert all(row["ok"] for row in rows.values())
    assert "torch" in rows["packages"]["says"]
    assert not list(tmp_path.iterdir())

    def fail() -> str:
        raise RuntimeError("no worker\nanswered")

    monkeypatch.setattr(doctor, "_ray", fail)
    done = call("doctor")
    assert done.code == 75
    assert done.out.splitlines()[-1] == "FAIL ray         no worker answered"
