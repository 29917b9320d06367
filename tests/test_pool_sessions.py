"""Laws of a Ray session of ours, seen from a whole program: private, quiet, the right source, nothing left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from evo_rnn.evaluation.worker import source_root

PROBE = "evo_rnn.evaluation.probe:"


def gone(pids: list[int], seconds: float = 10.0) -> bool:
    """Whether the processes end within `seconds`."""
    limit = time.monotonic() + seconds
    while any(map(psutil.pid_exists, pids)) and time.monotonic() < limit:
        time.sleep(0.05)
    return not any(map(psutil.pid_exists, pids))


def start_driver(folder: Path, body: str, **environment: str) -> subprocess.Popen[str]:
    """Start a driver script in the working directory `folder`/cwd, with an empty HOME and nobody's Ray settings."""
    (folder / "cwd").mkdir(exist_ok=True)
    (folder / "home").mkdir()
    script = folder / "script" / "driver.py"
    script.parent.mkdir()
    prelude = f"""
        import json, os, signal, stat, sys, time
        from pathlib import Path
        import psutil
        from evo_rnn.evaluation.ray_pool import RayPool
        PROBE = {PROBE!r}
    """
    script.write_text(textwrap.dedent(prelude) + textwrap.dedent(body))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return subprocess.Popen(
        [sys.executable, str(script)],
        cwd=folder / "cwd",
        env=kept | {"HOME": str(folder / "home")} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.ray
def test_a_private_session_leaves_nothing_behind_and_a_decoy_package_is_not_run(tmp_path: Path) -> None:
    decoy = tmp_path / "cwd" / "trainers"
    decoy.mkdir(parents=True)
    (decoy / "__init__.py").write_text("raise SystemExit('the decoy was run')\n")
    driver = start_driver(
        tmp_path,
        """
        def handler(number, frame): pass
        signal.signal(signal.SIGTERM, handler)
        os.environ["OMP_NUM_THREADS"] = "7"
        before = dict(os.environ)
        with RayPool(1) as pool:
            print(pool.map(PROBE + "origin", [("trainers",)])[0])
            os.kill(pool.workers[0].pid, signal.SIGKILL)
            print(pool.map(PROBE + "threads", [()])[0]["OMP_NUM_THREADS"])
            [private] = {p for p in Path("/tmp").glob("evo-ray-*") if p.is_dir() and any(
                str(p) in word for child in psutil.Process().children() for word in child.cmdline())}
            print(oct(private.stat().st_mode & 0o777), signal.getsignal(signal.SIGTERM) is handler)
        print(psutil.Process().children(recursive=True), private.exists())
        before["RAY_CLIENT_MODE"] = "0"  # Ray sets this one when it is imported
        print(dict(os.environ) == before)
        """,
        TMPDIR="/tmp",  # noqa: S108
        RAY_ADDRESS="192.0.2.1:6379",  # a cluster that nobody asked for
    )
    out, err = driver.communicate(timeout=120)
    assert (out.splitlines(), err) == ([str(source_root() / "trainers"), "1", "0o700 True", "[] False", "True"], "")
    assert list((tmp_path / "home").iterdir()) == []


@pytest.mark.ray
def test_workers_with_other_source_are_refused_by_both_paths(tmp_path: Path) -> None:
    shutil.copytree(source_root() / "evo_rnn", tmp_path / "cwd" / "evo_rnn")
    with (tmp_path / "cwd" / "evo_rnn" / "errors.py").open("a") as file:
        file.write("\n# other\n")
    driver = start_driver(
        tmp_path,
        """
        try:
            with RayPool(1) as pool:
                pool.map(PROBE + "pid", [()])
        except Exception as error:
            print(f"{type(error).__name__}: {error}")
        """,
    )
    out, _ = driver.communicate(timeout=120)
    assert out.startswith("ConfigError: a worker on ")
    assert out.count("\n") == 1
    assert str(tmp_path / "cwd") in out
    assert f"the driver that in {source_root()}" in out


@pytest.mark.ray
@pytest.mark.nightly  # ordinarily a signal to the command line must leave none
def test_an_interrupt_leaves_no_process(tmp_path: Path) -> None:
    driver = start_driver(
        tmp_path,
        """
        with RayPool(1) as pool:
            pool.map(PROBE + "pid", [()])
            print(json.dumps([child.pid for child in psutil.Process().children(recursive=True)]), flush=True)
            pool.map(PROBE + "sleep", [(60.0, 0)])
        """,
    )
    assert driver.stdout is not None
    pids = [int(word) for word in driver.stdout.readline().strip("[]\n").split(",")]
    time.sleep(0.5)
    driver.send_signal(signal.SIGINT)
    _, err = driver.communicate(timeout=60)
    assert "KeyboardInterrupt" in err
    assert len(pids) > 4
    assert gone(pids)


@pytest.mark.ray
@pytest.mark.parametrize("afterwards", [False, pytest.param(True, marks=pytest.mark.nightly)])
def test_somebody_elses_session_is_used_and_not_ended(afterwards: bool, tmp_path: Path) -> None:
    driver = start_driver(
        tmp_path,
        """
        import logging, ray, shutil, tempfile
        folder = tempfile.mkdtemp(dir="/tmp")
        theirs = {"num_cpus": 2, "num_gpus": 1, "include_dashboard": False, "logging_level": logging.ERROR}
        ray.init(address="local", _temp_dir=folder, **theirs)
        with RayPool(2, gpus_per_worker=0.5) as pool:
            print([answer["CUDA_VISIBLE_DEVICES"] for answer in pool.map(PROBE + "threads", [(), ()])])
            pids = [worker.pid for worker in pool.workers]
        print(ray.is_initialized(), [pid for pid in pids if psutil.pid_exists(pid)])
        ray.shutdown()
        shutil.rmtree(folder)
        if "AFTERWARDS" in os.environ:
            with RayPool(1) as pool:  # a private session after theirs, with another token
                print(pool.map(PROBE + "echo", [("ours",)]))
        """,
        **({"AFTERWARDS": "yes"} if afterwards else {}),
    )
    out, err = driver.communicate(timeout=120)
    lines = [line for line in out.splitlines() if "(raylet)" not in line]  # which Ray says there, in a session not ours
    assert lines == ["['0', '0']", "True []", *(["['ours']"] if afterwards else [])], err
