"""`evo-rnn run` and `evo-rnn compare`: from a config to runs in MLflow and a verdict on the terminal.

A config and its data are judged before anything is written.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers.commands.request import Request

if TYPE_CHECKING:
    from rich.console import Console

    from evo_rnn.champion_card import Columns
    from evo_rnn.network import Model
    from evo_rnn.tasks.task import Task
    from evo_rnn.tracking import MlflowTracker
    from trainers.experiments.config import Config
    from trainers.experiments.trial import Rules


@dataclass(frozen=True)
class Plan:
    """What a config comes to."""

    config: Config
    task: Task
    model: Model
    rules: Rules
    columns: Columns


def planned(request: Request) -> Plan:
    """Everything that can be wrong with what a user gave is found here.

    Raises:
        ConfigError: if a setting does not fit.
        DataError: if a file cannot be used.
    """
    config = request.config()
    from evo_rnn.tracking import tracking_uri

    tracking_uri(config.tracking.uri)
    import torch

    from evo_rnn.champion import columns_of
    from evo_rnn.errors import ConfigError
    from evo_rnn.local_file import shown
    from trainers.experiments.builders import model_of, rules_of, task_of

    torch.set_num_threads(1)
    try:
        task = task_of(config)
        return Plan(
            config, task, model_of(config, task), rules_of(config), columns_of(config.task["name"], config.task)
        )
    except ConfigError as error:
        raise ConfigError(f"{shown(request.source)}: {error}") from None


def entrants(config: Config, model: Model) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The methods of a comparison by label, and what to say about them.

    Random search is always among them, and the control only where torch.nn has such a network.
    """
    from trainers.control import twinless
    from trainers.experiments.config import settings_for

    methods = dict(config.methods or {config.method["name"]: config.method})
    why = twinless(model)
    without = [label for label, method in methods.items() if why and method["name"] == "torch"]
    kept = {label: method for label, method in methods.items() if label not in without}
    if all(method["name"] != "random" for method in kept.values()):
        kept["random"] = settings_for("random")
    return kept, [f"{label} is left out: {why}." for label in without]


def asked_params(config: Config) -> dict[str, object]:
    """Settings of the task, of stopping and of computing as params, where they differ from the usual ones."""
    task = {f"task.{key}": value for key, value in config.task.items() if key != "name"}
    changed = config.model_dump(include={"stop", "compute"}, exclude_defaults=True)
    rest = {f"{part}.{key}": value for part, values in changed.items() for key, value in values.items()}
    return task | rest


@contextmanager
def tracked(config: Config, name: str) -> Iterator[MlflowTracker]:
    """The tracker of a command; every orderly and disorderly end closes it, and then a second signal must wait."""
    from evo_rnn.tracking import MlflowTracker

    tracker = MlflowTracker(config.tracking.experiment or name, config.tracking.uri)
    try:
        yield tracker
    except BaseException:
        with _deaf():
            tracker.close(2.0)
        raise
    tracker.close()


