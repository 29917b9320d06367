"""The small end of benchmarks/chaos: each kind of fault for real, in numbers that a change can wait for."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks.chaos import corruption, determinism, disk, outages, soak, workers, writers
from benchmarks.chaos.problems import BLOCK, HIDDEN, Problem
from benchmarks.chaos.report import Report
from benchmarks.chaos.scenarios import SCENARIOS
from evo_rnn.evaluation.ray_errors import is_infrastructure
from evo_rnn.evaluation.ray_session import join_ray

ROOT = Path(__file__).resolve().parent.parent
CHAOS = [sys.executable, str(ROOT / "benchmarks" / "chaos")]

# Ray drops its own Popen objects of helper processes while these still end.
pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def session() -> Iterator[None]:
    """One private Ray session for the module; every pool of this process joins it."""
    leave = join_ray("local", cpus=4, gpus=False, object_store_memory=100 * 2**20)
    yield
    leave()


def passed(report: Report, faults: int) -> None:
    assert not report.failures, "\n".join(report.failures)
    assert report.injected.total() >= faults
    assert all(report.checked.values())


# one result -----------------------------------------------------------------------------------------------------------


def test_however_the_work_is_cut_there_is_one_hash_a_problem() -> None:
    report, found = Report(), defaultdict[Problem, dict[str, str]](dict)
    determinism.in_process(found, determinism.problems())
    determinism.judge(report, found)
    passed(report, 72)
    assert all(problem.block == BLOCK for problem in found)


@pytest.mark.ray
@pytest.mark.usefixtures("session")
@pytest.mark.parametrize(("cell", "workers"), [("elman", 1), ("gru", 2), ("lstm", 4)])
def test_the_number_of_workers_does_not_matter(cell: str, workers: int) -> None:
    report, found = Report(), defaultdict[Problem, dict[str, str]](dict)
    determinism.in_process(found, determinism.problems([cell]), shards=())
    determinism.on_ray(found, cell, workers, determinism.POPULATIONS)
    determinism.judge(report, found)
    passed(report, 12)


# faults ---------------------------------------------------------------------------------------------------------------


@pytest.mark.ray
@pytest.mark.usefixtures("session")
def test_workers_killed_hung_starved_or_slow_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "SEARCH", Problem(population=96, generations=40, length=16))
    monkeypatch.setattr(workers, "EVERY", 0.4)
    monkeypatch.setattr(workers, "WORKERS", 2)
    monkeypatch.setattr(workers, "LEAN", {})  # Ray has started already
    report = workers.faulted(5, 5, tmp_path)
    passed(report, 5)
    assert {"kill", "hang"} <= set(report.injected)
    assert float(report.figures["replaced"]) >= report.injected["kill"]


def test_a_worker_that_gets_no_memory_is_the_fault_of_the_machine() -> None:
    from ray.exceptions import RayTaskError

    torch_said = RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory")
    for cause, machine in ((MemoryError(), True), (torch_said, True), (RuntimeError("a bug"), False)):
        assert is_infrastructure(RayTaskError("call", "traceback", cause)) == machine


def test_writers_killed_at_any_instant_lose_nothing(tmp_path: Path) -> None:
    report = writers.kills(40, 0, tmp_path)
    passed(report, 40)
    assert len(report.injected) >= 2, "the kills all came at the same instant"


def test_every_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    passed(corruption.damage(1000, 0, tmp_path), 990)
    logging.getLogger("evo_rnn.checkpoint").setLevel(logging.NOTSET)


def test_a_checker_that_finds_nothing_wrong_would_have_seen_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corruption, "load", lambda _: ({}, {}))
    report = corruption.damage(20, 0, tmp_path)
    logging.getLogger("evo_rnn.checkpoint").setLevel(logging.NOTSET)
    assert len(report.failures) == 20 + ("an undamaged file is read" in report.failures)
    assert "failed" in report.row("corruption")


def test_full_disks_leave_the_previous_checkpoint(tmp_path: Path) -> None:
    passed(disk.full(6, 0, tmp_path), 3)


def test_a_tracking_server_ill_in_six_ways_costs_no_time_and_no_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outages, "DOWN", (0.1, 0.2))
    monkeypatch.setattr(outages, "UP", (0.05, 0.1))
    monkeypatch.setattr(outages, "SHARE", 0.2)  # generations are short, and the machine is shared
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    passed(outages.stub(6, 0, tmp_path), 6)
    logging.getLogger("evo_rnn.tracking").setLevel(logging.NOTSET)


def test_a_search_of_some_length_keeps_its_memory() -> None:
    passed(soak.soak(400, 0, slope=2.0), 400)


# the command ----------------------------------------------------------------------------------------------------------


def test_the_command_lists_runs_and_fails_as_it_says() -> None:
    listed = subprocess.run([*CHAOS, "--list"], capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in listed.stdout.splitlines()] == list(SCENARIOS)
    done = subprocess.run([*CHAOS, "corruption", "--count", "50"], capture_output=True, text=True, check=True)
    assert "failures 0" in done.stdout
    assert "(95 %)" in done.stdout
    code = f"""
import runpy, sys
sys.path.insert(0, {str(ROOT)!r}); sys.argv = ["chaos", "corruption"]
import benchmarks.chaos.scenarios as scenarios
from benchmarks.chaos.report import Scenario
scenarios.SCENARIOS["corruption"] = Scenario("corruption:damage", 10**6, lambda _: 1.0, "")
runpy.run_path({CHAOS[1] + "/__main__.py"!r}, run_name="__main__")
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 1
    assert "FAILED (seed 0, count 1000000) ends by itself" in ended.stdout


def test_the_shapes_of_the_problems_are_those_that_are_told_of() -> None:
    assert set(HIDDEN) == {"elman", "gru", "lstm"}
    assert not [size for size in determinism.POPULATIONS if size % BLOCK == 0 and size not in (16, 48)]


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", SCENARIOS)
def test_the_scenario_in_full(name: str) -> None:
    done = subprocess.run([*CHAOS, name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
