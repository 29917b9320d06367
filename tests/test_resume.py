"""Stopped anywhere, by anything, and resumed: the same champion, the same curves, every step in MLflow once."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import pytest
import torch

from evo_rnn.cells import CTRNN, LSTM, Elman, IndRNN
from evo_rnn.errors import ConfigError
from evo_rnn.network import Model, network
from evo_rnn.progress import Trainer
from evo_rnn.tasks.adding import adding
from evo_rnn.tracking.tracker import MemoryTracker
from populations.algorithms import GeneticAlgorithm
from populations.evolution import Evolution
from trainers import cli
from trainers.descent import Descent
from trainers.experiments import journal, trial
from trainers.experiments.book import RunPage
from trainers.experiments.journal import Journal
from trainers.experiments.methods import METHODS
from trainers.experiments.race import race
from trainers.experiments.referee import Row
from trainers.experiments.stopping import Generations
from trainers.experiments.trial import Rules, Slice, slices

ROOT = Path(__file__).resolve().parent.parent
TASK = adding(length=6, sequences=3)
MODEL = network(Elman(2, 2), 1)
CLOCKS = ("budget/seconds", "final/seconds")  # CPU time is never twice the same


@pytest.fixture(autouse=True)
def _one_thread_short_slices_and_a_fast_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # no power is cut here
    monkeypatch.setattr(trial, "SHARE", math.inf)  # slices are not longer where a test is slow to look at them


def told(tracker: MemoryTracker) -> list[tuple[str, float, int]]:
    """The history of the one run, without its clocks."""
    (record,) = tracker.runs.values()
    return [each for each in record.metrics if each[0] not in CLOCKS]


def outcome(result: Any) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key != "seconds"}


class Stopped:
    """A trial that is kept and told as `evo-rnn run` does it, can be stopped after any slice, and goes on from files."""

    def __init__(self, trainer: Trainer, rules: Rules, root: Path, model: Model = MODEL) -> None:
        self.trainer, self.rules, self.root, self.model = trainer, rules, root, model
        self.tracker, self.run = MemoryTracker(), uuid.uuid4().hex
        journal.begin(self.run, {}, "", root).close()

    def go(self, most: int | None = None) -> Slice:
        """Up to `most` slices, of a step each; the last that is kept."""
        book = journal.reopen(self.run, self.root)
        last = book.last("trial")
        page = RunPage(self.tracker, "trial", self.model, TASK, {}, {}, run=self.run)
        page.write(last)
        pieces = slices(self.trainer, self.model, TASK, self.rules, 0, state=last.state, seconds=0.0)
        for piece in islice(pieces, 0 if last.reason else most):
            book.keep("trial", piece, piece.rows)
            page.write(piece)
        book.close()
        return journal.Journal(book.path, {}, -1).last("trial")


# In this process, through the files


def test_a_run_can_be_stopped_after_every_one_of_30_generations(tmp_path: Path) -> None:
    trainer, rules = Evolution(GeneticAlgorithm(population=12)), Rules((Generations(30),), spacing=100)
    whole = Stopped(trainer, rules, tmp_path)
    end = whole.go()
    assert len({row for row in told(whole.tracker) if row[0] == "train/loss"}) == 5, "points are rarer than steps"
    for generation in range(31):
        stopped = Stopped(trainer, rules, tmp_path)
        kept = stopped.go(generation)
        assert bool(kept.reason) == (generation == 30)
        again = stopped.go()
        assert outcome(again.result) == outcome(end.result)
        assert again.result["champion_sha256"] == end.result["champion_sha256"]
        assert told(stopped.tracker) == told(whole.tracker)


def test_a_run_can_be_stopped_at_every_generation_in_turn(tmp_path: Path) -> None:
    """With minibatches, where what is offered is older than the generation."""
    trainer, rules = Evolution(GeneticAlgorithm(population=6), minibatch=2, check=3), Rules((Generations(12),))
    whole, stopped = (Stopped(trainer, rules, tmp_path) for _ in range(2))
    end = whole.go()
    for _ in range(12):
        assert not stopped.go(0).reason
        last = stopped.go(1)
    assert outcome(last.result) == outcome(end.result)
    assert told(stopped.tracker) == told(whole.tracker)


def fitting(name: str) -> tuple[Trainer, Model]:
    """A method with settings that make its steps small, and a model that it can train."""
    trainer = METHODS[name].trainer({"every": 2} if name == "islands" else {}, TASK.loss)
    for cell in (Elman(2, 2), LSTM(2, 2), IndRNN(2, 2), CTRNN(2, 2)):
        model = network(cell, 1)
        try:
            if isinstance(trainer, Descent):
                trainer.fits(model, TASK)
        except ConfigError:
            continue
        return trainer, model
    raise AssertionError(f"{name} trains none of the models")


@pytest.mark.parametrize("name", METHODS)
def test_every_method_goes_on_from_its_files(name: str, tmp_path: Path) -> None:
    trainer, model = fitting(name)
    rules = Rules((Generations(12),), spacing=7)
    whole, stopped = (Stopped(trainer, rules, tmp_path, model) for _ in range(2))
    end = whole.go()
    kept = stopped.go(3)
    assert kept.state
    assert not kept.reason
    assert outcome(stopped.go().result) == outcome(end.result)
    assert told(stopped.tracker) == told(whole.tracker)


def test_a_race_goes_on_where_it_was_and_leaves_alone_what_is_over() -> None:
    trainers = {"ga": Evolution(GeneticAlgorithm(population=6)), "random": METHODS["random"].trainer({}, TASK.loss)}
    race_ = partial(race, trainers, MODEL, TASK, Rules((Generations(8),)), (0, 1), seconds=0.0)
    points: dict[tuple[str, int], list[Row]] = {}
    kept: dict[tuple[str, int], Slice] = {}
    for event in race_():
        key = event.method, event.seed
        points.setdefault(key, []).extend(event.slice.rows)
        if (event.slice.state or event.slice.reason) and (key == ("ga", 0) or len(points[key]) < 5):
            kept[key] = replace(event.slice, rows=list(points[key]))
    assert [bool(piece.reason) for piece in kept.values()] == [True, False, False, False]
    later: dict[tuple[str, int], list[Row]] = {key: list(piece.rows) for key, piece in kept.items()}
    for event in race_(kept=kept):
        assert (event.method, event.seed) != ("ga", 0)
        later[event.method, event.seed] += event.slice.rows
    assert {key: [row.passes for row in rows] for key, rows in later.items()} == {
        key: [row.passes for row in rows] for key, rows in points.items()
    }


# The command line in this process


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
    def now(*arguments: str) -> Called:
        monkeypatch.setattr(sys, "argv", ["evo-rnn", *arguments])
        capsys.readouterr()
        return Called(cli.exit_code(), *capsys.readouterr())

    return now


def history(place: Path, where: str = "1") -> dict[tuple[str, str, int], list[float]]:
    """All values that MLflow has, by the run's name, the metric's and the step."""
    found: dict[tuple[str, str, int], list[float]] = {}
    with sqlite3.connect(place / "mlflow.db") as store:
        for name, key, step, value in store.execute(
            "SELECT r.name, m.key, m.step, m.value FROM metrics m JOIN runs r USING (run_uuid) "  # noqa: S608
            f"WHERE {where} AND m.key NOT LIKE 'system/%'"
        ):
            found.setdefault((name, key, step), []).append(value)
    return found


def same_history(one: Path, other: Path) -> None:
    """The same numbers at the same steps, each once; clocks at least once at the same steps, and once."""
    ours, theirs = history(one), history(other)
    assert ours.keys() == theirs.keys()
    doubled = [key for found in (ours, theirs) for key, values in found.items() if len(values) != 1]
    assert not doubled, "each step once"
    assert [key for key in ours if key[1] not in CLOCKS and ours[key] != theirs[key]] == []


def runs(place: Path) -> list[tuple[str, str]]:
    with sqlite3.connect(place / "mlflow.db") as store:
        return sorted(store.execute("SELECT name, status FROM runs"))


SMALL = ("adding", "task.length=6", "task.sequences=4", "model.cell=elman", "model.hidden=2")
RUN = ("run", *SMALL, "method.population=10")


def test_a_run_that_is_prolonged_is_one_that_was_longer_from_the_beginning(
    new_store: Callable[[], str], call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a run is found by its own id, by MLflow's, by its name, and as the latest."""
    new_store()
    short = call(*RUN, "budget.passes=100", "--json").data
    (own,) = (path.name for path in (tmp_path / ".evo-rnn" / "runs").iterdir())
    assert own != short["run_id"]
    by_mlflow = call("resume", short["run_id"][:12], "budget.passes=200", "--json")
    assert by_mlflow.code == 0, by_mlflow.err
    assert "It goes on after 100 passes" in by_mlflow.err
    by_name = call("resume", "ga - elman2 - seed 0", "budget.passes=300", "--json")
    assert by_name.code == 0, by_name.err
    by_own = call("resume", own[:8], "budget.passes=400", "--json")
    assert by_own.code == 0, by_own.err
    assert {each.data["run_id"] for each in (by_mlflow, by_name, by_own)} == {short["run_id"]}
    other = tmp_path / "other"
    other.mkdir()
    shutil.copyfile(tmp_path / "mlflow.db", tmp_path / "copy.db")
    monkeypatch.chdir(other)
    whole = call(*RUN, "budget.passes=400", "--json").data
    assert outcome(by_own.data) == outcome(whole) | {key: short[key] for key in ("run_id", "experiment_id")}
    assert whole["passes"] == 400
    steps = history(other, "m.key NOT LIKE 'final/%'")
    longer = {key: values for key, values in history(tmp_path).items() if not key[1].startswith("final/")}
    assert longer.keys() == steps.keys()
    assert all(longer[key] == values for key, values in steps.items() if key[1] not in CLOCKS)
    assert runs(tmp_path) == [("ga - elman2 - seed 0", "FINISHED")]