@contextmanager
def _deaf() -> Iterator[None]:
    """Signals are ignored within the block."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def dry_run(request: Request, *, many: bool) -> None:
    """Print the resolved config as YAML."""
    sys.stdout.write(config_text(request.config(), many=many))


def config_text(config: Config, *, many: bool) -> str:
    """The resolved config as YAML, without what has no meaning in it; it resolves to itself."""
    from evo_rnn.safe_yaml import dump_yaml
    from evo_rnn.tracking.store import public
    from trainers.experiments.builders import OPTIONS

    whole = config.model_dump(mode="json")
    whole["tracking"]["uri"] = public(config.tracking.uri)  # without a password
    strange = {name for names in OPTIONS.values() for name in names} - set(OPTIONS.get(config.model.cell, ()))
    whole["model"] = {key: value for key, value in whole["model"].items() if key not in strange}
    for key in ("method", "seeds") if not many else ("method",) if config.methods else ("methods",):
        del whole[key]
    if not many:
        whole = {"method": config.method} | {key: value for key, value in whole.items() if key != "methods"}
    return dump_yaml({"task": whole.pop("task"), "model": whole.pop("model"), **whole})


def compare(request: Request, *, as_json: bool) -> None:
    """Run a comparison and print its verdict."""
    plan = planned(request)
    from trainers.commands.terminal import Board, console, say
    from trainers.commands.view import say_table
    from trainers.experiments.book import Book, plain
    from trainers.experiments.builders import compute_of, trainer_of
    from trainers.experiments.methods import METHODS
    from trainers.experiments.publish import leader, publish
    from trainers.experiments.race import race
    from trainers.experiments.report import full_verdict, table

    config, task, screen = plan.config, plan.task, console(as_json)
    methods, notes = entrants(config, plan.model)
    trainers = {label: trainer_of(method, task) for label, method in methods.items()}
    families = {label: METHODS[method["name"]].family for label, method in methods.items()}
    seeds, budget = range(config.seed, config.seed + config.seeds), config.budget.passes
    compute = compute_of(config, len(trainers) * len(seeds))
    who = f"{', '.join(trainers)}; {len(seeds)} seed{'s' if len(seeds) > 1 else ''}"
    _introduce(screen, plan, who, f"{budget:,.0f} passes a run", compute.workers)
    for each in notes:
        say(screen, each)
    with tracked(config, task.name) as tracker:
        text = config_text(config, many=True)
        book = Book(
            request.source,
            trainers,
            plan.model,
            task,
            families,
            seeds,
            budget,
            tracker,
            text,
            plan.columns,
            asked_params(config),
        )
        with Board(screen, trainers, len(seeds), budget).shown() as board:
            for event in race(trainers, plan.model, task, plan.rules, seeds, compute=compute):
                book.write(event)
                board.update(event)
        found = book.close()
        publish(tracker, book.run, plan.model, task, leader(found).champion, plan.columns, trainers)
        experiment, run = tracker.experiment_id, tracker.mlflow_run_id(book.run)
    if as_json:
        heads = {"experiment_id": experiment, "run_id": run, "verdict": full_verdict(found)}
        print(json.dumps(plain({**heads, "methods": found.summary(), "baselines": found.baselines})))
        return
    say_table(screen, table(found))
    say(screen, full_verdict(found) + "\n")
    _close(screen, f"{len(found.trials)} runs and a report", run, experiment, tracker.uri, plan.columns)


def run(request: Request, *, as_json: bool) -> None:
    """Train once and print what came of it."""
    plan = planned(request)
    from evo_rnn.errors import ConfigError
    from evo_rnn.local_file import shown
    from trainers.commands.terminal import Board, console, say
    from trainers.commands.view import say_result
    from trainers.control import twinless
    from trainers.experiments.book import RunPage, model_params, plain, settings_of, short_name
    from trainers.experiments.builders import compute_of, trainer_of
    from trainers.experiments.methods import METHODS
    from trainers.experiments.publish import publish
    from trainers.experiments.race import Event
    from trainers.experiments.trial import slices

    config, task, model, screen = plan.config, plan.task, plan.model, console(as_json)
    name, seed, budget = config.method["name"], config.seed, config.budget.passes
    trainer = trainer_of(config.method, task)
    if name == "torch" and (why := twinless(model)):
        raise ConfigError(f"{shown(request.source)}: method torch: {why}. Choose another method or cell.")
    compute = compute_of(config, 0)  # "auto" is none: a generation must be long to be worth sending
    _introduce(screen, plan, f"{name}; seed {seed}", f"{budget:,.0f} passes", compute.workers)
    with tracked(config, task.name) as tracker:
        params = {"method": name, "seed": seed, "task": task.name, "budget.passes": budget}
        params |= {**model_params(model), **settings_of(trainer, name), **asked_params(config)}
        tags = {"evo.method": name, "evo.family": METHODS[name].family, "evo.seed": str(seed)}
        title = f"{name} - {short_name(model)} - seed {seed}"
        page = RunPage(tracker, title, model, task, params, tags, columns=plan.columns)
        page.keep("config.yaml", config_text(config, many=False))
        with Board(screen, [name], 1, budget).shown() as board:
            for piece in slices(trainer, model, task, plan.rules, seed, compute=compute):
                page.write(piece)
                board.update(Event(name, seed, piece))
        publish(tracker, page.run, model, task, page.champion, plan.columns)
        experiment, run_id = tracker.experiment_id, tracker.mlflow_run_id(page.run)
    if as_json:
        print(json.dumps(plain({"run_id": run_id, "experiment_id": experiment, "status": "FINISHED", **page.result})))
        return
    say(screen, "")
    say_result(screen, page.result)
    say(screen, "")
    _close(screen, "1 run with its champion", run_id, experiment, tracker.uri, plan.columns)


def _introduce(screen: Console, plan: Plan, who: str, budget: str, workers: int) -> None:
    from trainers.commands.terminal import say
    from trainers.experiments.book import short_name

    bound = budget if plan.config.budget.passes else "no bound on passes"
    where = f"on {workers} Ray worker{'s' if workers > 1 else ''}" if workers else "in this process"
    say(screen, f"{plan.task.name}: {plan.task.notes or 'one step ahead'}")
    say(screen, f"{short_name(plan.model)}, {plan.model.layout.size} genes; {who}; {bound}; {where}")


def _close(screen: Console, made: str, run: str, experiment: str, uri: str, columns: Columns) -> None:
    """Say what was made and what to type next."""
    from evo_rnn.tracking.store import public
    from trainers.commands.terminal import say

    store = public(uri).removeprefix(f"sqlite:///{Path.cwd()}/").removeprefix("sqlite:///")
    if not run:
        say(screen, f"Made: {made}; {store} did not take them yet, the next command sends them on.", whole=True)
        return
    say(screen, f"Made: {made} in {store}, experiment {experiment}, run {run}", whole=True)
    steps = {"evo-rnn ui": "browse the runs", f"evo-rnn show {run[:8]}": "read this again"}
    if columns.inputs:
        steps[f"evo-rnn predict {run[:8]} FILE.csv -o OUT.csv"] = "put the champion to work"
    width = max(map(len, steps))
    for head, (command, why) in zip(("Next:", *[""] * len(steps)), steps.items(), strict=False):
        say(screen, f"{head:<5} {command:<{width}}  {why}", whole=True)
