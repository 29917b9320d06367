"""Checkpoints: named arrays and a JSON header in one file that is either whole or not there.

The file is plain safetensors, which any reader of that format opens; nothing in it can run code. Beside the arrays it
holds the caller's header, a schema version, the versions of the libraries that can change a number, and a SHA-256 over
all of it (``checkpoint_format``).

A file is written under a temporary name beside its target, flushed to the disk, renamed, and the directory flushed:
what ``save`` has returned from survives a killed process, and what it has not returned from leaves the previous file
intact. This holds on a local Linux disk; network file systems promise less.
"""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from evo_rnn import atomic
from evo_rnn.checkpoint_format import (
    MAX_BYTES,
    MAX_HEADER_BYTES,
    Arrays,
    CorruptCheckpointError,
    Header,
    check_sizes,
    corrupt,
    decode,
    encode,
)
from evo_rnn.errors import ConfigError, DataError, DiskError

__all__ = ["Checkpoint", "Checkpoints", "CorruptCheckpointError", "load", "save"]

_NAME = re.compile(r"step-(\d{12,})\.safetensors")

_log = logging.getLogger(__name__)


class Checkpoint(NamedTuple):
    """What a directory of checkpoints last held; step -1 and nothing else where it holds none."""

    step: int
    arrays: Arrays
    header: Header


def save(path: str | Path, arrays: Mapping[str, NDArray[Any]], header: Mapping[str, Any]) -> None:
    """Write a checkpoint; when this returns, the file is on the disk.

    Args:
        path: The target; a file that is there is replaced in one step.
        arrays: Arrays by name, of any shape and memory order, of one of ``checkpoint_format.DTYPES``; every bit
            is kept.
        header: What ``json.dumps`` takes. It comes back as JSON gives it (tuples as lists), with the keys ``schema``
            and ``versions`` added; those two and ``sha256`` are not the caller's.

    Raises:
        ConfigError: If the target is a symbolic link.
        DiskError: If the disk refuses; the previous file is intact and no temporary file is left.
        ValueError: If an array has another dtype, or the header or the file exceeds what ``load`` accepts.
    """
    path = Path(path)
    body = encode(arrays, header)
    try:
        if path.is_symlink():
            raise ConfigError(f"{path} is a symbolic link, which is not written through: name the file it points to")
        atomic.replace(path, body)
    except OSError as error:
        raise DiskError(
            f"cannot write {path}: {error.strerror or error}; no file is left half written: "
            "free space or allow writing there, then resume"
        ) from error


def load(path: str | Path, *, max_bytes: int = MAX_BYTES) -> tuple[Arrays, Header]:
    """Read a checkpoint and check it whole: sizes before memory is taken, then the digest, then dtypes and schema.

    Args:
        path: The file.
        max_bytes: The largest file to read.

    Returns:
        The arrays, writable, and the header with ``schema`` (int) and ``versions`` (name to version) added.

    Raises:
        ConfigError: If a newer version of the project wrote it.
        CorruptCheckpointError: If its bytes are not what was written.
        DataError: If it cannot be read, is not a regular file or is too large.
    """
    path = Path(path)
    try:
        # NONBLOCK: opening a named pipe must not wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise DataError(f"{path} is not a regular file: name a checkpoint file")
            if status.st_size > max_bytes:
                raise DataError(f"{path} has {status.st_size} bytes, the limit is {max_bytes}: is it a checkpoint?")
            head = file.read(min(status.st_size, 8 + MAX_HEADER_BYTES))
            start = check_sizes(path, head, status.st_size)
            body = head + file.read(status.st_size - len(head))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    return decode(path, body, start)


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run: one file a step in one directory, the last few kept.

    Opening it makes the directory (0700) and removes temporary files that a killed writer left behind.

    Args:
        directory: Where the files are, one run each.
        keep: How many of the newest files stay.
        every: Steps that are multiples of this stay as well; 0 for none.

    Raises:
        ConfigError: If keep is below 1 or every below 0.
        DiskError: If the directory cannot be made or listed.
    """

    directory: Path
    keep: int = 3
    every: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        if self.keep < 1 or self.every < 0:
            raise ConfigError(f"checkpoints need keep >= 1 and every >= 0, not {self.keep} and {self.every}")
        object.__setattr__(self, "directory", Path(self.directory))
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            atomic.sweep(self.directory)
        except OSError as error:
            raise DiskError(f"cannot use {self.directory}: {error.strerror or error}: name another place") from error

    def write(self, step: int, arrays: Mapping[str, NDArray[Any]], header: Mapping[str, Any]) -> None:
        """Save a step (see ``save``), its number added to the header, then remove what need not be kept.

        Raises:
            ConfigError: If the directory holds a later step: it is another run's.
            DiskError: If the disk refuses; all earlier checkpoints are intact.
            ValueError: As for ``save``, or if step is negative.
        """
        steps = self.steps()
        if step < 0:
            raise ValueError(f"a checkpoint's step is counted from 0, not {step}")
        if steps and step < steps[-1]:
            raise ConfigError(f"{self.directory} holds step {steps[-1]}, later than {step}: use a new directory")
        save(self._path(step), arrays, {**header, "step": step})
        for old in sorted({*steps, step})[: -self.keep]:
            if not self.every or old % self.every:
                # The new step is safe by now: what cannot be removed today is removed tomorrow.
                with suppress(OSError):
                    self._path(old).unlink()

    def latest(self) -> Checkpoint:
        """Return the newest valid checkpoint; step -1 and empty where there is none.

        A corrupt file is renamed to end in ``.corrupt``, a warning is logged, and the one before it is tried.

        Raises:
            ConfigError: If a newer version of the project wrote the newest file.
            DataError: If a file cannot be read at all, which does not make it corrupt.
        """
        for step in reversed(self.steps()):
            path = self._path(step)
            try:
                arrays, header = load(path)
                if header.get("step") != step:
                    raise corrupt(path, f"it holds step {header.get('step')}")
            except CorruptCheckpointError as error:
                _log.warning("%s; set aside as %s.corrupt", error, path.name)
                with suppress(OSError):
                    path.replace(path.with_name(f"{path.name}.corrupt"))
            else:
                return Checkpoint(step, arrays, header)
        return Checkpoint(-1, {}, {})

    def steps(self) -> list[int]:
        """Return the steps that have a file, in order; whether the files are valid is only seen on reading.

        Raises:
            DiskError: If the directory cannot be listed.
        """
        try:
            names = [path.name for path in self.directory.iterdir()]
        except OSError as error:
            raise DiskError(f"cannot list {self.directory}: {error.strerror or error}") from error
        return sorted(int(found[1]) for name in names if (found := _NAME.fullmatch(name)))

    def _path(self, step: int) -> Path:
        return self.directory / f"step-{step:012d}.safetensors"
