"""A durable queue between a loop that must not wait and a store that may be away.

`Outbox` is an append-only file of JSON lines with a mark of how far it has been delivered. `Courier` is the thread that
delivers it, in order, again and again until the store has taken it. A delivery may happen twice (after a crash between
the store's answer and our mark), so what is delivered must change nothing the second time.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from evo_rnn.errors import ConfigError
from evo_rnn.tracking.store import brief

logger = logging.getLogger("evo_rnn.tracking")

Record = dict[str, Any]  # plain JSON values
WINDOW = 1000  # records that are delivered and marked together
COMPACT = 1 << 20  # bytes of a delivered file that are worth giving back
SLOW_SYNC = 0.005  # seconds; a disk slower than this is synced at most every SYNC_EVERY seconds
SYNC_EVERY = 0.5
HELD_LINES = 100_000  # lines kept in memory while the disk is full


class Outbox:
    """An append-only file of records, and the offset up to which they have been delivered.

    Every record is written and synced to the disk before `append` returns (0.2 ms on an SSD). Where a sync takes more
    than 5 ms it is done at most every 0.5 s: a power cut can then lose half a second of records, a killed process none.
    A torn last line, left by a power cut, is cut off when the file is opened.

    Args:
        directory: where `outbox.jsonl` and `delivered` are; made if absent, for the owner's eyes only.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._mark = directory / "delivered"
        self._file = os.open(directory / "outbox.jsonl", os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        self._lock = threading.Lock()
        self._held: list[bytes] = []
        self._synced = self._sync_cost = 0.0
        self._cut_torn_line()
        self._delivered = self._read_mark()

    def append(self, record: Record) -> None:
        """Write one record. A full disk is reported and the record kept in memory until there is room again."""
        line = json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
        with self._lock:
            self._held.append(line)
            self._write_held()
            if self._sync_cost < SLOW_SYNC or time.monotonic() - self._synced > SYNC_EVERY:
                self._sync()

    def pending(self) -> tuple[list[Record], int]:
        """Return the next records to deliver, at most `WINDOW`, and the offset to acknowledge once they are.

        A damaged line is an empty record.
        """
        with self._lock:
            self._write_held()
            start = self._delivered
            text = os.pread(self._file, min(self._size() - start, 1 << 22), start)
        lines = text.splitlines(keepends=True)[:WINDOW]
        if lines and not lines[-1].endswith(b"\n"):
            lines = lines[:-1] or [self._whole_line(start)]
        return [_parse(line) for line in lines], start + sum(map(len, lines))

    def acknowledge(self, offset: int) -> None:
        """Mark everything before `offset` as delivered; a large file that is wholly delivered becomes empty."""
        with self._lock:
            whole = offset == self._size() and offset > COMPACT
            # The mark goes back to 0 before the file is emptied: a crash between the two delivers again, loses nothing.
            self._delivered = 0 if whole else offset
            replace_text(self._mark, str(self._delivered))
            if whole:
                os.ftruncate(self._file, 0)

    @property
    def empty(self) -> bool:
        """Whether everything has been delivered."""
        with self._lock:
            return not self._held and (self._file < 0 or self._delivered == self._size())

    def close(self) -> None:
        """Sync and close the file. A second call does nothing."""
        with self._lock:
            if self._file >= 0:
                self._sync()
                os.close(self._file)
                self._file = -1  # a thread that comes late must not reach a file that has the number now

    def _size(self) -> int:
        return os.fstat(self._file).st_size

    def _sync(self) -> None:
        before = time.monotonic()
        with contextlib.suppress(OSError):  # the line is written; a disk that cannot sync is reported when it is full
            os.fsync(self._file)
        self._synced = time.monotonic()
        self._sync_cost = self._synced - before

    def _write_held(self) -> None:
        while self._held:
            size = self._size()
            try:
                if os.write(self._file, self._held[0]) < len(self._held[0]):
                    raise OSError("the line did not fit")
            except OSError as error:
                os.ftruncate(self._file, size)
                if len(self._held) == 1:
                    logger.warning("tracking cannot write to the disk (%s); numbers wait in memory. Free space.", error)
                del self._held[HELD_LINES:]
                return
            del self._held[0]

    def _whole_line(self, start: int) -> bytes:
        """Return the one line at `start`, however long."""
        text = os.pread(self._file, self._size() - start, start)
        return text[: text.index(b"\n") + 1]

    def _cut_torn_line(self) -> None:
        size = self._size()
        while size and os.pread(self._file, 1, size - 1) != b"\n":
            size -= 1
        os.ftruncate(self._file, size)

    def _read_mark(self) -> int:
        try:
            mark = int(self._mark.read_text())
        except (FileNotFoundError, ValueError):
            return 0
        return mark if 0 <= mark <= self._size() else 0


def _parse(line: bytes) -> Record:
    try:
        record = json.loads(line)
    except ValueError:
        record = {}
    if not isinstance(record, dict) or not record:
        logger.warning("a damaged line of the tracking outbox was left out: %r", line[:80])
        return {}
    return record


def replace_text(path: Path, text: str) -> None:
    """Write a small file so that a reader sees the old text or the new, never a part."""
    new = path.with_name(path.name + ".new")
    new.touch(mode=0o600)  # it may hold a password
    new.write_text(text, encoding="utf-8")
    new.replace(path)


class Courier:
    """A thread that delivers one outbox after another, each in order, until it is told to stop.

    Args:
        boxes: the outboxes; only the last one still grows.
        deliver: sends records of the box with the given index; raises whatever it likes when the store did not take
            them, and is then called again with the same records after 0.2 s, doubling to 30 s. A ConfigError sets the
            box aside, unless it is the last.
        emptied: called once for every box but the last, when it is wholly delivered.
        pause: seconds to let records gather, so that a fast loop costs few requests.
    """

    def __init__(
        self,
        boxes: Sequence[Outbox],
        deliver: Callable[[int, list[Record]], None],
        emptied: Callable[[int], None],
        pause: float = 0.25,
    ) -> None:
        self._boxes, self._deliver, self._emptied, self._pause = list(boxes), deliver, emptied, pause
        self._wake, self._stop, self._hurry = threading.Event(), threading.Event(), threading.Event()
        self._idle = threading.Event()
        self._aside: set[int] = set()  # boxes that no store will ever take
        self.error = ""  # why the last delivery failed; empty while all is well
        self._thread = threading.Thread(target=self._run, name="evo-rnn-tracking", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Say that there is something to deliver."""
        self._idle.clear()
        self._wake.set()

    def drain(self, timeout: float) -> bool:
        """Deliver at once and wait until everything is delivered, at most `timeout` seconds; return whether it is."""
        deadline = time.monotonic() + timeout
        self._hurry.set()
        done = False
        while not done and (left := deadline - time.monotonic()) > 0:
            self.wake()
            done = self._idle.wait(min(left, 0.2)) and all(
                box.empty for index, box in enumerate(self._boxes) if index not in self._aside
            )
        self._hurry.clear()
        return done

    def stop(self, timeout: float = 6.0) -> None:
        """Stop after the request that is under way."""
        self._stop.set()
        self._hurry.set()
        self._wake.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        wait, index = 0.2, 0
        while not self._stop.is_set():
            self._wake.clear()
            try:
                index = self._next(index)
                wait, self.error = 0.2, ""
            except Exception as error:  # any failure of the store, of whatever library, means: try again later
                self._report(error)
                self._sleep(wait)
                wait = min(2 * wait, 30.0)
                continue
            if not self._wake.is_set():
                self._idle.set()
            self._wake.wait()
            self._hurry.wait(self._pause)

    def _next(self, index: int) -> int:
        """Deliver what a box holds, and return the box to go on with."""
        last = index + 1 == len(self._boxes)
        try:
            self._deliver_all(index)
            if last or self._stop.is_set():
                return index
            self._emptied(index)
        except ConfigError as error:
            if last:
                raise
            self._aside.add(index)
            logger.warning("tracking: what an earlier program left cannot be sent: %s", error)
        self._wake.set()
        return index + 1

    def _deliver_all(self, index: int) -> None:
        box = self._boxes[index]
        records, offset = box.pending()
        while records and not self._stop.is_set():
            self._deliver(index, records)
            box.acknowledge(offset)
            records, offset = box.pending()

    def _sleep(self, seconds: float) -> None:
        """Wait before the next attempt; someone who drains the queue is not kept waiting for a long pause to end."""
        if self._hurry.is_set():
            self._stop.wait(min(seconds, 0.5))
        else:
            self._hurry.wait(seconds)

    def _report(self, error: Exception) -> None:
        if not self.error:
            logger.warning("tracking: the store does not answer; the rest is sent later: %s", brief(error))
        self.error = brief(error)
