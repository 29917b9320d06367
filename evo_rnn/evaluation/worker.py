"""What runs inside a worker process: the handshake over the source, and the call of a work function by its name.

This module is light on purpose (standard library only at import): it is the first of ours that a worker loads, before
the number of threads is set, and it must not pull in numpy or torch.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import inspect
import os
import platform
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import evo_rnn
from evo_rnn.errors import ConfigError

Value = Any  # what a work function takes or returns: numbers, text, arrays, and plain containers of them
FLOORS = ("evo_rnn", "populations", "trainers")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_SECRETS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")


@dataclass(frozen=True)
class WorkerCache:
    """What a work function finds in its worker: the context, and what earlier calls kept.

    Attributes:
        values: The context of the pool, read-only (numpy arrays that came through Ray cannot be written).
        kept: Objects that work functions memoise (an evaluator, a network). It lives as long as the worker, is never
            sent anywhere, and must not change a result: another worker starts with an empty one.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    kept: dict[str, Any] = field(default_factory=dict)


def source_root() -> Path:
    """Return the directory that holds the three floors which this process runs."""
    return Path(evo_rnn.__file__).resolve().parent.parent


def source_hash(root: Path) -> str:
    """Return 12 hexadecimal digits over the Python files of the three floors under `root` (names and contents)."""
    digest = hashlib.sha256()
    for floor in FLOORS:
        for path in sorted((root / floor).rglob("*.py"), key=lambda found: found.relative_to(root).as_posix()):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(root).as_posix()}\0{len(content)}\0".encode())
            digest.update(content)
    return digest.hexdigest()[:12]


def versions() -> str:
    """Return the versions that decide the bits of a result: of Python and of the libraries that compute."""
    libraries = (f"{name} {importlib.metadata.version(name)}" for name in ("torch", "numpy"))
    return ", ".join((f"Python {platform.python_version()}", *libraries))


def _package_directory(package: str) -> Path:
    """Return where Python finds a package, without running it; an empty path stands for one that it does not find."""
    spec = importlib.util.find_spec(package)
    first = next(iter((spec and spec.submodule_search_locations) or ()), "")
    return Path(first).resolve() if first else Path()


@lru_cache
def resolve(work: str) -> Callable[..., Any]:
    """Return the function that "package.module:function" names.

    Args:
        work: A module-level function of evo_rnn, populations or trainers, called as `function(cache, *arguments)`.

    Raises:
        ConfigError: The name has another form, belongs to other software, or names nothing.
    """
    module_name, colon, name = work.partition(":")
    floor = module_name.partition(".")[0]
    if not colon or floor not in FLOORS:
        raise ConfigError(f"work must be 'package.module:function' of {', '.join(FLOORS)}, got {work!r}")
    found = _package_directory(floor)
    if found != source_root() / floor:
        raise ConfigError(
            f"work {work!r}: Python finds a package {floor!r} in {found}, ours is in {source_root() / floor}: run from "
            "another directory, or rename that folder"
        )
    try:
        function = getattr(importlib.import_module(module_name), name, None)
    except ModuleNotFoundError as error:
        raise ConfigError(f"work {work!r}: {error}") from error
    if not inspect.isfunction(function) or function.__module__.partition(".")[0] not in FLOORS:
        raise ConfigError(f"work {work!r}: {module_name} has no function of ours named {name!r}")
    return function


def pin_floors() -> None:
    """Import the three floors from beside the evo_rnn that runs here.

    Ray puts the driver's working directory first on a worker's `sys.path`, so a user's own folder `trainers/` would
    hide ours. A package keeps the path that it was first imported from, so importing it once from the right place is
    enough.
    """
    root = source_root()
    for floor in FLOORS:
        spec = importlib.machinery.PathFinder.find_spec(floor, [str(root)])
        if floor in sys.modules or spec is None or spec.loader is None:
            continue
        sys.modules[floor] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[floor])


def host_identity() -> str:
    """Return a name that two processes share exactly when one can signal the other by its process number."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux
        return socket.gethostname()


class RayWorker:
    """The actor: one process, one thread, one call at a time."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
        for secret in _SECRETS:  # only the driver talks to the tracking server
            os.environ.pop(secret, None)
        import torch

        torch.set_num_threads(1)
        self._cache = WorkerCache(values)

    def hello(self, expected: str, driver_root: str, driver_versions: str) -> tuple[int, str]:
        """Check that this worker runs the driver's source on the driver's libraries.

        Args:
            expected: The driver's `source_hash`.
            driver_root: The driver's `source_root`, for the message.
            driver_versions: The driver's `versions`.

        Returns:
            The process number and the `host_identity`.

        Raises:
            ConfigError: The worker runs other source than the driver, or other libraries.
        """
        if (mine := versions()) != driver_versions:
            raise ConfigError(
                f"a worker on {socket.gethostname()} has {mine}, the driver {driver_versions}: their results could "
                "differ in the last bits, so install the same versions on every node"
            )
        pin_floors()
        roots = sorted({str(_package_directory(floor).parent) for floor in FLOORS})
        found = source_hash(Path(roots[0])) if len(roots) == 1 else "mixed"
        if found == expected:
            return os.getpid(), host_identity()
        if roots == [driver_root]:
            raise ConfigError(f"the source in {driver_root} changed while the run was going on: start the run again")
        raise ConfigError(
            f"a worker on {socket.gethostname()} runs the source in {', '.join(roots)} ({found}), the driver that in "
            f"{driver_root} ({expected}): run from a directory without another copy of {', '.join(FLOORS)}, and "
            "install the same version on every node"
        )

    def call(self, work: str, *arguments: Value) -> tuple[float, Value]:
        """Call a work function; return its seconds and its result."""
        start = time.monotonic()
        try:
            result = resolve(work)(self._cache, *arguments)
        except Exception as error:
            error.add_note(f"In worker {os.getpid()} on {socket.gethostname()}:\n{traceback.format_exc()}")
            raise
        return time.monotonic() - start, result
