"""Trackers: the same rows in memory and in MLflow, and nothing lost or stored twice whatever happens to the store."""

from __future__ import annotations

import contextlib
import json
import math
import resource
import signal
import sqlite3
import statistics
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evo_rnn.errors import ConfigError, RetryError
from evo_rnn.tracking import MemoryTracker, MlflowTracker, Tracker, open_client, sweep, sync, tracking_uri
from evo_rnn.tracking.outbox import COMPACT, Courier, Outbox
from evo_rnn.tracking.store import Store, open_store

# MLflow 3.17 on SQLAlchemy 2.1.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")

NewStore = Callable[[], str]


def nothing(client: Any) -> None:
    """Work for `with_client` when only the wait before it is wanted."""


def stored_run(uri: str, run: str) -> Any:
    client = open_client(uri)
    experiments = [found.experiment_id for found in client.search_experiments()]
    (row,) = client.search_runs(experiments, f"tags.`evo.run` = '{run}'")
    return row


def stored_rows(uri: str, run: str) -> list[tuple[str, float, int]]:
    """Every number that the store holds for a run, read with SQL: no view of MLflow hides a double."""
    with contextlib.closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as database:
        query = "select key, value, step from metrics where run_uuid = ?"
        return sorted(database.execute(query, [stored_run(uri, run).info.run_id]).fetchall())


def steps(uri: str, run: str) -> list[int]:
    return sorted(step for _, _, step in stored_rows(uri, run))


# the same script over both ---------------------------------------------------------------------------------------


def script(tracker: Tracker, folder: Path) -> list[str]:
    (folder / "deep").mkdir(parents=True)
    (folder / "config.yaml").write_text("a: 1\n")
    (folder / "deep" / "weights").write_bytes(b"\x00\x01")
    parent = tracker.start("compare", params={"task": "sunspots"}, tags={"evo.kind": "comparison"})
    child = tracker.start("ga", params={"seed": 3, "rate": 1e-3}, tags={"evo.kind": "trial"}, parent=parent)
    tracker.dataset(child, "sunspots", {"inputs": np.ones((2, 5, 1)), "targets": np.zeros((2, 5, 1))}, "training")
    for step in range(5):
        tracker.log(child, {"train/loss": 1.0 / (step + 1), "gradient/norm": math.inf if step == 2 else 1.0}, step)
    tracker.log(child, {"train/loss": math.nan}, 5)
    tracker.artifact(child, folder / "config.yaml")
    tracker.artifact(child, folder, "all")
    (folder / "config.yaml").write_text("changed afterwards")
    tracker.tag(child, {"note": "first"})
    tracker.tag(child, {"note": "second"})
    tracker.finish(child, "FINISHED")
    tracker.finish(child, "FAILED")
    tracker.start("open", params={}, tags={})
    tracker.finish(parent, "FAILED")
    tracker.close()
    return [parent, child]


def test_memory_and_mlflow_hold_the_same_rows(new_store: NewStore, tmp_path: Path) -> None:
    uri, memory = new_store(), MemoryTracker()
    ids = script(memory, tmp_path / "one")
    tracker = MlflowTracker("demo", uri)
    mlflow_ids = script(tracker, tmp_path / "two")
    client = open_client(uri)
    for mine, theirs in zip(ids, mlflow_ids, strict=True):
        want, found = memory.runs[mine], stored_run(uri, theirs)
        assert found.info.run_id == tracker.mlflow_run_id(theirs)
        assert found.info.run_name == want.name
        assert found.info.status == want.status
        assert found.data.params == want.params
        assert want.tags.items() <= found.data.tags.items()
        assert sorted(want.metrics) == stored_rows(uri, theirs)
        kept = Path(found.info.artifact_uri)
        files = {str(p.relative_to(kept)): p.read_bytes() for p in kept.rglob("*") if p.is_file()}
        assert files == want.artifacts
        digests = [entry.dataset.digest for entry in found.inputs.dataset_inputs]
        assert digests == [data["digest"] for data in want.datasets]
    child = stored_run(uri, mlflow_ids[1])
    assert child.data.tags["mlflow.parentRunId"] == tracker.mlflow_run_id(mlflow_ids[0])
    assert child.data.tags["evo.nonfinite"] == "gradient/norm 1, train/loss 1"
    assert sorted(run.status for run in memory.runs.values()) == ["FAILED", "FINISHED", "KILLED"]
    assert not client.search_runs([tracker.experiment_id], "attributes.status = 'RUNNING'")
    assert not list(Path(".evo-rnn/tracking").iterdir())  # everything is sent: nothing is left beside the store