def test_what_cannot_go_on_is_refused_in_one_line(new_store: Callable[[], str], call: Call, tmp_path: Path) -> None:
    new_store()
    assert call("resume").err == (
        "evo-rnn: RUN should be a run to go on with but 'latest' is none: no unfinished run is kept in .evo-rnn/runs. "
        "Begin one: evo-rnn run sunspots.\n"
    )
    data = tmp_path / "data.csv"
    data.write_text("y\n" + "\n".join(str(k % 7) for k in range(90)))
    arguments = ("run", "data.csv", "--target", "y", "model.hidden=2", "method.population=10", "budget.passes=50")
    made = call(*arguments, "--json").data["run_id"]
    longer = "budget.passes=80"
    for override, said in {
        "": "is over. Prolong it, for example with budget.passes=100",
        "model.hidden=3": "model.hidden should stay 2",
        "method.population=11": "method.population should stay 10",
        "method.name=random": "method.",
        "seed=1": "seed should stay 0",
        "stop.loss=0.1": "stop.loss should stay 0.0",
        "task.horizon=2": "task.horizon should stay 1",
        "compute.device=cuda": "compute.device should stay 'auto'",
        "compute.workres=2": "compute.workres",
    }.items():
        refused = call("resume", made, *filter(None, (override, override and longer)))
        assert refused.code == 2, refused
        assert said in refused.err
        assert refused.err.count("\n") == 1
    assert call("resume", "nosuchrun").code == 2
    rows = data.read_text().splitlines()
    data.write_text("\n".join([*rows[:-1], "9"]))
    refused = call("resume", made, longer)
    assert refused.code == 65
    assert "have changed" in refused.err
    data.write_text("\n".join(rows))
    done = call("resume", made, longer, "compute.workers=0", "--json")
    assert done.code == 0, done.err
    assert done.data["passes"] == 80


