"""`evo-rnn list`, `show` and `ui`: what there is to choose from, what was made, and MLflow's own pages."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evo_rnn.errors import ConfigError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

KINDS = ("models", "algorithms", "estimators", "methods", "tasks", "losses", "experiments", "runs")


def listed(kind: str, *, as_json: bool) -> None:
    """Print everything of one kind."""
    rows = entries(kind)
    if as_json:
        print(json.dumps(rows))
        return
    width = max((len(str(row["name"])) for row in rows), default=0)
    for row in rows:
        rest = "  ".join(
            f"{value}" if key == "about" else f"{key} {value}" for key, value in row.items() if key != "name"
        )
        sys.stdout.write(f"{row['name']:<{width}}  {rest}\n")
    if not rows:
        sys.stdout.write(f"no {kind} yet\n")


def entries(kind: str) -> list[dict[str, Any]]:
    """One mapping with `name` for each thing of a kind.

    Raises:
        ConfigError: if there is no such kind.
    """
    if kind not in KINDS:
        raise ConfigError(f"KIND should be one of {', '.join(KINDS)} but is {kind!r}.")
    if kind == "runs":
        return [_row(run) for run in _runs(_client())]
    return [{"name": name, **about} for name, about in _registry(kind).items()]


def _registry(kind: str) -> dict[str, dict[str, Any]]:
    if kind == "estimators":
        from trainers.gradient import ESTIMATORS

        return {name: {"exact": each.exact, "about": _first_line(each)} for name, each in ESTIMATORS.items()}
    if kind == "methods":
        from trainers.experiments.methods import METHODS

        return {name: {"family": each.family, "about": each.summary} for name, each in METHODS.items()}
    if kind == "tasks":
        from evo_rnn.tasks import TASKS

        return {name: {"about": _first_line(each.make)} for name, each in TASKS.items()}
    if kind == "losses":
        from evo_rnn.fitness import LOSSES

        return {name: {"classes": each.classes, "causal": each.causal} for name, each in LOSSES.items()}
    if kind == "experiments":
        from trainers.experiments.named import NAMED

        return {name: {"about": "compares " + ", ".join(each["methods"])} for name, each in NAMED.items()}
    from evo_rnn.cells import CELLS
    from populations.algorithms import ALGORITHMS

    known: dict[str, Any] = dict(CELLS) if kind == "models" else dict(ALGORITHMS)
    return {name: {"about": _first_line(each)} for name, each in known.items()}


def _first_line(thing: object) -> str:
    return (thing.__doc__ or "").strip().splitlines()[0]


def show(name: str, *, as_json: bool) -> None:
    """Print the result of a run, or the report of a comparison."""
    client = _client()
    run = find(client, name)
    comparison = run.data.tags.get("evo.kind") == "comparison"
    with tempfile.TemporaryDirectory() as folder:
        wanted = "summary.json" if comparison else "result.json"
        data = json.loads(_artifact(client, run, wanted, folder)) if _has(client, run, wanted) else {}
        report = _artifact(client, run, "report.md", folder) if comparison and _has(client, run, "report.md") else ""
    whole = {"run_id": run.info.run_id, "experiment_id": run.info.experiment_id, "name": run.info.run_name}
    whole |= {"status": run.info.status, "stop_reason": run.data.tags.get("evo.stop_reason", "")}
    whole |= {key: value for key, value in data.items() if key not in ("status",)}
    if as_json:
        print(json.dumps(whole))
        return
    from rich.console import Console
    from rich.markdown import Markdown

    screen = Console()
    screen.print(f"[bold]{run.info.run_name}[/]  {run.info.status}  {run.info.run_id}", highlight=False)
    if report:
        screen.print(Markdown(report))
        return
    for key, value in sorted(whole.items()):
        screen.print(f"{key:<22}{value}", highlight=False)


def find(client: MlflowClient, name: str) -> Run:
    """The run with this id, beginning of an id, or name; `latest` is the newest.

    Raises:
        ConfigError: if there is none, or more than one.
    """
    runs = _runs(client)
    if name == "latest" and runs:
        return runs[0]
    found = [run for run in runs if run.info.run_id.startswith(name)] or [r for r in runs if r.info.run_name == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"RUN should name one run but {name!r} fits {len(found)}. Give more of the id.")
    raise ConfigError(f"RUN should be the id or the name of a run but {name!r} is none. See: evo-rnn list runs.")


def download(client: MlflowClient, run: Run, path: str, folder: str) -> Path:
    """A local copy of an artifact.

    Raises:
        ConfigError: if the run has no such artifact.
    """
    from mlflow.exceptions import MlflowException

    try:
        return Path(client.download_artifacts(run.info.run_id, path, folder))
    except (MlflowException, OSError):
        raise ConfigError(f"run {run.info.run_name!r} should have the artifact {path!r} but has not.") from None


def _artifact(client: MlflowClient, run: Run, path: str, folder: str) -> str:
    return download(client, run, path, folder).read_text(encoding="utf-8")


def _has(client: MlflowClient, run: Run, name: str) -> bool:
    return any(each.path == name for each in client.list_artifacts(run.info.run_id))


def _client() -> MlflowClient:
    from evo_rnn.tracking import open_client, tracking_uri

    uri = tracking_uri()
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise ConfigError("there are no runs here yet. Make some: evo-rnn compare sunspots.")
    return open_client(uri)


def _runs(client: MlflowClient) -> list[Run]:
    """All runs of ours, the newest first."""
    ids = [each.experiment_id for each in client.search_experiments()]
    return list(client.search_runs(ids, "tags.`evo.kind` != ''", max_results=5000, order_by=["start_time DESC"]))


def _row(run: Run) -> dict[str, Any]:
    tags, metrics = run.data.tags, run.data.metrics
    row = {"name": run.info.run_name, "run_id": run.info.run_id, "kind": tags.get("evo.kind", "")}
    row |= {"status": run.info.status}
    return row | ({"test_loss": metrics["final/test_loss"]} if "final/test_loss" in metrics else {})


def ui(port: int) -> None:
    """Serve MLflow's pages until interrupted, and print the link that opens on the comparison."""
    from evo_rnn.tracking import deep_link, serve

    client = _client()
    experiments = [run.info.experiment_id for run in _runs(client)]
    stop: list[int] = []
    before = {number: signal.signal(number, lambda n, _: stop.append(n)) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with serve(port=port) as server:
            link = deep_link(server.url, experiments[0]) if experiments else server.url
            sys.stdout.write(f"MLflow is at {server.url}\nGA vs gradient descent: {link}\nCtrl-C ends it.\n")
            sys.stdout.flush()
            while not stop and server.process.poll() is None:
                time.sleep(0.2)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if stop and stop[0] == signal.SIGTERM:
        raise SystemExit(128 + signal.SIGTERM)
