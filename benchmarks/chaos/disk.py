"""Disks that are full: a file system of a few megabytes where the kernel lets us have one, and a limit on file sizes."""

from __future__ import annotations

import contextlib
import json
import random
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks.chaos.report import Report
from benchmarks.chaos.writers import look
from evo_rnn.checkpoint import Checkpoints, load
from evo_rnn.errors import DiskError
from evo_rnn.shapes import Array
from evo_rnn.tracking.outbox import Outbox

SIZE = 8 * 2**20  # bytes of the small file system


def full(count: int, seed: int, folder: Path) -> Report:
    """Half of the events on a full file system, half under a limit on the size of files."""
    report = Report()
    limited(report, count - count // 2, seed, folder / "limited")
    small = folder / "small"
    small.mkdir()
    mount = f"mount -t tmpfs -o size={SIZE} chaos {small} && exec "
    words = [sys.executable, "-m", "benchmarks.chaos.disk", str(count // 2), str(seed), str(small)]
    quoted = " ".join(f"'{word}'" for word in words)
    command = ["unshare", "-Urm", "sh", "-c", mount + quoted]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    if done.returncode == 0:
        inner = json.loads(done.stdout)
        report.injected.update(inner["injected"])
        report.checked.update(inner["checked"])
        report.failures += inner["failures"]
    elif shutil.which("unshare") and subprocess.run(["unshare", "-Urm", "true"], check=False).returncode == 0:
        report.check("the small file system", False, done.stderr[-300:])
    else:
        report.figures["small file system"] = "not allowed here"
    return report


def population(step: int, rng: random.Random) -> dict[str, Array]:
    """100 kB to 1 MB."""
    return {"genes": np.full(rng.randrange(25_000, 250_000), step, np.float32)}


def limited(report: Report, count: int, seed: int, folder: Path) -> None:
    """A write that would make a file larger than allowed fails in the middle."""
    rng, kept = random.Random(seed), Checkpoints(folder)  # noqa: S311 (not a secret)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for step in range(1, count + 1):
        kept.write(step, population(step, rng), {})
        resource.setrlimit(resource.RLIMIT_FSIZE, (rng.randrange(1, 100_000), hard))
        try:
            _refused(report, "file size limit", kept, step + 1, rng)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        _after(report, kept, step)


def filled(report: Report, count: int, seed: int, folder: Path) -> None:
    """Somebody fills the disk up to a few bytes; a checkpoint and a record of numbers meet it."""
    rng, kept = random.Random(seed), Checkpoints(folder / "run")  # noqa: S311 (not a secret)
    box, filler, appended = Outbox(folder / "box"), folder / "filler", 0
    for step in range(1, count + 1):
        kept.write(step, population(step, rng), {})
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
        with filler.open("r+b") as file:  # and leave a little
            file.truncate(max(filler.stat().st_size - rng.randrange(0, 24) * 4096, 0))
        _refused(report, "no space left", kept, step + 1, rng)
        for _ in range(200):
            box.append({"step": appended, "text": "x" * 200})
            appended += 1
        filler.unlink()
        _after(report, kept, step)
    got: list[int] = []
    while not box.empty:
        records, offset = box.pending()
        got += [record["step"] for record in records]
        box.acknowledge(offset)
    report.check("no record lost or doubled", got == list(range(appended)), f"{len(got)} of {appended}")
    box.close()


def _refused(report: Report, kind: str, kept: Checkpoints, step: int, rng: random.Random) -> None:
    report.injected[kind] += 1
    try:
        kept.write(step, population(step, rng), {})
        report.check("a DiskError", False, f"step {step} was written")
    except DiskError as error:
        report.check("a DiskError", error.exit_code == 74 and "\n" not in str(error), error)


def _after(report: Report, kept: Checkpoints, step: int) -> None:
    look(report, kept.directory, step)
    arrays, _ = load(kept.directory / f"step-{step:012d}.safetensors")
    report.check("previous checkpoint intact", bool((arrays["genes"] == step).all()), step)


if __name__ == "__main__":
    inner = Report()
    filled(inner, int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
    print(json.dumps({"injected": inner.injected, "checked": inner.checked, "failures": inner.failures}))
