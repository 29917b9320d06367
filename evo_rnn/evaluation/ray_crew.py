"""The worker processes of a Ray pool: hired one by one, and dismissed for good when they fail.

Ray's own restarts are off (`max_restarts=0`, `max_task_retries=0`): a call to an actor that Ray restarts fails in ways
that depend on the moment, and Ray never notices a process that hangs.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evo_rnn.evaluation.ray_head import lifeline
from evo_rnn.evaluation.worker import THREAD_VARIABLES, RayWorker, host_identity, source_hash, source_root, versions

NO_PROCESS = 2**31 - 1  # more than any process number; 0 and -1 would send a signal to our own group, or to everybody


@dataclass(eq=False)
class Worker:
    """One worker process as the driver sees it.

    Attributes:
        actor: The Ray handle.
        future: What it owes us: its `hello`, or the call of `ticket`.
        since: When that was asked for (monotonic clock, s).
        state: "starting", "idle" or "busy".
        ticket: The call in flight while busy.
        pid: The process number; `NO_PROCESS` until the worker has answered.
        processes: The process itself when it runs on this host, else empty.
    """

    actor: Any
    future: Any
    since: float
    state: str = "starting"
    ticket: int = -1
    pid: int = NO_PROCESS
    processes: list[Any] = field(default_factory=list)

    def greet(self, pid: int, host: str) -> None:
        """Note the answer to `hello`: the worker is ready."""
        import psutil

        self.state, self.pid = "idle", pid
        if host == host_identity():
            with contextlib.suppress(psutil.NoSuchProcess):  # psutil knows a number that was given to another process
                self.processes = [psutil.Process(pid)]

    def send(self, ticket: int, work: str, arguments: tuple[Any, ...]) -> None:
        """Give the worker a call."""
        self.future = self.actor.call.remote(work, *arguments)
        self.state, self.ticket, self.since = "busy", ticket, time.monotonic()


class Crew:
    """Hires workers that hold the context and run the driver's source."""

    def __init__(self, context: Mapping[str, Any], *, local: bool, cpus: float, gpus: float) -> None:
        import ray

        self.lifeline = lifeline()
        self._values = ray.put(dict(context))
        self._root = source_root()
        self._hash = source_hash(self._root)
        environment = {} if local else {"runtime_env": {"env_vars": dict.fromkeys(THREAD_VARIABLES, "1")}}
        self._actor = ray.remote(
            num_cpus=cpus,
            **({"num_gpus": gpus} if gpus > 0 else {}),
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=1,
            scheduling_strategy="SPREAD",
            **environment,
        )(RayWorker)

    def hire(self) -> Worker:
        """Ask for a worker; it is ready once its `hello` has come back."""
        actor = self._actor.remote(self._values)
        return Worker(actor, actor.hello.remote(self._hash, str(self._root), versions()), time.monotonic())


def dismiss(workers: list[Worker], *, ask: bool = True) -> None:
    """End workers whatever state they are in, and wait until those on this host are gone.

    Args:
        workers: Who.
        ask: Whether Ray is asked first; one that is gone would not answer for a minute.

    A stopped process does not hear Ray's request to end, but nothing survives SIGKILL.
    """
    import psutil
    import ray

    alive = [process for worker in workers for process in worker.processes]
    try:
        for worker in workers if ask else ():
            with contextlib.suppress(Exception):  # Ray may be gone, or not know the actor any more
                ray.kill(worker.actor, no_restart=True)
        _, alive = psutil.wait_procs(alive, timeout=1.0)
    finally:
        for process in alive:
            with contextlib.suppress(psutil.Error):
                process.kill()
    psutil.wait_procs(alive, timeout=5.0)