@pytest.mark.parametrize("make", [MemoryTracker, lambda: MlflowTracker("demo")])
def test_names_and_runs_that_cannot_be_are_refused_at_the_door(make: Callable[[], Any], new_store: NewStore) -> None:
    new_store()
    tracker = make()
    run = tracker.start("ga", params={}, tags={})
    for bad in ("a@b", "", "/a", "a//b", "a/../b", "x" * 251):
        with pytest.raises(ValueError, match="the name of a metric"):
            tracker.log(run, {bad: 1.0}, 0)
    with pytest.raises(ValueError, match="the name of a parameter"):
        tracker.start("ga", params={"a@b": 1}, tags={})
    with pytest.raises(ValueError, match="status should be one of"):
        tracker.finish(run, "DONE")
    with pytest.raises(KeyError):
        tracker.log("unknown", {"a": 1.0}, 0)
    tracker.close()
    tracker.close()


# a store that is away --------------------------------------------------------------------------------------------


class Flaky:
    """A client that fails: before the call, or after the store has already taken it."""

    def __init__(self, client: Any, fails: Callable[[str], str]) -> None:
        self._client, self._fails = client, fails

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*arguments: Any, **options: Any) -> Any:
            how = self._fails(name)
            if how == "before":
                raise ConnectionError("away")
            answer = method(*arguments, **options)
            if how == "after":
                raise ConnectionError("died after the commit")
            return answer

        return call


@pytest.mark.parametrize("how", ["before", "after"])
def test_a_store_that_fails_again_and_again_gets_every_step_exactly_once(
    how: str, new_store: NewStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Courier, "_sleep", lambda self, _: self._stop.wait(0.02))  # how long is not in question here
    uri, calls = new_store(), Counter[str]()

    def fails(name: str) -> str:
        calls[name] += 1
        return how if calls[name] % 3 == 1 else ""

    tracker = MlflowTracker(
        "demo",
        uri,
        connect=lambda *where: Store(Flaky(open_store(*where).client, fails), open_store(*where).experiment_id),
    )
    run = tracker.start("ga", params={"seed": 1}, tags={})
    for step in range(30):
        tracker.log(run, {"train/loss": 1.0 / (step + 1)}, step)
        if step % 10 == 0:
            tracker.with_client(nothing)  # a request of its own
    tracker.finish(run)
    tracker.close()
    assert calls["log_batch"] > 4
    assert steps(uri, run) == list(range(30))
    assert stored_run(uri, run).info.status == "FINISHED"


def test_a_store_that_is_away_from_the_start_gets_the_run_once_it_is_back(
    new_store: NewStore, caplog: pytest.LogCaptureFixture
) -> None:
    uri, back = new_store(), threading.Event()

    def connect(*where: str) -> Store:
        if not back.is_set():
            raise ConnectionError("refused")
        return open_store(*where)

    tracker = MlflowTracker("demo", uri, connect=connect)
    assert "working without it" in caplog.text
    run = tracker.start("ga", params={}, tags={})
    tracker.log(run, {"a": 1.0}, 0)
    assert tracker.experiment_id == tracker.mlflow_run_id(run) == ""
    assert not tracker.with_client(nothing, timeout=0.3)
    back.set()
    tracker.log(run, {"a": 2.0}, 1)
    tracker.finish(run)
    tracker.close()
    assert steps(uri, run) == [0, 1]
    assert stored_run(uri, run).info.run_id == tracker.mlflow_run_id(run)


