"""A small task, networks and the comparison of runs, for the tests of islands and of the asynchronous search."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import psutil

from evo_rnn.cells import GRU, Elman
from evo_rnn.evaluation.ray_evaluator import LOCAL, Compute
from evo_rnn.network import Network, network
from evo_rnn.progress import FRESH, Progress, State, Trainer
from evo_rnn.tasks.sunspots import sunspots
from evo_rnn.tasks.task import Sequences, Task

MODELS: dict[str, Network] = {"elman": network(Elman(1, 3), 1), "gru": network(GRU(1, 4), 1)}


def short_sunspots() -> Task:
    """The last 40 years of each split."""
    whole = sunspots()

    def cut(data: Sequences) -> Sequences:
        return replace(data, **{name: value[:, -40:] for name, value in data.arrays().items()})

    return replace(whole, train=cut(whole.train), validation=cut(whole.validation), test=cut(whole.test))


TASK = short_sunspots()


def trained(
    trainer: Trainer,
    count: int,
    seed: int = 1,
    state: State = FRESH,
    workers: int = 0,
    model: Network = MODELS["elman"],
    **options: Any,
) -> list[Progress]:
    """The first `count` steps."""
    steps = trainer.train(model, TASK, seed, state, Compute(workers, options=options) if workers else LOCAL)
    try:
        return list(islice(steps, count))
    finally:
        close(steps)


def close(steps: Iterator[Progress]) -> None:
    """End a training, and its workers."""
    steps.close()  # type: ignore[attr-defined]


def kill_one(workers: list[Any]) -> None:
    """SIGKILL for the first worker that has begun and lives, if there is one."""
    alive = [each.pid for each in workers if each.state != "starting" and psutil.pid_exists(each.pid)]
    for pid in alive[:1]:
        os.kill(pid, signal.SIGKILL)


def seal(progress: Progress) -> str:
    """SHA-256 over everything but seconds: what is shown, and what is kept to go on from."""
    sums = hashlib.sha256(repr((progress.step, progress.passes, float(progress.loss), progress.metrics)).encode())
    for array in (progress.candidates, progress.losses):
        sums.update(array.tobytes())
    for name, array in sorted(progress.checkpoint().items()):
        if name != "loop" and not name.endswith("/loop"):
            sums.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return sums.hexdigest()


def seals(run: list[Progress]) -> list[str]:
    """Of every step."""
    return [seal(progress) for progress in run]
