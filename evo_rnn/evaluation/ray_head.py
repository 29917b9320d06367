"""Whether the Ray that a driver depends on still answers: the head of the session or cluster, and its own machine's part.

Ray itself ends a driver that has lost either, a minute later and in native code: no `finally` runs, and the exit code is
1. So the driver looks for itself, and stops in order before that.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from evo_rnn.errors import RetryError

EVERY = 2.0  # seconds between two looks
HEAD = 12.0  # seconds without an answer: a head that is started again (Ray's fault tolerance) may come back
RAYLET = 3.0  # this one never does


@dataclass
class Place:
    """Something that listens, and when it last did.

    Args:
        name: for people.
        knock: connects, or raises OSError.
        patience: seconds that it may be silent.
    """

    name: str
    knock: Callable[[], socket.socket]
    patience: float
    heard: float = field(default_factory=time.monotonic)


class Lifeline:
    """What this driver's Ray listens at.

    Args:
        places: each of them.
    """

    def __init__(self, places: list[Place]) -> None:
        self._places = places
        self._looked = time.monotonic()

    @property
    def cut(self) -> bool:
        """Whether the last look found somebody missing."""
        return any(place.heard < self._looked for place in self._places)

    def check(self) -> None:
        """Look, if it is time to.

        Raises:
            RetryError: Somebody has been silent for too long.
        """
        now = time.monotonic()
        if now - self._looked < EVERY:
            return
        away = now - self._looked - EVERY  # while nobody looked, nobody was silent
        self._looked = now
        for place in self._places:
            place.heard += away
            with contextlib.suppress(OSError), place.knock():
                place.heard = now
            if now - place.heard > place.patience:
                raise RetryError(
                    f"Ray itself has failed: {place.name} has not answered for {now - place.heard:.0f} s: start the "
                    "cluster again if it is yours, then resume the run"
                )


def lifeline() -> Lifeline:
    """Of the Ray that this process is connected to."""
    import ray

    here = ray.get_runtime_context()
    host, _, port = str(here.gcs_address).rpartition(":")
    head = (host.strip("[]"), int(port))
    places = [Place(f"its head at {here.gcs_address}", lambda: socket.create_connection(head, timeout=1.0), HEAD)]
    for node in ray.nodes():
        if node["NodeID"] == here.get_node_id() and node.get("RayletSocketName"):
            knock = partial(_knock, str(node["RayletSocketName"]))
            places.append(Place("its process on this machine (raylet)", knock, RAYLET))
    return Lifeline(places)


def _knock(path: str) -> socket.socket:
    door = socket.socket(socket.AF_UNIX)
    door.settimeout(1.0)
    try:
        door.connect(path)
    except OSError:
        door.close()
        raise
    return door
