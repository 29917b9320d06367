"""Whatever a config or a data file holds: only a ConfigError or a DataError, in one line, and soon."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.chaos.fuzz import KINDS, cases

ENOUGH = {"config": 1500, "yaml": 2000, "csv": 2500, "parquet": 2500}


def storm(kind: str, numbers: range, folder: Path) -> None:
    endings = Counter[str]()
    for ending, number in cases(kind, numbers, 0, folder):
        endings[ending] += 1
        assert ending in ("accepted", "refused"), f"seed 0, {kind}, number {number}: {ending}"
    assert endings["accepted"] > len(numbers) / 100, "the cases are too wild to reach what lies behind the door"


@pytest.mark.parametrize("kind", KINDS)
def test_only_typed_errors_come_out(kind: str, tmp_path: Path) -> None:
    storm(kind, range(ENOUGH[kind]), tmp_path)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
def test_only_typed_errors_come_out_of_many_more(kind: str, tmp_path: Path) -> None:
    storm(kind, range(ENOUGH[kind], 25_000), tmp_path)


def test_a_case_is_repeated_by_its_number(tmp_path: Path) -> None:
    for kind in KINDS:
        first = list(cases(kind, range(40), 7, tmp_path))
        assert list(cases(kind, range(40), 7, tmp_path)) == first
        assert [ending for ending, _ in cases(kind, range(40), 8, tmp_path)] != [ending for ending, _ in first]
