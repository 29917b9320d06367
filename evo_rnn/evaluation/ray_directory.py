"""What a private Ray session has on this machine: a directory that nobody else can enter, and the processes in it.

The directory is locked for as long as its driver lives, however that ends, so that a later driver sees what is left.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from evo_rnn.errors import ConfigError

if TYPE_CHECKING:
    import psutil

# Ray puts sockets under <directory>/session_<date>_<time>_<microseconds>_<pid>/sockets/plasma_store, 66 characters at
# most, and the kernel allows 107 in all.
LONGEST = 40
PREFIX = "evo-ray-"
FRESH = 60.0  # seconds that a directory may be without its lock, while it is being made
_held: list[int] = []  # the lock of our directory


def make() -> Path:
    """Make the directory of a session, under a name that nobody can guess, and lock it; first sweep what is left.

    Raises:
        ConfigError: no temporary directory has a name short enough for Ray's sockets.
    """
    for base in (tempfile.gettempdir(), "/tmp"):  # noqa: S108 -- mkdtemp makes an unguessable directory of mode 0700
        if len(base) + len(f"/{PREFIX}12345678/r") <= LONGEST and os.access(base, os.W_OK):
            sweep(Path(base))
            directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
            _held.append(os.open(directory, os.O_RDONLY | os.O_DIRECTORY))
            fcntl.flock(_held[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)  # until this process ends, however it ends
            return directory
    raise ConfigError(
        f"Ray needs a writable temporary directory with a short name, got {tempfile.gettempdir()}: set TMPDIR=/tmp"
    )


def remove(directory: Path) -> None:
    """Remove the directory of a session that is over, and let go of its lock."""
    shutil.rmtree(directory, ignore_errors=True)
    while _held:
        os.close(_held.pop())


def sweep(base: Path) -> None:
    """Remove the directories of sessions whose driver was killed: nobody holds their lock."""
    for left in base.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            fd = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(fd).st_uid == os.getuid() and time.time() - os.fstat(fd).st_mtime > FRESH:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(fd)


def processes_of(directory: Path) -> list[psutil.Process]:
    """Return the processes of the session in `directory`: those that name it, and all that they started."""
    import psutil

    found = {}
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any(str(directory) in word for word in child.cmdline()):
                found.update({process.pid: process for process in (child, *child.children(recursive=True))})
    return list(found.values())


def reap(processes: list[psutil.Process]) -> None:
    """Wait for processes to end, and end those that do not."""
    import psutil

    _, alive = psutil.wait_procs(processes, timeout=3.0)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=5.0)