class Stub(BaseHTTPRequestHandler):
    """An HTTP server that is not well; `answer` of its server says how."""

    def do_GET(self) -> None:
        """Answer as the server is told to."""
        status, body = self.server.answer  # type: ignore[attr-defined]
        if not status:
            time.sleep(3)
            return
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def stub() -> Iterator[Any]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    server.daemon_threads = True
    server.answer = (500, b"")  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    "answer",
    [
        (500, b"<html>oops"),
        (503, b'{"error_code": "TEMPORARILY_UNAVAILABLE"}'),
        (429, b"slow down"),
        (404, b"<html>default backend"),
        (200, b"<html>log in here"),
        (0, b""),
    ],
    ids=["500", "503", "429", "404-of-a-proxy", "200-of-a-portal", "black-hole"],
)
def test_a_sick_server_slows_nothing_and_loses_nothing(
    answer: tuple[int, bytes],
    stub: Any,
    new_store: NewStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    uri = new_store()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    stub.answer = answer
    tracker = MlflowTracker("demo", f"http://user:secret@127.0.0.1:{stub.server_port}")
    run = tracker.start("ga", params={}, tags={})
    times = []
    for step in range(50):
        before = time.perf_counter()
        tracker.log(run, {"train/loss": 1.0}, step)
        times.append(time.perf_counter() - before)
    tracker.close(timeout=0.3)
    assert statistics.median(times) < 0.005
    assert "did not take everything" in caplog.text
    assert "secret" not in caplog.text
    (left,) = Path(".evo-rnn/tracking").iterdir()
    if answer[0] == 500:
        with pytest.raises(RetryError, match="should answer but does not"):
            sync()
    where = json.loads((left / "store.json").read_text())
    (left / "store.json").write_text(json.dumps({**where, "uri": uri}))  # the same store, well again
    assert sync() >= 52
    assert steps(uri, run) == list(range(50))
    assert stored_run(uri, run).info.status == "KILLED"
    assert not left.exists()


def test_a_proxy_that_answers_for_a_server_that_is_gone_is_not_believed(stub: Any, new_store: NewStore) -> None:
    uri = new_store()
    store = open_store(uri, "demo")
    sick, now = open_client(f"http://127.0.0.1:{stub.server_port}"), [store.client]

    class Switched:
        def __getattr__(self, name: str) -> Any:
            return getattr(now[0], name)

    there = Store(Switched(), store.experiment_id)  # type: ignore[arg-type]
    tracker = MlflowTracker("demo", uri, connect=lambda *_: there)
    run = tracker.start("ga", params={}, tags={})
    assert tracker.with_client(nothing)
    now[0] = sick
    for step, status in enumerate((400, 404)):
        stub.answer = (status, b"<html>no such backend")
        tracker.log(run, {"a": 1.0}, step)
        assert not tracker.with_client(nothing, timeout=1.0)
    now[0] = store.client
    tracker.close()
    assert steps(uri, run) == [0, 1]


def test_a_run_deleted_by_its_user_does_not_hold_up_the_others(
    new_store: NewStore, caplog: pytest.LogCaptureFixture
) -> None:
    uri = new_store()
    tracker = MlflowTracker("demo", uri)
    runs = [tracker.start(name, params={}, tags={}) for name in ("deleted", "other")]
    tracker.with_client(lambda client: client.delete_run(tracker.mlflow_run_id(runs[0])))
    for run in runs:
        tracker.log(run, {"a": 1.0}, 0)
    tracker.close()
    assert steps(uri, runs[1]) == [0]
    assert caplog.text.count("the store refuses records of run") == 1


def test_a_file_that_can_never_be_sent_does_not_hold_up_the_numbers(
    new_store: NewStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    uri = new_store()
    monkeypatch.setattr("evo_rnn.tracking.delivery.TRIES", 3)

    def connect(*where: str) -> Store:
        store = open_store(*where)
        never = Flaky(store.client, lambda name: "before" if name == "log_artifact" else "")
        return Store(never, store.experiment_id)  # type: ignore[arg-type]

    tracker = MlflowTracker("demo", uri, connect=connect)
    run = tracker.start("ga", params={}, tags={})
    tracker.artifact(run, Path(__file__))
    tracker.log(run, {"a": 1.0}, 0)
    with pytest.raises(FileNotFoundError, match="there is no"):
        tracker.artifact(run, Path("absent.png"))
    tracker.close()
    assert steps(uri, run) == [0]
    assert stored_run(uri, run).info.status == "KILLED"
    assert "refuses records" in caplog.text


def test_what_was_left_for_a_deleted_experiment_does_not_hold_up_the_next_program(
    new_store: NewStore, caplog: pytest.LogCaptureFixture
) -> None:
    uri = new_store()

    def away(*_: str) -> Store:
        raise ConnectionError("away")

    first = MlflowTracker("deleted", uri, connect=away)
    first.start("ga", params={}, tags={})
    first.close(timeout=0.1)
    client = open_client(uri)
    client.delete_experiment(client.create_experiment("deleted"))
    second = MlflowTracker("demo", uri)
    run = second.start("ga", params={}, tags={})
    second.log(run, {"a": 1.0}, 0)
    second.close()
    assert steps(uri, run) == [0]
    assert "cannot be sent: the experiment 'deleted' should be active" in caplog.text
    (left,) = Path(".evo-rnn/tracking").iterdir()  # still there, should the experiment be restored
    client.restore_experiment(client.get_experiment_by_name("deleted").experiment_id)
    assert sync() == 2
    assert not left.exists()


# processes that are killed ---------------------------------------------------------------------------------------

CHILD = """
import sys, time
from evo_rnn.tracking import MlflowTracker
from evo_rnn.tracking.store import open_store
away = sys.argv[2] == "away"
def connect(*where):
    if away:
        raise ConnectionError("away")
    return open_store(*where)
tracker = MlflowTracker("demo", sys.argv[1], connect=connect)
run = tracker.start("ga", params={"seed": 1}, tags={})
for step in range(20):
    tracker.log(run, {"train/loss": 1.0, "budget/passes": step}, step)
if not away:
    tracker.with_client(str)
print(run, flush=True)
time.sleep(600)
"""


@contextlib.contextmanager
def child(uri: str, how: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A program that logs twenty steps and then lives on; gives the process and its run's id."""
    command = [sys.executable, "-c", textwrap.dedent(CHILD), uri, how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def test_sweep_ends_the_runs_of_killed_programs_and_no_others(new_store: NewStore) -> None:
    uri = new_store()
    client = open_client(uri)
    foreign = client.create_run("0", tags={"owner": "another program"}).info.run_id
    with child(uri, "online") as (alive, living), child(uri, "online") as (dead, killed):
        assert stored_run(uri, killed).info.status == "RUNNING"
        dead.send_signal(signal.SIGKILL)
        dead.wait()
        ended = sweep(uri)
        assert ended == [stored_run(uri, killed).info.run_id]
        assert stored_run(uri, killed).info.status == "KILLED"
        assert stored_run(uri, killed).data.tags["evo.end_reason"] == "crash_detected"
        assert stored_run(uri, living).info.status == "RUNNING"
        assert client.get_run(foreign).info.status == "RUNNING"
        assert alive.poll() is None
    assert sweep(uri, "demo") == [stored_run(uri, living).info.run_id]
    assert sweep(uri, "no such experiment") == []


def test_what_a_killed_program_could_not_send_is_sent_by_the_next_and_its_run_goes_on(new_store: NewStore) -> None:
    uri = new_store()
    with child(uri, "away") as (process, run):
        process.send_signal(signal.SIGKILL)
    tracker = MlflowTracker("demo", uri)
    tracker.with_client(nothing)
    assert steps(uri, run) == sorted([*range(20), *range(20)])  # two numbers a step
    assert stored_run(uri, run).info.status == "KILLED"
    assert tracker.start("ga", params={"seed": 1, "new": 2}, tags={}, run=run) == run
    for step in range(15, 25):  # from its last checkpoint, so some steps come again, at another time
        tracker.log(run, {"train/loss": 1.0, "budget/passes": step}, step)
    tracker.finish(run)
    tracker.close()
    assert steps(uri, run) == sorted([*range(25), *range(25)])
    assert stored_run(uri, run).info.status == "FINISHED"
    assert stored_run(uri, run).data.params == {"seed": "1", "new": "2"}
    assert not list(Path(".evo-rnn/tracking").iterdir())


def test_two_programs_may_make_the_same_new_database_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from evo_rnn.tracking.store import open_store as go; print(go(sys.argv[1], 'demo').experiment_id)"
    )
    command = [sys.executable, "-c", code, f"sqlite:///{tmp_path}/new.db"]
    with contextlib.ExitStack() as stack:
        both = [
            stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
            for _ in range(2)
        ]
        answers = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], answers
    assert answers[0] == answers[1] == ("1\n", "")  # the same experiment, and not a word on the way


# the outbox ------------------------------------------------------------------------------------------------------


def numbers(box: Outbox) -> list[int]:
    return [record["n"] for record in box.pending()[0] if record]


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 400), junk=st.binary(max_size=12))
def test_an_outbox_cut_anywhere_keeps_what_was_whole(tmp_path: Path, cut: int, junk: bytes) -> None:
    path = tmp_path / f"{cut}-{junk.hex()}"
    first = Outbox(path)
    for n in range(20):
        first.append({"n": n, "text": "ä\n"})
    first.close()
    file = path / "outbox.jsonl"
    whole = file.read_bytes()[:cut]
    file.write_bytes(whole + junk.replace(b"\n", b""))
    again = Outbox(path)
    again.append({"n": 99})
    assert numbers(again) == [*range(whole.count(b"\n")), 99]
    again.close()


