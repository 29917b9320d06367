"""The light MLflow server, and what a person sees in its UI, in a real browser."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import math
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from evo_rnn.errors import ConfigError, RetryError
from evo_rnn.tracking import MlflowTracker, deep_link, open_client, serve, write_view
from evo_rnn.tracking.saved_view import view_state

# MLflow 3.17 on SQLAlchemy 2.1.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")

NewStore = Callable[[], str]

METHODS = {"ga": (0.05, "#8a63bf"), "bptt": (0.12, "#b5508f"), "memetic": (0.2, "#308613")}  # speed, colour
NOTE = "## GA vs gradient descent\n\n| method | test loss |\n|---|---|\n| memetic | **0.13** |\n"
PARENT = "compare sunspots - ga, bptt, memetic - 2 seeds"


def comparison(uri: str) -> str:
    """Write a small comparison, one parent and three methods with two seeds, and return the experiment's id."""
    tracker = MlflowTracker("sunspots", uri)
    parent = tracker.start(PARENT, params={"task": "sunspots"}, tags={"evo.kind": "comparison"})
    tracker.tag(parent, {"mlflow.note.content": NOTE})
    for method, (speed, colour) in METHODS.items():
        for seed in range(2):
            trial(tracker, parent, method, seed, speed, colour)
    tracker.finish(parent)
    assert tracker.with_client(lambda client: write_view(client, tracker.experiment_id))
    tracker.close()
    return tracker.experiment_id


def trial(tracker: MlflowTracker, parent: str, method: str, seed: int, speed: float, colour: str) -> None:
    """One child run, with curves like those of a real one."""
    tags = {"evo.kind": "trial", "mlflow.runColor": colour}
    run = tracker.start(
        f"{method} - elman - seed {seed}", params={"method": method, "seed": seed}, tags=tags, parent=parent
    )
    for step in range(0, 2001, 50):
        loss = 0.13 + 0.02 * seed + 0.87 * math.exp(-speed * step / 50)
        numbers = {"train/loss": loss - 0.02, "validation/loss": loss, "budget/seconds": step * (0.002 + 0.001 * speed)}
        if method != "bptt":
            numbers["population/diversity"] = math.exp(-speed * step / 200)
        tracker.log(run, numbers, step)
    tracker.log(run, {"final/test_loss": loss + 0.01, "final/seconds": 4.0 + 10 * speed}, 2000)
    tracker.finish(run)


def chromium() -> str:
    names = ("chromium", "chromium-browser", "google-chrome")
    found = [path for name in names if (path := shutil.which(name))]
    if not found:
        pytest.skip(f"no Chromium on the PATH; looked for {', '.join(names)}")
    return found[0]


QUIET = "quic background-networking component-update sync gpu"
FLAGS = ["--no-sandbox", "--no-first-run", *(f"--disable-{what}" for what in QUIET.split())]
# The assistant takes a quarter of the page on a first visit, and the banner one of the two rows of charts.
IN_THE_WAY = ("mlflow.assistant.chat_panel.close", "mlflow.experiment_page.shared_view.dismiss")


