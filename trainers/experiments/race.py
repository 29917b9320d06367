"""The race: every trial of a comparison, method by method and seed by seed, advancing side by side on a pool of workers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from evo_rnn.description import describe
from evo_rnn.evaluation.pool import Pool, open_pool
from evo_rnn.evaluation.ray_evaluator import LOCAL, Compute
from evo_rnn.network import Model
from evo_rnn.progress import FRESH, State, Trainer
from evo_rnn.tasks.task import Task
from trainers.experiments.trial import Rules, Slice

ADVANCE = "trainers.experiments.trial:advance"
BEGUN = Slice([], {})  # the first event of every trial has no points: it says when the trial was sent


@dataclass(frozen=True)
class Event:
    """One more slice of the trial of `method` with `seed`."""

    method: str
    seed: int
    slice: Slice


def race(
    trainers: Mapping[str, Trainer],
    model: Model,
    task: Task,
    rules: Rules,
    seeds: Sequence[int],
    *,
    compute: Compute = LOCAL,
    seconds: float = 2.0,
    kept: Mapping[tuple[str, int], Slice] = MappingProxyType({}),
) -> Iterator[Event]:
    """Run every trainer with every seed and hand out each slice as it comes.

    What comes is the same for any number of workers, also when some of them die; only the order of the events is not.

    Args:
        trainers: by the name to call them.
        model: what all of them train.
        task: what all of them learn.
        rules: how all of them are judged.
        seeds: of the runs, paired over methods.
        compute: how many workers; 0 advances them one after the other in this process.
        seconds: on the clock, a slice.
        kept: the last slices of trials that go on, or that are over, by method and seed.
    """
    context = {"model": describe(model), "task": task, "rules": rules}
    waiting = deque((method, seed) for seed in seeds for method in trainers)
    for over in [key for key in waiting if key in kept and kept[key].reason]:
        waiting.remove(over)
    states = {key: piece.state for key, piece in kept.items()}
    with open_pool(compute.workers, context, **compute.options) as pool:
        yield from _advance(pool, trainers, waiting, states, seconds, max(compute.workers, 1))


def _advance(
    pool: Pool,
    trainers: Mapping[str, Trainer],
    waiting: deque[tuple[str, int]],
    states: Mapping[tuple[str, int], State],
    seconds: float,
    workers: int,
) -> Iterator[Event]:
    running: dict[int, tuple[str, int]] = {}

    def send(method: str, seed: int) -> None:
        push(method, seed, states.get((method, seed), FRESH))

    def push(method: str, seed: int, state: State) -> None:
        running[pool.submit(ADVANCE, trainers[method], seed, state, seconds)] = method, seed

    for _ in range(min(workers, len(waiting))):
        yield Event(*waiting[0], BEGUN)
        send(*waiting.popleft())
    while running:
        ticket, piece = pool.next()
        method, seed = running.pop(ticket)
        if not piece.reason:
            push(method, seed, piece.state)  # before the event is looked at, so that no worker waits
        elif waiting:
            upcoming = waiting.popleft()
            send(*upcoming)
            yield Event(*upcoming, BEGUN)
        yield Event(method, seed, piece)