def test_a_comparison_that_is_over_and_one_run_of_it_are_refused(new_store: Callable[[], str], call: Call) -> None:
    new_store()
    made = call(
        "compare", *SMALL, "--methods", "random", "--seeds", "1", "budget.passes=60", "--workers", "0", "--json"
    )
    over = call("resume", made.data["run_id"])
    assert (over.code, over.err.count("\n")) == (2, 1)
    assert "is over" in over.err
    one = call("resume", "random - elman2 - seed 0")
    assert one.code == 2
    assert f"Go on with that: evo-rnn resume {made.data['run_id'][:8]}" in one.err


@pytest.mark.parametrize("many", [False, True])
def test_every_slice_is_kept_before_it_is_told(
    many: bool, new_store: Callable[[], str], call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a process that is killed between the two has told what it will never come to again."""
    new_store()
    seen: list[str] = []
    keep, write = Journal.keep, RunPage.write

    def kept(self: Journal, trial: str, piece: Slice, rows: Sequence[Row]) -> None:
        seen.append(f"kept {len(piece.rows)}")
        keep(self, trial, piece, rows)

    def wrote(self: RunPage, piece: Slice) -> None:
        if piece.rows:
            seen.append(f"told {len(piece.rows)}")
        write(self, piece)

    monkeypatch.setattr(Journal, "keep", kept)
    monkeypatch.setattr(RunPage, "write", wrote)
    monkeypatch.setitem(slices.__kwdefaults__, "seconds", 0.0)
    monkeypatch.setitem(race.__kwdefaults__, "seconds", 0.0)
    many_ = ("compare", *SMALL, "--methods", "random", "--seeds", "1", "--workers", "0")
    assert call(*(many_ if many else RUN), "budget.passes=300").code == 0
    events = [each for each in seen if each[-2:] != " 0"]
    assert len(events) > 4
    assert [each.replace("kept", "told") for each in events[::2]] == events[1::2]
    assert all(each.startswith("kept") for each in events[::2])


# Processes that are killed

NURSERY = """
import json, os, sys
import trainers.commands.contest, trainers.commands.launch, trainers.commands.resume, trainers.commands.solo
import alembic.command, mlflow.pyfunc, mlflow.store.tracking.sqlalchemy_store, safetensors.numpy
import evo_rnn.safe_yaml
from mlflow.utils import requirements_utils
from trainers import cli
requirements_utils._init_packages_to_modules_map()  # which takes MLflow a second
from trainers.experiments import race, trial
trial.SHARE = 1.0  # of the time for keeping
trial.slices.__kwdefaults__["seconds"] = race.race.__kwdefaults__["seconds"] = 0.05
for line in sys.stdin:
    asked = json.loads(line)
    if "wait" in asked:
        print(os.waitstatus_to_exitcode(os.waitpid(asked["wait"], 0)[1]), flush=True)
        continue
    child = os.fork()
    if child:
        print(child, flush=True)
        continue
    os.chdir(asked["place"])
    os.environ["EVO_RNN_TEST"] = asked["mark"]
    for number, name in enumerate(("/dev/null", asked["name"] + ".out", asked["name"] + ".err")):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = ["evo-rnn", *asked["argv"]]
    cli.main()
"""


class Child(NamedTuple):
    """A command in a process of its own."""

    nursery: Nursery
    pid: int
    place: Path
    name: str

    def end(self, number: int = 0) -> Called:
        """Send a signal, if one is given, and wait."""
        if number:
            os.kill(self.pid, number)
        code = int(self.nursery.ask({"wait": self.pid}))
        out, err = ((self.place / f"{self.name}.{end}").read_text() for end in ("out", "err"))
        return Called(code, out, err)


class Nursery:
    """A process that has loaded everything and forks one process a command: a start takes 0.1 s instead of 4.

    A slice is 0.05 s there, so that a short run has many.
    """

    def __init__(self) -> None:
        self.mark = uuid.uuid4().hex
        self.process = subprocess.Popen(
            [sys.executable, "-c", NURSERY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def ask(self, question: dict[str, Any]) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()

    def start(self, place: Path, *argv: str) -> Child:
        name = uuid.uuid4().hex
        question = {"place": str(place), "name": name, "argv": argv, "mark": self.mark}
        return Child(self, int(self.ask(question)), place, name)

    def close(self) -> None:
        for process in psutil.process_iter():
            try:
                if process.environ().get("EVO_RNN_TEST") == self.mark:
                    process.kill()
            except psutil.Error:
                continue
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    made.close()


@pytest.fixture
def place(tmp_path: Path, migrated_database: Path) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        (tmp_path / name).mkdir()
        shutil.copyfile(migrated_database, tmp_path / name / "mlflow.db")
        return tmp_path / name

    return make


def kept_slices(place: Path) -> int:
    """How many slices the journals of a directory have had, of all trials."""
    found: dict[str, int] = {}
    for path in place.glob(".evo-rnn/runs/*/*/step-*"):
        found[str(path.parent)] = max(found.get(str(path.parent), 0), 1 + int(path.stem[5:]))
    return sum(found.values())


def wait_until(true: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.003)


def journals(place: Path) -> list[Path]:
    return [path.parent for path in place.glob(".evo-rnn/runs/*/run.json")]


def check_order(place: Path, trial: str) -> Slice:
    """That what has reached MLflow was kept before, after a kill; what was kept."""
    (path,) = journals(place)
    last = Journal(path, {}, -1).last(trial)
    tracked = max((step for _, _, step in history(place)), default=0)
    assert tracked <= passes_of(last), "MLflow knows nothing that the journal does not"
    return last


def passes_of(last: Slice) -> float:
    """Spent by the last step that was kept."""
    return float(last.state["referee/numbers"][8]) if last.state else 0.0


def killed_until_over(
    nursery: Nursery, place: Path, command: Sequence[str], instants: Iterator[Callable[[], None]], trial: str = ""
) -> tuple[Called, int]:
    """Begin, be killed, resume, until no instant is left or the end came first; the end, and how often it was killed."""
    kills = 0
    rows: list[Row] = []
    while True:
        child = nursery.start(place, *(("resume",) if journals(place) else command), "--json")
        wait = next(instants, None)
        if wait is not None:
            wait()
        done = child.end(signal.SIGKILL if wait else 0)
        if rows and not done.code:
            assert f"It goes on after {rows[-1].passes:,} passes" in done.err
        if done.code != -signal.SIGKILL:
            return done, kills
        kills += 1
        rows = check_order(place, trial).rows if trial and journals(place) else []


def after(place: Path, seconds: float, more: int) -> Callable[[], None]:
    """An instant: so long after `more` further slices were kept."""

    def wait() -> None:
        wanted = kept_slices(place) + more
        wait_until(lambda: kept_slices(place) >= wanted or not _under_way(place))
        time.sleep(seconds)

    return wait


def _under_way(place: Path) -> bool:
    found = journals(place)
    return not found or any('"finished": false' in (path / "run.json").read_text() for path in found)


LONG = ("run", "sunspots", "model.hidden=3", "method.population=20")


@pytest.mark.parametrize("method", ["memetic"])
def test_a_run_that_is_killed_twice_comes_to_the_same_end(
    method: str, nursery: Nursery, place: Callable[[str], Path]
) -> None:
    command = (*LONG, f"method.name={method}", "budget.passes=4000")
    whole, broken = place("whole"), place("broken")
    end = nursery.start(whole, *command, "--json").end()
    assert end.code == 0, end.err
    rng = np.random.default_rng(1)
    instants = [after(broken, rng.uniform(0, 0.1), int(rng.integers(1, 5))) for _ in range(2)]
    done, kills = killed_until_over(nursery, broken, command, iter(instants), f"{method}-0")
    assert done.code == 0, done.err
    assert kills == 2
    assert outcome(done.data) == outcome(end.data) | {"run_id": done.data["run_id"]}
    same_history(broken, whole)
    assert runs(broken) == [(f"{method} - elman3 - seed 0", "FINISHED")]


COMPARE = ("compare", "sunspots", "model.hidden=3", "--methods", "ga,random", "--seeds", "2", "--workers", "0")


def test_a_comparison_that_is_killed_twice_comes_to_the_same_end(
    nursery: Nursery, place: Callable[[str], Path]
) -> None:
    command = (*COMPARE, "budget.passes=2000")
    whole, broken = place("whole"), place("broken")
    end = nursery.start(whole, *command, "--json").end()
    assert end.code == 0, end.err
    instants = [after(broken, 0.02, 4), after(broken, 0.05, 4)]
    done, kills = killed_until_over(nursery, broken, command, iter(instants))
    assert done.code == 0, done.err
    assert kills == 2
    assert done.data["verdict"] == end.data["verdict"]
    wanted = {
        name: {**line, "seconds": done.data["methods"][name]["seconds"]} for name, line in end.data["methods"].items()
    }
    assert done.data["methods"] == wanted
    same_history(broken, whole)
    assert runs(broken) == runs(whole)
    assert len(runs(broken)) == 5
    assert {status for _, status in runs(broken)} == {"FINISHED"}
    assert journals(broken) == []


ENDLESS = (*LONG, "budget.passes=100000000")


def test_a_second_driver_is_turned_away_until_the_first_is_gone(nursery: Nursery, place: Callable[[str], Path]) -> None:
    here = place("here")
    first = nursery.start(here, *ENDLESS)
    wait_until(lambda: kept_slices(here) > 1)
    second = nursery.start(here, "resume").end()
    assert (second.code, second.err.count("\n")) == (75, 1)
    assert "is being trained by another process" in second.err
    assert first.end(signal.SIGKILL).code == -signal.SIGKILL
    before = passes_of(check_order(here, "ga-0"))
    again = nursery.start(here, "resume", "budget.passes=50", "--json").end()
    assert again.code == 0, again.err
    assert again.data["passes"] >= before > 50


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_run_as_killed_and_says_how_to_go_on(
    number: int, code: int, nursery: Nursery, place: Callable[[str], Path]
) -> None:
    here = place("here")
    child = nursery.start(here, *ENDLESS)
    wait_until(lambda: kept_slices(here) > 1)
    began = time.monotonic()
    done = child.end(number)
    assert time.monotonic() - began < 10
    assert done.code == code
    (path,) = journals(here)
    assert done.err.splitlines()[-1].endswith(f". Go on with: evo-rnn resume {path.name[:8]}")
    assert runs(here) == [("ga - elman3 - seed 0", "KILLED")]
    again = nursery.start(here, "resume", path.name[:8], "stop.generations=1", "--json").end()
    assert again.code == 0, again.err
    assert runs(here) == [("ga - elman3 - seed 0", "FINISHED")]


# On Ray


@pytest.mark.nightly
@pytest.mark.ray
def test_a_run_on_two_workers_that_is_killed_goes_on_without_ray(
    nursery: Nursery, place: Callable[[str], Path]
) -> None:
    whole, broken = place("whole"), place("broken")
    command = (*LONG, "budget.passes=12000")
    end = nursery.start(whole, *command, "--json").end()
    child = nursery.start(broken, *command, "--workers", "2")
    wait_until(lambda: kept_slices(broken) > 1)
    assert child.end(signal.SIGKILL).code == -signal.SIGKILL
    assert passes_of(check_order(broken, "ga-0")) > 0
    done = nursery.start(broken, "resume", "compute.workers=0", "--json").end()
    assert done.code == 0, done.err
    assert "in this process" in done.err
    assert outcome(done.data) == outcome(end.data) | {"run_id": done.data["run_id"]}
    same_history(broken, whole)


@pytest.mark.nightly
@pytest.mark.ray
@pytest.mark.parametrize("method", ["ga", "memetic"])
def test_five_kills_under_changing_numbers_of_workers_change_nothing(
    method: str, nursery: Nursery, place: Callable[[str], Path]
) -> None:
    whole, broken = place("whole"), place("broken")
    command = (*LONG, f"method.name={method}", "budget.passes=60000")
    end = nursery.start(whole, *command, "--json").end()
    child = nursery.start(broken, *command, "--workers", "2")
    for workers in (1, 2, 0, 3, 2):
        seen = kept_slices(broken)
        wait_until(lambda seen=seen: kept_slices(broken) > seen + 1)  # type: ignore[misc]
        assert child.end(signal.SIGKILL).code == -signal.SIGKILL
        child = nursery.start(broken, "resume", f"compute.workers={workers}", "--json")
    done = child.end()
    assert done.code == 0, done.err
    assert outcome(done.data) == outcome(end.data) | {"run_id": done.data["run_id"]}
    same_history(broken, whole)


# For long


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_fifty_kills_at_random_instants_lose_nothing_and_double_nothing(
    nursery: Nursery, place: Callable[[str], Path]
) -> None:
    """Also while it starts, writes, ends and is told to MLflow."""
    kills, rng = 0, np.random.default_rng(2)
    for turn in range(1000):
        method = ("ga", "memetic", "hybrid", "cma_es", "torch", "islands")[turn % 6]
        command = ("run", "sunspots", "model.hidden=3", f"method.name={method}", "budget.passes=6000", f"seed={turn}")
        whole, broken = place(f"whole{turn}"), place(f"broken{turn}")
        began = time.monotonic()
        end = nursery.start(whole, *command, "--json").end()
        assert end.code == 0, end.err
        lasted = time.monotonic() - began
        instants = iter([lambda: time.sleep(rng.uniform(0, lasted)) for _ in range(10)])  # noqa: B023
        done, more = killed_until_over(nursery, broken, command, instants)
        kills += more
        assert done.code == 0, (method, turn, done.err)
        if done.out:
            assert outcome(done.data) == outcome(end.data) | {"run_id": done.data["run_id"]}, (method, turn)
        same_history(broken, whole)
        assert runs(broken) == runs(whole)
        if kills >= 50:
            return
