"""`evo-rnn submit`: judges an experiment here, looks at the cluster, sends both their files, and follows the job."""

from __future__ import annotations

import json
import re
import secrets
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from evo_rnn.errors import ConfigError
from evo_rnn.evaluation import ray_address
from trainers.commands.gateway import DASHBOARD, Gateway, answers, client, reach
from trainers.commands.request import Request
from trainers.commands.staging import JOBS, command, pack

if TYPE_CHECKING:
    from trainers.commands.inspection import Head
    from trainers.experiments.config import Config

COMMANDS = ("run", "compare", "resume")
GRACE = "20"  # seconds that a stopped job has to write down what it has, before it is killed


@dataclass(frozen=True)
class Order:
    """How an experiment is sent.

    Args:
        address: URL of the cluster's job server.
        command: of evo-rnn, to run there.
        directory: where the job works on the head.
        detach: whether to leave once it is sent.
        allow_unauthenticated: whether the cluster may be open to everybody.
        allow_local_tracking: whether the store may be one that only the head can reach.
    """

    address: str = DASHBOARD
    command: str = "run"
    directory: str = JOBS
    detach: bool = False
    allow_unauthenticated: bool = False
    allow_local_tracking: bool = False


def submit(request: Request, order: Order, *, as_json: bool) -> None:
    """Send an experiment to a cluster; unless detached, follow it and exit with its code.

    Raises:
        ConfigError: something does not fit; nothing was sent.
        DataError: the data file cannot be used.
        RetryError: the cluster does not answer.
    """
    if order.command not in COMMANDS:
        raise ConfigError(f"--command should be one of {', '.join(COMMANDS)} but is {order.command!r}.")
    began, many = time.monotonic(), order.command == "compare"
    say = sys.stderr.write if as_json else sys.stdout.write
    config = _judged(request, many=many) if order.command != "resume" else None
    store = _store(config) if config else ""  # a run that is resumed knows its own
    gateway = reach(order.address, allow_unauthenticated=order.allow_unauthenticated)
    if warning := ray_address.advice():
        say(warning + "\n")
    from trainers.commands.inspection import inspect

    jobs = client(gateway)
    head = inspect(jobs, gateway, _server(store))
    if head.note:
        say(f"Note: {head.note}.\n")
    store = writable(store, head, allowed=order.allow_local_tracking) if config else ""
    with tempfile.TemporaryDirectory() as folder:
        words = [order.command, request.source, *request.overrides]
        if config:
            ready = prepared(config, head, store, gateway)
            words = [order.command, pack(ready, request.source, Path(folder), many=many).config]
        job = _sent(jobs, gateway, command(head.executable, order.directory, words), folder if config else "", request)
    say(f"Sent {request.source} to {gateway.url} as {job} ({time.monotonic() - began:.0f} s).\n")
    code = 0 if order.detach else _followed(jobs, gateway, job, say)
    if as_json:
        row = {"job_id": job, "address": gateway.url, "status": "SENT" if order.detach else "ENDED"}
        print(json.dumps(row | ({} if order.detach else {"exit_code": code})))
    else:
        say(_closing(job, gateway, order, code))
    if code:
        raise SystemExit(code)


def _judged(request: Request, *, many: bool) -> Config:
    """The checked config, everything built once here; what it says of processors is for the cluster to judge."""
    from trainers.commands.plan import planned

    config = request.config()
    if config.compute.workers == 0:
        raise ConfigError(
            "compute.workers is 0, so the job would leave the cluster idle: give --workers N, or compute.workers=auto"
        )
    planned(replace(request, overrides=(*request.overrides, "compute.device=cpu")), many=many)
    return config


def _store(config: Config) -> str:
    from evo_rnn.tracking import tracking_uri

    uri = tracking_uri(config.tracking.uri)
    if "@" in urlsplit(uri).netloc:
        raise ConfigError(
            "the tracking URI holds a password, which everybody who sees the cluster's jobs could read: leave it out "
            "and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD where the head starts Ray"
        )
    return uri


