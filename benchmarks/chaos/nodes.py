"""Ray itself dies, or a machine does: the same result, or exit code 75, and never a hang."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.chaos.drivers import WHOLE, Chain
from benchmarks.chaos.problems import Problem, Watched, fingerprint
from benchmarks.chaos.report import Report
from evo_rnn.errors import RetryError
from evo_rnn.evaluation.ray_pool import RayPool

SEARCH = Problem(population=96, generations=120, length=64)
DEADLINE, GRACE = 5.0, 20.0
RAY = 75.0  # seconds after which Ray itself calls a frozen machine dead
KINDS = ("raylet killed", "head killed", "node removed", "node killed", "node frozen", "lost object")
ALONE = KINDS[:2]  # in a session of our own; the others have two machines
AGAIN = "all there, and one of them done again"
COMMAND = "head killed under a command"


def losses(count: int, seed: int, folder: Path) -> Report:
    """Each kind in a process of its own, which must end in time."""
    report, rng, wanted = Report(), random.Random(seed), SEARCH.solve()  # noqa: S311 (not a secret)
    for number in range(count):
        kind = (*KINDS, COMMAND)[number % (len(KINDS) + 1)]
        if kind == COMMAND:
            resumed(report, rng, folder / f"command-{number}")
            continue
        words = [sys.executable, "-m", "benchmarks.chaos.nodes", kind, str(rng.uniform(0.5, 4.0))]
        errors = folder / f"stderr-{number}.txt"
        before = time.monotonic()
        with errors.open("w") as file:
            process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=file, text=True, start_new_session=True)
            try:
                out, _ = process.communicate(timeout=240)
            except subprocess.TimeoutExpired:
                out = ""
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        seconds, code = time.monotonic() - before, process.returncode
        report.injected[kind] += 1
        last = (out.splitlines() or ["{}"])[-1]
        told = json.loads(last) if last.startswith("{") else {}
        same = code == 0 and told.get("result") == (AGAIN if kind == "lost object" else wanted)
        tail = errors.read_text()[-300:]
        report.check("same result, or exit code 75", same or code == 75, f"{kind}: {code}, {told}, {tail}")
        after = float(told.get("seconds", seconds))
        allowed = DEADLINE + GRACE + (RAY if kind == "node frozen" else 0)
        report.check("never silent for long", after <= allowed, f"{kind}: {after:.0f} s, at most {allowed:.0f}")
        report.figures[f"{kind} {number}"] = f"{'same' if same else code} {after:.0f} s"
    return report


def resumed(report: Report, rng: random.Random, folder: Path) -> None:
    """`evo-rnn run` loses the head of its Ray: exit code 75 in time, and `evo-rnn resume` comes to the same champion."""
    whole, chain = Chain("ga", folder / "whole"), Chain("ga", folder / "hurt")
    report.check("the undisturbed run ends", whole.first(0).wait(WHOLE) == 0, whole.complaints())
    process = chain.first(2)
    heads: list[psutil.Process] = []
    end = time.monotonic() + 90
    while not heads and time.monotonic() < end and process.poll() is None:
        time.sleep(0.1)
        with contextlib.suppress(psutil.Error):
            family = psutil.Process(process.pid).children(recursive=True)
            heads = [each for each in family if each.name() == "gcs_server"]
    time.sleep(rng.uniform(8.0, 9.0))  # Ray is up by then, and the search under way
    for head in heads:
        head.kill()
    before, code = time.monotonic(), process.wait(WHOLE)
    seconds = time.monotonic() - before
    report.injected[COMMAND] += 1
    report.check("same result, or exit code 75", code in (0, 75), f"{COMMAND}: {code}: {chain.complaints()}")
    report.check("never silent for long", seconds <= 60, f"{COMMAND}: {seconds:.0f} s")
    again = chain.again(0).wait(WHOLE) if code else 0
    same = bool(heads) and chain.result().get("champion_sha256") == whole.result().get("champion_sha256")
    report.check("resumed to the same champion", again == 0 and same, f"{COMMAND}: {again}: {chain.complaints()}")
    report.check("every step once, with its value", chain.curves() == whole.curves(), COMMAND)
    report.figures[COMMAND] = f"{code} {seconds:.0f} s"


def session(kind: str, after: float) -> int:
    """A search in a session of Ray of our own, which loses something."""
    compute = Watched(2, options={"deadline": DEADLINE, "startup_deadline": 20.0})
    return _search(compute, after, lambda: _hurt_session(kind))


def _hurt_session(kind: str) -> None:
    name = "raylet" if kind == "raylet killed" else "gcs_server"
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if child.name() == name:
                child.kill()


def two_machines(kind: str, after: float) -> int:
    """A search on a cluster of two machines, as far as Ray can tell, one of which is lost."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = cluster.add_node(num_cpus=1)

    def hurt() -> None:
        if kind == "node removed":
            cluster.remove_node(second, allow_graceful=True)
            return
        raylet = second.all_processes["raylet"][0].process.pid
        number = signal.SIGKILL if kind == "node killed" else signal.SIGSTOP
        with contextlib.suppress(psutil.Error):
            family = [psutil.Process(raylet), *psutil.Process(raylet).children(recursive=True)]
            for each in family if kind == "node frozen" else family[:1]:
                each.send_signal(number)

    try:
        options: dict[str, Any] = {"deadline": DEADLINE, "startup_deadline": 20.0, "address": cluster.address}
        options["allow_unauthenticated"] = True  # nobody else reaches it
        if kind == "lost object":
            return lost_result(options, lambda: cluster.remove_node(second, allow_graceful=False))
        return _search(Watched(2, options=options), after, hurt)
    finally:
        cluster.shutdown()