def test_an_outbox_that_is_delivered_gives_its_space_back_and_loses_nothing(tmp_path: Path) -> None:
    box, got = Outbox(tmp_path), []
    for n in range(1500):
        box.append({"n": n, "text": "x" * 1000})
    while not box.empty:
        records, offset = box.pending()
        got += [record["n"] for record in records]
        box.acknowledge(offset)
    assert got == list(range(1500))
    assert (tmp_path / "outbox.jsonl").stat().st_size == 0 < COMPACT
    box.append({"n": 7})
    box.close()
    again = Outbox(tmp_path)
    assert numbers(again) == [7]
    again.close()


def test_a_full_disk_keeps_records_in_memory_until_there_is_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    box = Outbox(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        for n in range(100):
            box.append({"n": n, "text": "x" * 20})
        written = len(numbers(box))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert 0 < written < 100
    assert not box.empty
    assert numbers(box) == list(range(100))
    assert caplog.text.count("cannot write to the disk") == 1
    box.close()


# which store -----------------------------------------------------------------------------------------------------


def test_the_default_store_is_mlflows_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://example.test:5000")
    assert tracking_uri() == "http://example.test:5000"
    assert tracking_uri("sqlite:///other.db") == f"sqlite:///{tmp_path}/other.db"


def spoil(database: Path, how: str) -> str:
    """Make a store that can never be used, and return its URI."""
    if how == "old file store":
        (Path("mlruns") / "0").mkdir(parents=True)
        (Path("mlruns") / "0" / "meta.yaml").write_text("name: Default\n")
        return ""
    if how == "not a database":
        database.write_text("a text file of some length")
    if how == "schema":
        with contextlib.closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("update alembic_version set version_num = '451aebb31d03'")
    if how == "deleted":
        client = open_client(f"sqlite:///{database}")
        client.delete_experiment(client.create_experiment("demo"))
    places = {"folder": "sqlite:///no/such/folder/mlflow.db", "file store": "./mlruns", "directory": "sqlite:////tmp"}
    return places.get(how, f"sqlite:///{database}")


@pytest.mark.parametrize(
    ("how", "cure"),
    [
        ("old file store", "mlflow migrate-filestore"),
        ("file store", "sqlite:///mlflow.db"),
        ("not a database", "MLFLOW_TRACKING_URI"),
        ("folder", "there is no"),
        ("directory", "is a directory"),
        ("schema", "mlflow db upgrade sqlite:///"),
        ("deleted", "mlflow experiments restore"),
    ],
)
def test_a_store_that_can_never_work_is_refused_with_the_cure(how: str, cure: str, new_store: NewStore) -> None:
    uri = spoil(Path(new_store().removeprefix("sqlite:///")), how)
    with pytest.raises(ConfigError, match=cure) as caught:
        MlflowTracker("demo", uri)
    assert "\n" not in str(caught.value)
    assert not list(Path(".evo-rnn").rglob("lock"))


def test_importing_the_tracking_room_imports_nothing_heavy() -> None:
    code = "import sys, evo_rnn.tracking; print({'mlflow', 'torch', 'numpy', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_times_never_run_backwards(new_store: NewStore, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = new_store()
    tracker = MlflowTracker("demo", uri)
    run = tracker.start("ga", params={}, tags={})
    tracker.log(run, {"a": 1.0}, 0)
    clock = SimpleNamespace(time_ns=lambda: 1, monotonic=time.monotonic)
    monkeypatch.setattr("evo_rnn.tracking.mlflow_store.time", clock)
    tracker.log(run, {"a": 1.0}, 1)
    tracker.close()
    history = open_client(uri).get_metric_history(tracker.mlflow_run_id(run), "a")
    times = {row.step: row.timestamp for row in history}
    assert times[0] <= times[1]
