"""A tracking server that goes away in every way, and a search that must neither wait for it nor lose a step."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from benchmarks.chaos.problems import Problem
from benchmarks.chaos.report import Report
from benchmarks.chaos.stub_server import MODES, Server
from evo_rnn.tracking import MlflowTracker
from evo_rnn.tracking.store import quieten

SEARCH = Problem(population=160, generations=10**6, length=64)
DOWN, UP = (0.5, 3.0), (0.3, 1.0)  # seconds of an outage, and between two
SHARE = 0.02  # of the driver's time, at most


def stub(count: int, seed: int, folder: Path) -> Report:
    """Every mode in turn, while a search logs every generation."""
    report, rng = Report(), random.Random(seed)  # noqa: S311 (not a secret)
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "2"
    servers = [Server()]
    port = servers[0].server_port

    def outages(over: threading.Event) -> None:
        for number in range(count):
            over.wait(rng.uniform(*UP))
            mode = MODES[number % len(MODES)]
            report.injected[mode] += 1
            if mode == "refuse":
                servers[-1].end()
                over.wait(rng.uniform(*DOWN))
                servers.append(Server(port, servers[-1].store))
            else:
                servers[-1].mode = mode
                _until_asked(servers[-1], mode)
                over.wait(rng.uniform(*DOWN))
                servers[-1].mode = ""
            _until_asked(servers[-1], "well")
        over.set()

    steps = searched(report, f"http://127.0.0.1:{port}", folder, outages)
    store = servers[-1].store
    servers[-1].end()
    (run,) = [run for run in store.runs.values() if run["tags"].get("evo.run")] or [{"metrics": {}, "status": "none"}]
    rows = sorted((step, value) for (name, _, step, value) in run["metrics"] if name == "train/loss")
    _judge(report, rows, steps, str(run["status"]))
    reached = sum((each.asked for each in servers), start=servers[0].asked.__class__())
    report.check(
        "the outages were felt", all(reached[mode] for mode in MODES if mode != "refuse") or count < 6, reached
    )
    return report


def real(count: int, seed: int, folder: Path) -> Report:
    """MLflow's own server, killed and started again."""
    report, rng = Report(), random.Random(seed)  # noqa: S311 (not a secret)
    quieten()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = _start(folder, port)

    def outages(over: threading.Event) -> None:
        nonlocal server
        for _ in range(count):
            over.wait(rng.uniform(1, 4))
            _kill(server)
            report.injected["server killed"] += 1
            over.wait(rng.uniform(*DOWN))
            server = _start(folder, port)
        over.set()

    try:
        steps = searched(report, f"http://127.0.0.1:{port}", folder, outages)
    finally:
        _kill(server)
    with contextlib.closing(sqlite3.connect(folder / "server.db")) as database:
        query = "select step, value from metrics where key = 'train/loss' order by step"
        rows = [(int(step), float(value)) for step, value in database.execute(query)]
        states = [row[0] for row in database.execute("select status from runs")]
        sound = database.execute("pragma integrity_check").fetchone()[0]
    report.check("the database is sound", sound == "ok", sound)
    _judge(report, rows, steps, ",".join(states))
    return report


def _until_asked(server: Server, mode: str, seconds: float = 40.0) -> None:
    """Wait until the tracker has met the server as it is now: it may be in a long pause between two attempts."""
    before, end = server.asked[mode], time.monotonic() + seconds
    while server.asked[mode] == before and time.monotonic() < end:
        time.sleep(0.02)


def searched(
    report: Report, uri: str, folder: Path, outages: Callable[[threading.Event], None]
) -> list[tuple[int, float]]:
    """Search and log until the outages are over; what was acknowledged by the tracker, and its share of the time."""
    logging.getLogger("evo_rnn.tracking").setLevel(logging.ERROR)
    tracker = MlflowTracker("demo", uri, folder / "tracking")
    run = tracker.start("ga", params={"seed": 0}, tags={})
    over, logged, calls = threading.Event(), list[tuple[int, float]](), list[float]()
    nemesis = threading.Thread(target=outages, args=(over,))
    nemesis.start()
    before = time.monotonic()
    for progress in SEARCH.trainer.train(SEARCH.model, SEARCH.task, SEARCH.seed):
        start = time.monotonic()
        tracker.log(run, {"train/loss": progress.loss, "budget/passes": progress.passes}, progress.step)
        calls.append(time.monotonic() - start)
        logged.append((progress.step, progress.loss))
        if over.is_set():
            break
    spent = time.monotonic() - before
    nemesis.join()
    tracker.finish(run)
    tracker.close()
    share = sum(calls) / spent
    report.check("at most 2 % of the time", share <= SHARE, f"{share:.3%} of {spent:.0f} s")
    ordered = sorted(calls)
    report.figures |= {"share of time": share, "steps": len(logged), "seconds of search": spent}
    report.figures |= {"ms p95": 1e3 * ordered[int(0.95 * len(calls))], "ms max": 1e3 * ordered[-1]}
    report.check("nothing waits on the disk", not list((folder / "tracking").iterdir()))
    return logged


def _judge(report: Report, rows: list[tuple[int, float]], steps: list[tuple[int, float]], status: str) -> None:
    report.check("every step once, with its value", rows == steps, f"{len(rows)} rows, {len(steps)} steps")
    report.check("finished", status == "FINISHED", status)


def _start(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """MLflow's own server on a database here; returns once it answers."""
    words = ["-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/server.db", "--port", str(port)]
    words += ["--host", "127.0.0.1", "--workers", "1", "--default-artifact-root", str(folder / "artifacts")]
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen([sys.executable, *words], stdout=log, stderr=log, start_new_session=True)
    end = time.monotonic() + 120
    while time.monotonic() < end:
        with contextlib.suppress(urllib.error.URLError, OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
            return process
        time.sleep(0.1)
    raise TimeoutError((folder / "server.log").read_text()[-500:])


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
