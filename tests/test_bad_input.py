"""Every bad file through the command line: one line with place and cure, the right exit code, at once, nothing written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.bad_files import BadFile, write_bad_files

ROOT = Path(__file__).resolve().parent.parent

_PROBE = """
import contextlib, io, json, sys, time
import pyarrow.parquet
from trainers import cli
import trainers.commands.launch, trainers.experiments.builders, evo_rnn.champion, evo_rnn.tracking, evo_rnn.tasks.file

for row in (rows := json.load(sys.stdin)):
    out, err, start = io.StringIO(), io.StringIO(), time.process_time()
    sys.argv = ["evo-rnn", *row["arguments"]]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.exit_code()
    row.update(code=code, out=out.getvalue(), err=err.getvalue(), cpu=time.process_time() - start)
json.dump({"rows": rows, "mlflow": "mlflow" in sys.modules}, sys.stdout)
"""


def _commands(row: BadFile) -> list[list[str]]:
    """A table goes to `run`, which needs no YAML for it; a config to both commands."""
    if row.kind == "table":
        return [["run", row.path, "--target", "y"]]
    return [["run", row.path], ["compare", row.path]]


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], Path]:
    """What the command line said of every bad file, and the directory in which it was said."""
    folder, place = tmp_path_factory.mktemp("bad"), tmp_path_factory.mktemp("place")
    asked = [
        {"name": f"{row.kind} {row.name}", "arguments": arguments, "wanted": row.exit_code, "words": _words(row)}
        for row in write_bad_files(folder)
        for arguments in _commands(row)
    ]
    before = sorted(path.name for path in folder.iterdir())
    done = subprocess.run(
        [sys.executable, "-c", _PROBE],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=120,  # a pipe or a device that is read would hang
        cwd=place,
        check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(place)},
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in folder.iterdir()) == before
    report = json.loads(done.stdout)
    assert not report["mlflow"], "a bad file is refused before MLflow is even imported"
    return report["rows"], place


def _words(row: BadFile) -> list[str]:
    """What the message must have: a constant target is judged on the training rows, which are not all."""
    return [word.partition(" to ")[0] if word.startswith("rows ") else word for word in row.words]


def test_all_files_of_the_corpus_are_refused(refusals: tuple[list[dict[str, Any]], Path]) -> None:
    rows, _ = refusals
    assert len({row["arguments"][1] for row in rows}) >= 140
    assert not [f"{row['name']}: {row['code']}" for row in rows if row["code"] != row["wanted"]]


def test_every_refusal_is_one_line_that_names_the_place_and_the_cure(
    refusals: tuple[list[dict[str, Any]], Path],
) -> None:
    faults = []
    for row in refusals[0]:
        err = row["err"]
        if not (err.startswith("evo-rnn: ") and err.count("\n") == 1 and err[:-1].isprintable() and len(err) < 700):
            faults.append(f"{row['name']}: not one line for people: {err!r}")
        faults += [f"{row['name']}: {word!r} is not in {err}" for word in row["words"] if word not in err]
        if row["out"]:
            faults.append(f"{row['name']}: standard output has {row['out']!r}")
    assert not faults, "\n".join(faults)


def test_every_refusal_comes_at_once_and_writes_nothing(refusals: tuple[list[dict[str, Any]], Path]) -> None:
    rows, place = refusals
    assert not [f"{row['name']}: {row['cpu']:.2f} s" for row in rows if row["cpu"] >= 1]
    assert not list(place.iterdir())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("task: {name: adding, lenght: 30}\n", ("task.lenght", "'task.length'")),
        ("task: adding\nmodle: {hidden: 3}\n", ("modle", "'model'")),
        ("task: adding\nhidden: 3\n", ("hidden", "'model.hidden'")),
        ("task: adding\nbudget: {pass: 3}\n", ("budget.pass", "'budget.passes'")),
        ("task: adding\nstop: {lerned: 95}\n", ("stop.lerned", "'stop.learned'")),
        ("task: adding\nmethods: {ga: {elite: 3}}\n", ("methods.ga.elite", "'methods.ga.elites'")),
        ("task: adding\nmethods: {mine: {name: bppt}}\n", ("methods.mine.name", "'bptt'")),
        ("task: adding\nmethods: [ga, hybird]\n", ("methods.hybird", "'hybrid'")),
        ("task: adding\nmodel: {cell: LSTM}\n", ("model.cell", "'lstm'")),
        ("task: adding\ncompute: {gpu_per_worker: 1}\n", ("compute.gpu_per_worker", "'compute.gpus_per_worker'")),
        ("model: {hidden: 3}\n", ("task is missing",)),
        ("task: {}\n", ("task.name is missing", "sunspots")),
        ("task: {path: data.csv}\n", ("task.target is missing",)),
        ("task: adding\nseeds: [1, 2]\n", ("seeds", "whole number", "[1, 2]")),
    ],
)
def test_a_misspelt_or_misplaced_key_is_answered_with_the_right_one(
    text: str,
    words: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from trainers import cli

    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(text)
    monkeypatch.setattr(sys, "argv", ["evo-rnn", "compare", "mine.yaml"])
    assert cli.exit_code() == 2
    said = capsys.readouterr().err
    assert said.startswith("evo-rnn: mine.yaml: ")
    assert all(word in said for word in words), said
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]
