"""The journal of a run: what is kept comes back bit for bit, and nothing that fails on the way is taken for a state."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from evo_rnn.errors import ConfigError, DataError, DiskError, RetryError
from evo_rnn.tasks.adding import adding
from trainers.experiments import guard, journal
from trainers.experiments.config import resolve
from trainers.experiments.journal import FAILURES, FINISHED, Journal
from trainers.experiments.referee import Row
from trainers.experiments.trial import Slice

ABOUT = {"command": "run", "source": "sunspots"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def new(root: Path, run: str = "a" * 32) -> Journal:
    return journal.begin(run, ABOUT, "seed: 0\n", root)


def piece(step: int, reason: str = "") -> Slice:
    row = Row(10 * step, {"train/loss": 1 / step})
    result = {"stop_reason": reason, "steps": step, "test_loss": 0.1} if reason else {}
    return Slice([row], {"genes": np.full((2, 3), step, np.float32)}, reason, result, np.ones((1, 3), np.float32))


def same(one: Slice, other: Slice) -> None:
    """Equal bit for bit: types and shapes too."""
    assert one.rows == other.rows
    assert one.reason == other.reason
    assert dict(one.result) == dict(other.result)
    assert {key: type(value) for key, value in one.result.items()} == {
        key: type(value) for key, value in other.result.items()
    }
    assert one.state.keys() == other.state.keys()
    for name, array in [*one.state.items(), ("champion", one.champion)]:
        wanted = other.champion if name == "champion" else other.state[name]
        assert array.dtype == wanted.dtype, name
        assert array.shape == wanted.shape, name
        assert array.tobytes() == wanted.tobytes(), name


# What goes in comes out

WORD = st.text("abz_/-. ", min_size=1, max_size=8)
NUMBER = st.floats(allow_nan=False)  # an infinity is a loss like any other; NaN is what a point lacks
ROWS = st.lists(st.builds(Row, st.integers(0, 2**53), st.dictionaries(WORD, NUMBER, max_size=4)), max_size=5)
ARRAY = st.sampled_from((np.float32, np.float64, np.int64, np.bool_)).flatmap(
    lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)
RESULT = st.one_of(
    st.just({}),
    st.builds(
        lambda steps, numbers, words: {**numbers, **words, "steps": steps},
        st.integers(0, 2**53),
        st.dictionaries(st.sampled_from(("passes", "test_loss", "learned")), NUMBER),
        st.dictionaries(st.sampled_from(("stop_reason", "champion_sha256")), st.text(max_size=9)),
    ),
)
SLICE = st.builds(
    Slice,
    ROWS,
    st.dictionaries(WORD, ARRAY, max_size=3),
    st.text(max_size=9),
    RESULT,
    hnp.arrays(np.float32, st.tuples(st.integers(0, 1), st.integers(0, 5))),
)


@settings(max_examples=40, deadline=None)
@given(pieces=st.lists(SLICE, min_size=1, max_size=4))
def test_the_last_slice_comes_back_bit_for_bit_from_a_fresh_journal(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[Slice]
) -> None:
    root = tmp_path_factory.mktemp("laws")
    first = new(root)
    for each in pieces:
        first.keep("ga-0", each, each.rows)
    first.close()
    again = journal.reopen(first.run, root)
    same(again.last("ga-0"), pieces[-1])
    again.close()


def test_a_point_that_lacks_a_metric_still_lacks_it_and_infinities_stay(root: Path) -> None:
    rows = [Row(1, {"a": np.inf}), Row(2, {"b": -np.inf, "c": 0.0}), Row(3, {})]
    book = new(root)
    book.keep("ga-0", Slice([], {}), rows)
    assert book.last("ga-0").rows == rows


def test_where_nothing_is_kept_there_is_an_empty_slice_and_no_directory_is_made(root: Path) -> None:
    book = new(root)
    same(book.last("ga-0"), Slice([], {}))
    assert not (book.path / "ga-0").exists()


def test_trials_are_kept_apart_and_two_files_each_are_enough(root: Path) -> None:
    book = new(root)
    for step in range(1, 6):
        book.keep("ga-0", piece(step), piece(step).rows)
        book.keep("ga-1", piece(2 * step), piece(2 * step).rows)
    same(book.last("ga-0"), piece(5))
    same(book.last("ga-1"), piece(10))
    assert [len(list((book.path / name).iterdir())) for name in ("ga-0", "ga-1")] == [2, 2]


def test_what_the_tracker_has_had_is_noted_for_good(root: Path) -> None:
    book = new(root)
    book.keep("ga-0", piece(1, "over"), [])
    assert not book.reported("ga-0")
    book.report("ga-0")
    book.close()
    again = journal.reopen(book.run, root)
    assert again.reported("ga-0")
    assert not again.reported("ga-1")


# Damage


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "another step"])
def test_a_damaged_newest_file_is_set_aside_and_the_one_before_it_counts(
    root: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    book = new(root)
    for step in (1, 2):
        book.keep("ga-0", piece(step), piece(step).rows)
    older, newest = sorted((book.path / "ga-0").glob("step-*"))
    whole = newest.read_bytes()
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])
    made = {"cut": whole[:-1], "flipped": flipped, "empty": b"", "another step": older.read_bytes()}
    newest.write_bytes(made[damage])
    book.close()
    again = journal.reopen(book.run, root)
    same(again.last("ga-0"), piece(1))
    assert "set aside" in caplog.text
    again.keep("ga-0", piece(3), piece(3).rows)  # and the journal goes on
    same(again.last("ga-0"), piece(3))


def test_with_every_file_damaged_a_trial_begins_anew(root: Path) -> None:
    book = new(root)
    book.keep("ga-0", piece(1), [])
    for path in (book.path / "ga-0").iterdir():
        path.write_bytes(b"x")
    same(book.last("ga-0"), Slice([], {}))


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ('{"schema": 2, "finished": false, "began": 0, "resumed": 0}', ConfigError, "another version"),
        ('{"schema": "1"}', ConfigError, "another version"),
        ("{", DataError, "cannot be read"),
        ("[]", DataError, "cannot be read"),
        ("{}", DataError, "cannot be read"),
        ("\xff", DataError, "cannot be read"),
    ],
)
def test_what_was_written_by_another_version_or_is_damaged_is_refused_and_let_go(
    root: Path, text: str, error: type[Exception], said: str
) -> None:
    book = new(root)
    book.close()
    whole = (book.path / "run.json").read_text()
    (book.path / "run.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(error, match=said):
        journal.reopen(book.run, root)
    (book.path / "run.json").write_text(whole)
    journal.reopen(book.run, root).close()  # the lock was let go


def test_a_damaged_journal_does_not_keep_others_from_being_found(root: Path) -> None:
    good, bad = new(root, "a" * 32), new(root, "b" * 32)
    (bad.path / "run.json").write_text("{")
    (root / ("c" * 32)).mkdir()  # killed before it had begun
    assert journal.find("latest", root) == good.run
    assert journal.find("aaa", root) == good.run
    assert journal.find("bbb", root) == bad.run, "so that opening it says what is wrong"
    assert journal.find("ccc", root) == ""


def test_the_newest_that_is_not_over_is_the_latest_and_a_beginning_must_fit_one(root: Path) -> None:
    books = [new(root, f"{k}f" * 16) for k in range(3)]
    books[2].finish(prolongable=True)
    assert journal.find("latest", root) == books[1].run
    books[0].finish(prolongable=True)
    books[1].finish(prolongable=True)
    assert journal.find("latest", root) == books[2].run, "which can be prolonged"
    assert journal.find("2f", root) == books[2].run
    assert journal.find("3", root) == ""
    one, _ = new(root, "d1" * 16), new(root, "d2" * 16)
    with pytest.raises(ConfigError, match="fits 2"):
        journal.find("d", root)
    assert journal.find("d1", root) == one.run


def test_nothing_to_go_on_with_is_said_in_one_line(root: Path) -> None:
    with pytest.raises(ConfigError, match="should have a journal"):
        journal.reopen("a" * 32, root)
    assert journal.find("latest", root) == ""


# The disk


def refuse(monkeypatch: pytest.MonkeyPatch, call: str = "fsync") -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, fail)


@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
def test_three_refused_writes_in_a_row_stop_the_run_and_no_fewer_do(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, call: str
) -> None:
    book = new(root)
    book.keep("ga-0", piece(1), piece(1).rows)
    for _ in range(2):  # two refusals, then room again, twice over: never three in a row
        with monkeypatch.context() as full:
            refuse(full, call)
            for step in range(2, 1 + FAILURES):
                book.keep("ga-0", piece(step), piece(step).rows)
        same(book.last("ga-0"), piece(1))
        book.keep("ga-0", piece(1), piece(1).rows)
    assert caplog.text.count("the run goes on") == 2 * (FAILURES - 1)
    with monkeypatch.context() as full:
        refuse(full, call)
        for step in range(2, 1 + FAILURES):
            book.keep("ga-0", piece(step), piece(step).rows)
        with pytest.raises(DiskError, match="No space left") as caught:
            book.keep("ga-0", piece(9), piece(9).rows)
    assert caught.value.exit_code == 74
    book.close()
    again = journal.reopen(book.run, root)
    same(again.last("ga-0"), piece(1))
    assert len(list((book.path / "ga-0").iterdir())) == 2, "no temporary file is left"


def test_a_disk_that_takes_not_even_a_directory_is_borne_as_long(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = new(root)
    with monkeypatch.context() as full:
        refuse(full, "mkdir")
        for _ in range(FAILURES - 1):
            book.keep("ga-0", piece(1), [])
        with pytest.raises(DiskError):
            book.keep("ga-0", piece(1), [])


def test_a_journal_that_cannot_begin_is_a_full_disk(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as full:
        refuse(full)
        with pytest.raises(DiskError, match="should be kept in"):
            new(root)
    assert journal.find("latest", root) == ""


# The end


def test_a_comparison_that_is_over_leaves_nothing_and_a_run_what_it_can_be_prolonged_from(root: Path) -> None:
    first, second = new(root, "a" * 32), new(root, "b" * 32)
    for book in (first, second):
        book.keep("ga-0", piece(4, "budget spent"), piece(4).rows)
    first.finish(prolongable=False)
    second.finish(prolongable=True)
    assert not first.path.exists()
    again = journal.reopen(second.run, root)
    assert again.about["finished"]
    same(again.last("ga-0"), piece(4, "budget spent"))
    again.prolong("ga-0", "seed: 1\n")
    assert not again.about["finished"]
    assert again.last("ga-0").reason == ""
    assert again.last("ga-0").rows == piece(4).rows
    assert (again.path / "config.yaml").read_text() == "seed: 1\n"
    assert journal.find("latest", root) == second.run


def test_a_journal_is_never_seen_half_removed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed while it removes a comparison leaves nothing that looks like one to go on with."""
    book = new(root)
    book.keep("ga-0", piece(4, "over"), [])
    monkeypatch.setattr(journal.shutil, "rmtree", lambda *_, **__: None)
    book.finish(prolongable=False)
    assert journal.find("latest", root) == ""
    assert journal.find("a", root) == ""