def look(address: str, picture: Path) -> dict[str, int]:
    """Open the address as a person would, take a picture, and count what it shows."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium(), args=FLAGS)
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.goto(address, timeout=120_000)
        page.wait_for_selector("text=Group: memetic", timeout=120_000)
        page.wait_for_selector(".barlayer .point", timeout=60_000)
        for button in IN_THE_WAY:
            for closes in page.locator(f"[data-component-id='{button}']").all():
                closes.click()
        page.wait_for_function("document.querySelectorAll('.scatterlayer .js-line').length >= 6", timeout=60_000)
        page.wait_for_timeout(2000)  # the charts take their new width
        seen = {method: page.locator(f"text=Group: {method}").count() for method in METHODS}
        seen |= {
            "lines": page.locator(".scatterlayer .js-line").count(),
            "bars": page.locator(".barlayer .point").count(),
        }
        page.screenshot(path=picture)
        browser.close()
    return seen


@pytest.mark.browser
def test_the_saved_view_opens_grouped_by_method(new_store: NewStore, tmp_path: Path) -> None:
    chromium()
    uri = new_store()
    experiment_id = comparison(uri)
    picture = Path(os.environ.get("EVO_RNN_SCREENSHOT", "") or tmp_path / "ui.png")
    with serve(uri, deadline=240) as server:
        seen = look(deep_link(server.url, experiment_id), picture)
    assert [seen[method] for method in METHODS] == [1, 1, 1]
    assert seen["lines"] >= 6  # three methods in two charts
    assert seen["bars"] >= 6  # and in two
    assert picture.stat().st_size > 20_000


def test_the_saved_view_is_in_the_form_that_mlflow_3_17_reads(new_store: NewStore) -> None:
    client = open_client(new_store())
    experiment_id = client.create_experiment("demo")
    assert write_view(
        client, experiment_id, "my-key", "My name", headline=["a/loss"], bars=["b"], population=[], folded=["ga"]
    )
    value = json.loads(client.get_experiment(experiment_id).tags["mlflow.sharedViewState.my-key"])
    assert set(value) == {"name", "createdAt", "updatedAt", "state"}
    assert value["name"] == "My name"
    packed = value["state"].removeprefix("deflate;")
    state = json.loads(zlib.decompress(base64.b64decode(packed)))
    assert state == view_state(["a/loss"], ["b"], [], folded=["ga"])
    assert state["groupBy"]["groupByKeys"] == [{"mode": "param", "groupByData": "method"}]
    assert state["groupsExpanded"] == {"param.method.ga": False}
    assert state["searchFilter"] == "tags.`evo.kind` = 'trial'"
    charts = [(chart["type"], chart["metricKey"], chart.get("scaleType")) for chart in state["compareRunCharts"]]
    assert charts == [("LINE", "a/loss", "log"), ("BAR", "b", None)]
    assert [section["name"] for section in state["compareRunSections"]] == ["Headline"]


def test_a_view_that_cannot_be_written_costs_nothing() -> None:
    assert not write_view(None, "1")  # type: ignore[arg-type]


# the server ------------------------------------------------------------------------------------------------------


def stored_steps(uri: str) -> list[int]:
    with contextlib.closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as database:
        return sorted(step for (step,) in database.execute("select step from metrics").fetchall())


def test_a_real_server_that_comes_late_and_is_killed_gets_every_step_once(new_store: NewStore) -> None:
    uri = new_store()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    tracker = MlflowTracker("demo", f"http://127.0.0.1:{port}")
    run = tracker.start("ga", params={"seed": 1}, tags={})
    log = (tracker.log(run, {"train/loss": 1.0 / (step + 1)}, step) for step in range(60))
    list(itertools.islice(log, 20))
    with serve(uri, port, deadline=240) as server:
        assert server.url == f"http://127.0.0.1:{port}"
        assert tracker.with_client(lambda client: client.set_tag(tracker.mlflow_run_id(run), "seen", "yes"))
        assert stored_steps(uri) == list(range(20))
        list(itertools.islice(log, 20))
        time.sleep(0.3)  # a delivery may be under way
        os.killpg(server.process.pid, signal.SIGKILL)
    list(log)
    with serve(uri, port, deadline=240):
        tracker.finish(run)
        tracker.close()
    assert stored_steps(uri) == list(range(60))
    (row,) = open_client(uri).search_runs([tracker.experiment_id])
    assert (row.info.status, row.data.tags["seen"]) == ("FINISHED", "yes")


GROUP = """
import sys
from pathlib import Path
from evo_rnn.tracking.server import _free_port, _start
server = _start(sys.argv[1], _free_port(0), Path("log"))
print(server.process.pid, flush=True)
sys.stdin.read()
"""


def group(leader: int) -> list[int]:
    """The living processes of a group."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.Error):
            if os.getpgid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def test_the_server_dies_with_a_program_that_is_killed(new_store: NewStore) -> None:
    command = [sys.executable, "-c", GROUP, new_store()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        leader = int(owner.stdout.readline())
        assert group(leader)
        owner.kill()
    end = time.monotonic() + 30
    while (left := group(leader)) and time.monotonic() < end:
        time.sleep(0.1)
    for pid in left:  # a failing test must not leave a server either
        os.kill(pid, signal.SIGKILL)
    assert not left


def test_a_server_that_cannot_start_says_why_and_leaves_nothing(new_store: NewStore) -> None:
    uri = new_store()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="port should be free"), serve(uri, taken.getsockname()[1]):
            pass
    with pytest.raises(ConfigError, match="is a server: open it"), serve("http://me:secret@127.0.0.1:1"):
        pass
    children = set(psutil.Process().children(recursive=True))
    with pytest.raises(RetryError, match=r"should answer within 0\.1 s"), serve(uri, deadline=0.1):
        pass
    assert set(psutil.Process().children(recursive=True)) <= children
