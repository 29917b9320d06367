"""Mends runs that a crash left RUNNING.

Nothing runs when a process is killed, so nobody tells MLflow. Every run therefore names, in the tag `evo.lock`, a file
on which its process holds a lock; the kernel lets go of the lock whatever happens to the process.
"""

from __future__ import annotations

import fcntl
import os
import socket
from typing import TYPE_CHECKING

from evo_rnn.tracking.store import open_client, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOCK, HOST, END_REASON = "evo.lock", "evo.host", "evo.end_reason"
CRASH = "crash_detected"


def sweep(uri: str = "", experiment: str = "") -> list[str]:
    """End runs as KILLED, with the tag `evo.end_reason=crash_detected`, whose process is gone.

    Runs of a live process, and runs of other programs and other machines, are left as they are.

    Args:
        uri: the store; by default the one that a tracker would choose.
        experiment: its name; empty for all.

    Returns:
        MLflow's ids of the runs that were ended.

    Raises:
        ConfigError: the store cannot be used.
    """
    client = open_client(tracking_uri(uri))
    if experiment:
        found = client.get_experiment_by_name(experiment)
        return sweep_experiments(client, [found.experiment_id] if found else [])
    return sweep_experiments(client, [found.experiment_id for found in client.search_experiments()])


def sweep_experiments(client: MlflowClient, experiment_ids: list[str]) -> list[str]:
    """As `sweep`, with a client and the ids of the experiments."""
    query = f"attributes.status = 'RUNNING' and tags.`{LOCK}` != ''"
    ended: list[str] = []
    token, more = "", bool(experiment_ids)
    while more:
        page = client.search_runs(experiment_ids, query, max_results=1000, page_token=token or None)
        for run in page:
            if is_dead(run.data.tags[LOCK], run.data.tags.get(HOST, "")):
                client.set_tag(run.info.run_id, END_REASON, CRASH)
                client.set_terminated(run.info.run_id, "KILLED")
                ended.append(run.info.run_id)
        token = page.token or ""
        more = bool(token)
    return ended


def is_dead(lock: str, host: str) -> bool:
    """Whether nobody holds the lock. A lock file that is not there says so only on the machine it was made on."""
    try:
        fd = os.open(lock, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        return host == socket.gethostname()
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
