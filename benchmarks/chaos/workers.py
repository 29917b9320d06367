"""Workers that are killed, hang, run out of memory or are slow, and a search that must not notice."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

import psutil

from benchmarks.chaos.faults import LEAN, Fault, Nemesis, schedule
from benchmarks.chaos.problems import Problem, Watched, fingerprint
from benchmarks.chaos.report import Report
from evo_rnn.evaluation.ray_session import join_ray
from evo_rnn.progress import Progress

WORKERS, EVERY, DEADLINE = 3, 1.2, 2.0
SEARCH = Problem(population=96, generations=60, length=64)
PACE = Problem(population=96, generations=250, length=64)
LIMIT = 300.0  # seconds that one search may take, however it is hurt


def faulted(count: int, seed: int, folder: Path) -> Report:  # noqa: ARG001
    """Searches under fire, one after another in one Ray session, until `count` faults have been done."""
    report, wanted = Report(), SEARCH.solve()
    os.environ.update(LEAN)
    leave = join_ray("local", cpus=WORKERS, gpus=False, object_store_memory=100 * 2**20)
    rounds, end = 0, time.monotonic() + 60 + 4 * count  # a loaded machine may not manage them all
    try:
        while report.injected.total() < count and not report.failures and time.monotonic() < end:
            left = count - report.injected.total()
            found, nemesis, _ = _search(report, SEARCH, schedule(seed * 1000 + rounds, left, EVERY), WORKERS)
            rounds += 1
            report.check("identical result", found == wanted, f"round {rounds}: {found[:8]} instead of {wanted[:8]}")
            report.check("no process left", _gone(nemesis.seen), f"round {rounds}")
    finally:
        leave()
    return report


def pace(count: int, seed: int, folder: Path) -> Report:  # noqa: ARG001
    """One fault every ten seconds may cost half as much time again; with and without take turns."""
    report, wanted, spent = Report(), "", {False: 0.0, True: 0.0}
    leave = join_ray("local", cpus=2, gpus=False, object_store_memory=100 * 2**20)
    rounds = 0
    try:
        while report.injected.total() < count:
            faults = schedule(seed * 1000 + rounds, count, 10.0)
            for plan in ([], faults):
                found, _, seconds = _search(report, PACE, plan, 2)
                wanted = wanted or found
                spent[bool(plan)] += seconds
                report.check("identical result", found == wanted)
            rounds += 1
    finally:
        leave()
    ratio = spent[True] / spent[False]
    report.check("at most 1.5 x the time", ratio <= 1.5, f"{ratio:.2f}")
    report.figures |= {"ratio": ratio, "seconds with": spent[True], "seconds without": spent[False]}
    return report


def _search(report: Report, problem: Problem, faults: list[Fault], workers: int) -> tuple[str, Nemesis, float]:
    """One search on a new pool, hurt once it is under way; its fingerprint and its seconds."""
    compute = Watched(workers, options={"deadline": DEADLINE})
    seen: list[Progress] = []
    nemesis = Nemesis(faults, compute.pids, lambda: len(seen))
    steps = problem.trainer.train(problem.model, problem.task, problem.seed, compute=compute)
    try:
        seen.append(next(steps))
        nemesis.start()
        before = time.monotonic()
        for step in itertools.islice(steps, problem.generations - 1):
            seen.append(step)
            if time.monotonic() - before > LIMIT:
                break
        seconds = time.monotonic() - before
        nemesis.stop()
        found = fingerprint(seen)
    finally:
        nemesis.stop() if nemesis.is_alive() else None
        steps.close()  # type: ignore[attr-defined]
    report.injected.update(kind for kind, _ in nemesis.done)
    report.check("in time", len(seen) == problem.generations, f"{len(seen)} generations in {seconds:.0f} s")
    for name, number in compute.made[0].pool.events.items():
        report.figures[name] = float(report.figures.get(name, 0)) + number
    return found, nemesis, seconds


def _gone(pids: set[int], seconds: float = 15.0) -> bool:
    end = time.monotonic() + seconds
    while any(map(psutil.pid_exists, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(map(psutil.pid_exists, pids))
