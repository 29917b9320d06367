"""`evo-rnn list`, `show` and `ui`: what there is to choose from, what was made, and MLflow's own pages."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from evo_rnn.errors import ConfigError, DiskError, RetryError
from evo_rnn.local_file import quoted, shown
from evo_rnn.nearest import did_you_mean
from trainers.commands.runs import best_of, client_here, download, find, has_store, is_comparison, parent_of, runs_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

RUN_HEADS = ("run", "status", "started", "test loss", "name")
KINDS = {
    "models": "cells that a network can be made of: model.cell",
    "algorithms": "searches over chromosomes",
    "estimators": "ways to a gradient through time",
    "methods": "what can train: --method, --methods",
    "tasks": "what can be learned: task.name",
    "losses": "how an output is judged",
    "experiments": "comparisons that are ready: evo-rnn compare NAME",
    "runs": "what was made here",
}


def listed(kind: str, *, as_json: bool) -> None:
    """Print everything of one kind; without a kind, the kinds."""
    rows = entries(kind) if kind else [{"name": name, "about": about} for name, about in KINDS.items()]
    if as_json:
        print(json.dumps(rows))
        return
    if not rows:
        sys.stdout.write(f"There are no {kind} yet. Make some: evo-rnn compare sunspots.\n")
        return
    lines = [_run_line(row) for row in rows] if kind == "runs" else [[str(each) for each in r.values()] for r in rows]
    heads = RUN_HEADS if kind == "runs" else [key.replace("about", "what it is") for key in rows[0]]
    _aligned([list(heads), *lines])
    if not kind:
        sys.stdout.write("Say which: evo-rnn list methods.\n")


def _aligned(lines: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)]
        sys.stdout.write("  ".join(cells).rstrip() + "\n")


def _run_line(row: Mapping[str, Any]) -> list[str]:
    loss = f"{row['test_loss']:.4g}" if "test_loss" in row else ""
    began = row["started"][:16].replace("T", " ")
    return [row["run_id"][:8], row["status"].lower(), began, loss, ("  " if row["parent"] else "") + row["name"]]


def entries(kind: str) -> list[dict[str, Any]]:
    """One mapping with `name` for each thing of a kind.

    Raises:
        ConfigError: if there is no such kind.
    """
    if kind not in KINDS:
        known = ", ".join(KINDS)
        raise ConfigError(f"KIND should be one of {known} but is {quoted(kind)}.{did_you_mean(kind, KINDS)}")
    if kind == "runs":
        return [_row(run) for run in _by_family(runs_of(client_here()))] if has_store() else []
    return [{"name": name, **about} for name, about in _registry(kind).items()]


def _registry(kind: str) -> dict[str, dict[str, Any]]:
    if kind == "estimators":
        from trainers.gradient.shown import estimators

        return estimators()
    if kind == "methods":
        from trainers.experiments.methods import METHODS

        return {name: {"family": each.family, "about": each.summary} for name, each in METHODS.items()}
    if kind == "tasks":
        from evo_rnn.tasks import TASKS

        return {name: {"about": _first_line(each.make)} for name, each in TASKS.items()}
    if kind == "losses":
        from evo_rnn.fitness import LOSSES

        kinds = {True: "for targets that are classes", False: "for targets that are numbers"}
        late = "for strings of labels that are not aligned with the steps; needs whole sequences"
        return {
            name: {"classes": each.classes, "about": kinds[each.classes] if each.causal else late}
            for name, each in LOSSES.items()
        }
    if kind == "experiments":
        from trainers.experiments.named import NAMED

        return {name: {"about": "compares " + ", ".join(each["methods"])} for name, each in NAMED.items()}
    from evo_rnn.cells import CELLS
    from populations.algorithms import ALGORITHMS

    known: dict[str, Any] = dict(CELLS) if kind == "models" else dict(ALGORITHMS)
    found = {name: {"about": _first_line(each)} for name, each in known.items()}
    return found | (dict(_graphs()) if kind == "models" else {})


def _graphs() -> Iterator[tuple[str, dict[str, Any]]]:
    from evo_rnn.cells.named_graphs import GRAPHS
    from trainers.experiments.config import CELL_NAMES

    yield "graph", {"about": "Any cell: from model.genome, a genome.json, or from model.equations with model.heads."}
    for name in (name for name in GRAPHS if name in CELL_NAMES and name not in CELLS_WITH_FILES):
        yield name, {"about": "; ".join(GRAPHS[name].strip().splitlines())}


CELLS_WITH_FILES = ("elman", "lstm", "gru")


def _first_line(thing: object) -> str:
    return (thing.__doc__ or "").strip().splitlines()[0]


def show(name: str, *, as_json: bool, genome: str = "") -> None:
    """Print the result of a run, or the report of a comparison; copy the genome's files to the directory `genome`."""
    client = client_here()
    run = find(client, name)
    comparison = is_comparison(run)
    with tempfile.TemporaryDirectory() as folder:
        data = json.loads(_artifact(client, run, "summary.json" if comparison else "result.json", folder) or "{}")
        owner = best_of(client, run) if comparison and genome else run
        evolved = any(each.path == "genome" for each in client.list_artifacts(owner.info.run_id))
        equations = _artifact(client, owner, "genome/equations.txt", folder) if evolved else ""
        if genome:
            _copied(client, owner, folder, genome, evolved=evolved)
    if as_json:
        print(json.dumps({**_head(run), **({} if comparison else dict.fromkeys(RESULT)), **data, **_head(run)}))
        return
    from trainers.commands.terminal import console, say
    from trainers.commands.view import say_result, say_summary

    screen = console(False)
    say(screen, f"{run.info.run_name}: {run.info.status.lower()}, run {run.info.run_id}", style="bold", whole=True)
    if data and comparison:
        say_summary(screen, data)
        say(screen, "The whole report, with pictures: evo-rnn ui. Its runs: evo-rnn list runs.")
    elif data:
        say_result(screen, data)
        if equations:
            say(screen, "\nchampion's cell\n" + "\n".join(f"  {line}" for line in equations.splitlines()))
            whose = f"evo-rnn show {run.info.run_id[:8]} --genome DIR"
            say(screen, "" if genome else f"\nIts picture, genome.json, and source for plain PyTorch: {whose}")
    if genome:
        say(screen, f"The genome is in {genome}: genome.png, population.png, champion.py and more.")
    else:
        cure = "Look at its curves: evo-rnn ui." if run.data.metrics else "It wrote nothing."
        say(screen, f"There is no result{' yet' if run.info.status == 'RUNNING' else ''}. {cure}")