def lost_result(options: dict[str, Any], hurt: Callable[[], object]) -> int:
    """Calls are done, but the machine that holds a result is lost before anybody has fetched it."""
    sleep, values = "evo_rnn.evaluation.probe:sleep", [np.full(2**18, float(index)) for index in range(2)]
    with RayPool(2, **options) as pool:
        while any(worker.state == "starting" for worker in pool.workers) or not pool.workers:
            pool.map(sleep, [(0.5, index) for index in range(4)])
        tickets = {pool.submit(sleep, 0.0, value): value for value in values}
        time.sleep(3.0)
        hurt()
        before = time.monotonic()
        results = dict(pool.next() for _ in tickets)
        there = all(np.array_equal(results[ticket], value) for ticket, value in tickets.items())
        again = pool.events["redispatched"] >= 1
        told = {"result": AGAIN if there and again else f"{there} {again}", "seconds": time.monotonic() - before}
        print(json.dumps(told), flush=True)
    return 0


def _search(compute: Watched, after: float, hurt: Callable[[], None]) -> int:
    """Search; hurt once it is under way; print what came of it."""
    steps = SEARCH.trainer.train(SEARCH.model, SEARCH.task, SEARCH.seed, compute=compute)
    lost, times, struck = [time.monotonic()], list[float](), list[bool]()

    def strike() -> None:
        lost[0] = time.monotonic()
        hurt()
        struck.append(True)

    told: dict[str, object] = {}
    try:
        seen = [next(steps)]
        timer = threading.Timer(after, strike)
        timer.start()
        for step in itertools.islice(steps, SEARCH.generations - 1):
            seen.append(step)
            times.append(time.monotonic())
            if len(seen) == SEARCH.generations - 2:
                timer.join()  # a search that is faster than the fault waits for it
        told["result"] = fingerprint(seen) if struck else "the fault did not take place"
        code = 0
    except RetryError as error:
        told["error"], code = str(error), error.exit_code
    later = [lost[0], *(each for each in times if each > lost[0]), time.monotonic()]
    told["seconds"] = max(after - before for before, after in pairwise(later))  # the longest silence since the loss
    print(json.dumps(told), flush=True)
    with contextlib.suppress(Exception):
        steps.close()  # type: ignore[attr-defined]
    return code


if __name__ == "__main__":
    which = session if sys.argv[1] in ALONE else two_machines
    code = which(sys.argv[1], float(sys.argv[2]))
    sys.stdout.flush()
    os._exit(code)  # what Ray does when Python exits is not what is looked at here
