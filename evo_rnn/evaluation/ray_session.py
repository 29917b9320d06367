"""Starting Ray for this process, privately, and ending it without a trace.

A session of ours has its own token (in memory only), its own directory (mode 0700) and no dashboard, sends no usage
statistics, and writes nothing under HOME. Signal handlers and environment variables are left as they were found.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import importlib
import logging
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evo_rnn.errors import ConfigError, RetryError
from evo_rnn.evaluation.worker import THREAD_VARIABLES

# Ray puts sockets under <directory>/session_<date>_<time>_<microseconds>_<pid>/sockets/plasma_store, 66 characters at
# most, and the kernel allows 107 in all.
_LONGEST_DIRECTORY = 40
_TOKEN = secrets.token_hex(32)  # one per process: Ray's native part reads it once


@dataclass
class _Session:
    """What this process holds of Ray, shared by all its pools: a private session, or a place in a cluster.

    The directory of a place in a cluster is empty: nothing there is ours.
    """

    address: str
    directory: Path
    variables: dict[str, str]
    users: int = 1


_FRESH = 60.0  # seconds that a directory may be without its lock, while it is being made
_held: list[int] = []  # the lock of our directory
_ours: list[_Session] = []  # empty, or the one session


def join_ray(address: str, cpus: int, gpus: bool, object_store_memory: int) -> Callable[[], None]:
    """Make Ray usable in this process.

    Args:
        address: "local" starts a private session, or joins one that this process has; anything else names a cluster.
        cpus: How many workers of one CPU a private session has room for.
        gpus: Whether a private session offers the GPUs of this machine.
        object_store_memory: Size of a private session's shared memory in bytes.

    Returns:
        A function that undoes the call. The last one ends a session that we started; a session that somebody else
        started is never ended.

    Raises:
        RetryError: Ray does not start, or the cluster does not answer.
        ConfigError: No temporary directory has a name short enough for Ray's sockets, or other pools of this process
            use another cluster.
    """
    if _ours and _ours[0].address != address:
        raise ConfigError(f"this process uses Ray at {_ours[0].address!r}, not {address!r}: close the other pool first")
    if _ours:
        _ours[0].users += 1
        return _once(_leave)
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        return _once(lambda: None)
    if address != "local":
        _attach(address)
        return _once(_leave)
    options = {"num_cpus": cpus, "object_store_memory": object_store_memory, **({} if gpus else {"num_gpus": 0})}
    _start(options)
    return _once(_leave)


def _once(function: Callable[[], None]) -> Callable[[], None]:
    """Return a function that calls `function` the first time only, at the latest when Python exits."""
    left = [function]

    def leave() -> None:
        atexit.unregister(leave)
        while left:
            left.pop()()

    atexit.register(leave)
    return leave


def _attach(address: str) -> None:
    import ray

    _ours.append(_Session(address, Path(), {}))
    try:
        with _handlers_kept(), _stdout_kept():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        _leave()
        raise RetryError(
            f"cannot use the Ray cluster at {address!r} ({_first_line(error)}): start it, check the address, and if it "
            "has a token set RAY_AUTH_MODE=token with RAY_AUTH_TOKEN or ~/.ray/auth_token"
        ) from error


def _start(options: dict[str, Any]) -> None:
    # Ray opens its own directory to everybody (mode 0777), so it lies inside one that is closed.
    directory = _private_directory()
    _ours.append(_Session("local", directory, _set_defaults()))
    try:
        import ray

        _refresh_token()
        with _handlers_kept(), _stdout_kept(), _environment(dict.fromkeys(THREAD_VARIABLES, "1")):
            ray.init(
                address="local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _temp_dir=str(directory / "r"),
                **options,
            )
    except BaseException as error:
        _leave()
        if isinstance(error, Exception):
            raise RetryError(
                f"Ray did not start ({_first_line(error)}): free memory and processors and try again, or set workers=0"
            ) from error
        raise


def _leave() -> None:
    """Take one user from our session; end it with the last, every step of it even when an earlier one fails."""
    session = _ours[0]
    session.users -= 1
    if session.users > 0:
        return
    _ours.clear()
    import ray

    with contextlib.ExitStack() as steps:
        steps.callback(_refresh_token)
        steps.callback(_unset, session.variables)
        if session.directory != Path():
            steps.callback(_let_go)
            steps.callback(shutil.rmtree, session.directory, ignore_errors=True)
            steps.callback(_reap, _processes_of(session.directory))
        steps.callback(ray.shutdown)


def _let_go() -> None:
    while _held:
        os.close(_held.pop())


def _private_directory() -> Path:
    for base in (tempfile.gettempdir(), "/tmp"):  # noqa: S108 -- mkdtemp makes an unguessable directory of mode 0700
        if len(base) + len("/evo-ray-12345678/r") <= _LONGEST_DIRECTORY and os.access(base, os.W_OK):
            _sweep(Path(base))
            directory = Path(tempfile.mkdtemp(prefix="evo-ray-", dir=base))
            _held.append(os.open(directory, os.O_RDONLY | os.O_DIRECTORY))
            fcntl.flock(_held[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)  # until this process ends, however it ends
            return directory
    raise ConfigError(
        f"Ray needs a writable temporary directory with a short name, got {tempfile.gettempdir()}: set TMPDIR=/tmp"
    )


def _sweep(base: Path) -> None:
    """Remove the directories of sessions whose driver was killed: nobody holds their lock."""
    for left in base.glob("evo-ray-*"):
        with contextlib.suppress(OSError):
            fd = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(fd).st_uid == os.getuid() and time.time() - os.fstat(fd).st_mtime > _FRESH:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(fd)


def _set_defaults() -> dict[str, str]:
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


def _unset(variables: dict[str, str]) -> None:
    for name, value in variables.items():
        if os.environ.get(name) == value:
            del os.environ[name]


def _refresh_token() -> None:
    """Make Ray read its token variables again: its native part keeps what it saw at import or at an earlier start."""
    with contextlib.suppress(ImportError, AttributeError):  # private names, and a fresh process does without
        native: Any = importlib.import_module("ray._raylet")
        native.Config.initialize("")
        native.AuthenticationTokenLoader.instance().reset_cache()


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
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set variables for the processes that Ray starts, not for this one."""
    before = {name: os.environ[name] for name in variables if name in os.environ}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            os.environ.pop(name, None)
        os.environ.update(before)


def _processes_of(directory: Path) -> list[Any]:
    """Return the processes of the session in `directory`: those that name it, and all that they started."""
    import psutil

    found = {}
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any(str(directory) in word for word in child.cmdline()):
                found.update({process.pid: process for process in (child, *child.children(recursive=True))})
    return list(found.values())


def _reap(processes: list[Any]) -> None:
    """Wait for processes to end, and end those that do not."""
    import psutil

    _, alive = psutil.wait_procs(processes, timeout=3.0)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=5.0)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[0][:200]
