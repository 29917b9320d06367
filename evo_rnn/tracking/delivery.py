"""Turns records of an outbox into calls of an MLflow client, so that a second delivery changes nothing.

* A run carries its local id in the tag `evo.run`; it is looked for before it is made.
* A number is stored under (name, time, step, value), and its time is fixed when it is logged: sent twice, it is one.
* A run that goes on in a new process asks once which steps it has, and leaves those out.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from evo_rnn.tracking.outbox import Record, replace_text
from evo_rnn.tracking.store import Store, brief

logger = logging.getLogger("evo_rnn.tracking")

RUN = "evo.run"  # the tag with the local id
ENTITIES = 1000  # MLflow's limits for one request: numbers, and parameters
PARAMS = 100
TRIES = 10  # of one file, while the store takes other records: 80 s
# What trying again will not mend: the run was deleted meanwhile, or a value is one that MLflow refuses.
FINAL = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "BAD_REQUEST", "INVALID_STATE", "MALFORMED_REQUEST"}


class Delivery:
    """Delivers the records of one outbox.

    Args:
        connect: returns the open store, or raises while it cannot be reached. Called until it succeeds.
        directory: the outbox's; holds `runs.json` (local id to MLflow's) and `spool/` (files on their way).
    """

    def __init__(self, connect: Callable[[], Store], directory: Path) -> None:
        self._connect, self._directory = connect, directory
        self._ids_file = directory / "runs.json"
        self.ids: dict[str, str] = {}
        with contextlib.suppress(OSError, ValueError):  # absent or damaged: runs are found again by their tag
            self.ids = json.loads(self._ids_file.read_text())
        self._stored: dict[str, dict[str, set[int]]] = {}  # of runs that go on: name -> steps they have
        self._lost: set[str] = set()  # runs of which a loss was reported
        self._tries = 0
        self._calls: dict[str, Callable[[Store, str, Record], None]] = {
            "start": self._start,
            "tag": self._tag,
            "artifact": self._artifact,
            "dataset": self._dataset,
            "finish": self._finish,
        }

    def send(self, records: Iterable[Record]) -> None:
        """Deliver records in order; numbers of one run that follow each other go in one request."""
        store = self._connect()
        numbers: dict[str, list[Record]] = {}
        for record in filter(None, records):
            run, kind = record["run"], record["kind"]
            if kind == "log":
                numbers.setdefault(run, []).append(record)
                continue
            self._try(run, self._log, store, numbers.pop(run, []))
            self._try(run, self._calls[kind], store, record)
        for run, rows in numbers.items():
            self._try(run, self._log, store, rows)

    def _try(self, run: str, call: Callable[..., None], store: Store, item: object) -> None:
        """Call, and give up, once reported, what will never succeed, so that it does not hold up everything else."""
        try:
            call(store, run, item)
        except Exception as error:
            if not _is_final(error) and not (call == self._artifact and self._hopeless(store, run, error)):
                raise
            if run not in self._lost:
                self._lost.add(run)
                logger.warning("tracking: the store refuses records of run %s: %s", run, brief(error))

    def _hopeless(self, store: Store, run: str, error: Exception) -> bool:
        """Whether a file failed often enough, while the store itself can be written to, as a tag shows."""
        store.client.set_tag(self._resolve(store, run), "evo.artifact_error", brief(error))
        self._tries += 1
        if self._tries < TRIES:
            return False
        self._tries = 0
        return True

    def _start(self, store: Store, run: str, record: Record) -> None:
        tags = {**record["tags"], RUN: run}
        if record["parent"]:
            tags["mlflow.parentRunId"] = self._resolve(store, record["parent"])
        old = _find(store, run)
        if old is None:
            made = store.client.create_run(store.experiment_id, record["time"], tags, record["name"])
            self.ids[run] = made.info.run_id
            params = record["params"]
        else:
            self.ids[run] = old.info.run_id
            self._stored[run] = {}
            params = {key: value for key, value in record["params"].items() if key not in old.data.params}
            self._log_tags(store, run, tags)
            if old.info.status != "RUNNING":
                store.client.update_run(old.info.run_id, status="RUNNING")
        replace_text(self._ids_file, json.dumps(self.ids))
        self._log_params(store, run, params)

    def _log_params(self, store: Store, run: str, params: dict[str, str]) -> None:
        from mlflow.entities import Param

        rows = [Param(key, value) for key, value in params.items()]
        for first in range(0, len(rows), PARAMS):
            store.client.log_batch(self.ids[run], params=rows[first : first + PARAMS], synchronous=True)

    def _log_tags(self, store: Store, run: str, tags: dict[str, str]) -> None:
        from mlflow.entities import RunTag

        rows = [RunTag(key, value) for key, value in tags.items()]
        store.client.log_batch(self._resolve(store, run), tags=rows, synchronous=True)

    def _log(self, store: Store, run: str, records: list[Record]) -> None:
        from mlflow.entities import Metric

        rows = [
            Metric(name, value, record["time"], record["step"])
            for record in records
            for name, value in record["metrics"].items()
            if record["step"] not in self._steps(store, run, name)
        ]
        for first in range(0, len(rows), ENTITIES):
            store.client.log_batch(self._resolve(store, run), metrics=rows[first : first + ENTITIES], synchronous=True)

    def _steps(self, store: Store, run: str, name: str) -> set[int]:
        """Return the steps that a run which goes on had stored for a number; empty for a run that is new."""
        if run not in self._stored:
            return set()
        stored = self._stored[run]
        if name not in stored:
            stored[name] = {row.step for row in store.client.get_metric_history(self.ids[run], name)}
        return stored[name]

    def _tag(self, store: Store, run: str, record: Record) -> None:
        self._log_tags(store, run, record["tags"])

    def _artifact(self, store: Store, run: str, record: Record) -> None:
        inside = PurePosixPath(record["path"])
        if inside.is_absolute() or ".." in inside.parts:
            return
        path = self._directory / "spool" / inside
        if not path.exists():
            return  # delivered before, and removed
        send = store.client.log_artifacts if path.is_dir() else store.client.log_artifact
        send(self._resolve(store, run), str(path), record["folder"] or None)
        shutil.rmtree(path.parent)

    def _dataset(self, store: Store, run: str, record: Record) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        data = record["dataset"]
        source = json.dumps({"tags": {"mlflow.source.name": "evo-rnn", "mlflow.source.type": "LOCAL"}})
        entity = Dataset(data["name"], data["digest"], "code", source, data["schema"], data["profile"])
        context = InputTag("mlflow.data.context", data["context"])
        store.client.log_inputs(self._resolve(store, run), [DatasetInput(entity, [context])])

    def _finish(self, store: Store, run: str, record: Record) -> None:
        store.client.set_terminated(self._resolve(store, run), record["status"], record["time"])

    def _resolve(self, store: Store, run: str) -> str:
        """Return MLflow's id of a run, of this process or of an earlier one."""
        if run not in self.ids:
            from mlflow.exceptions import MlflowException
            from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

            found = _find(store, run)
            if found is None:
                raise MlflowException(f"there is no run {run} in the store", RESOURCE_DOES_NOT_EXIST)
            self.ids[run] = found.info.run_id
        return self.ids[run]


def _is_final(error: Exception) -> bool:
    """Whether MLflow itself says no, not a proxy before it: that one answers 400 or 404 in a form of its own."""
    from_proxy = str(error).startswith("API request to endpoint")
    return getattr(error, "error_code", "") in FINAL and not from_proxy


def _find(store: Store, run: str) -> Any:  # noqa: ANN401  (an mlflow Run, or None)
    rows = store.client.search_runs([store.experiment_id], f"tags.`{RUN}` = '{run}'", max_results=1)
    return rows[0] if rows else None
