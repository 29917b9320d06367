"""Starting Ray for this process, privately, and ending it without a trace.

A session of ours has its own token (in memory only), its own directory (mode 0700) and no dashboard, sends no usage
statistics, and writes nothing under HOME. Signal handlers and environment variables are left as they were found.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evo_rnn.errors import ConfigError, RetryError
from evo_rnn.evaluation import ray_address, ray_directory, ray_surroundings
from evo_rnn.evaluation.worker import THREAD_VARIABLES


@dataclass
class _Session:
    """What this process holds of Ray, shared by all its pools: a private session, or a place in a cluster.

    The directory of a place in a cluster is empty: nothing there is ours.
    """

    address: str
    directory: Path
    variables: dict[str, str]
    users: int = 1


_ours: list[_Session] = []  # empty, or the one session


def join_ray(
    address: str, cpus: int, gpus: bool, object_store_memory: int, *, allow_unauthenticated: bool = False
) -> Callable[[], None]:
    """Make Ray usable in this process.

    Args:
        address: "local" starts a private session, or joins one that this process has; "auto" or HOST:PORT name a
            cluster.
        cpus: How many workers of one CPU a private session has room for.
        gpus: Whether a private session offers the GPUs of this machine.
        object_store_memory: Size of a private session's shared memory in bytes.
        allow_unauthenticated: Whether a cluster beyond this machine's loopback may be joined without a token.

    Returns:
        A function that undoes the call. The last one ends a session that we started; a session that somebody else
        started is never ended.

    Raises:
        RetryError: Ray does not start, or the cluster does not answer.
        ConfigError: No temporary directory has a name short enough for Ray's sockets, other pools of this process
            use another cluster, or the cluster refuses us: its address, its token, its versions of Ray and Python.
    """
    if _ours and _ours[0].address != address:
        raise ConfigError(f"this process uses Ray at {_ours[0].address!r}, not {address!r}: close the other pool first")
    if _ours:
        _ours[0].users += 1
        return _once(_leave)
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        return _once(lambda: None)
    if address != "local":
        _attach(address, allow_unauthenticated=allow_unauthenticated)
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


def _attach(address: str, *, allow_unauthenticated: bool) -> None:
    ray_address.admit(address, allow_unauthenticated=allow_unauthenticated)
    # A token alone does not turn authentication on.
    mode = {"RAY_AUTH_MODE": "token"} if "RAY_AUTH_MODE" not in os.environ and ray_address.token() else {}
    os.environ.update(mode)
    _ours.append(_Session(address, Path(), mode))
    import ray

    try:
        ray_surroundings.refresh_token()
        with ray_surroundings.kept():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except BaseException as error:
        _leave()
        if isinstance(error, ConnectionError | RuntimeError | ValueError | ray.exceptions.RayError):
            raise _no_place(address, error) from error
        raise


def _no_place(address: str, error: Exception) -> ConfigError | RetryError:
    """What it means that a cluster which answers does not take us."""
    import ray

    told = f"the Ray cluster at {address!r}"
    if isinstance(error, ray.exceptions.AuthenticationError):
        return ConfigError(f"{told} refuses the token: put the cluster's own in {ray_address.token_path()} (mode 600)")
    if "ersion mismatch" in str(error):
        words = " ".join(str(error).split())[:300]
        return ConfigError(f"{told} runs other versions ({words}): install the same Ray and Python here and there")
    return RetryError(
        f"cannot use {told} ({_first_line(error)}): start it, check the address, and if it has a token put it in "
        f"{ray_address.token_path()} (mode 600)"
    )


def _start(options: dict[str, Any]) -> None:
    # Ray opens its own directory to everybody (mode 0777), so it lies inside one that is closed.
    directory = ray_directory.make()
    _ours.append(_Session("local", directory, ray_surroundings.set_defaults()))
    try:
        import ray

        ray_surroundings.refresh_token()
        with ray_surroundings.kept(), ray_surroundings.environment(dict.fromkeys(THREAD_VARIABLES, "1")):
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
        steps.callback(ray_surroundings.refresh_token)
        steps.callback(ray_surroundings.unset, session.variables)
        if session.directory != Path():
            steps.callback(ray_directory.remove, session.directory)
            steps.callback(ray_directory.reap, ray_directory.processes_of(session.directory))
        steps.callback(ray.shutdown)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[0][:200]
