"""The directory of a private Ray session: of a driver that was killed it is swept, of one that lives it is left alone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from evo_rnn.errors import ConfigError
from evo_rnn.evaluation import ray_directory

DRIVER = """
import sys, time
from evo_rnn.evaluation import ray_directory
made = ray_directory.make()
(made / "r").mkdir()
(made / "r" / "socket").write_text("")
print(made, flush=True)
time.sleep(60)
"""


@pytest.fixture
def base() -> Iterator[Path]:
    """A temporary directory with a name that is short enough for Ray's sockets."""
    folder = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def driver(base: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process that holds a directory, and the directory."""
    command = [sys.executable, "-c", DRIVER]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(base)})
    assert started.stdout is not None
    yield started, Path(started.stdout.readline().strip())
    started.kill()
    started.communicate()


def age(directory: Path, seconds: float = 2 * ray_directory.FRESH) -> None:
    then = time.time() - seconds
    os.utime(directory, (then, then))


def test_the_directory_of_a_killed_driver_is_swept_by_the_next_one_and_that_of_a_live_one_is_not(
    base: Path, driver: tuple[subprocess.Popen[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    process, left = driver
    assert left.parent == base
    age(left)
    ray_directory.sweep(base)
    assert (left / "r" / "socket").exists(), "its driver lives"
    process.send_signal(signal.SIGKILL)
    process.wait()
    monkeypatch.setattr(tempfile, "tempdir", str(base))
    mine = ray_directory.make()
    assert list(base.iterdir()) == [mine]
    assert mine.stat().st_mode & 0o777 == 0o700
    age(mine)
    ray_directory.sweep(base)
    assert mine.exists(), "our own"
    ray_directory.remove(mine)
    assert list(base.iterdir()) == []


def test_what_is_being_made_what_is_not_ours_and_what_a_link_points_to_is_left_alone(
    base: Path, tmp_path: Path
) -> None:
    (base / "evo-ray-fresh").mkdir()
    (base / "another").mkdir()
    (base / "evo-ray-file").write_text("")
    (tmp_path / "precious").mkdir()
    (base / "evo-ray-link").symlink_to(tmp_path)
    for each in (base / "another", tmp_path):
        age(each)
    before = sorted(base.iterdir())
    ray_directory.sweep(base)
    assert sorted(base.iterdir()) == before
    assert (tmp_path / "precious").exists()
    age(base / "evo-ray-fresh")
    ray_directory.sweep(base)
    assert not (base / "evo-ray-fresh").exists(), "old, and nobody holds it"


def test_a_temporary_directory_with_a_long_name_is_passed_over_for_tmp(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = base / ("x" * 40)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    made = ray_directory.make()
    assert str(made).startswith("/tmp/evo-ray-")  # noqa: S108
    ray_directory.remove(made)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ConfigError, match="TMPDIR=/tmp"):
        ray_directory.make()
