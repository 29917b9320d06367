"""The directories that trackers keep on the disk: one a tracker, each with a lock held for the tracker's life.

.evo-rnn/tracking/                  shared by the trackers of one working directory
    20261123-101500-4711-9f3c21ab/  one live tracker, or what a dead one could not send
        lock                        held for the life of the tracker; the kernel frees it if the process is killed
        store.json                  where the records belong: URI and experiment
        outbox.jsonl delivered      the records, and how far they have been sent
        runs.json spool/            local run ids to MLflow's; copies of files that wait to be sent
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from evo_rnn.errors import DiskError
from evo_rnn.tracking.outbox import Outbox, replace_text


@dataclass
class Part:
    """The directory of one tracker, its lock held."""

    path: Path
    uri: str
    experiment: str
    outbox: Outbox
    lock: int  # file descriptor; negative once let go

    def unlock(self) -> None:
        """Let go of the lock."""
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1

    def close(self, *, remove: bool) -> None:
        """Let go of the lock and the files, and remove the directory if asked."""
        self.outbox.close()
        self.unlock()
        if remove:
            shutil.rmtree(self.path, ignore_errors=True)


def make_part(directory: Path, uri: str, experiment: str) -> Part:
    """Make the directory of a new tracker and lock it.

    Raises:
        DiskError: `directory` cannot be written to.
    """
    path = directory.absolute() / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    try:
        path.mkdir(parents=True, mode=0o700)
        lock = _lock(path / "lock")
        part = Part(path, uri, experiment, Outbox(path), lock)
        replace_text(path / "store.json", json.dumps({"uri": uri, "experiment": experiment}))  # last: see left_behind
    except OSError as error:
        raise DiskError(
            f"tracking should be able to write to {directory} but cannot: {error}. Free or allow it."
        ) from error
    return part


def left_behind(directory: Path, uri: str = "") -> list[Part]:
    """Take over the directories that dead trackers left, oldest first: of the store `uri`, or of all.

    A directory without `store.json` is one that is just being made.
    """
    return [part for path in sorted(directory.absolute().glob("*/store.json")) for part in _take(path.parent, uri)]


def _take(path: Path, uri: str) -> list[Part]:
    try:
        where = json.loads((path / "store.json").read_text(encoding="utf-8"))
        if uri and where["uri"] != uri:
            return []
        lock = _lock(path / "lock")
    except (OSError, ValueError, TypeError, KeyError):  # alive, going away, or not one of ours
        return []
    with contextlib.suppress(OSError):
        return [Part(path, where["uri"], where["experiment"], Outbox(path), lock)]
    os.close(lock)
    return []


def _lock(path: Path) -> int:
    """Return a descriptor that holds the lock; raise OSError where another process has it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd
