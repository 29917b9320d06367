"""Which Ray cluster an address names, and whether it may be used: its form, its token, and whether anybody answers.

A cluster without a token runs whatever anybody sends who can reach it, so it is only used when it is on this machine's
loopback or when the user says so. Nothing here imports Ray before it must.
"""

from __future__ import annotations

import importlib
import ipaddress
import os
import re
import socket
import stat
from pathlib import Path
from typing import Any

from evo_rnn.errors import ConfigError, RetryError
from evo_rnn.local_file import quoted

AUTO = "auto"  # the cluster that this machine, or this job, is part of
PATIENCE = 5.0  # seconds that a connection may take
_FORM = re.compile(r"(?P<host>[\w.-]+|\[[0-9a-fA-F:.]+\]):(?P<port>\d{1,5})", re.ASCII)


def token_path() -> Path:
    """The file that Ray would read the token from."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()


def token() -> str:
    """The token that this user has for Ray clusters, as Ray looks for it; empty if none, or if it is turned off.

    Raises:
        ConfigError: the file that should hold it cannot be read.
    """
    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return ""
    if found := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return found
    path = token_path()
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        if "RAY_AUTH_TOKEN_PATH" in os.environ:
            raise ConfigError(f"RAY_AUTH_TOKEN_PATH should name a file but there is no {path}.") from None
        return ""
    except (OSError, ValueError) as error:
        raise ConfigError(f"the Ray token {path} should be a text file but cannot be read: {error}.") from None


def advice() -> str:
    """What to do about a token file that other users of this machine can use; Ray itself makes such ones."""
    path = token_path()
    if (
        os.environ.get("RAY_AUTH_TOKEN")
        or not path.is_file()
        or not path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    ):
        return ""
    return f"Other users of this machine can use the Ray token {path}. Close it: chmod 600 {path}"


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine reach `host`."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() in ("localhost", "localhost.localdomain", "ip6-localhost")


def host_and_port(address: str, name: str = "compute.address ") -> tuple[str, int]:
    """The two parts of HOST:PORT; `name` is what the message calls it.

    Raises:
        ConfigError: it is another kind of address, with the kind that is wanted.
    """
    form = _FORM.fullmatch(address)
    if form and 0 < int(form["port"]) < 65536:
        return form["host"].strip("[]"), int(form["port"])
    wanted = "should be local, auto or HOST:PORT of a Ray head (usually port 6379)"
    if address.startswith("ray://"):
        cure = " Ray's client protocol is not used: send the experiment there with evo-rnn submit."
    elif address.startswith(("http://", "https://")):
        cure = " That is a dashboard: send the experiment there with evo-rnn submit --address URL."
    else:
        cure = ""
    raise ConfigError(f"{name}{wanted} but is {quoted(address)}.{cure}")


def located(address: str) -> tuple[str, int]:
    """Where the head of the cluster is; "auto" is looked up as Ray does.

    Raises:
        ConfigError: it is no address.
        RetryError: "auto", and there is no cluster here.
    """
    if address != AUTO:
        return host_and_port(address)
    services: Any = importlib.import_module("ray._private.services")
    try:
        return host_and_port(services.canonicalize_bootstrap_address_or_die(AUTO))
    except ConnectionError:
        raise RetryError(
            "compute.address is auto but no Ray cluster runs here: start one with `ray start --head`, or use local"
        ) from None


def admit(address: str, *, allow_unauthenticated: bool) -> None:
    """Refuse a cluster that should not, or cannot, be joined; quickly, where Ray itself would try for long.

    Raises:
        ConfigError: the address is none, or there is no token for a cluster that is not on the loopback.
        RetryError: nobody answers there.
    """
    host, port = located(address)
    if not (is_loopback(host) or allow_unauthenticated or token()):
        raise ConfigError(
            f"the Ray cluster at {host}:{port} should be joined with a token but there is none: put the cluster's token "
            f"in {token_path()} (mode 600), or, where nobody else reaches it, set compute.allow_unauthenticated=true"
        )
    try:
        socket.create_connection((host, port), PATIENCE).close()
    except OSError as error:
        raise RetryError(
            f"the Ray cluster at {host}:{port} should answer but does not ({error}): start it, or check the address"
        ) from None
