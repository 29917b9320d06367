"""Writers of checkpoints that are killed at any instant."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from benchmarks.chaos.report import Report
from evo_rnn.checkpoint import Checkpoints, CorruptCheckpointError, load
from evo_rnn.shapes import Array

KEEP = 3


def content(step: int) -> dict[str, Array]:
    """What a checkpoint of a step holds: of another size at every step, from 4 kB to 1 MB."""
    size = 1000 * 2 ** (step * 7 % 9)
    return {"genes": np.full((size,), step, np.float32), "loss": np.array(float(step))}


def write_on(folder: str, acknowledge: Connection) -> None:
    """Go on from what is there, for ever, saying what is safe; this process is killed."""
    kept = Checkpoints(Path(folder), KEEP)
    step, arrays, _ = kept.latest()
    if step >= 0 and not np.array_equal(arrays["genes"], content(step)["genes"]):
        os._exit(3)
    while True:
        step += 1
        kept.write(step, content(step), {"note": "x" * (step % 50)})
        acknowledge.send(step)


def kills(count: int, seed: int, folder: Path) -> Report:
    """Start a writer, kill it, look; again and again."""
    report, rng, acknowledged = Report(), random.Random(seed), -1  # noqa: S311 (not a secret)
    fork = multiprocessing.get_context("forkserver")
    fork.set_forkserver_preload([__name__])
    for _ in range(count):
        mine, its = fork.Pipe(duplex=False)
        writer = fork.Process(target=write_on, args=(str(folder), its), daemon=True)
        writer.start()
        its.close()
        first = mine.recv()
        report.check("goes on from what was safe", first > acknowledged, f"{first} after {acknowledged}")
        time.sleep(rng.uniform(0, 0.03))
        os.kill(writer.pid or 0, signal.SIGKILL)
        writer.join()
        acknowledged = max([first, *_rest(mine)])
        report.injected[_instant(folder, acknowledged)] += 1
        look(report, folder, acknowledged)
    report.figures["steps"] = acknowledged
    report.check("many steps were written", acknowledged > count)
    return report


def _rest(pipe: Connection) -> list[int]:
    """What the writer had said before it died."""
    said: list[int] = []
    with contextlib.suppress(EOFError, OSError):
        while pipe.poll(1.0):
            said.append(pipe.recv())
    pipe.close()
    return said


def _instant(folder: Path, acknowledged: int) -> str:
    """Where the kill came, as far as the disk tells."""
    if any(folder.glob(".*.tmp")):
        return "before the rename"
    newest = max(int(path.stem.partition("-")[2]) for path in folder.glob("step-*.safetensors"))
    return "before the acknowledgement" if newest > acknowledged else "between two writes"


def look(report: Report, folder: Path, acknowledged: int) -> None:
    """Every visible file is whole, the newest is the last acknowledged or the one after, nothing else is left."""
    for path in folder.glob("step-*"):
        try:
            arrays, header = load(path)
            report.check("visible files are whole", bool((arrays["genes"] == header["step"]).all()), path.name)
        except CorruptCheckpointError as error:
            report.check("visible files are whole", False, error)
    latest = Checkpoints(folder, KEEP).latest().step
    report.check("no acknowledged step lost", latest in (acknowledged, acknowledged + 1), f"{latest}, {acknowledged}")
    report.check("no temporary file left", not list(folder.glob(".*.tmp")))
    report.check("few files", len(list(folder.iterdir())) <= KEEP + 1)
