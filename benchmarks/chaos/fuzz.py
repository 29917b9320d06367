"""Configs and data files that nobody would write: whatever comes, only a typed error in one line may come out.

Every case is made from (seed, kind, number) alone, so a failure is repeated by these three.
"""

from __future__ import annotations

import io
import random
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.chaos.report import Report
from evo_rnn.errors import ConfigError, DataError
from evo_rnn.safe_yaml import apply_overrides, dump_yaml, load_yaml
from evo_rnn.tasks.table import read_table
from trainers.experiments.builders import compute_of, rules_of
from trainers.experiments.config import Config, resolve
from trainers.experiments.methods import METHODS
from trainers.experiments.named import NAMED

SLOWEST = 1.0  # seconds of CPU for one case
Case = Callable[[random.Random, Path], bool]  # does one; True if it was refused

TRAPS: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 10**6, 2**31, 2**63, 2**64, 10**30, 0.0, -0.0, 0.5, 1e-300, 1e300, -1e9, float("nan"),
    float("inf"), "", "ga", "bptt", "auto", "lstm", "cuda", "cuda:99", "cpu", "sunspots", "no", "\x00", "\n", "é" * 50,
    "../../etc/passwd", "a" * 5000, "!!python/object:os.system", "1e-3", "012", [], {}, [1, 2], ["ga", "bptt"], [[]],
    {"name": "ga"}, {"name": {}}, {"": 1}, {"ga": {"population": 0}}, {"a": {"b": {"c": []}}}, {"name": "file", "path": "/"},
)  # fmt: skip
BITS = (
    b"", b" ", b"\n", b"\n  ", b"\t", b": ", b":", b"- ", b"[", b"]", b"{", b"}", b", ", b"'", b'"', b"|\n", b">\n", b"#",
    b"&a ", b"*a", b"!t ", b"? ", b"---\n", b"...\n", b"%YAML 1.2\n", b"<<: ", b"~", b"null", b"nan", b"inf", b"-inf", b"NA",
    b"1e999", b"1_0", b"0x1F", b"017", b"12:30", b"2020-01-31", b";", b",", b",,", b"\r", b"\r\n", b"\0", b"\xff",
    b"\xfe\xff", b"\xef\xbb\xbf", "٣".encode(), b"PAR1", b"\xff\xff\xff\x7f", bytes(8), b"task", b"method",
    b"x,y\n", b"9" * 400,
)  # fmt: skip


def _spoilt(rng: random.Random, good: bytes) -> bytes:
    """A good file with stretches overwritten, cut out, doubled or put in; now and then nothing but noise."""
    if rng.random() < 0.1:
        return b"".join(rng.choices(BITS, k=rng.randrange(40)))
    content = bytearray(good)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        start, length = rng.randrange(len(content) + 1), rng.choice((0, 0, 1, 1, 2, 8, 64))
        piece = rng.choice((rng.choice(BITS), rng.randbytes(rng.randrange(6)), bytes(content[start : start + 40])))
        content[start : start + length] = piece
    return bytes(content)


@cache
def _goods() -> tuple[dict[str, Any], ...]:
    methods = tuple({"task": "adding", "method": {"name": name}} for name in METHODS)
    return (*NAMED.values(), *methods)


@cache
def _names() -> tuple[str, ...]:
    own = {key for method in METHODS.values() for key in method.settings()}
    parts = [name for part in Config.model_fields.values() for name in getattr(part.annotation, "model_fields", ())]
    return tuple(sorted({*own, *parts, *Config.model_fields, "name", "path", "target", "hiden", "Seed"}))


def _mutated(rng: random.Random, value: Any, depth: int = 0) -> Any:  # noqa: ANN401 (plain data)
    """Plain data, some of it other data."""
    if depth and rng.random() < 0.25:
        return rng.choice(TRAPS)
    if not isinstance(value, dict):
        return value
    changed = {key: _mutated(rng, inner, depth + 1) for key, inner in value.items() if rng.random() > 0.05}
    for _ in range(rng.choice((0, 0, 1, 2))):
        changed[rng.choice(_names())] = rng.choice((*TRAPS, {rng.choice(_names()): rng.choice(TRAPS)}))
    return changed


def config(rng: random.Random, folder: Path) -> bool:  # noqa: ARG001
    """A dict through the checks of a config, some of its settings given as overrides."""
    raw = _mutated(rng, rng.choice(_goods()))
    texts = [f"{_path(rng)}={_text(rng)}" for _ in range(rng.choice((0, 0, 1, 3)))]
    found = resolve(apply_overrides(raw, texts), "fuzz")
    cpu = found.model_copy(update={"compute": found.compute.model_copy(update={"device": "cpu"})})
    rules_of(cpu, many=rng.random() < 0.5)
    if found.compute.device == "cpu":
        compute_of(found, 4)
    return False