RESULT = (
    "stop_reason",
    "passes",
    "seconds",
    "train_loss",
    "validation_loss",
    "test_loss",
    "baselines",
    "champion_sha256",
)


def _head(run: Run) -> dict[str, Any]:
    head = {"run_id": run.info.run_id, "experiment_id": run.info.experiment_id, "name": run.info.run_name}
    reason = run.data.tags.get("evo.stop_reason") or run.data.tags.get("evo.end_reason") or ""
    return {**head, "status": run.info.status, "stop_reason": reason}


def _by_family(runs: list[Run]) -> list[Run]:
    """The newest first, each comparison before its own runs."""
    children: dict[str, list[Run]] = {}
    for run in runs:
        children.setdefault(parent_of(run), []).append(run)
    known = {run.info.run_id for run in runs}
    heads = [run for run in runs if parent_of(run) not in known]
    return [run for head in heads for run in (head, *reversed(children.get(head.info.run_id, [])))]


def _row(run: Run) -> dict[str, Any]:
    tags, metrics = run.data.tags, run.data.metrics
    row = {"name": run.info.run_name, "run_id": run.info.run_id, "kind": tags.get("evo.kind", "")}
    began = datetime.fromtimestamp(run.info.start_time / 1000).astimezone().isoformat(timespec="seconds")
    row |= {"status": run.info.status, "started": began, "parent": parent_of(run)}
    return row | ({"test_loss": metrics["final/test_loss"]} if "final/test_loss" in metrics else {})


def _copied(client: MlflowClient, run: Run, folder: str, target: str, *, evolved: bool) -> None:
    if not evolved:
        raise ConfigError(
            f"run {run.info.run_name!r} should have a genome but has not. Only topology evolution gives one."
        )
    try:
        shutil.copytree(download(client, run, "genome", folder), target, dirs_exist_ok=True)
    except OSError as error:
        raise DiskError(f"cannot write to {shown(target)}: {error}. Give another directory.") from error


def _artifact(client: MlflowClient, run: Run, path: str, folder: str) -> str:
    """The text of an artifact; empty if there is none."""
    above = path.rpartition("/")[0] or None
    if not any(each.path == path for each in client.list_artifacts(run.info.run_id, above)):
        return ""
    return download(client, run, path, folder).read_text(encoding="utf-8")


def ui(port: int) -> None:
    """Serve MLflow's pages until interrupted, and print the link that opens on the comparison."""
    from evo_rnn.tracking import deep_link, serve

    experiments = [run.info.experiment_id for run in runs_of(client_here())]
    with serve(port=port) as server:
        link = deep_link(server.url, experiments[0]) if experiments else server.url
        sys.stdout.write(f"MLflow is at {server.url}\nGA vs gradient descent: {link}\nCtrl-C ends it.\n")
        sys.stdout.flush()
        while server.process.poll() is None:
            time.sleep(0.2)
    raise RetryError("MLflow's server ended by itself. Start it again.")
