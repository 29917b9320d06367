"""The journal of a run: a directory from which it goes on after whatever ended its process.

.evo-rnn/runs/                         one directory a run, of one working directory
    3f2a.../                           named by the tracker's id of the run
        lock                           held for the life of the driver; the kernel frees it if the process is killed
        run.json config.yaml           what was asked for, on what data, with which versions
        ga-0/step-*.safetensors        the newest states of a trial: data with a checksum, nothing that can run
        ga-0/reported                  there once the tracker has had the trial's result

What is written here comes before what is shown or tracked. So nothing that a person has seen can be lost, and what is
tracked twice after a crash is the same twice, which the tracker knows to store once.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from evo_rnn import atomic
from evo_rnn.checkpoint import Checkpoints
from evo_rnn.errors import ConfigError, DataError, DiskError, RetryError
from evo_rnn.shapes import Array
from trainers.experiments.referee import Row
from trainers.experiments.trial import Slice

RUNS = Path(".evo-rnn/runs")
SCHEMA = 1
FAILURES = 3  # writes in a row that the disk may refuse before the run stops
FINISHED = 20  # journals of runs that are over, at most: what a run can be prolonged from

_log = logging.getLogger(__name__)


@dataclass
class Journal:
    """An open journal, its lock held.

    Args:
        path: its directory.
        about: what `run.json` says.
        lock: file descriptor; negative once let go.
    """

    path: Path
    about: dict[str, Any]
    lock: int
    _refused: int = field(init=False, default=0)
    _books: dict[str, Checkpoints] = field(init=False, default_factory=dict)

    @property
    def run(self) -> str:
        """The tracker's id of the run."""
        return self.path.name

    def keep(self, trial: str, piece: Slice, rows: Sequence[Row]) -> None:
        """Write the state after a slice, with points of the curves to be had again from it.

        Raises:
            DiskError: the disk has refused several times in a row; the last state that was kept is intact.
        """
        words = {key: value for key, value in piece.result.items() if isinstance(value, str)}
        numbers = {
            f"result/{key}": np.array(value, dtype=np.float64)
            for key, value in piece.result.items()
            if key not in words
        }
        arrays = {f"state/{name}": value for name, value in piece.state.items()} | numbers | _columns(rows)
        arrays["champion"] = piece.champion
        if piece.model:
            arrays["model"] = np.frombuffer(json.dumps(piece.model).encode(), dtype=np.uint8)
        try:
            book = self._book(trial)
            book.write((book.steps() or [-1])[-1] + 1, arrays, {"reason": piece.reason, "words": words})
        except DiskError as error:
            self._refused += 1
            if self._refused == FAILURES:
                raise
            _log.warning("%s; the run goes on, and is kept as it was before", error)
        else:
            self._refused = 0

    def last(self, trial: str) -> Slice:
        """The newest slice that is kept whole, with its points; an empty one if there is none."""
        if not (self.path / trial).is_dir():
            return Slice([], {})
        _, arrays, header = self._book(trial).latest()
        if not arrays:
            return Slice([], {})
        result = {name: float(value) for name, value in _under("result/", arrays).items()}
        return Slice(
            _rows(arrays),
            dict(_under("state/", arrays)),
            header["reason"],
            {**header["words"], **_whole_steps(result)},
            np.array(arrays["champion"]),
            json.loads(bytes(arrays["model"])) if "model" in arrays else {},
        )

    def reported(self, trial: str) -> bool:
        """Whether the tracker has had the trial's result."""
        return (self.path / trial / "reported").exists()

    def report(self, trial: str) -> None:
        """Note that the tracker has had the trial's result."""
        with contextlib.suppress(OSError):  # then it is told again, which changes nothing
            (self.path / trial / "reported").touch()

    def prolong(self, trial: str, config: str) -> None:
        """Make a run that is over one that goes on, under another config.

        Raises:
            ConfigError: it had ended by itself.
            DiskError: the disk refuses.
        """
        last = self.last(trial)
        if last.reason and not last.state:
            raise ConfigError(f"run {self.run[:8]} cannot be prolonged: {last.reason}. Begin a new one.")
        if last.reason:
            self.keep(trial, Slice(last.rows, last.state), last.rows)
        self.about["finished"] = False
        try:
            atomic.replace(self.path / "config.yaml", [config.encode()])
            _write(self.path, self.about)
        except OSError as error:
            raise DiskError(f"cannot write {self.path}: {error.strerror or error}. Make room and resume.") from error

    def finish(self, *, prolongable: bool) -> None:
        """The run is over: keep what it could be prolonged from, or nothing."""
        if prolongable:
            self.about["finished"] = True
            _write(self.path, self.about)
        else:
            _remove(self.path)
        self.close()

    def close(self) -> None:
        """Let go of the lock."""
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1

    def _book(self, trial: str) -> Checkpoints:
        if trial not in self._books:
            self._books[trial] = Checkpoints(self.path / trial, keep=2)
        return self._books[trial]


