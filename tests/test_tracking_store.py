"""The store at its edges: a server that is dead is not waited for, a database is made whole, a password stays private."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from evo_rnn.errors import DiskError
from evo_rnn.tracking import MemoryTracker, MlflowTracker, mlflow_store, open_client
from evo_rnn.tracking.store import open_store, private, public
from trainers.commands import contest, launch, solo
from trainers.commands.frame import going, new_journal
from trainers.commands.plan import entrants, planned
from trainers.commands.request import Request
from trainers.experiments.builders import trainer_of

# MLflow 3.17 on SQLAlchemy 2.1.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")

STORE = "tracking.uri=http://someone:hunter2@127.0.0.1:9"


def dead_server() -> str:
    """The address of a server that is gone."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_a_dead_server_is_waited_for_shortly_and_a_live_one_as_long_as_was_asked(
    new_store: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    new_store()
    assert 0 < mlflow_store.AWAY <= 5, "a user waits for it twice"
    monkeypatch.setattr(mlflow_store, "AWAY", 0.4)
    tracker = MlflowTracker("demo", dead_server())
    run = tracker.start("ga", params={}, tags={})
    end = time.monotonic() + 30
    while not tracker._courier.error:  # the first attempt has failed
        assert time.monotonic() < end
        time.sleep(0.02)
    began = time.monotonic()
    assert not tracker.with_client(lambda _: None)  # 30 s by default
    tracker.close()  # 60 s by default
    assert 0.8 <= time.monotonic() - began < 10
    assert tracker.mlflow_run_id(run) == ""
    assert tracker._patience(0.1) == 0.1
    tracker._courier.error = ""
    assert tracker._patience(60.0) == 60.0


MAKE = """
import sys
from evo_rnn.tracking.store import open_client
import mlflow
print("imported", flush=True)
open_client("sqlite:///mlflow.db")
"""


def test_a_program_killed_while_it_makes_the_database_leaves_none_that_is_half_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    process = subprocess.Popen([sys.executable, "-c", MAKE], cwd=tmp_path, stdout=subprocess.PIPE)
    end = time.monotonic() + 60
    while not any(path.stat().st_size for path in tmp_path.glob(".mlflow.db.*.new")):  # some tables are there
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "mlflow.db").exists()
    assert list(tmp_path.glob(".mlflow.db.*.new")), "it was killed in the middle"
    assert open_store("sqlite:///" + str(tmp_path / "mlflow.db"), "demo").experiment_id == "1"
    assert (tmp_path / "mlflow.db").stat().st_size > 100_000


def test_a_database_that_cannot_be_made_is_a_disk_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    from mlflow.exceptions import MlflowException

    class Full:
        def __init__(self, tracking_uri: str) -> None:
            self.path = Path(tracking_uri.removeprefix("sqlite:///"))

        def search_experiments(self, **_: object) -> None:
            for suffix in ("", "-journal"):
                self.path.with_name(self.path.name + suffix).write_bytes(b"SQLite format 3\0half")
            raise MlflowException("(sqlite3.OperationalError) database or disk is full")

    monkeypatch.setattr(mlflow, "MlflowClient", Full)
    with pytest.raises(DiskError, match=r"could not be made: .*full\. Make room and try again."):
        open_client(f"sqlite:///{tmp_path}/mlflow.db")
    assert list(tmp_path.iterdir()) == []


def test_the_password_of_a_store_comes_back_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    known = "https://someone:hunter2@tracks.example/api"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", known)
    assert private(public(known)) == known
    assert private("https://tracks.example/other") == "https://tracks.example/other"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert private(public(known)) == public(known)


def test_a_password_is_in_no_config_that_is_printed_or_kept(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    request = Request("sunspots", [STORE, "budget.passes=60"])
    plan = planned(request, many=False)
    assert "hunter2" in plan.config.tracking.uri
    for many in (True, False):
        launch.dry_run(request, many=many)
    memory = MemoryTracker()
    with going(new_journal(plan, many=False)) as journal:
        solo._page(plan, trainer_of(plan.config.method, plan.task), memory, journal)
    (run,) = memory.runs.values()
    kept = run.artifacts["config.yaml"].decode()
    field = contest._field(plan, entrants(plan.config, plan.model)[0])
    with going(new_journal(plan, many=True)) as journal:
        book = contest._book(plan, field, memory, journal)
    journals = [path.read_text() for path in Path(".evo-rnn").rglob("*") if path.is_file()]
    assert len(journals) >= 4, "a page about each run, and its config"
    assert not any("hunter2" in text or "someone" in text for text in journals)
    for text in (kept, book.config, *capsys.readouterr().out.split("\ntracking:")[1:]):
        assert "127.0.0.1:9" in text
        assert "hunter2" not in text
        assert "someone" not in text
    for each in memory.runs.values():
        assert "hunter2" not in str(each.params) + str(each.tags)
