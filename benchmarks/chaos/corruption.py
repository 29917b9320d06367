"""Checkpoints whose bytes are not what was written: every one must be refused."""

from __future__ import annotations

import logging
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.chaos.report import Report
from evo_rnn.checkpoint import Checkpoints, CorruptCheckpointError, load, save
from evo_rnn.shapes import Array

Damage = Callable[[random.Random, bytes, bytes], bytes]
KEPT = 4  # checkpoints in the directory whose files are swapped


def flip(rng: random.Random, whole: bytes, other: bytes) -> bytes:  # noqa: ARG001
    """One bit, anywhere."""
    body, place = bytearray(whole), rng.randrange(8 * len(whole))
    body[place // 8] ^= 1 << (place % 8)
    return bytes(body)


def burst(rng: random.Random, whole: bytes, other: bytes) -> bytes:  # noqa: ARG001
    """A stretch of noise, as a bad sector gives, or of zeros, as a lost page does."""
    start = rng.randrange(len(whole))
    length = min(rng.choice((8, 64, 512, 4096)), len(whole) - start)
    noise = bytes(length) if rng.random() < 0.5 else rng.randbytes(length)
    return whole[:start] + noise + whole[start + length :]


def cut(rng: random.Random, whole: bytes, other: bytes) -> bytes:  # noqa: ARG001
    """The end is lost."""
    return whole[: rng.randrange(len(whole))]


def grow(rng: random.Random, whole: bytes, other: bytes) -> bytes:
    """Something comes after the end."""
    return whole + rng.choice((b"\0", rng.randbytes(9), other, whole))


def graft(rng: random.Random, whole: bytes, other: bytes) -> bytes:
    """Begins as one checkpoint and ends as another."""
    place = rng.randrange(1, min(len(whole), len(other)))
    return whole[:place] + other[place:]


def lie(rng: random.Random, whole: bytes, other: bytes) -> bytes:  # noqa: ARG001
    """A number in the header is another one; sometimes the header's own length."""
    size = int.from_bytes(whole[:8], "little")
    if rng.random() < 0.2:
        wrong = rng.choice((0, size + 8, size - 8, 2**20, 2**62, 2**64 - 1))
        return wrong.to_bytes(8, "little") + whole[8:]
    head, data = bytearray(whole[8 : 8 + size]), whole[8 + size :]
    digits = [place for place, byte in enumerate(head) if 48 <= byte <= 57]
    place = rng.choice(digits)
    head[place] = rng.choice([byte for byte in b"0123456789" if byte != head[place]])
    return len(head).to_bytes(8, "little") + bytes(head) + data


DAMAGES: dict[str, tuple[Damage, float]] = {
    "bit": (flip, 0.45),
    "burst": (burst, 0.15),
    "truncated": (cut, 0.15),
    "longer": (grow, 0.05),
    "grafted": (graft, 0.05),
    "header lie": (lie, 0.15),
}


def damage(count: int, seed: int, folder: Path) -> Report:
    """Damage one file after another; then swap whole files of a directory."""
    logging.getLogger("evo_rnn.checkpoint").setLevel(logging.ERROR)  # it warns of every file, as it should
    report, rng = Report(), random.Random(seed)  # noqa: S311 (not a secret)
    whole, other = (_sample(folder, number) for number in (1, 2))
    path = folder / "damaged"
    for kind in rng.choices(list(DAMAGES), [share for _, share in DAMAGES.values()], k=count):
        body = DAMAGES[kind][0](rng, whole, other)
        if body in (whole, other):  # the noise was what had been there
            continue
        path.write_bytes(body)
        report.injected[kind] += 1
        if not _refused(path):
            (folder.parent / f"undetected-{kind}").write_bytes(body)
            report.check("detected", False, kind)
        report.checked["detected"] += 1
    path.write_bytes(whole)
    report.check("an undamaged file is read", not _refused(path))
    _swaps(report, rng, folder / "run", max(count // 200, 5))
    return report


def _sample(folder: Path, number: int) -> bytes:
    rng = np.random.default_rng(number)
    arrays: dict[str, Array] = {"genes": rng.standard_normal((24, 33), np.float32), "loss": rng.standard_normal(24)}
    save(folder / "sample", {**arrays, "step": np.array([number])}, {"seed": number, "names": ["a", "b"]})
    return (folder / "sample").read_bytes()


def _refused(path: Path) -> bool:
    try:
        load(path)
    except CorruptCheckpointError:
        return True
    return False


def _swaps(report: Report, rng: random.Random, folder: Path, count: int) -> None:
    """The newest files change places, or are damaged: the newest that is what its name says is used."""
    for number in range(count):
        shutil.rmtree(folder, ignore_errors=True)
        kept = Checkpoints(folder, KEPT)
        for step in range(KEPT):
            kept.write(step, {"genes": np.full(50, step, np.float32)}, {"run": number})
        paths = sorted(folder.iterdir())
        spoilt = rng.randrange(1, KEPT)  # how many of the newest
        bodies = [path.read_bytes() for path in paths]
        for index in range(KEPT - spoilt, KEPT):
            swapped = bodies[(index + 1) % KEPT] if rng.random() < 0.5 else flip(rng, bodies[index], b"")
            paths[index].write_bytes(swapped)
            report.injected["file swapped or damaged"] += 1
        found = kept.latest()
        right = found.step == KEPT - spoilt - 1 and bool((found.arrays["genes"] == found.step).all())
        report.check("falls back to the newest whole one", right, f"{found.step} of {KEPT}, {spoilt} spoilt")
        aside = len(list(folder.glob("*.corrupt")))
        report.check("spoilt files are set aside", aside == spoilt, f"{aside} of {spoilt}")
