"""Laws of the pools: the same results everywhere, whatever dies, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from evo_rnn.errors import ConfigError, DataError, RetryError
from evo_rnn.evaluation.pool import SerialPool, open_pool
from evo_rnn.evaluation.ray_pool import RayPool
from evo_rnn.evaluation.worker import FLOORS, source_hash

PROBE = "evo_rnn.evaluation.probe:"
CONTEXT = {"offset": np.arange(3.0)}

# Ray drops its own Popen objects of helper processes while these still end.
pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")


@pytest.fixture
def ray_pool(request: pytest.FixtureRequest) -> Iterator[Callable[..., RayPool]]:
    """Open pools that are closed in the end."""
    request.getfixturevalue("ray_session")
    pools: list[RayPool] = []

    def opened(workers: int, **options: Any) -> RayPool:
        pools.append(RayPool(workers, context=CONTEXT, **options))
        return pools[-1]

    yield opened
    for pool in pools:
        pool.close()


@pytest.fixture(scope="module")
def lasting(request: pytest.FixtureRequest) -> Iterator[RayPool]:
    """A pool of two workers for all tests that leave it as they found it."""
    request.getfixturevalue("ray_session")
    with RayPool(2, context=CONTEXT) as pool:
        yield pool


def shards(pool: Any) -> bytes:
    """The bytes of a sharded computation on 1,000 x 40 numbers."""
    matrix = pool.share(np.random.default_rng(7).normal(size=(1000, 40)).astype(np.float32))
    parts = pool.map(PROBE + "rows", [(matrix, start, min(start + 48, 1000)) for start in range(0, 1000, 48)])
    return np.concatenate([*parts, pool.map(PROBE + "look_up", [("offset",)])[0]]).tobytes()


def since(before: dict[str, int], pool: RayPool) -> dict[str, int]:
    """What a pool that lasts has counted more than `before`."""
    return {name: count - before[name] for name, count in pool.events.items()}


def gone(pids: list[int], seconds: float = 10.0) -> bool:
    """Whether the processes end within `seconds`."""
    limit = time.monotonic() + seconds
    while any(map(psutil.pid_exists, pids)) and time.monotonic() < limit:
        time.sleep(0.05)
    return not any(map(psutil.pid_exists, pids))


def test_no_workers_means_no_ray_at_all() -> None:
    script = f"""
        import sys
        from evo_rnn.evaluation.pool import open_pool
        with open_pool(0, {{}}) as pool:
            print(pool.map("{PROBE}echo", [(1,), ("two",)]), "ray" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    assert done.stdout == "[1, 'two'] False\n"


def test_a_serial_pool_hands_back_each_result_once_in_order_of_submission() -> None:
    with SerialPool({}) as pool:
        tickets = [pool.submit(PROBE + "echo", letter) for letter in "abc"]
        assert pool.map(PROBE + "echo", [("d",)]) == ["d"]
        assert [pool.next() for _ in tickets] == list(zip(tickets, "abc", strict=True))
        with pytest.raises(LookupError, match="nothing to wait for"):
            pool.next()


def test_a_failed_map_raises_the_first_items_error_and_leaves_other_calls_alone() -> None:
    with SerialPool({}) as pool:
        ticket = pool.submit(PROBE + "echo", 5)
        with pytest.raises(DataError, match=r"^first$"):
            pool.map(PROBE + "fail", [("first",), ("second",)])
        assert pool.next() == (ticket, 5)
        with pytest.raises(LookupError):
            pool.next()


@pytest.mark.parametrize(
    "work",
    [
        "os:system",
        "evo_rnn.evaluation.probe",
        "evo_rnn.evaluation.probe:nothing",
        "evo_rnn.evaluation.probe:os",
        "evo_rnn.evaluation.probe:WorkerCache",
        "evo_rnn.evaluation.probe:Path",
        "evo_rnn.nowhere:echo",
        "evo_rnnx:echo",
        ":echo",
        "",
    ],
)
@pytest.mark.parametrize("workers", [0, 1])
def test_only_functions_of_our_floors_are_work(workers: int, work: str) -> None:
    with open_pool(workers, {}) as pool, pytest.raises(ConfigError, match="work ") as caught:
        pool.submit(work)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("workers", 0),
        ("attempts", 0),
        ("deadline", 0.0),
        ("deadline", float("nan")),
        ("startup_deadline", float("inf")),
        ("gpus_per_worker", 1.5),
        ("gpus_per_worker", -0.5),
        ("cpus_per_worker", -1.0),
    ],
)
def test_an_argument_out_of_range_is_refused_by_its_name(name: str, value: float) -> None:
    options: dict[str, Any] = {"workers": 1, name: value}
    with pytest.raises(ConfigError, match=f"^{name} must be .* got {value}"):
        RayPool(**options)


def test_the_source_hash_sees_every_python_file_and_its_name(tmp_path: Path) -> None:
    for floor in FLOORS:
        (tmp_path / floor).mkdir()
        (tmp_path / floor / "a.py").write_text("x = 1\n")
    hashes = {source_hash(tmp_path)}
    (tmp_path / "trainers" / "a.py").write_text("x = 2\n")
    hashes.add(source_hash(tmp_path))
    (tmp_path / "trainers" / "a.py").rename(tmp_path / "trainers" / "b.py")
    hashes.add(source_hash(tmp_path))
    assert len(hashes) == 3
    (tmp_path / "trainers" / "notes.txt").write_text("not source")
    assert source_hash(tmp_path) in hashes
    assert all(len(digits) == 12 for digits in hashes)


