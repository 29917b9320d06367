"""Pools: many calls of pure work functions, here or in Ray workers, with the same results either way.

A *work function* is a module-level function of our three floors, named "package.module:function" and called as
`function(cache, *arguments)` with a `WorkerCache`. It is pure: it writes no file and changes none of its arguments, so
that a call may run twice, and its result depends on the arguments and the context alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

from evo_rnn.errors import ConfigError
from evo_rnn.evaluation.worker import Value, WorkerCache, resolve


class Pool(Protocol):
    """Calls work functions and hands back each result once.

    Attributes:
        events: How many calls were `dispatched` and `redispatched`, workers `replaced`, and deadlines passed
            (`timeouts`).
    """

    events: dict[str, int]

    def submit(self, work: str, *arguments: Value) -> int:
        """Accept a call and return its ticket; raise ConfigError when `work` names no work function."""

    def next(self) -> tuple[int, Any]:
        """Wait for any accepted call; return its ticket and result, or raise what the work function raised."""

    def map(self, work: str, items: Iterable[tuple[Any, ...]]) -> list[Any]:
        """Return `[work(cache, *item) for item in items]`, by index."""

    def share(self, value: Value) -> Value:
        """Return a handle of a large value, to give as an argument (not inside one) to any number of calls."""

    def close(self) -> None:
        """End the pool and everything that it started; closing again does nothing."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *details: object) -> None: ...


@dataclass(frozen=True)
class Call:
    """A call that waits for its result; `attempts` counts how often the machine has failed it."""

    work: str
    arguments: tuple[Any, ...]
    attempts: int = 0


@dataclass(frozen=True)
class Outcome:
    """What a call came to: a result, or the exception to raise in its place."""

    result: Any
    failed: bool = False

    def unwrap(self) -> Value:
        """Return the result or raise the exception."""
        if self.failed:
            raise self.result
        return self.result


class Tickets:
    """The calls of a pool: those that wait, in order, and the outcomes that nobody has taken yet."""

    def __init__(self) -> None:
        self.calls: dict[int, Call] = {}
        self.waiting: deque[int] = deque()
        self.finished: dict[int, Outcome] = {}
        self._count = 0

    def add(self, work: str, arguments: tuple[Any, ...]) -> int:
        """Accept a call and return its ticket."""
        ticket = self._count
        self._count += 1
        self.calls[ticket] = Call(work, arguments)
        self.waiting.append(ticket)
        return ticket

    def finish(self, ticket: int, outcome: Outcome) -> None:
        """Keep the outcome of a call, unless the call was forgotten."""
        if self.calls.pop(ticket, ()):
            self.finished[ticket] = outcome

    def forget(self, tickets: Iterable[int]) -> None:
        """Drop calls and outcomes that nobody will ask for."""
        for ticket in tickets:
            self.calls.pop(ticket, ())
            self.finished.pop(ticket, ())
        self.waiting = deque(ticket for ticket in self.waiting if ticket in self.calls)

    def take(self, advance: Callable[[], None]) -> tuple[int, Any]:
        """Return the ticket and result that finished first, calling `advance` until there is one.

        Raises:
            LookupError: No call is left.
        """
        while not self.finished:
            if not self.calls:
                raise LookupError("next() has nothing to wait for: every submitted call has handed back its result")
            advance()
        ticket = next(iter(self.finished))
        return ticket, self.finished.pop(ticket).unwrap()

    def gather(
        self, submit: Callable[..., int], advance: Callable[[], None], work: str, items: Iterable[tuple[Any, ...]]
    ) -> list[Any]:
        """Submit one call per item and return the results by index.

        Outcomes are taken in the order of the items, so of several failures the first item's is raised, however many
        workers there are. Outcomes of other calls stay for `take`.
        """
        tickets: list[int] = []
        try:
            tickets.extend(submit(work, *item) for item in items)
            results = []
            for ticket in tickets:
                while ticket not in self.finished:
                    advance()
                results.append(self.finished.pop(ticket).unwrap())
            return results
        except BaseException:
            self.forget(tickets)
            raise


class SerialPool:
    """A pool in this process, without Ray: `workers: 0`, and the oracle that the Ray pool is held to."""

    def __init__(self, context: Mapping[str, Any]) -> None:
        self.events = {"dispatched": 0, "replaced": 0, "redispatched": 0, "timeouts": 0}
        self._cache = WorkerCache(dict(context))
        self._tickets = Tickets()

    def submit(self, work: str, *arguments: Value) -> int:
        """Accept a call; it runs when its result is asked for."""
        resolve(work)
        return self._tickets.add(work, arguments)

    def next(self) -> tuple[int, Any]:
        """Run the oldest call; return its ticket and result, or raise what the work function raised."""
        return self._tickets.take(self._advance)

    def map(self, work: str, items: Iterable[tuple[Any, ...]]) -> list[Any]:
        """Return `[work(cache, *item) for item in items]`."""
        return self._tickets.gather(self.submit, self._advance, work, items)

    def share(self, value: Value) -> Value:
        """Return `value` itself."""
        return value

    def close(self) -> None:
        """Forget all calls and what they kept."""
        self._tickets = Tickets()
        self._cache.kept.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def _advance(self) -> None:
        ticket = self._tickets.waiting[0]
        call = self._tickets.calls[ticket]
        self.events["dispatched"] += 1
        try:
            outcome = Outcome(resolve(call.work)(self._cache, *call.arguments))
        except Exception as error:
            outcome = Outcome(error, failed=True)
        self._tickets.waiting.popleft()
        self._tickets.finish(ticket, outcome)


def open_pool(workers: int, context: Mapping[str, Any], **options: Value) -> Pool:
    """Return a pool of `workers` Ray processes, or one in this process when `workers` is 0.

    Args:
        workers: How many worker processes; 0 means none, and Ray is not even imported.
        context: Large read-only values that every work function may read as `cache.values`.
        options: Passed on to `RayPool`.

    Raises:
        ConfigError: `workers` is negative.
    """
    if workers < 0:
        raise ConfigError(f"workers must be 0 or more, got {workers}")
    if workers == 0:
        return SerialPool(context)
    from evo_rnn.evaluation.ray_pool import RayPool

    return RayPool(workers, context=context, **options)
