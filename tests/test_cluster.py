"""Real clusters on one machine: two nodes, a job sent to them, a node killed half way, and the same result."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from evo_rnn.evaluation.worker import source_root

TOKEN = "0123456789abcdef" * 4
RAY = str(Path(sys.executable).parent / "ray")
SMALL = ("--num-cpus=1", "--object-store-memory=100000000")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def settings(home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
    ours = {"HOME": str(home), "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(source_root())}
    return kept | ours | {"MLFLOW_DISABLE_TELEMETRY": "true"} | more


@dataclass
class Nodes:
    """A cluster whose nodes are processes of ours, each with its own.

    Args:
        folder: short, for Ray's sockets.
        environment: of all nodes, and of who sends jobs.
        prefixes: before the command of each node; to start it elsewhere.
        heads: every node, the head first.
    """

    folder: Path
    environment: dict[str, str]
    prefixes: tuple[tuple[str, ...], ...] = ((), ())
    heads: list[subprocess.Popen[bytes]] = field(default_factory=list)
    url: str = ""

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        prefix = self.prefixes[len(self.heads)]
        log = (self.folder / f"node{len(self.heads)}.log").open("wb")
        with log:
            line = [*prefix, RAY, "start", "--block", *words]
            node = subprocess.Popen(
                line, cwd=self.folder, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        self.heads.append(node)
        return node

    def kill(self, index: int) -> None:
        """SIGKILL a node: its raylet, its workers, everything."""
        top = psutil.Process(self.heads[index].pid)
        for process in [top, *top.children(recursive=True)]:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self.heads[index].wait(10)

    def end(self) -> None:
        known = [p for node in self.heads if node.poll() is None for p in _family(node.pid)]
        for process in reversed(known):
            if process.is_running():
                process.kill()
        psutil.wait_procs(known, timeout=10)
        for node in self.heads:
            node.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)


def _family(pid: int) -> list[psutil.Process]:
    top = psutil.Process(pid)
    return [top, *top.children(recursive=True)]


def until(what: Callable[[], bool], seconds: float, why: str) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, why
        time.sleep(0.2)


def answers(url: str) -> bool:
    host, port = url.removeprefix("http://").split(":")
    try:
        socket.create_connection((host, int(port)), 1).close()
    except OSError:
        return False
    return True


@pytest.fixture
def two_nodes() -> Iterator[Nodes]:
    folder = Path(tempfile.mkdtemp(prefix="evc", dir="/tmp"))
    (folder / "home").mkdir()
    nodes = Nodes(folder, settings(folder / "home", RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN))
    try:
        port, web = free_port(), free_port()
        nodes.start(
            "--head",
            f"--port={port}",
            "--dashboard-host=127.0.0.1",
            f"--dashboard-port={web}",
            f"--dashboard-agent-listen-port={free_port()}",
            f"--temp-dir={folder / 't'}",
            *SMALL,
        )
        nodes.url = f"http://127.0.0.1:{web}"
        until(lambda: answers(nodes.url), 90, "the head does not start")
        log = folder / "node0.log"
        until(lambda: f":{port}'" in log.read_text(), 30, log.read_text())
        address = log.read_text().split(f":{port}'")[0].split("'")[-1] + f":{port}"
        nodes.start(f"--address={address}", *SMALL)
        until(lambda: "runtime started" in (folder / "node1.log").read_text(), 60, "the second node does not start")
        yield nodes
    finally:
        nodes.end()


def evo(nodes: Nodes, *words: str, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "trainers.cli", *words],
        cwd=nodes.folder / "home",
        env=nodes.environment | more,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str], seconds: float = 200) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err


def champion(nodes: Nodes, run: str) -> dict[str, Any]:
    code, out, err = finished(evo(nodes, "show", run, "--json"))
    assert code == 0, err
    return dict(json.loads(out))


JOB = ("sunspots", "method.population=256", "model.hidden=24", "budget.passes=120000", "compute.deadline=20")


def by_itself(nodes: Nodes) -> str:
    """The champion of the job, trained by one process without Ray."""
    code, out, err = finished(evo(nodes, "run", *JOB, "--workers", "0", "--json"), 400)
    assert code == 0, err
    return str(json.loads(out)["champion_sha256"])


@pytest.mark.ray
@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_a_submitted_job_survives_the_loss_of_a_node_and_finds_what_a_local_run_finds(two_nodes: Nodes) -> None:
    nodes = two_nodes
    expected = by_itself(nodes)
    code, out, err = finished(evo(nodes, "submit", *JOB, "--address", nodes.url, "--detach", "--json"))
    assert code == 0, err
    job = json.loads(out)["job_id"]
    following = evo(nodes, "job", "logs", job, "--follow", "--address", nodes.url)
    second = nodes.heads[1].pid

    def at_work() -> bool:
        names = [(p.info["cmdline"] or [""])[0] for p in psutil.Process(second).children(recursive=True) if _seen(p)]
        return any("RayWorker.call" in name for name in names)

    until(at_work, 90, "no worker on the second node")
    time.sleep(3.0)
    assert finished(evo(nodes, "job", "status", job, "--address", nodes.url))[1].startswith(f"{job}: running")
    nodes.kill(1)
    code, out, err = finished(following, 300)
    assert (code, "Made: 1 run" in out) == (0, True), out + err
    found = champion(nodes, "latest")
    assert found["champion_sha256"] == expected
    assert "exit code 0" in finished(evo(nodes, "job", "status", job, "--address", nodes.url))[1]


def _seen(process: psutil.Process) -> bool:
    try:
        process.info = {"cmdline": process.cmdline()}  # type: ignore[attr-defined]
    except psutil.Error:
        return False
    return True


@pytest.mark.ray
@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_a_job_is_stopped_and_resumed_and_other_source_or_no_token_is_refused(two_nodes: Nodes) -> None:
    nodes = two_nodes
    code, out, err = finished(evo(nodes, "submit", *JOB, "--address", nodes.url, "--detach"))
    assert code == 0, err
    job = out.split(" as ")[1].split()[0]
    until(lambda: "running" in finished(evo(nodes, "list", "runs"))[1], 120, "the run is not written down")
    time.sleep(3.0)
    assert f"{job}: stopped" in finished(evo(nodes, "job", "stop", job, "--address", nodes.url))[1]
    assert finished(evo(nodes, "job", "logs", job, "--follow", "--address", nodes.url))[0] == 143
    assert "killed" in finished(evo(nodes, "list", "runs"))[1]
    code, out, err = finished(evo(nodes, "submit", "latest", "--command", "resume", "--address", nodes.url))
    assert (code, "Made: 1 run" in out) == (0, True), out + err
    found = champion(nodes, "latest")["champion_sha256"]
    assert found == by_itself(nodes)
    assert finished(evo(nodes, "job", "stop", "nobody", "--address", nodes.url))[0] == 2
    code, _, err = finished(evo(nodes, "submit", "sunspots", "--address", nodes.url, RAY_AUTH_TOKEN="0" * 64))
    assert (code, "refuses the token" in err, err.count("\n")) == (2, True, 1)
    code, out, err = finished(
        evo(nodes, "submit", "sunspots", "budget.passes=10", "tracking.uri=http://127.0.0.1:1", "--address", nodes.url)
    )
    assert (code, "does not reach" in err or "cannot reach" in err) == (2, True), err
    other = nodes.folder / "other"
    for floor in ("evo_rnn", "populations", "trainers"):
        shutil.copytree(source_root() / floor, other / floor)
    with (other / "evo_rnn" / "errors.py").open("a") as file:
        file.write("# other\n")
    code, _, err = finished(evo(nodes, "submit", "sunspots", "--address", nodes.url, PYTHONPATH=str(other)))
    assert (code, "runs the source in" in err, str(other) in err) == (2, True, True), err


BODY = """
    import sys, time
    import numpy as np
    from ray.cluster_utils import Cluster
    from evo_rnn.cells import Elman
    from evo_rnn.evaluation.evaluator import LocalEvaluator
    from evo_rnn.evaluation.ray_evaluator import RayEvaluator
    from evo_rnn.network import network
    from evo_rnn.tasks import TASKS

    small = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args=small | {"include_dashboard": False})
    second = cluster.add_node(**small)
    task = TASKS["sunspots"]()
    model = network(Elman(task.inputs, 5), task.outputs)
    local = LocalEvaluator(model, task.train)
    genes = model.layout.draw(np.random.default_rng(0), 4 * local.block)  # a block is never cut: both have some
    expected = local(genes)
    options = {"address": cluster.address, "allow_unauthenticated": True, "deadline": 10.0}
    evaluator = RayEvaluator(model, task.train, workers=2, **options)
    print((evaluator(genes) == expected).all())
    while any(worker.state == "starting" for worker in evaluator.pool.workers):
        evaluator(genes)  # the first does it all before the second has started
    import ray
    print(len({each["NodeID"] for each in ray.nodes() if each["Alive"]}))
    cluster.remove_node(second, allow_graceful=False)
    evaluator.pool._startup_deadline = 5.0
    same, until = True, time.monotonic() + 30  # its worker may live on for a moment, and answer
    while same and not evaluator.pool.events["replaced"] and time.monotonic() < until:
        same = (evaluator(genes) == expected).all()
    print(same, evaluator.pool.events["replaced"] > 0)
    evaluator.close()
    cluster.shutdown()
