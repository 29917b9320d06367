"""Files that are either whole or not there, however their writer ends."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")


def replace(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    """Put a new file in the place of an old one in one step; when this returns, the new one is on the disk.

    The bytes go to a temporary name beside the target (mode 0600), are flushed to the disk and renamed, and the
    directory is flushed. Whatever fails, the old file is intact and the temporary one is removed; one that a killed
    process leaves behind is for ``sweep``. A target that is a symbolic link is replaced, never written through.

    Raises:
        OSError: If the disk refuses.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600)
    try:
        with suppress(OSError):  # tells sweep that the writer lives; not every file system has locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    finally:
        os.close(descriptor)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def sweep(directory: Path) -> None:
    """Remove the temporary files of writers that are dead, which is when the kernel has freed their locks.

    Raises:
        OSError: If the directory cannot be listed.
    """
    for path in directory.iterdir():
        if not _TEMPORARY.fullmatch(path.name):
            continue
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(descriptor)
