"""A driver whose Ray is gone stops in order, with exit code 75, before Ray ends it without a word."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from functools import partial

import pytest

from evo_rnn.errors import RetryError
from evo_rnn.evaluation import ray_head
from evo_rnn.evaluation.ray_head import EVERY, HEAD, Lifeline, Place


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(ray_head, "time", made)
    return made


@pytest.fixture
def door() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def lifeline(door: socket.socket, clock: Clock) -> Lifeline:
    knock = partial(socket.create_connection, door.getsockname(), timeout=1.0)
    line = Lifeline([Place("its head", knock, HEAD, clock.now)])
    line._looked = clock.now
    return line


def test_silence_is_endured_for_a_while_and_then_ends_the_run(door: socket.socket, clock: Clock) -> None:
    line = lifeline(door, clock)
    for _ in range(5):
        clock.now += EVERY
        line.check()
    assert not line.cut
    door.close()
    since = clock.now
    while clock.now + EVERY - since <= HEAD:
        clock.now += EVERY
        line.check()
    assert line.cut
    clock.now += 2 * EVERY
    with pytest.raises(RetryError, match=r"its head has not answered for 1\d s.* resume") as caught:
        line.check()
    assert (caught.value.exit_code, "\n" in str(caught.value)) == (75, False)


def test_a_head_that_comes_back_is_forgiven(door: socket.socket, clock: Clock) -> None:
    line, place = lifeline(door, clock), door.getsockname()
    for _ in range(4):
        door.close()
        for _ in range(int(HEAD / EVERY) - 1):
            clock.now += EVERY
            line.check()
        assert line.cut
        with socket.create_server(place, reuse_port=False) as again:
            clock.now += EVERY
            line.check()
            assert not line.cut
            again.close()


def test_time_in_which_nobody_looked_is_no_silence(door: socket.socket, clock: Clock) -> None:
    line = lifeline(door, clock)
    door.close()
    clock.now += 3600.0  # a long generation in the driver
    line.check()
    assert line.cut
