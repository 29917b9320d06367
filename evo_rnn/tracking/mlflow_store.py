"""The tracker that writes to MLflow, through an outbox on the disk.

A tracker that closes with everything sent leaves nothing on the disk but the store. What it could not send is sent by
the next tracker in the same directory for the same store, or by `sync`.
"""

from __future__ import annotations

import atexit
import getpass
import logging
import shutil
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from evo_rnn.tracking.connection import DIRECTORY, Connection, end_part
from evo_rnn.tracking.delivery import Delivery
from evo_rnn.tracking.outbox import Courier
from evo_rnn.tracking.parts import left_behind, make_part
from evo_rnn.tracking.store import Store, brief, open_store, public, tracking_uri
from evo_rnn.tracking.sweep import HOST, LOCK
from evo_rnn.tracking.tracker import (
    NON_FINITE,
    Status,
    check_name,
    check_status,
    count_text,
    describe_dataset,
    finite,
    new_run_id,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from evo_rnn.shapes import Array

logger = logging.getLogger("evo_rnn.tracking")
AWAY = 3.0  # seconds that are waited for a store that does not answer


class MlflowTracker:
    """Writes runs to MLflow. Numbers go to a file first; a thread sends them on, in batches, again until they arrive.

    A server that is away, from the start or in the middle, stops nothing and loses nothing; each number is stored once.
    Runs that an earlier crash left RUNNING in the experiment are ended as KILLED when the store is first reached.

    Args:
        experiment: its name; made if absent.
        uri: the store; by default MLFLOW_TRACKING_URI, else `sqlite:///mlflow.db` in the working directory.
        directory: where trackers keep what is not sent yet; several at once may share it.
        connect: opens the store, given URI and experiment; tests give one that fails.

    Raises:
        ConfigError: the store can never be used as it is: see `open_store`. A server that is away is no error.
        DiskError: `directory` cannot be written to.
    """

    def __init__(
        self,
        experiment: str,
        uri: str = "",
        directory: Path = DIRECTORY,
        *,
        connect: Callable[[str, str], Store] = open_store,
    ) -> None:
        self.uri = tracking_uri(uri)
        self._dropped: dict[str, Counter[str]] = {}  # by run: numbers that were not finite
        self._open: set[str] = set()
        self._lock, self._time, self._closed = threading.Lock(), 0, False
        connection = Connection(connect, self.uri, experiment)
        self._parts = left_behind(directory, self.uri)
        try:
            connection.attempt()
            self._parts.append(make_part(directory, self.uri, experiment))
        except Exception:
            self._let_go()
            raise
        self._connections = [Connection(connect, self.uri, part.experiment) for part in self._parts[:-1]]
        self._connections.append(connection)
        pairs = zip(self._connections, self._parts, strict=True)
        self._deliveries = [Delivery(each, part.path) for each, part in pairs]
        self._courier = Courier([part.outbox for part in self._parts], self._deliver, self._emptied)
        atexit.register(self.close)

    def start(
        self, name: str, *, params: Mapping[str, object], tags: Mapping[str, str], parent: str = "", run: str = ""
    ) -> str:
        """Begin a run, or go on with `run`, and return its id; it is in MLflow a moment later."""
        run = run or new_run_id()
        if not run.isalnum():
            raise ValueError(f"run should be an id that start returned but is {run!r}.")
        texts = {check_name(key, "a parameter"): str(value) for key, value in params.items()}
        fixed = {LOCK: str(self._parts[-1].path / "lock"), HOST: socket.gethostname()}
        origin = {"mlflow.user": _user(), "mlflow.source.name": "evo-rnn", "mlflow.source.type": "LOCAL"}
        self._dropped.setdefault(run, Counter())
        self._open.add(run)
        self._put("start", run, name=name, params=texts, tags={**origin, **tags, **fixed}, parent=parent)
        return run

    def log(self, run: str, metrics: Mapping[str, float], step: int) -> None:
        """Store the finite numbers at `step`."""
        kept, dropped = finite(metrics)
        self._dropped[run].update(dropped)
        if kept:
            self._put("log", run, metrics=kept, step=int(step))

    def tag(self, run: str, tags: Mapping[str, str]) -> None:
        """Set tags, also on a run that has ended."""
        self._put("tag", run, tags=dict(tags))

    def artifact(self, run: str, path: Path, folder: str = "") -> None:
        """Keep a copy of a file or of a directory's content, and send it."""
        inside = Path(uuid.uuid4().hex) / path.name
        copy = self._parts[-1].path / "spool" / inside
        if not path.exists():
            raise FileNotFoundError(f"artifact should be a file or a directory, but there is no {path}.")
        try:
            copy.parent.mkdir(parents=True)
            if path.is_dir():
                shutil.copytree(path, copy)
            else:
                shutil.copyfile(path, copy)
        except OSError as error:  # a full disk must not stop the program
            logger.warning("tracking: %s was not kept: %s. Free space.", path, brief(error))
            return
        self._put("artifact", run, path=inside.as_posix(), folder=folder)

    def dataset(self, run: str, name: str, arrays: Mapping[str, Array], context: str = "training") -> None:
        """Name the data of the run."""
        self._put("dataset", run, dataset=describe_dataset(name, arrays, context))

    def finish(self, run: str, status: Status = "FINISHED") -> None:
        """End a run, unless it has ended."""
        check_status(status)
        dropped = self._dropped[run]
        if run in self._open:
            self._open.remove(run)
            if dropped:
                self._put("tag", run, tags={NON_FINITE: count_text(dropped)})
            self._put("finish", run, status=status)

    def close(self, timeout: float = 60.0) -> None:
        """End open runs as KILLED, send what is left, at most `timeout` seconds, and let go of the lock.

        What could not be sent stays on the disk for the next tracker or `sync`; a warning says so.
        """
        if self._closed:
            return
        for run in sorted(self._open):
            self.finish(run, "KILLED")
        self._closed = True
        atexit.unregister(self.close)
        sent = self._courier.drain(self._patience(timeout))
        self._courier.stop()
        if not sent:
            logger.warning(
                "tracking: %s did not take everything in time (%s). The rest is kept in %s and is sent by the next run "
                "there, or by evo_rnn.tracking.sync.",
                public(self.uri),
                self._courier.error or "too slow",
                self._parts[-1].path.parent,
            )
        self._let_go()

    @property
    def experiment_id(self) -> str:
        """MLflow's id of the experiment; empty while the store has not been reached."""
        return self._connections[-1].experiment_id

    def mlflow_run_id(self, run: str) -> str:
        """Return MLflow's id of a run; empty while the run is not in the store yet."""
        return self._deliveries[-1].ids.get(run, "")

    def with_client(self, work: Callable[[MlflowClient], object], timeout: float = 30.0) -> bool:
        """Send what is waiting, then call `work` with MLflow's client; return whether that was done.

        Meant for what has no place in the outbox, such as logging a model. A store that does not answer, or that goes
        away in the middle, is reported and not raised.
        """
        from mlflow.exceptions import MlflowException

        if not self._courier.drain(self._patience(timeout)):
            logger.warning("tracking: %s does not answer; this was left out.", public(self.uri))
            return False
        try:
            work(self._connections[-1]().client)
        except (MlflowException, OSError) as error:
            logger.warning("tracking: %s did not take this: %s", public(self.uri), brief(error))
            return False
        return True

    def _patience(self, timeout: float) -> float:
        """How long to wait: not long for a store that has not answered lately."""
        return min(timeout, AWAY) if self._courier.error else timeout

    def _put(self, kind: str, run: str, **values: object) -> None:
        self._dropped[run]  # an unknown run raises here
        with self._lock:
            self._time = max(self._time, time.time_ns() // 1_000_000)  # never backwards, whatever the clock does
            self._parts[-1].outbox.append({"kind": kind, "run": run, "time": self._time, **values})
        self._courier.wake()

    def _deliver(self, index: int, records: list[dict[str, object]]) -> None:
        self._deliveries[index].send(records)

    def _emptied(self, index: int) -> None:
        end_part(self._parts[index], self._connections[index])

    def _let_go(self) -> None:
        for part in self._parts:
            part.close(remove=part.outbox.empty)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"
