"""Which errors of Ray mean that the machine failed, and which that the work did."""

from __future__ import annotations

import re

from evo_rnn.errors import ConfigError
from evo_rnn.evaluation.worker import source_root

_NO_MEMORY = "can't allocate memory"  # torch's word for it on a CPU
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def is_infrastructure(error: Exception) -> bool:
    """Return whether `error`, raised by `ray.get`, says that a process, a node or an object was lost.

    All of Ray's errors do (dead or unreachable actor, out of memory or disk, node died, object lost, deadline), but
    for those that carry an exception of the work function. A worker that gets no memory is the machine's fault too.
    """
    from ray.exceptions import ActorDiedError, RayError, RayTaskError, UnserializableException

    if isinstance(error, ActorDiedError) and error.actor_init_failed:
        return False  # our own code could not be loaded
    if not isinstance(error, RayTaskError | UnserializableException):
        return isinstance(error, RayError)
    cause = getattr(error, "cause", None)
    if isinstance(cause, MemoryError) or (isinstance(cause, RuntimeError) and _NO_MEMORY in str(cause)):
        return True
    # A plain RayError stands for an exception that could not be sent; its subclasses say what was lost.
    return isinstance(cause, RayError) and type(cause) is not RayError


def original(error: Exception) -> Exception:
    """Return the exception that the work function raised, or a RuntimeError when that could not be sent here."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, Exception) and hasattr(cause, "__notes__"):  # the worker noted its traceback
        return cause
    substitute = RuntimeError(f"the work function failed: {summary(error)}")
    substitute.add_note(_COLOURS.sub("", str(error)).strip())
    return substitute


def start_failure(error: Exception) -> Exception:
    """Return what is wrong with a worker that started and refused, or that could not load our code."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, ConfigError):
        return cause
    return ConfigError(
        f"a worker cannot run the source in {source_root()} ({summary(error)}): run from a directory without another "
        "package evo_rnn, and install the same version on every node"
    )


def summary(error: Exception) -> str:
    """Return the error in one short line: its type and the most telling line of its text."""
    lines = [line.strip() for line in _COLOURS.sub("", str(error)).splitlines() if line.strip()] or [""]
    traced = any(line.startswith("File ") or "ray::" in line for line in lines)
    telling = lines[-1] if traced else lines[0]  # a traceback ends with what was wrong
    return f"{type(error).__name__}: {telling}"[:300]