@pytest.mark.ray
@pytest.mark.parametrize(
    "workers", [pytest.param(1, marks=pytest.mark.nightly), 2, pytest.param(4, marks=pytest.mark.nightly)]
)
def test_any_number_of_workers_gives_the_bits_of_none(
    ray_pool: Callable[..., RayPool], lasting: RayPool, workers: int
) -> None:
    pool = lasting if workers == 2 else ray_pool(workers)
    assert shards(pool) == shards(SerialPool(CONTEXT))


@pytest.mark.ray
def test_every_ticket_comes_back_once_with_its_own_result(lasting: RayPool) -> None:
    pool, before = lasting, dict(lasting.events)
    wanted = {pool.submit(PROBE + "sleep", 0.2 * (5 - i), i): i for i in range(6)}
    assert pool.map(PROBE + "echo", [(i,) for i in range(20)]) == list(range(20))
    assert dict(pool.next() for _ in wanted) == wanted
    assert since(before, pool) == {"dispatched": 26, "replaced": 0, "redispatched": 0, "timeouts": 0}
    with pytest.raises(LookupError):
        pool.next()


@pytest.mark.ray
def test_a_worker_has_one_thread_no_gpu_and_keeps_what_it_built(ray_pool: Callable[..., RayPool]) -> None:
    pool = ray_pool(1)
    [limits] = pool.map(PROBE + "threads", [()])
    assert limits == {"torch": 1, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    assert pool.map(PROBE + "count", [(), (), ()]) == [1, 2, 3]


@pytest.mark.ray
@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_killed_or_stopped_in_a_call_changes_no_result(
    ray_pool: Callable[..., RayPool], fault: signal.Signals
) -> None:
    pool = ray_pool(2, deadline=2.0)
    pool.map(PROBE + "pid", [(), ()])
    wanted = {pool.submit(PROBE + "sleep", 0.2, i): i for i in range(4)}
    victim = next(worker for worker in pool.workers if worker.state == "busy")
    os.kill(victim.pid, fault)
    assert dict(pool.next() for _ in wanted) == wanted
    assert pool.events["replaced"] >= 1
    assert pool.events["redispatched"] >= 1
    assert pool.events["timeouts"] >= (fault == signal.SIGSTOP)
    assert gone([victim.pid])
    assert shards(pool) == shards(SerialPool(CONTEXT))


@pytest.mark.ray
def test_an_exception_of_the_work_comes_back_as_itself_and_is_not_tried_again(lasting: RayPool) -> None:
    pool, before = lasting, dict(lasting.events)
    with pytest.raises(DataError, match="row 3 is empty") as caught:
        pool.map(PROBE + "fail", [("row 3 is empty",)])
    assert (type(caught.value), str(caught.value)) == (DataError, "row 3 is empty")
    assert "probe.py" in "".join(caught.value.__notes__)
    assert since(before, pool) == {"dispatched": 1, "replaced": 0, "redispatched": 0, "timeouts": 0}
    with pytest.raises(RuntimeError, match=r"CannotBeSent.*over there"):
        pool.map(PROBE + "fail_oddly", [("over there",)])
    assert pool.map(PROBE + "echo", [("alive",)]) == ["alive"]
    assert since(before, pool)["replaced"] == 0


@pytest.mark.ray
def test_a_call_that_kills_its_workers_ends_in_a_retry_error_and_the_pool_goes_on(
    ray_pool: Callable[..., RayPool],
) -> None:
    pool = ray_pool(1, attempts=2)
    deadly = pool.submit(PROBE + "die")
    harmless = pool.submit(PROBE + "echo", 1)
    with pytest.raises(RetryError, match=r"probe:die was lost 2 times .*ActorDied") as caught:
        pool.next()
    assert caught.value.exit_code == 75
    assert "\n" not in str(caught.value)
    assert pool.next() == (harmless, 1)
    assert deadly == 0
    assert pool.events == {"dispatched": 3, "replaced": 2, "redispatched": 1, "timeouts": 0}


@pytest.mark.ray
def test_workers_that_find_no_room_end_in_a_retry_error_that_says_so(ray_pool: Callable[..., RayPool]) -> None:
    pool = ray_pool(1, cpus_per_worker=64.0, startup_deadline=0.5)
    pool.submit(PROBE + "pid")
    with pytest.raises(ProcessLookupError):
        os.kill(pool.workers[0].pid, 0)  # a worker that has not started names no process, least of all our group
    with pytest.raises(RetryError, match=r"no answer within 0\.5 s.*each wants 64 CPU, Ray has 8 CPU"):
        pool.next()
    with pytest.raises(ConfigError, match="want 1 GPUs, this machine has 0"):
        ray_pool(2, gpus_per_worker=0.5).submit(PROBE + "pid")


@pytest.mark.ray
def test_closing_ends_busy_and_stopped_workers_and_may_be_repeated(ray_pool: Callable[..., RayPool]) -> None:
    pool = ray_pool(2)
    pool.submit(PROBE + "sleep", 60.0, 0)
    while any(worker.state == "starting" for worker in pool.workers):
        pool._advance()
    pool.submit(PROBE + "sleep", 60.0, 0)
    assert [worker.state for worker in pool.workers] == ["busy", "busy"]
    pids = [worker.pid for worker in pool.workers]
    os.kill(pids[0], signal.SIGSTOP)
    pool.close()
    assert gone(pids, 0.0)  # at once: closing waits for them
    pool.close()
