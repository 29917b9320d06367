"""The driver-managed Ray pool: the driver holds every call and gives each to a worker that has said it is ready.

A worker that dies, or does not answer in time, is killed and replaced, and its call goes to another. So an
infrastructure failure can never change a result; it can only end the run, with a RetryError, after `attempts` tries.
An exception in a work function is not a failure of the infrastructure: it is raised here, at once.
"""

from __future__ import annotations

import math
import statistics
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Self

from evo_rnn.errors import ConfigError, RetryError
from evo_rnn.evaluation.pool import Outcome, Tickets
from evo_rnn.evaluation.ray_crew import Crew, Worker, dismiss
from evo_rnn.evaluation.ray_errors import is_infrastructure, original, start_failure, summary
from evo_rnn.evaluation.ray_head import EVERY
from evo_rnn.evaluation.ray_session import join_ray
from evo_rnn.evaluation.worker import Value, resolve

_PATIENCE = 10  # a call may take this many times the median of its kind before it counts as hung


class RayPool:
    """Calls work functions in Ray worker processes. Ray starts with the first call. Not for use by several threads.

    Args:
        workers: How many worker processes, each with one thread.
        context: Large read-only values; sent once, and given to each worker when it starts.
        address: "local" for a private session on this machine; "auto" or HOST:PORT for a Ray cluster.
        allow_unauthenticated: Whether that cluster may lie beyond this machine and be open to everybody.
        cpus_per_worker: CPUs that Ray reserves for each worker.
        gpus_per_worker: GPUs that Ray reserves for each worker; fractions share one.
        object_store_memory: Shared memory of a private session in bytes; what does not fit goes to disk.
        startup_deadline: Seconds that a worker may take to start.
        deadline: Seconds that a call may take; ten times the median of its work function when that is more.
        attempts: How often the machine may fail one call before RetryError.

    Attributes:
        events: Counters, see `Pool`.
        workers: The present workers, each with its `pid`.

    Raises:
        ConfigError: An argument is out of its range.
    """

    def __init__(
        self,
        workers: int,
        *,
        context: Mapping[str, Any] = {},
        address: str = "local",
        allow_unauthenticated: bool = False,
        cpus_per_worker: float = 1.0,
        gpus_per_worker: float = 0.0,
        object_store_memory: int = 256 * 2**20,
        startup_deadline: float = 120.0,
        deadline: float = 30.0,
        attempts: int = 5,
    ) -> None:
        least = {"workers": (workers, 1), "attempts": (attempts, 1), "object_store_memory": (object_store_memory, 1)}
        for name, (value, bound) in least.items():
            if value < bound:
                raise ConfigError(f"{name} must be {bound} or more, got {value}")
        for name, seconds in (("startup_deadline", startup_deadline), ("deadline", deadline)):
            if not 0 < seconds < math.inf:
                raise ConfigError(f"{name} must be a positive number of seconds, got {seconds}")
        if not 0 <= cpus_per_worker < math.inf:
            raise ConfigError(f"cpus_per_worker must be a number that is not negative, got {cpus_per_worker}")
        if not (0 <= gpus_per_worker <= 1 or float(gpus_per_worker).is_integer()):
            raise ConfigError(f"gpus_per_worker must be a fraction up to 1 or a whole number, got {gpus_per_worker}")
        self.events = {"dispatched": 0, "replaced": 0, "redispatched": 0, "timeouts": 0}
        self.workers: list[Worker] = []
        self._size, self._attempts = workers, attempts
        self._startup_deadline, self._deadline = startup_deadline, deadline
        self._needs = {"CPU": cpus_per_worker, "GPU": gpus_per_worker}
        self._context, self._address, self._store = context, address, object_store_memory
        self._unauthenticated = allow_unauthenticated
        self._tickets = Tickets()
        self._seconds: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=64))
        self._crews: list[Crew] = []  # empty until Ray is needed, and after close
        self._leave: Callable[[], None] = lambda: None
        self._failed_starts = 0

    def submit(self, work: str, *arguments: Value) -> int:
        """Accept a call and return its ticket; it starts at once when a worker is idle.

        Raises:
            ConfigError: `work` names no work function.
            RetryError: Ray does not start.
        """
        resolve(work)
        self._open()
        ticket = self._tickets.add(work, arguments)
        self._dispatch()
        return ticket

    def next(self) -> tuple[int, Any]:
        """Wait for any accepted call; return its ticket and result, or raise what the work function raised.

        Raises:
            RetryError: The machine failed the call `attempts` times, or no worker starts.
            LookupError: No call is left to wait for.
        """
        return self._tickets.take(self._advance)

    def map(self, work: str, items: Iterable[tuple[Any, ...]]) -> list[Any]:
        """Return `[work(cache, *item) for item in items]`, by index, whatever order the calls end in.

        Raises:
            RetryError: As in `next`.
        """
        return self._tickets.gather(self.submit, self._advance, work, items)

    def share(self, value: Value) -> Value:
        """Put a large value where all workers read it, once; give the handle to calls as an argument of its own."""
        import ray

        self._open()
        self._crews[0].lifeline.check()
        return ray.put(value)

    def close(self) -> None:
        """End the workers, and Ray itself when this pool started it. Closing again does nothing."""
        workers, self.workers = self.workers, []
        leave, self._leave = self._leave, lambda: None
        self._tickets = Tickets()
        cut = any(crew.lifeline.cut for crew in self._crews)
        self._crews.clear()
        try:
            dismiss(workers, ask=not cut)
        finally:
            leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def _open(self) -> None:
        if self._crews:
            return
        cpus, gpus = self._needs["CPU"], self._needs["GPU"]
        room = max(1, math.ceil(self._size * cpus))
        self._leave = join_ray(self._address, room, gpus > 0, self._store, allow_unauthenticated=self._unauthenticated)
        try:
            import ray

            there = ray.cluster_resources().get("GPU", 0.0)
            if self._address == "local" and self._size * gpus > there:
                raise ConfigError(
                    f"{self._size} workers with gpus_per_worker={gpus} want {self._size * gpus:g} GPUs, this machine "
                    f"has {there:g}: lower workers or gpus_per_worker"
                )
            self._crews.append(Crew(self._context, local=self._address == "local", cpus=cpus, gpus=gpus))
            self._hire()
        except BaseException:
            self.close()
            raise

    def _hire(self) -> None:
        while len(self.workers) < self._size:
            self.workers.append(self._crews[0].hire())

    def _dispatch(self) -> None:
        waiting = self._tickets.waiting
        for worker in self.workers:
            if worker.state == "idle" and waiting:
                call = self._tickets.calls[waiting[0]]
                worker.send(waiting[0], call.work, call.arguments)
                waiting.popleft()  # not before it is sent: an interrupt must not lose it
                self.events["dispatched"] += 1

    def _advance(self) -> None:
        """Hire, dispatch, wait for one answer or the nearest deadline, and deal with what came."""
        self._hire()
        self._dispatch()
        asked = {worker.future: worker for worker in self.workers if worker.state != "idle"}
        nearest = min(worker.since + self._limit(worker) for worker in asked.values())
        for future in self._wait(list(asked), nearest):
            self._collect(asked.pop(future))
        for worker in asked.values():
            limit = self._limit(worker)
            # The answer of an overdue worker may have come while this process was busy or stopped.
            if time.monotonic() - worker.since > limit and not _ready([worker.future], 0.0):
                self.events["timeouts"] += 1
                self._lose(worker, f"no answer within {limit:g} s", overdue=True)

    def _wait(self, futures: list[Any], until: float) -> list[Any]:
        """As `_ready`, with a look at Ray itself from time to time."""
        while True:
            self._crews[0].lifeline.check()
            left = until - time.monotonic()
            if (ready := _ready(futures, min(left, EVERY))) or left <= EVERY:
                return ready

    def _limit(self, worker: Worker) -> float:
        """Return the seconds that a worker has for what it owes us."""
        if worker.state == "starting":
            return self._startup_deadline
        call = self._tickets.calls.get(worker.ticket)
        seen = self._seconds[call.work] if call else ()
        return max(self._deadline, _PATIENCE * statistics.median(seen)) if seen else self._deadline

    def _collect(self, worker: Worker) -> None:
        """Take the answer of a worker that has one."""
        import ray

        try:
            answer = ray.get(worker.future, timeout=max(self._deadline, 30.0))  # it is here, or on its way
        except ray.exceptions.RayError as error:
            if is_infrastructure(error):
                self._lose(worker, summary(error))
            elif worker.state == "starting":
                raise start_failure(error) from error
            else:
                self._finish(worker, Outcome(original(error), failed=True))
            return
        self._failed_starts = 0
        if worker.state == "starting":
            worker.greet(*answer)
            return
        seconds, result = answer
        call = self._tickets.calls.get(worker.ticket)
        if call:
            self._seconds[call.work].append(seconds)
        self._finish(worker, Outcome(result))

    def _finish(self, worker: Worker, outcome: Outcome) -> None:
        self._tickets.finish(worker.ticket, outcome)
        worker.state, worker.ticket, worker.future = "idle", -1, ()

    def _lose(self, worker: Worker, reason: str, *, overdue: bool = False) -> None:
        """Kill a worker that failed; give its call to another, or give up.

        A worker that dies while it starts is tried again. One that does not start in time finds no room, mostly; that
        is endured while other workers go on.
        """
        self.workers.remove(worker)
        dismiss([worker], ask=not self._crews[0].lifeline.cut)
        self.events["replaced"] += 1
        if worker.state == "starting":
            self._failed_starts += 1
            alone = all(other.state == "starting" for other in self.workers)
            if self._failed_starts >= self._attempts or (overdue and alone):
                raise RetryError(self._no_worker(reason))
        elif worker.ticket in self._tickets.calls:
            self._retry(worker.ticket, reason)

    def _retry(self, ticket: int, reason: str) -> None:
        call = replace(self._tickets.calls[ticket], attempts=self._tickets.calls[ticket].attempts + 1)
        self._tickets.calls[ticket] = call
        if call.attempts < self._attempts:
            self.events["redispatched"] += 1
            self._tickets.waiting.appendleft(ticket)
            return
        message = (
            f"{call.work} was lost {call.attempts} times to failures of its worker (last: {reason}): check memory and "
            "the machines and run again, or raise the deadline if the calls are long"
        )
        self._tickets.finish(ticket, Outcome(RetryError(message), failed=True))

    def _no_worker(self, reason: str) -> str:
        import ray

        there = ray.cluster_resources()
        wants = " and ".join(f"{amount:g} {name}" for name, amount in self._needs.items() if amount)
        has = " and ".join(f"{there.get(name, 0):g} {name}" for name, amount in self._needs.items() if amount)
        return (
            f"no worker starts ({reason}); each wants {wants}, Ray has {has} in all: lower workers, free the machine "
            "or raise startup_deadline"
        )


def _ready(futures: list[Any], seconds: float) -> list[Any]:
    """Return the first of `futures` that has an answer, in a list; an empty one when none has after `seconds`."""
    import ray

    try:
        ready, _ = ray.wait(futures, num_returns=1, timeout=max(0.0, seconds))
    except ray.exceptions.RayError as error:
        raise RetryError(f"Ray itself has failed ({summary(error)}): run again") from error
    return list(ready)
