"""One thread and its clock: how many threads there are can change a bit, and whose seconds count must be clear."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from evo_rnn.heap import steady_heap


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread inside, as many as before after it."""
    steady_heap()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Stopwatch:
    """CPU seconds of this thread between `start` and `stop`, added up: what others do in between is not charged."""

    def __init__(self, spent: float = 0.0) -> None:
        self._spent, self._since = spent, time.thread_time()

    def start(self) -> None:
        """Begin to count again."""
        self._since = time.thread_time()

    def stop(self) -> float:
        """The seconds so far."""
        self._spent += time.thread_time() - self._since
        self._since = time.thread_time()
        return self._spent
