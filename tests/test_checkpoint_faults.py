"""Whatever fails or kills the writer of a checkpoint, the ones before it are whole and nothing else is left."""

from __future__ import annotations

import errno
import logging
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evo_rnn.checkpoint import Checkpoints, load, save
from evo_rnn.errors import ConfigError, DataError, DiskError


def population(step: int, size: int = 4096) -> dict[str, np.ndarray[Any, Any]]:
    return {"genes": np.full((size,), step, np.float32), "loss": np.array(float(step))}


# What a failing disk or a killed writer leaves ------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
def test_a_failing_call_leaves_the_previous_file_whole_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    kept = Checkpoints(tmp_path)
    kept.write(1, population(1), {})
    original = (tmp_path / "step-000000000001.safetensors").read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        for step in (1, 2):
            with pytest.raises(DiskError, match=os.strerror(code)) as caught:
                kept.write(step, population(step + 5), {})
    assert caught.value.exit_code == 74
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [original]
    kept.write(2, population(2), {})
    assert kept.latest().step == 2


def test_the_disk_filling_up_in_the_middle_leaves_no_part_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "c", population(1), {})
    whole, room, write = (tmp_path / "c").read_bytes(), [5000], os.write

    def full(descriptor: int, data: bytes) -> int:
        if room[0] == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = write(descriptor, bytes(data[: room[0]]))
        room[0] -= taken
        return taken

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(DiskError):
        save(tmp_path / "c", population(2), {})
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [whole]


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data[:1001])))
    save(tmp_path / "c", population(5), {})
    assert load(tmp_path / "c")[0]["genes"].tobytes() == population(5)["genes"].tobytes()


def test_the_file_is_flushed_before_its_name_and_its_name_before_the_promise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def flush(descriptor: int) -> None:
        calls.append("fsync " + Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def rename(source: Path, target: Path) -> None:
        calls.append("rename")
        assert oct(Path(source).stat().st_mode & 0o777) == "0o600"
        replace(source, target)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "replace", rename)
    save(tmp_path / "c", {}, {})
    assert calls[0].startswith("fsync .c.")
    assert calls[1:] == ["rename", f"fsync {tmp_path.name}"]


def test_a_file_size_limit_is_a_disk_error_that_leaves_the_previous_file(tmp_path: Path) -> None:
    save(tmp_path / "c", population(1), {})
    code = f"""
        import numpy as np
        from evo_rnn.checkpoint import save
        from evo_rnn.errors import DiskError
        try:
            save({str(tmp_path / "c")!r}, {{"genes": np.zeros(50_000)}}, {{}})
        except DiskError as error:
            print(error)
            raise SystemExit(error.exit_code)
    """
    limit = (100_000, resource.RLIM_INFINITY)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 74, done.stderr
    assert "File too large" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
    assert load(tmp_path / "c")[0]["loss"] == 1.0


def test_a_symbolic_link_is_not_written_through(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for target in (victim, tmp_path / "absent"):
        link = tmp_path / "link"
        link.symlink_to(target)
        with pytest.raises(ConfigError, match="symbolic link"):
            save(link, population(1), {})
        assert link.is_symlink()
        link.unlink()
    assert victim.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [victim]


def test_a_writer_killed_at_any_instant_loses_no_acknowledged_step(tmp_path: Path) -> None:
    code = f"""
        import numpy as np
        from evo_rnn.checkpoint import Checkpoints
        kept = Checkpoints({str(tmp_path)!r})
        step, arrays, header = kept.latest()
        assert step < 0 or (arrays["genes"] == step).all()
        while True:
            step += 1
            kept.write(step, {{"genes": np.full(50_000, step, np.float32)}}, {{}})
            print(step, flush=True)
    """
    rng, acknowledged = np.random.default_rng(0), -1
    for _ in range(10):
        writer = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        first = int(writer.stdout.readline())
        assert first > acknowledged
        time.sleep(rng.uniform(0, 0.1))
        writer.send_signal(signal.SIGKILL)
        rest = [int(line) for line in writer.stdout if line.endswith("\n")]
        writer.stdout.close()
        writer.wait()
        acknowledged = max([first, *rest])
        for path in tmp_path.glob("step-*"):
            arrays, header = load(path)
            assert (arrays["genes"] == header["step"]).all()
        assert Checkpoints(tmp_path).latest().step in (acknowledged, acknowledged + 1)
        assert not list(tmp_path.glob(".*"))
        assert not list(tmp_path.glob("*.corrupt"))
    assert acknowledged > 20


# A directory of them --------------------------------------------------------------------------------------------------


def test_an_empty_directory_holds_step_minus_one(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path / "runs" / "a")
    assert kept.latest() == (-1, {}, {})
    assert (kept.directory.stat().st_mode & 0o777) == 0o700


def test_the_last_few_stay_and_the_milestones(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, keep=3, every=4)
    for step in range(11):
        kept.write(step, population(step, 2), {"loss": 0.5})
    assert kept.steps() == [0, 4, 8, 9, 10]
    step, arrays, header = kept.latest()
    assert (step, float(arrays["loss"]), header["loss"], header["step"]) == (10, 10.0, 0.5, 10)
    plain = Checkpoints(tmp_path, keep=2)
    plain.write(10**12, population(1, 2), {})
    assert plain.steps() == [10, 10**12]


def test_the_newest_valid_one_wins_and_corrupt_ones_are_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = Checkpoints(tmp_path)
    for step in (1, 2, 3):
        kept.write(step, population(step), {})
    newest = tmp_path / "step-000000000003.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    (tmp_path / "step-000000000002.safetensors").write_bytes((tmp_path / "step-000000000001.safetensors").read_bytes())
    with caplog.at_level(logging.WARNING):
        assert kept.latest().step == 1
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "it holds step 1" in caplog.text
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "step-000000000001.safetensors",
        "step-000000000002.safetensors.corrupt",
        "step-000000000003.safetensors.corrupt",
    ]
    kept.write(2, population(2), {})
    assert kept.latest().step == 2


def test_an_unreadable_file_is_not_taken_for_a_corrupt_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Checkpoints(tmp_path)
    kept.write(1, population(1), {})

    def fail(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fail)
        with pytest.raises(DataError, match="Too many open files"):
            kept.latest()
    assert kept.latest().step == 1


def test_only_temporary_files_of_dead_writers_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".step-000000000001.safetensors.0123456789abcdef.tmp").write_bytes(b"left behind")
    (tmp_path / "notes.tmp").write_text("not ours")
    (tmp_path / ".hidden").write_text("not ours")
    fsync, seen = os.fsync, []

    def open_while_writing(descriptor: int) -> None:
        fsync(descriptor)
        Checkpoints(tmp_path)
        seen.append(len(list(tmp_path.glob(".*.tmp"))))

    kept = Checkpoints(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "notes.tmp"]
    monkeypatch.setattr(os, "fsync", open_while_writing)
    kept.write(1, population(1), {})
    assert seen == [1, 0]
    assert kept.latest().step == 1


def test_a_directory_of_a_later_run_or_no_directory_is_refused(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path / "run")
    kept.write(5, population(5), {})
    kept.write(5, population(6), {})
    assert kept.latest().arrays["loss"] == 6.0
    with pytest.raises(ConfigError, match="step 5, later than 4"):
        kept.write(4, population(4), {})
    with pytest.raises(ValueError, match="from 0"):
        kept.write(-1, population(4), {})
    with pytest.raises(ConfigError, match="keep"):
        Checkpoints(tmp_path, keep=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="another place"):
        Checkpoints(tmp_path / "file")
