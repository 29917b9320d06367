"""A store that is opened as soon as it can be reached, and the delivery of what dead trackers left."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable
from pathlib import Path

from evo_rnn.errors import ConfigError, DiskError, RetryError
from evo_rnn.tracking.delivery import Delivery
from evo_rnn.tracking.parts import Part, left_behind
from evo_rnn.tracking.store import Store, brief, is_remote, open_store, public
from evo_rnn.tracking.sweep import sweep_experiments

logger = logging.getLogger("evo_rnn.tracking")

DIRECTORY = Path(".evo-rnn/tracking")


class Connection:
    """Opens a store at the first call that succeeds, and mends the runs that crashes left in it."""

    def __init__(self, connect: Callable[[str, str], Store], uri: str, experiment: str) -> None:
        self._uri = uri
        self._connect = functools.partial(connect, uri, experiment)
        self._stores: list[Store] = []  # none or one
        self._lock = threading.Lock()

    def __call__(self) -> Store:
        """Return the open store, or raise what opening it raises."""
        with self._lock:
            if not self._stores:
                store = self._connect()
                sweep_experiments(store.client, [store.experiment_id])
                self._stores.append(store)
            return self._stores[0]

    def attempt(self) -> None:
        """Connect where that is quick; a store that is away is reported, one that can never work raises."""
        if not (is_remote(self._uri) or self._uri.startswith("sqlite:")):
            return  # a database server: its driver may try for minutes
        try:
            self()
        except (ConfigError, DiskError):
            raise
        except Exception as error:
            logger.warning(
                "tracking: %s does not answer; working without it for now: %s", public(self._uri), brief(error)
            )

    @property
    def experiment_id(self) -> str:
        """MLflow's id of the experiment; empty before the first success."""
        return self._stores[0].experiment_id if self._stores else ""


def end_part(part: Part, connection: Connection) -> None:
    """What a dead tracker left is sent: end the runs that it left open, and remove its directory."""
    store = connection()
    part.unlock()  # so that the sweep sees that nobody is there
    sweep_experiments(store.client, [store.experiment_id])
    part.close(remove=True)


def sync(directory: Path = DIRECTORY) -> int:
    """Send what trackers that are gone left in `directory`, and return the number of records sent.

    Raises:
        ConfigError: a store can never be used as it is.
        RetryError: a store does not answer.
    """
    count = 0
    for part in left_behind(directory):
        try:
            count += _send_all(part)
        except ConfigError:
            raise
        except Exception as error:
            text = f"the store {public(part.uri)} should answer but does not: {brief(error)}. Try later."
            raise RetryError(text) from error
        finally:
            part.close(remove=part.outbox.empty)
    return count


def _send_all(part: Part) -> int:
    connection, count = Connection(open_store, part.uri, part.experiment), 0
    delivery = Delivery(connection, part.path)
    records, offset = part.outbox.pending()
    while records:
        delivery.send(records)
        part.outbox.acknowledge(offset)
        count += len(records)
        records, offset = part.outbox.pending()
    end_part(part, connection)
    return count