def _server(uri: str) -> tuple[str, int]:
    """Host and port of a tracking server; an empty host where there is none to ask."""
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https"):
        return "", 0
    return parts.hostname or "", parts.port or {"http": 80, "https": 443}[parts.scheme]


def writable(uri: str, head: Head, *, allowed: bool) -> str:
    """The tracking URI as the job should use it.

    Args:
        uri: as it is here.
        head: of the cluster.
        allowed: whether a store that only the head reaches will do.

    Raises:
        ConfigError: the cluster cannot write to it.
    """
    from evo_rnn.tracking.store import SQLITE

    file = uri.startswith("sqlite:")
    if head.here and not head.tracking:
        return uri
    cure = (
        "give the cluster a tracking server that it reaches: tracking.uri=http://HOST:5000, or let the head keep the "
        "runs itself: --allow-local-tracking"
    )
    if file and not allowed:
        raise ConfigError(f"the cluster cannot write to the file {uri.removeprefix(SQLITE)} of this machine: {cure}")
    if file:
        return f"{SQLITE}mlflow.db"  # in the directory of the job
    if ray_address.is_loopback(urlsplit(uri).hostname or "") and not allowed:
        raise ConfigError(f"the tracking server {uri} is this machine's own, the cluster cannot reach it: {cure}")
    if head.tracking and not allowed:
        raise ConfigError(f"the cluster does not reach the tracking server {uri} ({head.tracking}): {cure}")
    return uri


def prepared(config: Config, head: Head, store: str, gateway: Gateway) -> Config:
    """The config as the cluster should have it: its workers are there, and so is its store.

    Raises:
        ConfigError: the cluster has no processors to count.
    """
    workers = config.compute.workers
    if workers == "auto":
        workers = int(head.cpus / config.compute.cpus_per_worker)
        if workers < 1:
            raise ConfigError(
                f"the cluster {gateway.url} has no free node yet, so how many workers should it start? Say: --workers N"
            )
    # The job is inside the cluster: refusing to join what it runs in would protect nobody.
    given = {"address": ray_address.AUTO, "workers": workers, "allow_unauthenticated": gateway.open}
    compute = config.compute.model_copy(update=given)
    return config.model_copy(update={"compute": compute, "tracking": config.tracking.model_copy(update={"uri": store})})


def _sent(jobs: Any, gateway: Gateway, line: str, folder: str, request: Request) -> str:  # noqa: ANN401 (Ray's client)
    stem = re.sub(r"[^a-z0-9]+", "-", Path(request.source).stem.lower()).strip("-")[:30]
    environment = {"RAY_JOB_STOP_WAIT_TIME_S": GRACE}
    with answers(gateway):
        return str(
            jobs.submit_job(
                entrypoint=line,
                submission_id=f"evo-{stem or 'job'}-{secrets.token_hex(4)}",
                runtime_env={"env_vars": environment, **({"working_dir": folder} if folder else {})},
                metadata={"evo-rnn": request.source[:200]},
            )
        )


def _followed(jobs: Any, gateway: Gateway, job: str, say: Any) -> int:  # noqa: ANN401
    from trainers.commands.jobs import followed

    try:
        return followed(jobs, gateway, job, say)
    except KeyboardInterrupt:
        sys.stderr.write(f"The job goes on. End it: evo-rnn job stop {job} --address {gateway.url}\n")
        raise


def _closing(job: str, gateway: Gateway, order: Order, code: int) -> str:
    """What to type next."""
    where = f"{job} --address {gateway.url}"
    if order.detach:
        return (
            f"Next: evo-rnn job logs {where} --follow   see what it prints\n"
            f"      evo-rnn job status {where}\n"
            f"      evo-rnn job stop {where}\n"
        )
    if code == 0:
        return f"{job} is done. Next: evo-rnn job logs {where}   read this again\n"
    again = " It may succeed when it is tried again: evo-rnn submit RUN --command resume." if code in (75, 143) else ""
    return f"{job} ended with exit code {code}.{again}\nNext: evo-rnn job logs {where}   read this again\n"
