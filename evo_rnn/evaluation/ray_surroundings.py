"""What Ray would change in the process that starts it, and does not: variables, token, signal handlers, standard output."""

from __future__ import annotations

import contextlib
import importlib
import os
import secrets
import signal
import threading
from collections.abc import Iterator
from typing import Any

_TOKEN = secrets.token_hex(32)  # one per process: Ray's native part reads it once


def set_defaults() -> dict[str, str]:
    """Set the variables that Ray reads, where the user has not; return those that were set."""
    wanted = {
        "RAY_AUTH_MODE": "token",
        "RAY_USAGE_STATS_ENABLED": "0",
        # Else any call after the end of a session starts another, with Ray's defaults.
        "RAY_ENABLE_AUTO_CONNECT": "0",
        # Else the head process grows by 3 kB a call, up to 100,000 calls.
        "RAY_task_events_report_interval_ms": "0",
    }
    token_used = os.environ.get("RAY_AUTH_MODE", "token") == "token"
    if token_used and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        wanted["RAY_AUTH_TOKEN"] = _TOKEN
    missing = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(missing)
    if "PYTHONBREAKPOINT" not in os.environ:  # Ray sets it when it starts, and leaves it
        missing["PYTHONBREAKPOINT"] = "ray.util.rpdb._driver_set_trace"
    return missing


def unset(variables: dict[str, str]) -> None:
    """Remove variables that still have the values that we gave them."""
    for name, value in variables.items():
        if os.environ.get(name) == value:
            del os.environ[name]


def refresh_token() -> None:
    """Make Ray read its token variables again: its native part keeps what it saw at import or at an earlier start."""
    with contextlib.suppress(ImportError, AttributeError):  # private names, and a fresh process does without
        native: Any = importlib.import_module("ray._raylet")
        native.Config.initialize("")
        native.AuthenticationTokenLoader.instance().reset_cache()


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Start Ray within the block, and find signal handlers and standard output as they were."""
    with _handlers_kept(), _stdout_kept():
        yield


@contextlib.contextmanager
def _handlers_kept() -> Iterator[None]:
    """Keep the signal handlers, which Ray would replace, and hold signals back until Ray has started.

    An exception raised by a handler while Ray forks its processes is lost in Python's own fork hooks, and the signal
    with it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    import ray

    came: list[int] = []
    caught = (int(signal.SIGTERM), int(signal.SIGINT), int(signal.SIGHUP))
    known = {number: signal.getsignal(number) for number in caught}
    handlers = {number: each for number, each in known.items() if each not in (None, signal.SIG_IGN)}
    ray_sets = ray._private.utils.set_sigterm_handler
    ray._private.utils.set_sigterm_handler = lambda _: None
    for number in handlers:
        signal.signal(number, lambda each, _: came.append(each))
    try:
        yield
    finally:
        ray._private.utils.set_sigterm_handler = ray_sets
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)


@contextlib.contextmanager
def _stdout_kept() -> Iterator[None]:
    """Start Ray without the thread that prints to our standard output whenever a worker dies.

    No option turns it off (`log_to_driver` does not), standard output is for data, and the pool counts these events.
    """
    module: Any = importlib.import_module("ray._private.worker")
    listen = getattr(module, "listen_error_messages", None)
    if listen is None:
        yield
        return
    module.listen_error_messages = lambda *_: None
    try:
        yield
    finally:
        module.listen_error_messages = listen


@contextlib.contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """Set variables for the processes that Ray starts, not for this one."""
    before = {name: os.environ[name] for name in variables if name in os.environ}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            os.environ.pop(name, None)
        os.environ.update(before)