def test_a_run_that_ended_by_itself_cannot_be_prolonged(root: Path) -> None:
    book = new(root)
    book.keep("ga-0", Slice([], {}, "early stopping", {"steps": 3}), [])
    with pytest.raises(ConfigError, match="cannot be prolonged: early stopping"):
        book.prolong("ga-0", "")


def test_the_oldest_that_are_over_are_removed_and_none_that_is_not(root: Path) -> None:
    waiting = new(root, "f" * 32)
    for k in range(FINISHED + 3):
        book = new(root, f"{k:032x}")
        book.finish(prolongable=True)
        os.utime(book.path, (k, k))
    new(root, "e" * 32)
    left = {path.name for path in root.iterdir()}
    assert left == {waiting.run, "e" * 32, *(f"{k:032x}" for k in range(3, FINISHED + 3))}


def test_another_process_that_removes_its_journal_meanwhile_is_no_harm(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new(root, "a" * 32).finish(prolongable=True)
    read = Path.read_text

    def gone(path: Path, *arguments: Any, **named: Any) -> str:
        if path.name == "run.json" and path.parent.name == "a" * 32:
            raise FileNotFoundError(errno.ENOENT, "gone", str(path))
        return read(path, *arguments, **named)

    monkeypatch.setattr(Path, "read_text", gone)
    book = new(root, "b" * 32)
    assert journal.find("latest", root) == book.run


# One driver


def test_only_one_driver_has_a_journal_until_it_lets_go(root: Path) -> None:
    book = new(root)
    with pytest.raises(RetryError, match="being trained by another process") as caught:
        journal.reopen(book.run, root)
    assert caught.value.exit_code == 75
    book.close()
    book.close()  # a second time changes nothing
    again = journal.reopen(book.run, root)
    assert again.about["resumed"] == 1, "one that was turned away has not resumed it"
    with pytest.raises(RetryError):
        journal.reopen(book.run, root)


HOLDER = """
import subprocess, sys, time
from pathlib import Path
from trainers.experiments import journal
book = journal.reopen("a" * 32, Path(sys.argv[1]))
child = subprocess.Popen(["sleep", "60"], close_fds=False)
print(child.pid, flush=True)
time.sleep(60)
"""


def test_the_kernel_frees_the_journal_of_a_process_that_was_killed_also_while_its_children_live(root: Path) -> None:
    new(root).close()
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(root)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    child = int(holder.stdout.readline())
    try:
        with pytest.raises(RetryError):
            journal.reopen("a" * 32, root)
        holder.kill()
        holder.wait(30)
        os.kill(child, 0)  # it lives
        journal.reopen("a" * 32, root).close()
    finally:
        os.kill(child, signal.SIGKILL)
        holder.kill()
        holder.stdout.close()
        holder.wait(30)


# The guard of what may change

WHERE = {"wire", "workers", "gpus_per_worker", "cpus_per_worker", "address", "object_store_memory", "startup_deadline"}
WHERE |= {"deadline", "attempts"}
UNTIL = {"budget.passes", "budget.seconds", "stop.generations", "stop.wall_clock"}
CONFIG = resolve({"task": {"name": "adding"}, "methods": {"ga": {}, "mine": {"name": "bptt"}}})
KEYS = sorted(guard.flat(CONFIG.model_dump(mode="json")))


def changed(key: str) -> Any:
    """A config like the usual one, but for one key."""
    tree = CONFIG.model_dump(mode="json")
    inner: Any = tree
    *path, last = key.split(".")
    for part in path:
        inner = inner[part]
    inner[last] = "another" if isinstance(inner[last], str) else [inner[last], 1]
    return SimpleNamespace(model_dump=lambda mode: tree)  # noqa: ARG005


@pytest.mark.parametrize("many", [False, True])
def test_every_key_that_a_result_depends_on_is_refused_by_its_name(many: bool) -> None:
    assert len(KEYS) > 50
    for key in KEYS:
        free = key.removeprefix("compute.") in WHERE | {"allow_unauthenticated"} or (key in UNTIL and not many)
        if free:
            guard.check_changes(CONFIG, changed(key), many=many)
        else:
            with pytest.raises(ConfigError) as caught:
                guard.check_changes(CONFIG, changed(key), many=many)
            assert str(caught.value).startswith(f"{key} should stay ")
    guard.check_changes(CONFIG, CONFIG, many=many)


def test_a_key_that_comes_or_goes_is_a_change_too() -> None:
    fewer = resolve({"task": {"name": "adding"}, "methods": {"ga": {}}})
    for before, after in ((CONFIG, fewer), (fewer, CONFIG)):
        with pytest.raises(ConfigError, match=r"methods\.mine"):
            guard.check_changes(before, after, many=True)


def test_only_how_long_a_run_lasts_makes_it_longer() -> None:
    for key in KEYS:
        assert (guard.until(CONFIG) != guard.until(changed(key))) == (key in UNTIL), key


# The guard of circumstances

TASK = adding(length=4, sequences=3)
BEGAN = guard.circumstances(TASK, "cpu")


def with_(**changes: object) -> Mapping[str, Any]:
    return json.loads(json.dumps({**BEGAN, **changes}))


def test_circumstances_are_data_and_the_same_ones_are_let_by(caplog: pytest.LogCaptureFixture) -> None:
    assert json.loads(json.dumps(BEGAN)) == BEGAN
    guard.check_circumstances(BEGAN, guard.circumstances(adding(length=4, sequences=3), "cpu"))
    assert not caplog.records


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_one_number_of_any_split_is_another_data_set(split: str) -> None:
    other = adding(length=4, sequences=3)
    inputs = getattr(other, split).inputs.copy()
    inputs[-1, -1, -1] = np.nextafter(inputs[-1, -1, -1], 9, dtype=inputs.dtype)
    other = replace(other, **{split: replace(getattr(other, split), inputs=inputs)})
    with pytest.raises(DataError, match=r"the data should be those .* but have changed"):
        guard.check_circumstances(BEGAN, guard.circumstances(other, "cpu"))


@pytest.mark.parametrize("library", guard.LIBRARIES)
def test_another_version_of_a_library_that_makes_numbers_is_refused(library: str) -> None:
    versions = {**BEGAN["versions"], library: "0.0.1"}
    with pytest.raises(ConfigError, match=rf"{library} should be 0\.0\.1.*Install {library}==0\.0\.1"):
        guard.check_circumstances(with_(versions=versions), BEGAN)
    with pytest.raises(ConfigError, match=f"{library} should be"):
        guard.check_circumstances(BEGAN, with_(versions=versions))


def test_another_device_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"compute\.device should be 'cuda'"):
        guard.check_circumstances(with_(device="cuda"), BEGAN)


@pytest.mark.parametrize(("key", "said"), [("cpu", "instruction set"), ("program", "this program's source")])
def test_another_processor_or_source_is_warned_of(key: str, said: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        guard.check_circumstances(with_(**{key: "another"}), BEGAN)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert said in caplog.text
    assert "another" in caplog.text
