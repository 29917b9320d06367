"""Drivers that are killed, terminated or interrupted at any instant, and resumed until they are done."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.chaos.report import Report

SMALL = ["model.cell=elman", "model.hidden=6", "task.length=20", "task.sequences=64"]
METHODS = {
    "ga": ["budget.passes=60000", "methods.ga.population=40"],
    "memetic": ["budget.passes=60000"],
    "bptt": ["budget.passes=60000"],
}
SIGNALS = {signal.SIGKILL: 0.7, signal.SIGTERM: 0.15, signal.SIGINT: 0.15}
LATEST = 9.0  # seconds until the kill: start-up takes about four of them
ORDERLY = 10.0  # seconds that a signal may take to end a run
WHOLE = 240.0  # seconds that a run may take undisturbed
CLOCKS = ("seconds",)  # words in the names of numbers that no two runs share
Rows = list[tuple[str, float, int]]


@dataclass
class Chain:
    """One run in a directory of its own, through all its deaths."""

    method: str
    folder: Path

    def start(self, words: list[str]) -> subprocess.Popen[str]:
        """Start a command of ours there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}
        with (self.folder / "stderr.txt").open("a") as errors, (self.folder / "stdout.txt").open("w") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "trainers.cli", *words, "--json"],
                cwd=self.folder, env=environment, stdout=out, stderr=errors, text=True,
            )  # fmt: skip

    def first(self, workers: int) -> subprocess.Popen[str]:
        """Begin the run."""
        given = [*SMALL, *METHODS[self.method], f"compute.workers={workers}"]
        return self.start(["run", "adding", *given, "--method", self.method])

    def again(self, workers: int) -> subprocess.Popen[str]:
        """Go on with it; under another number of workers, perhaps. What never began begins."""
        if any((self.folder / ".evo-rnn/runs").glob("*/run.json")):
            return self.start(["resume", "latest", f"compute.workers={workers}"])
        return self.first(workers)

    def result(self) -> dict[str, object]:
        """What the last command printed; empty if nothing."""
        with contextlib.suppress(ValueError, OSError):
            found: dict[str, object] = json.loads((self.folder / "stdout.txt").read_text())
            return found
        return {}

    def stored(self, query: str) -> list[tuple[object, ...]]:
        """Rows of MLflow's database, by SQL; none while there is no database."""
        if not (self.folder / "mlflow.db").exists():
            return []
        with contextlib.closing(sqlite3.connect(self.folder / "mlflow.db", timeout=30)) as database:
            return list(database.execute(query).fetchall())

    def curves(self) -> Rows:
        """Every number of every step, but for those that a clock gave."""
        rows = self.stored("select key, value, step from metrics")
        return sorted((str(k), float(str(v)), int(str(s))) for k, v, s in rows if not any(c in str(k) for c in CLOCKS))

    def complaints(self) -> str:
        """The end of standard error."""
        return (self.folder / "stderr.txt").read_text()[-400:]


def kills(count: int, seed: int, folder: Path) -> Report:
    """Chains of deaths until `count` signals have been sent; each chain ends with a resume that is left in peace."""
    report, rng, number = Report(), random.Random(seed), 0  # noqa: S311 (not a secret)
    wanted: dict[str, tuple[object, Rows]] = {}
    while report.injected.total() < count:
        method = list(METHODS)[(number + seed) % len(METHODS)]
        if method not in wanted:
            wanted[method] = _undisturbed(report, Chain(method, folder / f"whole-{method}"))
        _chain(report, rng, Chain(method, folder / f"chain-{number}"), wanted[method], count)
        number += 1
    report.figures["chains"] = number
    return report


def _undisturbed(report: Report, chain: Chain) -> tuple[object, Rows]:
    code = chain.first(0).wait(WHOLE)
    found, rows = chain.result().get("champion_sha256"), chain.curves()
    report.check("the undisturbed run ends", code == 0 and bool(found) and len(rows) > 100, chain.complaints())
    return found, rows


def _chain(report: Report, rng: random.Random, chain: Chain, wanted: tuple[object, Rows], count: int) -> None:
    process, seen = chain.first(rng.choice((0, 0, 1))), set[tuple[str, float, int]]()
    for _ in range(12):
        if report.injected.total() >= count or not _hurt(report, rng, chain, process):
            break
        stored = chain.curves()
        lost = seen - set(stored)
        report.check("no stored step lost", not lost, f"{chain.folder.name}: {sorted(lost)[:3]}")
        seen = set(stored)
        process = chain.again(rng.choice((0, 0, 1, 2)))
    code = process.wait(WHOLE)
    _settle(report, chain)
    detail = f"{chain.folder.name} ({chain.method}), exit code {code}: {chain.complaints()}"
    report.check("resumes to the end", code == 0 or "is over" in chain.complaints(), detail)
    champions = [row[0] for row in chain.stored("select value from tags where key = 'evo.champion_sha256'")]
    report.check("same champion", champions == [wanted[0]], f"{detail} {champions}")
    found = chain.curves()
    report.check("every step once, with its value", found == wanted[1], f"{detail} {_differences(found, wanted[1])}")
    states = [str(row[0]) for row in chain.stored("select status from runs")]
    report.check("one run, finished", states == ["FINISHED"], f"{detail} {states}")
    left = [path.name for path in chain.folder.rglob(".*.tmp")]
    report.check("no temporary file left", not left, left)


def _hurt(report: Report, rng: random.Random, chain: Chain, process: subprocess.Popen[str]) -> bool:
    """Wait, send a signal, look how it ends; False if the process was over before."""
    try:
        process.wait(rng.uniform(0.2, LATEST))
    except subprocess.TimeoutExpired:
        pass
    else:
        return False
    (number,) = rng.choices(list(SIGNALS), list(SIGNALS.values()))
    before = time.monotonic()
    process.send_signal(number)
    report.injected[number.name] += 1
    code = process.wait(60)
    seconds = time.monotonic() - before
    if number != signal.SIGKILL:
        right = code in (128 + number, -number)  # the second before our handler stands, as the shell gives it
        report.check("exit code of a signal", right or code == 0, f"{number.name}: {code}: {chain.complaints()}")
        report.check("ends within 10 s", seconds <= ORDERLY, f"{number.name}: {seconds:.1f} s")
        states = [str(row[0]) for row in chain.stored("select status from runs")]
        report.check("no run left running", "RUNNING" not in states, f"{number.name}: {states}")
        report.figures["slowest end, s"] = max(float(report.figures.get("slowest end, s", 0)), seconds)
    return True


def _settle(report: Report, chain: Chain) -> None:
    """A driver that was killed after its last step may have left words for MLflow on the disk: the next sends them."""
    waiting = list((chain.folder / ".evo-rnn/tracking").glob("*/store.json"))
    if waiting:
        code = "from evo_rnn.tracking import sync; sync()"
        subprocess.run([sys.executable, "-c", code], cwd=chain.folder, check=False, timeout=60)
        report.figures["outboxes sent later"] = float(report.figures.get("outboxes sent later", 0)) + len(waiting)


def _differences(found: Rows, wanted: Rows) -> str:
    more, less = sorted(set(found) - set(wanted)), sorted(set(wanted) - set(found))
    return f"{len(found)} rows instead of {len(wanted)}; not wanted: {more[:4]}; missing: {less[:4]}"
