"""A small MLflow server in this process, as far as our tracker needs one, that can fall ill in every way."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
import uuid
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

MODES = ("refuse", "black hole", "500", "429", "slow", "dies after the commit")
SLOW, HOLE = 3.0, 8.0  # seconds
Answer = dict[str, Any]


class Metrics:
    """What the server has stored. A number is stored under (name, time, step, value), as MLflow does it."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.lock = threading.Lock()

    def answer(self, path: str, body: Answer) -> Answer:
        """Do what a request asks for."""
        name = path.rpartition("mlflow/")[2].replace("/", "_").replace("-", "_")
        with self.lock:
            found: Answer = getattr(self, f"do_{name}")(body)
            return found

    def do_experiments_get_by_name(self, body: Answer) -> Answer:
        """There is one, and it has every name."""
        name = str(body.get("experiment_name", "demo"))
        return {"experiment": {"experiment_id": "1", "name": name, "lifecycle_stage": "active", "tags": []}}

    def do_experiments_set_experiment_tag(self, body: Answer) -> Answer:  # noqa: ARG002
        """Nothing is kept."""
        return {}

    def do_runs_search(self, body: Answer) -> Answer:
        """By our own tag, or those that run."""
        wanted = str(body.get("filter", ""))
        if "evo.run" in wanted:
            key = wanted.partition("'")[2].rstrip("'")
            rows = [run for run in self.runs.values() if run["tags"].get("evo.run") == key]
        else:
            rows = [run for run in self.runs.values() if run["status"] == "RUNNING" and run["tags"].get("evo.lock")]
        return {"runs": [_shown(run) for run in rows]}

    def do_runs_create(self, body: Answer) -> Answer:
        """A new run."""
        run = {"id": uuid.uuid4().hex, "status": "RUNNING", "tags": {}, "params": {}, "metrics": Counter(), "end": 0}
        run["tags"] = {tag["key"]: tag["value"] for tag in body.get("tags", [])}
        self.runs[str(run["id"])] = run
        return {"run": _shown(run)}

    def do_runs_log_batch(self, body: Answer) -> Answer:
        """Numbers, parameters and tags, all or none."""
        run = self.runs[body["run_id"]]
        for row in body.get("metrics", []):
            run["metrics"][(row["key"], int(row["timestamp"]), int(row["step"]), float(row["value"]))] = 1
        run["params"] |= {row["key"]: row["value"] for row in body.get("params", [])}
        run["tags"] |= {row["key"]: row["value"] for row in body.get("tags", [])}
        return {}

    def do_runs_set_tag(self, body: Answer) -> Answer:
        """One tag."""
        self.runs[body["run_id"]]["tags"][body["key"]] = body["value"]
        return {}

    def do_runs_update(self, body: Answer) -> Answer:
        """Another status."""
        run = self.runs[body["run_id"]]
        run["status"] = body.get("status", run["status"])
        return {"run_info": _shown(run)["info"]}


def _shown(run: dict[str, Any]) -> Answer:
    tags = [{"key": key, "value": value} for key, value in run["tags"].items()]
    info = {"run_id": run["id"], "run_uuid": run["id"], "experiment_id": "1", "status": run["status"],
            "lifecycle_stage": "active", "start_time": 1, "artifact_uri": "x"}  # fmt: skip
    return {"info": info, "data": {"tags": tags, "params": [], "metrics": []}}


class Handler(BaseHTTPRequestHandler):
    """One request; the server's `mode` says what becomes of it."""

    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        """Answer, or fall ill."""
        server: Any = self.server
        parts, mode = urlsplit(self.path), server.mode
        server.asked[mode or "well"] += 1
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.loads(text) if text else {key: each[0] for key, each in parse_qs(parts.query).items()}
        if mode == "black hole":
            server.over.wait(HOLE)
            return
        if mode in ("500", "429"):
            self._say(int(mode), b"<html>not now")
            return
        if mode == "slow":
            time.sleep(SLOW)
        answer = json.dumps(server.store.answer(parts.path, body)).encode()
        if mode == "dies after the commit":
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self._say(200, answer)

    do_POST = do_PATCH = do_GET

    def _say(self, status: int, body: bytes) -> None:
        with contextlib.suppress(OSError):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """The server: `mode` is how it is ill, empty while it is well."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int = 0, store: Metrics | None = None) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.store = store or Metrics()
        self.mode, self.asked, self.over = "", Counter[str](), threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def handle_error(self, *_: object) -> None:
        """A client that has gone away is no news."""

    def end(self) -> None:
        """Close the port: from now on connections are refused."""
        self.over.set()
        self.shutdown()
        self._thread.join()
        self.server_close()
