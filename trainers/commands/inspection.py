"""What a cluster's head has installed, asked by a first small job; and whether that is what is here."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass
from typing import Any

from evo_rnn.errors import ConfigError, RetryError
from evo_rnn.evaluation import worker
from trainers.commands.gateway import Gateway, answers

MARK = "evo-rnn-found "
LONGEST = 90.0  # seconds
# The interpreter of the cluster's workers is written in the command line of their parent, the raylet.
FIND_PYTHON = (
    "raylet=$(sed -n 's/^PPid:[[:space:]]*//p' /proc/$PPID/status 2>/dev/null); "
    "python=$(tr '\\0' '\\n' 2>/dev/null </proc/$raylet/cmdline "
    "| sed -n 's/^--python_worker_command=\\([^ ]*\\).*/\\1/p'); "
)
SCRIPT = """
import json, platform, socket, sys
found = {"python": platform.python_version(), "executable": sys.executable}
host, port = sys.argv[1:3]
try:
    if host:
        socket.create_connection((host, int(port)), 5).close()
except OSError as error:
    found["tracking"] = str(error)
try:
    from evo_rnn.evaluation import worker
    root = worker.source_root()
    found |= {"root": str(root), "source": worker.source_hash(root), "host": worker.host_identity()}
    found["versions"] = worker.versions()
    import logging, ray
    ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
    found["cpus"] = ray.cluster_resources().get("CPU", 0.0)
except Exception as error:
    found["error"] = f"{type(error).__name__}: {error}"
print(%r + json.dumps(found), flush=True)
"""


@dataclass(frozen=True)
class Head:
    """What the head of a cluster has.

    Args:
        executable: its Python.
        cpus: of the whole cluster, now.
        here: whether it is this very machine.
        tracking: why the tracking server cannot be reached from there; empty if it can, or was not asked for.
        note: what differs without being wrong; empty if nothing.
    """

    executable: str
    cpus: float
    here: bool
    tracking: str
    note: str


def inspect(jobs: Any, gateway: Gateway, tracking: tuple[str, int] = ("", 0)) -> Head:  # noqa: ANN401 (Ray's client)
    """Run the small job and judge its answer.

    Args:
        jobs: Ray's client.
        gateway: of the cluster.
        tracking: host and port that the head should reach; an empty host asks for nothing.

    Raises:
        ConfigError: our package is not there, or is another one than here, or Python is.
        RetryError: the job does not end, or says nothing.
    """
    found = _ask(jobs, gateway, tracking)
    cure = "install the same on every node"
    mine = worker.versions().split(", ")[0].removeprefix("Python ")
    if found["python"].split(".")[:2] != mine.split(".")[:2]:
        raise ConfigError(f"the cluster {gateway.url} runs Python {found['python']}, here is {mine}: {cure}")
    if "source" not in found:
        raise ConfigError(
            f"the cluster {gateway.url} has no evo-rnn that works in {found['executable']} ({found.get('error', '?')}): "
            "install it there, pip install evo-rnn"
        )
    here = worker.source_hash(worker.source_root())
    if found["source"] != here:
        raise ConfigError(
            f"the cluster {gateway.url} runs the source in {found['root']} ({found['source']}), here is "
            f"{worker.source_root()} ({here}): {cure}"
        )
    if "cpus" not in found:
        raise RetryError(f"a job of the cluster {gateway.url} cannot join it ({found.get('error', '?')})")
    other = found["versions"] != worker.versions()
    note = f"the cluster has {found['versions']}, here is {worker.versions()}: last bits may differ" if other else ""
    same = found["host"] == worker.host_identity()
    return Head(found["executable"], found["cpus"], same, found.get("tracking", ""), note)


def _ask(jobs: Any, gateway: Gateway, tracking: tuple[str, int]) -> dict[str, Any]:  # noqa: ANN401
    import shlex

    words = ["-c", SCRIPT % MARK, tracking[0], str(tracking[1])]
    command = FIND_PYTHON + 'exec "${python:-python3}" ' + shlex.join(words)
    name = f"evo-rnn-look-{secrets.token_hex(4)}"
    with answers(gateway):
        jobs.submit_job(entrypoint=command, submission_id=name)
        end = time.monotonic() + LONGEST
        while not (info := jobs.get_job_info(name)).status.is_terminal():
            if time.monotonic() > end:
                jobs.stop_job(name)
                raise RetryError(f"the cluster {gateway.url} should run a small job but has not within {LONGEST:g} s")
            time.sleep(0.2)
        text = jobs.get_job_logs(name)
        jobs.delete_job(name)
    lines = [line for line in text.splitlines() if line.startswith(MARK)]
    if not lines:
        said = " ".join((text.strip().splitlines() or [info.message or ""])[-1].split())[:200]
        raise RetryError(f"the cluster {gateway.url} should run a small job but it failed ({said})")
    found: dict[str, Any] = json.loads(lines[-1].removeprefix(MARK))
    return found