def _path(rng: random.Random) -> str:
    return ".".join(rng.choices((*_names(), "", "a b"), k=rng.choice((1, 2, 2, 3))))


def _text(rng: random.Random) -> str:
    return str(rng.choice((*TRAPS, *(bit.decode("latin-1") for bit in BITS))))


def yaml(rng: random.Random, folder: Path) -> bool:
    """Bytes of a YAML file through the reader and the checks."""
    path = folder / "fuzz.yaml"
    path.write_bytes(_spoilt(rng, _texts()[rng.randrange(len(_texts()))]))
    resolve(load_yaml(path), "fuzz")
    return False


@cache
def _texts() -> tuple[bytes, ...]:
    return tuple(dump_yaml(good).encode() for good in _goods())


def csv(rng: random.Random, folder: Path) -> bool:
    """Bytes of a CSV file through the door for data, in every manner of forgiving gaps."""
    path = folder / rng.choice(("fuzz.csv", "fuzz.tsv", "fuzz.txt"))
    path.write_bytes(_spoilt(rng, _table()))
    _read(rng, path)
    return False


@cache
def _table() -> bytes:
    rows = [f"2020-01-{day:02},{day * 0.5},{(day * 7) % 11 + 0.25}\n" for day in range(1, 25)]
    return ("day,x,y\n" + "".join(rows)).encode()


def parquet(rng: random.Random, folder: Path) -> bool:
    """Bytes of a Parquet file."""
    path = folder / "fuzz.parquet"
    path.write_bytes(_spoilt(rng, rng.choice(_parquets())))
    _read(rng, path)
    return False


@cache
def _parquets() -> tuple[bytes, ...]:
    numbers, made = np.arange(50.0), []
    table = pa.table({"x": numbers, "y": (numbers * 7) % 11, "z": ["a"] * 50})
    for options in (
        {},
        {"row_group_size": 20, "compression": "none"},
        {"compression": "zstd", "use_dictionary": False},
    ):
        stream = io.BytesIO()
        pq.write_table(table, stream, **options)
        made.append(stream.getvalue())
    return tuple(made)


def _read(rng: random.Random, path: Path) -> None:
    gaps = {
        "missing": rng.choice(("error", "ffill", "zero_with_mask")),
        "missing_targets": rng.choice(("error", "mask")),
    }
    table = read_table(path, targets=["y"], inputs=rng.choice((["x"], ["y"], ["x", "y"])), max_bytes=2**26, **gaps)
    if not np.isfinite(table.values).all():
        raise AssertionError("a number that is not finite came through the door")


KINDS: dict[str, tuple[Case, type[Exception]]] = {
    "config": (config, ConfigError),
    "yaml": (yaml, ConfigError),
    "csv": (csv, DataError),
    "parquet": (parquet, DataError),
}


def cases(kind: str, numbers: range, seed: int, folder: Path) -> Iterator[tuple[str, int]]:
    """Do cases; yield what is wrong with a case, or how it ended, and its number."""
    case, refusal = KINDS[kind]
    for number in numbers:
        rng = random.Random(f"{seed} {kind} {number}")  # noqa: S311 (not a secret)
        before, fault = time.process_time(), "accepted"
        try:
            case(rng, folder)
        except refusal as error:
            said = str(error)
            fault = "refused" if said and "\n" not in said and len(said) < 2000 else f"not one line: {said[:200]!r}"
        except Exception as error:
            fault = f"{type(error).__name__}: {str(error)[:200]}"
        spent = time.process_time() - before
        yield (f"{spent:.1f} s of CPU" if spent > SLOWEST else fault), number


def storm(count: int, seed: int, folder: Path) -> Report:
    """As many cases of every kind; and some of each must be accepted, or the generator is too wild to find much."""
    report = Report()
    for kind in KINDS:
        accepted = 0
        for ending, number in cases(kind, range(count // len(KINDS)), seed, folder):
            report.injected[kind] += 1
            accepted += ending == "accepted"
            if ending not in ("accepted", "refused"):
                report.check("only typed errors", False, f"({seed}, {kind}, {number}): {ending}")
        report.checked["only typed errors"] += report.injected[kind]
        report.figures[f"{kind} accepted"] = accepted / max(report.injected[kind], 1)
    return report
