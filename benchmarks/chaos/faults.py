"""The injector: a schedule of faults drawn from a seed, and a thread that does them to worker processes."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil

KINDS = {"kill": 0.60, "hang": 0.25, "memory": 0.10, "slow": 0.05}
# Else a worker lives on what it has freed and kept, and no limit is felt. For the environment in which Ray starts.
LEAN = {
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "0",
    "MALLOC_TOP_PAD_": "0",
    "MALLOC_ARENA_MAX": "1",
}
SLOW = 0.5  # seconds that a slow worker is held up: less than any deadline


@dataclass(frozen=True)
class Fault:
    """What is done, after a pause of so many seconds, to which of the workers (a share, 0 to 1)."""

    kind: str
    pause: float
    victim: float


def schedule(seed: int, count: int, interval: float) -> list[Fault]:
    """`count` faults, one every `interval` seconds on average."""
    rng = random.Random(seed)  # noqa: S311 (not a secret)
    kinds = rng.choices(list(KINDS), list(KINDS.values()), k=count)
    return [Fault(kind, interval * rng.uniform(0.5, 1.5), rng.random()) for kind in kinds]


def inject(kind: str, pid: int) -> None:
    """Do it to a process."""
    if kind == "kill":
        os.kill(pid, signal.SIGKILL)
    elif kind == "hang":
        os.kill(pid, signal.SIGSTOP)
    elif kind == "slow":
        os.kill(pid, signal.SIGSTOP)
        time.sleep(SLOW)
        os.kill(pid, signal.SIGCONT)
    else:  # whatever it asks for next, it does not get
        for limit in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
            resource.prlimit(pid, limit, (1 << 20, resource.RLIM_INFINITY))


class Nemesis(threading.Thread):
    """Works through a schedule until it ends or is told to stop.

    Args:
        faults: the schedule.
        victims: returns the process numbers that may be hurt now.
        progress: returns a number that grows when work gets done. Some must be, between two faults or three: workers that
            are killed faster than they start end a run, and rightly.

    Attributes:
        done: kind and process number of every fault that took place.
        seen: every process number that was offered as a victim.
    """

    def __init__(self, faults: list[Fault], victims: Callable[[], list[int]], progress: Callable[[], int]) -> None:
        super().__init__(name="nemesis", daemon=True)
        self.done: list[tuple[str, int]] = []
        self.seen: set[int] = set()
        self._faults, self._victims, self._progress, self._end = faults, victims, progress, threading.Event()

    def run(self) -> None:
        """Hurt one worker after another; none is hurt twice, and in between somebody gets something done."""
        due = time.monotonic()
        for number, fault in enumerate(self._faults):
            due += fault.pause
            seen = self._progress() if number % 3 else -1  # every third comes right after the one before
            while not self._unhurt() or self._progress() == seen:
                if self._end.wait(0.02):
                    return
            if self._end.wait(max(due - time.monotonic(), 0.1)):
                return
            if not (free := self._unhurt()):
                continue
            pid = free[int(fault.victim * len(free))]
            with contextlib.suppress(ProcessLookupError):
                inject(fault.kind, pid)
                self.done.append((fault.kind, pid))

    def stop(self) -> None:
        """End, at the latest after the fault that is under way."""
        self._end.set()
        self.join()

    def _unhurt(self) -> list[int]:
        pids = [pid for pid in self._victims() if psutil.pid_exists(pid)]
        self.seen.update(pids)
        hurt = {pid for kind, pid in self.done if kind != "slow"}
        return [pid for pid in pids if pid not in hurt]