def trial_name(method: str, seed: int) -> str:
    """The directory of one trial."""
    return f"{method}-{seed}"


def begin(run: str, about: Mapping[str, Any], config: str, root: Path = RUNS) -> Journal:
    """Open the journal of a new run.

    Args:
        run: the tracker's id of it.
        about: what has to be known to go on with it, as JSON.
        config: the whole config, as YAML.
        root: where journals are.

    Raises:
        DiskError: nothing can be written there.
    """
    path = root.absolute() / run
    try:
        path.mkdir(mode=0o700, parents=True)
        lock = _lock(path)
        atomic.replace(path / "config.yaml", [config.encode()])
        whole = {"schema": SCHEMA, "began": time.time(), "finished": False, "resumed": 0, **about}
        _write(path, whole)
    except OSError as error:
        raise DiskError(f"the run should be kept in {root} but cannot be: {error}. Free or allow it.") from error
    _prune(root)
    return Journal(path, whole, lock)


def find(name: str, root: Path = RUNS) -> str:
    """The id of the run that a user means: the beginning of an id, or `latest` for the newest that is not over.

    Where all are over, `latest` is the newest of all: that one can be prolonged. Empty if none is meant.

    Raises:
        ConfigError: if several are.
    """
    if name == "latest":
        known = _known(root)
        return max(known, key=lambda run: (not known[run]["finished"], float(known[run]["began"])), default="")
    found = [path.parent.name for path in root.glob("*/run.json") if path.parent.name.startswith(name)]
    if len(found) > 1:
        raise ConfigError(f"RUN should name one run but {name!r} fits {len(found)}. Give more of its id.")
    return found[0] if found else ""


def reopen(run: str, root: Path = RUNS) -> Journal:
    """Open the journal of a run, to go on with it.

    Raises:
        ConfigError: if there is none, or a newer version wrote it.
        RetryError: if another process has it open.
    """
    path = root.absolute() / run
    if not (path / "run.json").exists():
        raise ConfigError(f"run {run[:8]} should have a journal in {root} but has none. Run from where it was started.")
    try:
        lock = _lock(path)
    except OSError:
        raise RetryError(f"run {run[:8]} is being trained by another process. Wait for it, or stop it first.") from None
    try:
        about = _read(path)
        about["resumed"] += 1
        _write(path, about)
    except OSError as error:
        os.close(lock)
        raise DiskError(f"the journal {path} should be writable but is not: {error}. Free or allow it.") from error
    except BaseException:
        os.close(lock)
        raise
    return Journal(path, about, lock)


def _lock(path: Path) -> int:
    descriptor = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _read(path: Path) -> dict[str, Any]:
    try:
        about: dict[str, Any] = json.loads((path / "run.json").read_text(encoding="utf-8"))
        schema = about["schema"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path / 'run.json'} should say what the run is but cannot be read: {error}.") from error
    if schema != SCHEMA:
        raise ConfigError(f"{path} was written by another version of this program (schema {schema}). Use that one.")
    return about


def _write(path: Path, about: Mapping[str, Any]) -> None:
    atomic.replace(path / "run.json", [json.dumps(about, indent=1).encode()])


def _known(root: Path) -> dict[str, dict[str, Any]]:
    """What every journal says, by run; one that is damaged, newer or just being removed is left out."""
    found = {}
    for path in root.glob("*/run.json"):
        with contextlib.suppress(ConfigError, DataError):
            found[path.parent.name] = _read(path.parent)
    return found


def _prune(root: Path) -> None:
    """Remove the oldest journals of runs that are over."""
    over = [root / run for run, about in _known(root).items() if about["finished"]]
    with contextlib.suppress(OSError):  # another process removes them too
        for path in sorted(over, key=lambda each: each.stat().st_mtime)[:-FINISHED]:
            _remove(path)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # first, in one step, since what is half removed must not look like a journal
        (path / "run.json").unlink()
    shutil.rmtree(path, ignore_errors=True)


def _under(start: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name.removeprefix(start): value for name, value in arrays.items() if name.startswith(start)}


def _whole_steps(result: dict[str, float]) -> dict[str, Any]:
    return result | ({"steps": int(result["steps"])} if "steps" in result else {})


def _columns(rows: Sequence[Row]) -> dict[str, Array]:
    """Points of curves as columns; a metric that a point lacks is NaN there."""
    names = dict.fromkeys(name for row in rows for name in row.metrics)
    columns = {f"rows/{name}": np.array([row.metrics.get(name, np.nan) for row in rows]) for name in names}
    return {"rows": np.array([row.passes for row in rows], dtype=np.int64), **columns}


def _rows(arrays: Mapping[str, Array]) -> list[Row]:
    columns = _under("rows/", arrays)
    return [
        Row(int(passes), {name: float(column[k]) for name, column in columns.items() if not np.isnan(column[k])})
        for k, passes in enumerate(arrays["rows"])
    ]
