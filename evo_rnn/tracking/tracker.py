"""What a tracker is, and the one that keeps everything in memory.

A tracker writes down runs: parameters once, numbers as they come, files, how a run ended. Only the driver has one.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from evo_rnn.shapes import Array

Status = Literal["FINISHED", "FAILED", "KILLED"]
STATUSES = ("FINISHED", "FAILED", "KILLED")
NON_FINITE = "evo.nonfinite"  # the tag that counts the numbers which were not stored
NAME = re.compile(r"[\w.\- :]+(/[\w.\- :]+)*")  # what MLflow accepts for parameters and metrics


class Tracker(Protocol):
    """Writes runs down. Made to be called from a loop over progress; no call waits for a server.

    A run is known by the id that `start` returns. Unknown ids raise `KeyError`, badly spelt names `ValueError`.
    """

    def start(
        self, name: str, *, params: Mapping[str, object], tags: Mapping[str, str], parent: str = "", run: str = ""
    ) -> str:
        """Begin a run and return its id.

        Args:
            name: what the UI shows, for example `ga - elman - seed 0`.
            params: settings; written as text and never changed later.
            tags: free text; `mlflow.note.content` is the Markdown description.
            parent: the id of the run that this one belongs to; empty for none.
            run: the id that an earlier `start` returned, to go on with that run after a restart. Numbers that it has
                already stored for a step are not stored twice.
        """

    def log(self, run: str, metrics: Mapping[str, float], step: int) -> None:
        """Store one number a name at `step` (passes). Numbers that are not finite are left out and counted in a tag."""

    def tag(self, run: str, tags: Mapping[str, str]) -> None:
        """Set tags; an earlier value of the same tag is replaced."""

    def artifact(self, run: str, path: Path, folder: str = "") -> None:
        """Keep a copy, as it is now, of a file or of a directory's content, under `folder` of the run's artifacts."""

    def dataset(self, run: str, name: str, arrays: Mapping[str, Array], context: str = "training") -> None:
        """Name the data of the run, with a digest of its bytes. `targets` is shown as such, the rest as features."""

    def finish(self, run: str, status: Status = "FINISHED") -> None:
        """End a run. A second call changes nothing."""

    def close(self) -> None:
        """End every run that is still open as KILLED and let go of the store. A second call does nothing."""


def new_run_id() -> str:
    """Return an id that no other run has."""
    return uuid.uuid4().hex


def finite(metrics: Mapping[str, float]) -> tuple[dict[str, float], list[str]]:
    """Split metrics into those that can be stored and the names of those that cannot (NaN and infinities).

    MLflow stores an infinity as 1.8e308, which ruins the axes of every chart it is in.

    Raises:
        ValueError: a name holds a character that MLflow refuses.
    """
    values = {check_name(name, "a metric"): float(value) for name, value in metrics.items()}
    kept = {name: value for name, value in values.items() if math.isfinite(value)}
    return kept, [name for name in values if name not in kept]


def check_name(name: str, what: str) -> str:
    """Return `name` if MLflow accepts it, else raise `ValueError`."""
    if not NAME.fullmatch(name) or len(name) > 250 or any(part in (".", "..") for part in name.split("/")):
        raise ValueError(
            f"the name of {what} should be words of letters, digits, _ - . : and spaces, joined by /, but is {name!r}."
        )
    return name


def check_status(status: str) -> None:
    """Raise `ValueError` unless a run can end with `status`."""
    if status not in STATUSES:
        raise ValueError(f"status should be one of {', '.join(STATUSES)} but is {status!r}.")


def count_text(counts: Mapping[str, int]) -> str:
    """Return the counts as one line, for a tag: `gradient/norm 2, train/loss 1`."""
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def describe_dataset(name: str, arrays: Mapping[str, Array], context: str) -> dict[str, str]:
    """Return what MLflow stores about a data set: name, digest, context, schema and profile, all text.

    The digest is the first 32 hexadecimal digits of a SHA-256 over names, shapes, types and bytes, in order of name.
    """
    digest = hashlib.sha256()
    for key, array in sorted(arrays.items()):
        digest.update(f"{key} {array.shape} {array.dtype.str}\n".encode())
        digest.update(array.tobytes())
    specs = {
        key: {
            "name": key,
            "type": "tensor",
            "tensor-spec": {"dtype": str(array.dtype), "shape": [-1, *array.shape[1:]]},
        }
        for key, array in arrays.items()
    }
    schema = {
        "mlflow_tensorspec": {
            "features": json.dumps([spec for key, spec in specs.items() if key != "targets"]),
            "targets": json.dumps([specs["targets"]]) if "targets" in specs else None,
        }
    }
    profile = {f"{key}_shape": list(array.shape) for key, array in arrays.items()}
    return {
        "name": name,
        "digest": digest.hexdigest()[:32],
        "context": context,
        "schema": json.dumps(schema),
        "profile": json.dumps(profile),
    }


@dataclass
class MemoryRun:
    """One run of a `MemoryTracker`: the rows as they were written."""

    name: str
    params: dict[str, str]
    tags: dict[str, str]
    parent: str = ""
    metrics: list[tuple[str, float, int]] = field(default_factory=list)  # name, value, step
    artifacts: dict[str, bytes] = field(default_factory=dict)
    datasets: list[dict[str, str]] = field(default_factory=list)
    status: str = "RUNNING"
    dropped: Counter[str] = field(default_factory=Counter)


class MemoryTracker:
    """A tracker that keeps the rows in `runs`, by id, in the order of `start`: for tests and for notebooks."""

    def __init__(self) -> None:
        self.runs: dict[str, MemoryRun] = {}

    def start(
        self, name: str, *, params: Mapping[str, object], tags: Mapping[str, str], parent: str = "", run: str = ""
    ) -> str:
        """Begin a run, or go on with `run`, and return its id."""
        texts = {check_name(key, "a parameter"): str(value) for key, value in params.items()}
        if parent:
            self.runs[parent]  # an unknown parent raises here
        if run in self.runs:
            old = self.runs[run]
            old.params = {**texts, **old.params}
            old.tags |= tags
            old.status = "RUNNING"
            return run
        run = run or new_run_id()
        self.runs[run] = MemoryRun(name, texts, dict(tags), parent)
        return run

    def log(self, run: str, metrics: Mapping[str, float], step: int) -> None:
        """Store the finite numbers at `step`; a number already stored for that name and step stays."""
        kept, dropped = finite(metrics)
        there = {(name, at) for name, _, at in self.runs[run].metrics}
        self.runs[run].metrics += [(name, value, step) for name, value in kept.items() if (name, step) not in there]
        self.runs[run].dropped.update(dropped)

    def tag(self, run: str, tags: Mapping[str, str]) -> None:
        """Set tags."""
        self.runs[run].tags |= tags

    def artifact(self, run: str, path: Path, folder: str = "") -> None:
        """Keep the bytes of a file, or of every file below a directory."""
        files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
        for file in files:
            inside = file.name if path.is_file() else file.relative_to(path).as_posix()
            self.runs[run].artifacts[f"{folder}/{inside}" if folder else inside] = file.read_bytes()

    def dataset(self, run: str, name: str, arrays: Mapping[str, Array], context: str = "training") -> None:
        """Keep the description of a data set."""
        self.runs[run].datasets.append(describe_dataset(name, arrays, context))

    def finish(self, run: str, status: Status = "FINISHED") -> None:
        """End a run, unless it has ended."""
        check_status(status)
        record = self.runs[run]
        if record.status == "RUNNING":
            record.status = status
            if record.dropped:
                record.tags[NON_FINITE] = count_text(record.dropped)

    def close(self) -> None:
        """End every open run as KILLED."""
        for run in self.runs:
            self.finish(run, "KILLED")
