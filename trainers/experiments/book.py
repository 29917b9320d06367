"""The book: writes a comparison down as it happens, one parent run and one child run for each method and seed."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from evo_rnn.baselines import baselines
from evo_rnn.champion import save
from evo_rnn.champion_card import NO_COLUMNS, Columns
from evo_rnn.description import describe
from evo_rnn.network import Model
from evo_rnn.progress import Trainer
from evo_rnn.shapes import Genes
from evo_rnn.tasks.task import Task
from evo_rnn.tracking import Tracker
from trainers.experiments.genome_files import write_genome, write_history
from trainers.experiments.outcome import Comparison, TrialRecord
from trainers.experiments.race import Event
from trainers.experiments.referee import Row
from trainers.experiments.report import TABLE_TAGS, full_verdict, note, write_report
from trainers.experiments.trial import Slice

PACKAGES = ("torch", "ray", "mlflow", "deap", "numpy")


class RunPage:
    """One run in the tracker: its curves as they come, then its result and its champion.

    Args:
        tracker: where to write.
        name: what the UI shows.
        model: what is trained.
        task: what is learned.
        params: settings.
        tags: free text.
        parent: the run that this one belongs to; empty for none.
        columns: of the user's table, where there is one.
        run: the id that the tracker shall know it by; empty for a new one.
        again: the run goes on after its process ended.
    """

    def __init__(
        self,
        tracker: Tracker,
        name: str,
        model: Model,
        task: Task,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        parent: str = "",
        columns: Columns = NO_COLUMNS,
        run: str = "",
        *,
        again: bool = False,
    ) -> None:
        self.tracker, self.model, self.task, self.columns = tracker, model, task, columns
        self.passes = 0  # of the last point
        self.result: dict[str, Any] = {}
        self.champion: Genes = np.empty((0, 0), np.float32)
        whole = {"evo.kind": "trial", **provenance(), **tags}
        self.run = tracker.start(name, params=params, tags=whole, parent=parent, run=run)
        if not again:
            tracker.dataset(self.run, task.name, {"inputs": task.train.inputs, "targets": task.train.targets})

    def write(self, piece: Slice) -> None:
        """Add the points of a slice; after the last, the result."""
        for row in piece.rows:
            self.tracker.log(self.run, row.metrics, row.passes)
            self.passes = row.passes
        if piece.reason:
            self._finish(piece)

    def keep(self, name: str, text: str) -> None:
        """Keep a small text beside the run."""
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / name).write_text(text, encoding="utf-8")
            self.tracker.artifact(self.run, Path(folder) / name)

    def _finish(self, piece: Slice) -> None:
        beside = {name: losses["test"] for name, losses in _baselines(self.task).items()}
        self.champion = np.array(piece.champion)  # what comes from a worker is read-only
        self.model = piece.champions(self.model)
        self.result = result = {"status": "FINISHED", **piece.result, "baselines": beside}
        spans = {f"final/test_{span}_loss": result[f"{span}_loss"] for span in self.task.spans}
        whole = ("train_loss", "validation_loss", "test_loss", "passes", "seconds", "learned")
        self.tracker.log(self.run, {f"final/{key}": result[key] for key in whole} | spans, self.passes)
        tags = {"evo.stop_reason": piece.reason, "evo.champion_sha256": str(result["champion_sha256"])}
        self.tracker.tag(self.run, tags)
        with tempfile.TemporaryDirectory() as folder:
            extra = {key: value for key, value in result.items() if key.endswith("_loss")}
            save(Path(folder) / "champion", self.model, self.champion, self.task, columns=self.columns, extra=extra)
            self.tracker.artifact(self.run, Path(folder) / "champion", "champion")
            write_genome(Path(folder) / "genome", self.model, self.champion)
            write_history(Path(folder) / "genome", piece.state)
            if (Path(folder) / "genome").is_dir():
                self.tracker.artifact(self.run, Path(folder) / "genome", "genome")
            (Path(folder) / "result.json").write_text(json.dumps(plain(result), indent=2), encoding="utf-8")
            self.tracker.artifact(self.run, Path(folder) / "result.json")
        self.tracker.finish(self.run, "FINISHED")


class Book:
    """Keeps what the events of a race add up to.

    Args:
        name: of the comparison.
        trainers: by label.
        model: what they train.
        task: what they learn.
        families: by label.
        seeds: run seeds.
        budget: passes a run.
        tracker: where to write.
        config: the config as YAML, kept beside the results.
        columns: of the user's table, where there is one.
        more: further params of every run.
        run: the id that the tracker shall know the comparison by; empty for a new one.
        kept: what is known of trials after their process ended, by method and seed, each with all its points.
    """

    def __init__(
        self,
        name: str,
        trainers: Mapping[str, Trainer],
        model: Model,
        task: Task,
        families: Mapping[str, str],
        seeds: Sequence[int],
        budget: float,
        tracker: Tracker,
        config: str = "",
        columns: Columns = NO_COLUMNS,
        more: Mapping[str, object] = MappingProxyType({}),
        run: str = "",
        kept: Mapping[tuple[str, int], Slice] = MappingProxyType({}),
    ) -> None:
        self.name, self.trainers, self.model, self.task = name, trainers, model, task
        self.families, self.seeds, self.budget = families, seeds, budget
        self.tracker, self.config, self.columns, self.more = tracker, config, columns, more
        title = f"compare {task.name} - {', '.join(trainers)} - {len(seeds)} seeds"
        tags = {"evo.kind": "comparison", **TABLE_TAGS, **provenance()}
        self.run = tracker.start(title, params=self._shared(), tags=tags, run=run)
        self.pages: dict[tuple[str, int], RunPage] = {}
        self.kept = kept
        self.rows = {key: list(piece.rows) for key, piece in kept.items()}
        self.records = {key: _record(key, piece.rows, piece, model) for key, piece in kept.items() if piece.reason}

    def write(self, event: Event) -> None:
        """Add one slice of one trial."""
        key, piece = (event.method, event.seed), event.slice
        if key not in self.pages:
            self.pages[key] = self._page(*key)
        self.pages[key].write(piece)
        points = self.rows.setdefault(key, [])
        points += piece.rows
        if piece.reason:
            self.records[key] = _record(key, points, piece, self.model)

    def write_again(self, key: tuple[str, int]) -> None:
        """Tell the tracker once more what is kept of a trial: it may not have heard the end of it."""
        self.pages[key] = self._page(*key)
        self.pages[key].write(self.kept[key])

    def close(self) -> Comparison:
        """The comparison, with its report in the tracker."""
        trials = tuple(self.records[method, seed] for method in self.trainers for seed in self.seeds)
        found = Comparison(self.name, self.model, self.task, self.budget, self.families, trials, _baselines(self.task))
        with tempfile.TemporaryDirectory() as folder:
            write_report(found, Path(folder), next(iter(self.columns.targets), ""))
            whole = {"verdict": full_verdict(found), "methods": found.summary(), "baselines": found.baselines}
            (Path(folder) / "summary.json").write_text(json.dumps(plain(whole), indent=2), encoding="utf-8")
            if self.config:
                (Path(folder) / "config.yaml").write_text(self.config, encoding="utf-8")
            for path in sorted(Path(folder).iterdir()):
                self.tracker.artifact(self.run, path)
        summary = {f"summary/{name}_test_loss": line["test_loss"]["iqm"] for name, line in found.summary().items()}
        self.tracker.log(self.run, summary, round(self.budget))
        self.tracker.tag(self.run, {"mlflow.note.content": note(found), "evo.verdict": found.verdict.sentence})
        self.tracker.finish(self.run, "FINISHED")
        return found

    def _page(self, method: str, seed: int) -> RunPage:
        name = f"{method} - {short_name(self.model)} - seed {seed}"
        params = {"method": method, "seed": seed, **self._shared(), **settings_of(self.trainers[method], method)}
        tags = {"evo.method": method, "evo.family": self.families.get(method, ""), "evo.seed": str(seed)}
        mine = hashlib.blake2b(f"{self.run} {method} {seed}".encode(), digest_size=16).hexdigest()
        places = self.run, self.columns, mine
        again = (method, seed) in self.kept
        page = RunPage(self.tracker, name, self.model, self.task, params, tags, *places, again=again)
        page.passes = max((row.passes for row in self.rows.get((method, seed), ())), default=0)
        return page

    def _shared(self) -> dict[str, object]:
        return {"task": self.task.name, "budget.passes": self.budget, **model_params(self.model), **self.more}


def _record(key: tuple[str, int], rows: Sequence[Row], piece: Slice, model: Model) -> TrialRecord:
    return TrialRecord(*key, tuple(rows), piece.result, piece.champion, piece.champions(model))


def plain(value: Any) -> Any:  # noqa: ANN401 (any result)
    """Plain data for JSON: arrays and tuples as lists, numbers that JSON does not know as null."""
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def settings_of(value: Any, prefix: str) -> dict[str, object]:  # noqa: ANN401 (any settings)
    """The plain fields of nested settings, dotted: what MLflow keeps as params. Places in a list are numbers."""
    found: dict[str, object] = {}
    for each in fields(value):
        inner, name = getattr(value, each.name), f"{prefix}.{each.name}"
        several = isinstance(inner, tuple) and any(map(is_dataclass, inner))
        for part, its in ((f"{name}.{place}", one) for place, one in enumerate(inner)) if several else ((name, inner),):
            found |= {part: type(its).__name__, **settings_of(its, part)} if is_dataclass(its) else {part: its}
    return found


def model_params(model: Model) -> dict[str, object]:
    """The model as params: the kind of cell, its sizes, its number of genes."""
    cell = describe(model).get("cell", {})
    kept = {f"model.{key}": value for key, value in cell.items() if key != "cells"}
    return kept | {"model.genes": model.layout.size, "model.name": short_name(model)}


def short_name(model: Model) -> str:
    """A word for a table: `elman5`, `lstm8x2`."""
    cell = describe(model).get("cell", {})
    cells = cell.get("cells", [cell])
    depth = f"x{len(cells)}" if len(cells) > 1 else ""
    return f"{cells[0].get('kind', 'model').lower()}{cells[0].get('hidden', '')}{depth}"


@cache
def _baselines(task: Task) -> dict[str, dict[str, float]]:
    return baselines(task)


@cache
def provenance() -> dict[str, str]:
    """Versions, the machine and the commit: what a later reader needs to judge a result."""
    found = {f"evo.version.{name}": version(name) for name in PACKAGES}
    found |= {"evo.version.evo_rnn": version("evo-rnn"), "evo.version.python": platform.python_version()}
    found["evo.machine"] = f"{platform.system()} {platform.machine()}"
    return found | {"evo.cpu": torch.backends.cpu.get_cpu_capability(), "evo.git": _commit()}


def _commit() -> str:
    """The commit of our own checkout, marked if it was changed since; empty where we run from an installed package."""
    home = Path(__file__).resolve().parents[2]
    if not ((home / ".git").exists() and (home / "pyproject.toml").exists()):
        return ""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        shown = subprocess.run(  # noqa: S603
            command, cwd=home, capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return shown.stdout.strip()
