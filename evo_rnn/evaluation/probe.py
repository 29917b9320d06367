"""Work functions that prove a pool works: for the tests, and for the command that examines an installation."""

from __future__ import annotations

import importlib
import os
import time
from pathlib import Path
from typing import Any, TypeVar

from evo_rnn.errors import DataError
from evo_rnn.evaluation.worker import Value, WorkerCache
from evo_rnn.shapes import Array

T = TypeVar("T")


def echo(_cache: WorkerCache, value: T) -> T:
    """Return `value`."""
    return value


def pid(_cache: WorkerCache) -> int:
    """Return the number of the process that answers."""
    return os.getpid()


def sleep(_cache: WorkerCache, seconds: float, value: T) -> T:
    """Return `value` after `seconds`."""
    time.sleep(seconds)
    return value


def fail(_cache: WorkerCache, message: str) -> None:
    """Raise a DataError, as a work function does that meets data it cannot use.

    Raises:
        DataError: Always.
    """
    raise DataError(message)


class CannotBeSent(Exception):
    """An exception whose constructor wants more than its message, so that it cannot be rebuilt elsewhere."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"{where}: {why}")


def fail_oddly(_cache: WorkerCache, where: str) -> None:
    """Raise an exception that cannot be sent to another process.

    Raises:
        CannotBeSent: Always.
    """
    raise CannotBeSent(where, "on purpose")


def die(_cache: WorkerCache) -> None:
    """End the process at once, as a crash in native code would."""
    os._exit(1)


def count(cache: WorkerCache) -> int:
    """Return how many times this worker was asked, the present time included."""
    cache.kept["count"] = cache.kept.get("count", 0) + 1
    return int(cache.kept["count"])


def look_up(cache: WorkerCache, name: str) -> Value:
    """Return the value of the context under `name`."""
    return cache.values[name]


def rows(_cache: WorkerCache, matrix: Array, start: int, stop: int) -> Array:
    """Return the sum of each row in `matrix[start:stop]` (P, D), shape (stop - start,)."""
    sums: Array = matrix[start:stop].sum(axis=1)
    return sums


def threads(_cache: WorkerCache) -> dict[str, Any]:
    """Return what decides how many threads a call may use, and which GPUs it may see."""
    import torch

    names = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
    return {"torch": torch.get_num_threads(), **{name: os.environ.get(name, "") for name in names}}


def origin(_cache: WorkerCache, package: str) -> str:
    """Return the directory from which this process imported `package`."""
    return str(Path(next(iter(importlib.import_module(package).__path__))).resolve())
