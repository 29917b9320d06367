"""A light MLflow server for the UI, on this machine only, that never outlives the program that started it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from evo_rnn.errors import ConfigError, RetryError
from evo_rnn.tracking.store import is_remote, public, quieten, tracking_uri

HOST = "127.0.0.1"
# The shell starts the server and, beside it, waits for the end of its input, which is a pipe from us that nobody writes
# to. The pipe ends when we close it or die, however we die; then the whole process group is told to stop.
GUARD = 'exec 3<&0; (read -r _ <&3; kill -TERM 0) & exec "$@" 3<&- </dev/null'


@dataclass(frozen=True)
class Server:
    """A running server."""

    url: str
    process: subprocess.Popen[bytes]

    def stop(self, timeout: float = 5.0) -> None:
        """Stop the server and its children, politely at first, and wait until all are gone."""
        if self.process.stdin:
            self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout)
        end = time.monotonic() + timeout
        with contextlib.suppress(ProcessLookupError, PermissionError):  # raised once the group has no member
            while time.monotonic() < end:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.poll()
                time.sleep(0.02)


@contextlib.contextmanager
def serve(uri: str = "", port: int = 0, deadline: float = 60.0) -> Iterator[Server]:
    """Serve MLflow's UI for a store, within a `with` block: 2 processes and 0.5 GB; MLflow's default is 15 and 2.5 GB.

    Args:
        uri: the store; by default the one that a tracker would choose.
        port: of 127.0.0.1; 0 takes a free one.
        deadline: seconds until the server must answer (about 7 on a quiet machine).

    Raises:
        ConfigError: the port is taken, or `uri` is a server already.
        RetryError: the server did not answer in time, or ended.
    """
    store = tracking_uri(uri)
    if is_remote(store):
        raise ConfigError(f"the store to serve should be a database, but {public(store)} is a server: open it instead.")
    quieten()
    with tempfile.TemporaryDirectory(prefix="evo-rnn-ui-") as directory:
        log = Path(directory) / "log"
        server = _start(store, _free_port(port), log)
        try:
            _wait_until_healthy(server, deadline, log)
            yield server
        finally:
            server.stop()


def _free_port(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ConfigError(f"port should be free but {port} cannot be used: {error}. Use 0 for any.") from error
        return int(probe.getsockname()[1])


def _start(store: str, port: int, log: Path) -> Server:
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", store]
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603
            ["/bin/sh", "-c", GUARD, "sh", *command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            start_new_session=True,
        )
    return Server(f"http://{HOST}:{port}", process)


def _wait_until_healthy(server: Server, deadline: float, log: Path) -> None:
    end = time.monotonic() + deadline
    while time.monotonic() < end and server.process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{server.url}/health", timeout=5) as answer:  # noqa: S310
            if answer.status == 200:
                return
        time.sleep(0.1)
    text = (log.read_text(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
    raise RetryError(f"MLflow's server should answer within {deadline:g} s but did not: {text}. Try again.")