"""


@pytest.mark.ray
def test_two_nodes_give_the_losses_of_one_process_also_when_one_of_them_is_lost(tmp_path: Path) -> None:
    driver = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(BODY)],
        cwd=tmp_path,
        env=settings(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = driver.communicate(timeout=120)
    finally:
        if driver.poll() is None:
            os.killpg(driver.pid, signal.SIGKILL)
    assert out.splitlines() == ["True", "2", "True True"], out + err[-3000:]


def namespaces() -> str:
    """Why no two network namespaces can be made here; empty if they can."""
    if not shutil.which("ip"):
        return "there is no program ip"
    probe = "ip netns add evoprobe && ip netns del evoprobe"
    done = subprocess.run(["/bin/sh", "-c", probe], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else f"no network namespaces here: {done.stderr.strip()}"


NETWORK = """
ip netns add evoA && ip netns add evoB && ip link add evA type veth peer name evB
ip link set evA netns evoA && ip link set evB netns evoB
for x in A:1 B:2; do n=${x%:*}; i=${x#*:}
ip -n evo$n addr add 10.77.0.$i/24 dev ev$n; ip -n evo$n link set ev$n up; ip -n evo$n link set lo up; done
"""


@pytest.mark.ray
@pytest.mark.nightly
@pytest.mark.timeout(300)
def test_two_nodes_with_addresses_of_their_own_share_the_work() -> None:
    if reason := namespaces():
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="evc", dir="/tmp"))
    (folder / "home").mkdir()
    inside = tuple(("ip", "netns", "exec", name) for name in ("evoA", "evoB"))
    nodes = Nodes(folder, settings(folder / "home", RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN), inside)
    try:
        subprocess.run(["/bin/sh", "-ec", NETWORK], check=True)
        nodes.start("--head", "--node-ip-address=10.77.0.1", "--port=6399", f"--temp-dir={folder / 't'}", *SMALL)
        until(lambda: "runtime started" in (folder / "node0.log").read_text(), 60, "the head does not start")
        nodes.start("--address=10.77.0.1:6399", "--node-ip-address=10.77.0.2", *SMALL)
        until(lambda: "runtime started" in (folder / "node1.log").read_text(), 60, "the second node does not start")
        words = ["run", *JOB[:2], "budget.passes=20000", "--json"]
        code, out, err = finished(evo(nodes, *words, "--workers", "0"))
        assert code == 0, err
        program = [*inside[0], sys.executable, "-m", "trainers.cli", *words, "--workers", "2"]
        done = subprocess.run(
            [*program, "compute.address=10.77.0.1:6399", "compute.startup_deadline=60"],
            cwd=folder / "home",
            env=nodes.environment,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["champion_sha256"] == json.loads(out)["champion_sha256"]
        bare = {name: value for name, value in nodes.environment.items() if not name.startswith("RAY_AUTH")}
        done = subprocess.run(
            [*program, "compute.address=10.77.0.1:6399"],
            cwd=folder / "home",
            env=bare,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert (done.returncode, "should be joined with a token" in done.stderr) == (2, True), done.stderr
    finally:
        nodes.end()
        for name in ("evoA", "evoB"):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
