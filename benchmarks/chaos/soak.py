"""A long search: memory and descriptors must not grow."""

from __future__ import annotations

import contextlib
import itertools
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import psutil

from benchmarks.chaos.problems import Watched
from benchmarks.chaos.report import Report
from evo_rnn.cells import CELLS
from evo_rnn.evaluation.ray_evaluator import LOCAL, Compute
from evo_rnn.network import network
from evo_rnn.tasks.adding import adding
from populations.algorithms import GeneticAlgorithm
from populations.evolution import Evolution

SLOPE = 0.1  # MB for 1,000 generations: drivers and workers, after the first fifth
GCS = 10.0  # MB in all
SAMPLES = 200
Watches = Mapping[str, list[psutil.Process]]


def on_ray(count: int, seed: int, folder: Path) -> Report:  # noqa: ARG001
    """`count` generations on two workers in one session of Ray."""
    compute = Watched(2, options={"object_store_memory": 100 * 2**20})
    return soak(count, seed, compute)


def soak(count: int, seed: int, compute: Compute = LOCAL, slope: float = SLOPE) -> Report:
    """A search for the smallest of networks, looked at from time to time."""
    report, task = Report(independent=False), adding(length=4, sequences=8)
    model = network(CELLS["elman"](task.inputs, 2), task.outputs)
    steps = Evolution(GeneticAlgorithm(population=256)).train(model, task, seed, compute=compute)
    seen: dict[str, list[tuple[float, float]]] = defaultdict(list)
    handles: list[int] = []
    every, watched = max(count // SAMPLES, 1), dict[str, list[psutil.Process]]()
    try:
        for progress in itertools.islice(steps, count):
            progress.checkpoint()
            if progress.step == 1:
                watched = _watched(compute)
            if progress.step % every == 0:
                handles.append(psutil.Process().num_fds())
                for name, processes in watched.items():
                    seen[name].append((progress.step, _megabytes(processes)))
    finally:
        steps.close()  # type: ignore[attr-defined]
    report.injected["generations"] = count
    for name, points in seen.items():
        late = points[len(points) // 5 :]
        growth = 1000 * theil_sen(late)
        report.figures[f"{name} MB/1000"] = growth
        if name in ("driver", "workers"):
            report.check(f"the {name} do not grow", growth <= slope, f"{growth:.3f} MB for 1000 generations")
        elif name == "gcs_server":
            report.check("the head does not grow", late[-1][1] - late[0][1] <= GCS, f"{late[0]} to {late[-1]}")
    late_handles = handles[len(handles) // 5 :]
    report.check("descriptors stay", late_handles[-1] <= late_handles[0], f"{late_handles[0]} to {late_handles[-1]}")
    report.figures |= {"driver MB": seen["driver"][-1][1], "descriptors": handles[-1]}
    return report


def _watched(compute: Compute) -> dict[str, list[psutil.Process]]:
    found = {"driver": [psutil.Process()]}
    if isinstance(compute, Watched):
        found["workers"] = [each for worker in compute.made[0].pool.workers for each in worker.processes]  # type: ignore[attr-defined]
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                for name in ("gcs_server", "raylet"):
                    if child.name() == name:
                        found[name] = [child]
    return found


def _megabytes(processes: list[psutil.Process]) -> float:
    """Memory that only they have, which is what can leak; shared pages come and go."""
    return float(sum(each.memory_info().rss - each.memory_info().shared for each in processes)) / 2**20


def theil_sen(points: list[tuple[float, float]]) -> float:
    """The median slope between all pairs (Theil 1950, Sen 1968): a step or a peak does not bend it."""
    slopes = sorted((y - v) / (x - u) for (u, v), (x, y) in itertools.combinations(points, 2) if x != u)
    return slopes[len(slopes) // 2]
