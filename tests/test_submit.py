"""What `evo-rnn submit` and a join of a cluster refuse before anything is sent; and what they send."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evo_rnn.errors import ConfigError, RetryError
from evo_rnn.evaluation import ray_address, worker
from evo_rnn.safe_yaml import load_yaml
from trainers.commands import gateway, inspection, jobs, staging, submit
from trainers.commands.inspection import Head
from trainers.commands.request import Request

HEAD = Head("/usr/bin/python3", 8.0, here=False, tracking="", note="")
THERE = gateway.Gateway("http://h:8265", version("ray"), open=False)
TOKEN = "t" * 40


@dataclass
class Dashboard:
    """A stand-in for a cluster's dashboard.

    Args:
        url: where it listens.
        ray: the version that it tells.
        token: that it wants; empty if none.
        heard: the tokens that came.
    """

    url: str = ""
    ray: str = version("ray")
    token: str = ""
    heard: list[str] = field(default_factory=list)


@pytest.fixture
def dashboard() -> Iterator[Dashboard]:
    told = Dashboard()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            came = self.headers.get("Authorization", "").removeprefix("Bearer ")
            told.heard.append(came)
            right = not told.token or came == told.token
            body = json.dumps({"ray_version": told.ray} if "version" in self.path else []).encode()
            self.send_response(200 if right else 401 if not came else 403)
            self.end_headers()
            self.wfile.write(body if right else b"")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield told
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def nobodys_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "address", ["ray://h:10001", "h:8265", "h", "ftp://h", "http://", "http://u:p@h", "", "http://h:99999", "auto"]
)
def test_an_address_that_is_no_dashboard_is_refused_at_once(address: str) -> None:
    with pytest.raises(ConfigError, match=r"--address should be the URL of a Ray dashboard"):
        gateway.reach(address)


def test_an_address_without_its_scheme_is_corrected() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'http://h:8265'"):
        gateway.reach("h:8265")


def test_where_nobody_listens_one_tries_again_later() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(RetryError, match="should answer but does not"):
        gateway.reach(f"http://127.0.0.1:{port}")


def test_what_is_no_dashboard_is_told_from_one(dashboard: Dashboard) -> None:
    dashboard.ray = ""
    with pytest.raises(ConfigError, match="is something else"):
        gateway.reach(dashboard.url)


def test_another_ray_is_refused_with_the_cure(dashboard: Dashboard) -> None:
    dashboard.ray = "2.9.0"
    with pytest.raises(ConfigError, match=r"runs Ray 2\.9\.0, here is .*pip install ray==2\.9\.0"):
        gateway.reach(dashboard.url)


def test_a_token_is_asked_for_where_it_is_wanted_and_a_wrong_one_is_named(
    dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    dashboard.token = TOKEN
    with pytest.raises(ConfigError, match="wants a token but there is none here"):
        gateway.reach(dashboard.url)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "another")
    with pytest.raises(ConfigError, match="refuses the token"):
        gateway.reach(dashboard.url)
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    assert gateway.reach(dashboard.url) == gateway.Gateway(dashboard.url, version("ray"), open=False)


def test_a_cluster_that_is_open_to_everybody_is_refused_unless_forced_and_never_given_the_token(
    dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    monkeypatch.setattr(ray_address, "is_loopback", lambda _: False)
    with pytest.raises(ConfigError, match=r"anybody who reaches it can run code there.*--allow-unauthenticated"):
        gateway.reach(dashboard.url)
    assert dashboard.heard == [""]
    assert gateway.reach(dashboard.url, allow_unauthenticated=True).open
    monkeypatch.undo()
    assert gateway.reach(dashboard.url).open, "on the loopback it is this machine's own business"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("localhost", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),  # noqa: S104
        ("10.0.0.1", False),
        ("h", False),
        ("localhost.evil.org", False),
    ],
)
def test_the_loopback_is_known(host: str, loopback: bool) -> None:
    assert ray_address.is_loopback(host) == loopback


@pytest.mark.parametrize("address", ["ray://h:10001", "http://h:8265", "h", "h:0", "h:99999", "h:1:2", "", "h :1"])
def test_a_config_refuses_an_address_that_no_driver_could_join(address: str) -> None:
    with pytest.raises(ConfigError, match=r"compute\.address should be local, auto or HOST:PORT"):
        Request("sunspots", [f"compute.address={json.dumps(address)}"]).config()


def test_a_cluster_is_not_joined_without_a_token_unless_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[str, int]] = []

    def connect(where: tuple[str, int], *_: float) -> SimpleNamespace:
        called.append(where)
        return SimpleNamespace(close=lambda: None)

    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(ConfigError, match=r"should be joined with a token but there is none.*allow_unauthenticated"):
        ray_address.admit("10.0.0.1:6379", allow_unauthenticated=False)
    assert called == [], "nothing is sent before"
    ray_address.admit("10.0.0.1:6379", allow_unauthenticated=True)
    ray_address.admit("127.0.0.1:6379", allow_unauthenticated=False)
    (Path.home() / ".ray").mkdir()
    (Path.home() / ".ray" / "auth_token").write_text(TOKEN + "\n")
    ray_address.admit("10.0.0.1:6379", allow_unauthenticated=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(ConfigError, match="token"):
        ray_address.admit("10.0.0.1:6379", allow_unauthenticated=False)


def test_a_pool_hands_the_permission_on_and_reports_a_dead_head() -> None:
    from trainers.experiments.builders import compute_of

    asked = ["compute.allow_unauthenticated=true", "compute.workers=1", "compute.wire=seeds"]
    compute = compute_of(Request("sunspots", asked).config(), 1)
    assert compute.options["allow_unauthenticated"] is True
    assert compute.wire == "seeds"
    from evo_rnn.evaluation.ray_pool import RayPool

    with pytest.raises(ConfigError, match="token"), RayPool(1, address="192.0.2.9:6379") as pool:
        pool.submit("evo_rnn.evaluation.probe:pid", ())
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(RetryError, match="should answer"), RayPool(1, address=f"127.0.0.1:{port}") as pool:
        pool.submit("evo_rnn.evaluation.probe:pid", ())


def test_a_token_file_that_others_can_read_is_advised_against() -> None:
    path = ray_address.token_path()
    assert ray_address.advice() == ""
    path.parent.mkdir()
    path.write_text(TOKEN)
    path.chmod(0o644)
    assert f"chmod 600 {path}" in ray_address.advice()
    path.chmod(0o600)
    assert (ray_address.advice(), ray_address.token()) == ("", TOKEN)


SQLITE = "sqlite:////home/me/mlflow.db"


@pytest.mark.parametrize(
    ("uri", "refused"),
    [
        (SQLITE, "cannot write to the file /home/me/mlflow.db"),
        ("http://127.0.0.1:5000", "this machine's own"),
        ("http://localhost:5000", "this machine's own"),
    ],
)
def test_a_store_that_the_cluster_cannot_write_to_is_refused_unless_it_is_this_machine(uri: str, refused: str) -> None:
    with pytest.raises(ConfigError, match=f"{refused}.*tracking.uri=http://HOST:5000.*--allow-local-tracking"):
        submit.writable(uri, HEAD, allowed=False)
    here = Head("python3", 1.0, here=True, tracking="", note="")
    assert submit.writable(uri, here, allowed=False) == uri
    assert submit.writable(uri, HEAD, allowed=True) == ("sqlite:///mlflow.db" if uri == SQLITE else uri)


def test_a_server_that_the_head_does_not_reach_is_refused() -> None:
    deaf = Head("python3", 1.0, here=False, tracking="timed out", note="")
    with pytest.raises(ConfigError, match=r"does not reach the tracking server .*timed out"):
        submit.writable("http://mlflow:5000", deaf, allowed=False)
    assert submit.writable("http://mlflow:5000", HEAD, allowed=False) == "http://mlflow:5000"


def refused(request: Request, order: submit.Order, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        submit.submit(request, order, as_json=False)


def test_what_is_wrong_here_is_refused_before_the_cluster_is_asked(dashboard: Dashboard) -> None:
    order = submit.Order(dashboard.url)
    refused(Request("sunspots", ["model.hiden=3"]), order, "Did you mean 'model.hidden'")
    refused(Request("sunspots", workers=0), order, "compute.workers is 0")
    refused(Request("sunspots", ["tracking.uri=http://me:secret@h"]), order, "holds a password")
    refused(Request("sunspots"), submit.Order(dashboard.url, "train"), "--command should be one of run")
    assert dashboard.heard == []


def test_what_travels_is_the_config_and_the_data_alone(tmp_path: Path) -> None:
    for name in ("mlflow.db", ".env", "other.parquet"):
        (tmp_path / name).write_text("not for others")
    (tmp_path / ".git").mkdir()
    rows = "\n".join(f"{k},{k * 37 % 11}" for k in range(80))
    (tmp_path / "my data.csv").write_text(f"t,y\n{rows}\n")
    request = Request("my data.csv", target="y", method="ga")
    config = submit.prepared(request.config(), HEAD, "http://m:5000", THERE)
    (tmp_path / "parcel").mkdir()
    parcel = staging.pack(config, "my data.csv", tmp_path / "parcel", many=False)
    sent = sorted(str(path.relative_to(parcel.folder)) for path in parcel.folder.rglob("*") if path.is_file())
    place = Path(parcel.config).parent
    assert sent == [str(place / "my-data.csv"), str(place / "my-data.yaml")]
    there = load_yaml(parcel.folder / parcel.config)
    assert there["task"]["path"] == str(place / "my-data.csv")
    assert there["compute"] | {"address": "auto", "workers": 8, "allow_unauthenticated": False} == there["compute"]
    assert there["tracking"]["uri"] == "http://m:5000"
    (tmp_path / "again").mkdir()
    assert staging.pack(config, "my data.csv", tmp_path / "again", many=False).config == parcel.config
    (tmp_path / "my data.csv").write_text(f"t,y\n{rows}\n80,1\n")
    (tmp_path / "other").mkdir()
    assert staging.pack(config, "my data.csv", tmp_path / "other", many=False).config != parcel.config


def test_a_cluster_without_a_node_yet_wants_to_know_how_many_workers() -> None:
    empty = Head("python3", 0.0, here=False, tracking="", note="")
    with pytest.raises(ConfigError, match="--workers N"):
        submit.prepared(Request("sunspots").config(), empty, "http://m", THERE)
    assert submit.prepared(Request("sunspots", workers=3).config(), empty, "http://m", THERE).compute.workers == 3


def test_the_command_of_a_job_works_in_its_own_directory_and_passes_its_code_on(tmp_path: Path) -> None:
    (tmp_path / "inputs").mkdir()
    (tmp_path / "inputs" / "c.yaml").write_text("x")
    (tmp_path / "python").write_text('#!/bin/sh\npwd; ls inputs; echo "$3|$4"; exit 75\n')
    (tmp_path / "python").chmod(0o700)
    line = staging.command(str(tmp_path / "python"), "~/a job's", ["run", "a b;c"])
    done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=False, timeout=20)
    assert (done.returncode, done.stderr) == (75, "")
    assert done.stdout.splitlines() == [str(tmp_path / "a job's"), "c.yaml", "run|a b;c"]


class FakeJobs:
    """A cluster whose only job is the look at it."""

    def __init__(self, **found: Any) -> None:
        mine = {"python": "3.11.7", "executable": sys.executable, "source": "same", "root": "/r", "host": "other"}
        self.found = mine | {"versions": worker.versions(), "cpus": 4.0} | found

    def submit_job(self, entrypoint: str, submission_id: str) -> None:
        assert entrypoint.startswith(inspection.FIND_PYTHON)
        assert submission_id.startswith("evo-rnn-look-")

    def get_job_info(self, _: str) -> Any:
        return SimpleNamespace(status=SimpleNamespace(is_terminal=lambda: True), message="")

    def get_job_logs(self, _: str) -> str:
        kept = {key: value for key, value in self.found.items() if value is not None}
        return f"Ray says something\n{inspection.MARK}{json.dumps(kept)}\n"

    def delete_job(self, _: str) -> None:
        pass


@pytest.mark.parametrize(
    ("found", "kind", "why"),
    [
        ({"python": "3.10.1"}, ConfigError, r"runs Python 3\.10\.1, here is"),
        ({"source": None, "error": "ModuleNotFoundError: evo_rnn"}, ConfigError, "has no evo-rnn that works in"),
        ({"source": "0123"}, ConfigError, r"runs the source in /r \(0123\), here is"),
        ({"cpus": None, "error": "boom"}, RetryError, "cannot join it"),
    ],
)
def test_other_versions_there_are_refused(
    found: dict[str, Any], kind: type[Exception], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "source_hash", lambda _: "same")
    python = worker.versions().split(",")[0].removeprefix("Python ")
    assert inspection.inspect(FakeJobs(python=python), THERE).cpus == 4.0
    with pytest.raises(kind, match=why):
        inspection.inspect(FakeJobs(**{"python": python} | found), THERE)


def test_a_worker_with_other_libraries_is_refused() -> None:
    mine, root = worker.source_hash(worker.source_root()), str(worker.source_root())
    with pytest.raises(ConfigError, match=r"the driver Python 3\.11\.7, torch 1\.0.*install the same versions"):
        worker.RayWorker.hello(SimpleNamespace(), mine, root, "Python 3.11.7, torch 1.0")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "code", "passed"),
    [
        ("SUCCEEDED", 0, 0),
        ("FAILED", 2, 2),
        ("FAILED", 75, 75),
        ("FAILED", None, 75),
        ("FAILED", -9, 137),
        ("STOPPED", None, 143),
    ],
)
def test_the_exit_code_of_a_job_is_passed_on(status: str, code: int | None, passed: int) -> None:
    assert jobs.exit_code(SimpleNamespace(status=status, driver_exit_code=code)) == passed


def test_a_log_is_followed_whole_and_once_over_a_connection_that_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs.time, "sleep", lambda _: None)
    states = ["PENDING", "RUNNING", "RUNNING", "RUNNING", "FAILED"]
    texts = iter(
        ["", "Running entrypoint for job x\none\nt", "one broken", "Running entrypoint for job x\none\ntwo\nth"]
    )

    def log(_: str) -> str:
        if (text := next(texts, "")) == "one broken":
            raise ConnectionError("reset")
        return text or "Running entrypoint for job x\none\ntwo\nthree"

    def info(_: str) -> Any:
        state = states.pop(0)
        status = SimpleNamespace(is_terminal=lambda: state == "FAILED", __eq__=lambda *_: False)
        return SimpleNamespace(status=status, driver_exit_code=65)

    said: list[str] = []
    client = SimpleNamespace(get_job_info=info, get_job_logs=log)
    assert jobs.followed(client, THERE, "x", said.append) == 65
    assert "".join(said) == "one\ntwo\nthree"


def test_a_cluster_that_is_gone_for_a_minute_is_given_up_with_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 25))
    monkeypatch.setattr(jobs.time, "sleep", lambda _: None)
    monkeypatch.setattr(jobs.time, "monotonic", lambda: next(clock))

    def lost(_: str) -> Any:
        raise ConnectionError("gone")

    with pytest.raises(RetryError, match=r"does not answer any more.*evo-rnn job status x --address http://h:8265"):
        jobs.followed(SimpleNamespace(get_job_info=lost), THERE, "x", lambda _: None)


@pytest.mark.parametrize("words", [["submit", "--help"], ["job", "--help"], ["job", "logs", "--help"]])
def test_the_help_imports_nothing_heavy(words: list[str]) -> None:
    heavy = "('torch', 'ray', 'mlflow', 'pandas', 'numpy')"
    code = f"import sys; sys.argv[1:] = {words}; from trainers.cli import exit_code; code = exit_code()\n"
    code += f"print(code, [m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "0 []"


def test_the_command_line_gives_each_refusal_its_code(dashboard: Dashboard, call_cli: Callable[..., Any]) -> None:
    dashboard.token = TOKEN
    for words, code, why in (
        (["submit", "sunspots", "--address", "ray://h:1"], 2, "client protocol"),
        (["submit", "sunspots", "--address", dashboard.url], 2, "wants a token"),
        (["job", "status", "x", "--address", "http://127.0.0.1:1"], 75, "should answer but does not"),
    ):
        done = call_cli(*words)
        assert (done.returncode, done.stderr.count("\n"), why in done.stderr) == (code, 1, True), done.stderr


@pytest.fixture
def call_cli() -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "trainers.cli", *words]
        return subprocess.run(line, capture_output=True, text=True, check=False, timeout=100)

    return run
