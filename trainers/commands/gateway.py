"""The door of a Ray cluster's job server: who answers there, whether it may be used, and its errors in our words.

The first look is taken with the standard library alone, so that a wrong address is known before anything is imported.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any
from urllib.parse import SplitResult, urlsplit

from evo_rnn.errors import ConfigError, RetryError
from evo_rnn.evaluation import ray_address
from evo_rnn.local_file import quoted

DASHBOARD = "http://127.0.0.1:8265"
PATIENCE = 30.0  # seconds that the job server may take for an answer
CHATTY = ("ray.dashboard.modules.job.sdk", "ray.dashboard.modules.dashboard_sdk", "ray._private.runtime_env.packaging")


@dataclass(frozen=True)
class Gateway:
    """A job server that answers.

    Args:
        url: without a slash at its end.
        ray: the version of Ray there.
        open: whether it wants no token.
    """

    url: str
    ray: str
    open: bool


def reach(address: str, *, allow_unauthenticated: bool = False) -> Gateway:
    """Look who answers at `address`.

    Raises:
        ConfigError: the address is no URL of a job server, the token is refused, there is none where one is wanted, or
            the cluster runs another Ray.
        RetryError: nobody answers.
    """
    parts = _parts(address)
    url = parts.geturl()
    status = _get(parts, "/api/jobs/", "")[0]
    if status == 200 and not (ray_address.is_loopback(parts.hostname or "") or allow_unauthenticated):
        raise ConfigError(
            f"the cluster {url} should want a token but anybody who reaches it can run code there: start it with "
            "RAY_AUTH_MODE=token, or, where nobody else reaches it, add --allow-unauthenticated"
        )
    token = ray_address.token()
    if status in (401, 403) and not token:
        raise ConfigError(
            f"the cluster {url} wants a token but there is none here: copy the cluster's to {ray_address.token_path()} "
            "(mode 600), or set RAY_AUTH_TOKEN"
        )
    told, body = _get(parts, "/api/version", token)
    if told in (401, 403):
        raise ConfigError(f"the cluster {url} refuses the token: {_its_own()}")
    ray = _ray_of(body) if told == 200 and status in (200, 401, 403) else ""
    if not ray:
        raise ConfigError(
            f"--address should be the URL of a Ray dashboard (usually port 8265) but at {url} is something else"
        )
    if ray != version("ray"):
        raise ConfigError(
            f"the cluster {url} runs Ray {ray}, here is Ray {version('ray')}: install the same, pip install ray=={ray}"
        )
    return Gateway(url, ray, status == 200)


def _parts(address: str) -> SplitResult:
    wanted = "--address should be the URL of a Ray dashboard, for example http://127.0.0.1:8265,"
    if address.startswith("ray://"):
        raise ConfigError(f"{wanted} but is {quoted(address)}: Ray's client protocol is not used, jobs go by http.")
    text = address.rstrip("/")
    if re.fullmatch(r"[\w.-]+(:\d+)?", text, re.ASCII):
        raise ConfigError(f"{wanted} but is {quoted(address)}. Did you mean 'http://{text}'?")
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ConfigError(f"{wanted} but is {quoted(address)}.") from None
    if parts.scheme not in ("http", "https") or not host or "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError(f"{wanted} but is {quoted(address)}.")
    return parts


def _get(parts: SplitResult, path: str, token: str) -> tuple[int, bytes]:
    """Status and body of a request that follows no redirection, so that a token goes nowhere else."""
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=PATIENCE)
    try:
        connection.timeout = ray_address.PATIENCE
        connection.connect()
        connection.sock.settimeout(PATIENCE)
        connection.request("GET", parts.path + path, headers={"Authorization": f"Bearer {token}"} if token else {})
        answer = connection.getresponse()
        return answer.status, answer.read(2**20)
    except (OSError, http.client.HTTPException) as error:
        raise RetryError(
            f"the cluster {parts.geturl()} should answer but does not ({error or type(error).__name__}): start it, check "
            "the address, or open its tunnel again"
        ) from None
    finally:
        connection.close()


def _ray_of(body: bytes) -> str:
    try:
        return str(json.loads(body)["ray_version"])
    except (ValueError, KeyError, TypeError):
        return ""


def _its_own() -> str:
    return f"put the cluster's own in {ray_address.token_path()} (mode 600), or set RAY_AUTH_TOKEN"


def client(gateway: Gateway) -> Any:  # noqa: ANN401 (Ray's own)
    """Ray's client of the job server; every request of it ends, one way or the other."""
    from ray.job_submission import JobSubmissionClient

    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    token = ray_address.token()
    with answers(gateway), _undirected():
        jobs = JobSubmissionClient(gateway.url, headers={"Authorization": f"Bearer {token}"} if token else {})
    jobs._do_request = functools.partial(jobs._do_request, timeout=PATIENCE)
    return jobs


@contextlib.contextmanager
def _undirected() -> Iterator[None]:
    """Without the variables that Ray would heed over the address that the user gave."""
    names = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(before)


@contextlib.contextmanager
def answers(gateway: Gateway, job: str = "") -> Iterator[None]:
    """Within the block, what the job server or the way to it does wrong is said in our words.

    Raises:
        ConfigError: the token is refused, or there is no such job.
        RetryError: anything else.
    """
    import requests
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError:
        raise ConfigError(f"the cluster {gateway.url} refuses the token: {_its_own()}") from None
    except (requests.RequestException, ConnectionError) as error:
        line = " ".join(str(error).split())[:160]
        raise RetryError(f"the cluster {gateway.url} does not answer any more ({line})") from None
    except RuntimeError as error:
        if "status code 404" in str(error) and job:
            raise ConfigError(
                f"the cluster {gateway.url} has no job {quoted(job)}. See: evo-rnn job list --address {gateway.url}"
            ) from None
        line = " ".join(str(error).split())[:200]
        raise RetryError(f"the cluster {gateway.url} refuses what it was asked ({line})") from None
