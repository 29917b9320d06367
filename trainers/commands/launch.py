"""`evo-rnn run` and `evo-rnn compare`: from a config to runs in MLflow and a verdict on the terminal."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from trainers.commands.request import Request

if TYPE_CHECKING:
    from rich.console import Console

    from evo_rnn.tracking import MlflowTracker
    from trainers.experiments.config import Config


class Terminated(SystemExit):
    """SIGTERM came: unwind, so that runs are ended as KILLED, and exit with 143."""


@contextmanager
def tracked(config: Config, name: str) -> Iterator[MlflowTracker]:
    """The tracker of a command; every orderly and disorderly end closes it."""
    from evo_rnn.tracking import MlflowTracker

    def terminate(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
        raise Terminated(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, terminate)
    tracker = MlflowTracker(config.tracking.experiment or name, config.tracking.uri)
    patience = 2.0  # seconds that an interrupted command may still write
    try:
        yield tracker
        patience = 60.0
    finally:
        tracker.close(patience)
        signal.signal(signal.SIGTERM, before)


def dry_run(config: Config) -> None:
    """Print the resolved config as YAML."""
    from evo_rnn.safe_yaml import dump_yaml

    sys.stdout.write(dump_yaml(config.model_dump(mode="json")))


def compare(request: Request, *, as_json: bool) -> None:
    """Run a comparison and print its verdict."""
    import torch

    from evo_rnn.champion import columns_of
    from evo_rnn.safe_yaml import dump_yaml
    from trainers.commands.terminal import Board, console
    from trainers.experiments.book import Book, plain
    from trainers.experiments.builders import compute_of, model_of, rules_of, task_of, trainer_of
    from trainers.experiments.methods import METHODS
    from trainers.experiments.publish import leader, publish
    from trainers.experiments.race import race
    from trainers.experiments.report import full_verdict, table

    torch.set_num_threads(1)
    config = request.config()
    screen = console(as_json)
    task = task_of(config)
    model, rules = model_of(config, task), rules_of(config)
    methods = config.methods or {config.method["name"]: config.method}
    trainers = {label: trainer_of(method, task) for label, method in methods.items()}
    families = {label: METHODS[method["name"]].family for label, method in methods.items()}
    seeds = range(config.seed, config.seed + config.seeds)
    compute = compute_of(config, len(trainers) * len(seeds))
    _introduce(screen, task, model, f"{', '.join(trainers)}; {len(seeds)} seeds", config, compute.workers)
    with tracked(config, task.name) as tracker:
        text, columns = dump_yaml(config.model_dump(mode="json")), columns_of(config.task["name"], config.task)
        book = Book(
            request.source, trainers, model, task, families, seeds, config.budget.passes, tracker, text, columns
        )
        with Board(screen, trainers, len(seeds), config.budget.passes).shown() as board:
            for event in race(trainers, model, task, rules, seeds, compute=compute):
                book.write(event)
                board.update(event)
        found = book.close()
        publish(tracker, book.run, model, task, leader(found).champion, columns)
        experiment, run = tracker.experiment_id, tracker.mlflow_run_id(book.run)
    if as_json:
        heads = {"experiment_id": experiment, "run_id": run, "verdict": full_verdict(found)}
        data = {**heads, "methods": found.summary(), "baselines": found.baselines}
        print(json.dumps(plain(data)))
        return
    screen.print(table(found))
    screen.print(full_verdict(found) + "\n")
    _close(screen, f"{len(found.trials)} runs and a report", run, experiment, tracker.uri)


def run(request: Request, *, as_json: bool) -> None:
    """Train once and print what came of it."""
    import torch

    from evo_rnn.champion import columns_of
    from trainers.commands.terminal import console
    from trainers.experiments.book import RunPage, model_params, plain, settings_of, short_name
    from trainers.experiments.builders import compute_of, model_of, rules_of, task_of, trainer_of
    from trainers.experiments.methods import METHODS
    from trainers.experiments.publish import publish
    from trainers.experiments.trial import slices

    torch.set_num_threads(1)
    config = request.config()
    screen = console(as_json)
    task = task_of(config)
    model, rules = model_of(config, task), rules_of(config)
    name = config.method["name"]
    trainer = trainer_of(config.method, task)
    compute = compute_of(config, _useful_workers(config))
    _introduce(screen, task, model, f"{name}; seed {config.seed}", config, compute.workers)
    with tracked(config, task.name) as tracker:
        params = {"method": name, "seed": config.seed, "task": task.name, "budget.passes": config.budget.passes}
        params |= {**model_params(model), **settings_of(trainer, name)}
        columns = columns_of(config.task["name"], config.task)
        tags = {"evo.method": name, "evo.family": METHODS[name].family, "evo.seed": str(config.seed)}
        page = RunPage(
            tracker, f"{name} - {short_name(model)} - seed {config.seed}", model, task, params, tags, columns=columns
        )
        result = _followed(screen, page, slices(trainer, model, task, rules, config.seed, compute=compute))
        publish(tracker, page.run, model, task, page.champion, columns)
        experiment, run_id = tracker.experiment_id, tracker.mlflow_run_id(page.run)
    data = {"run_id": run_id, "experiment_id": experiment, "status": "FINISHED", **result}
    if as_json:
        print(json.dumps(plain(data)))
        return
    _summarise(screen, data)
    _close(screen, "1 run with its champion", run_id, experiment, tracker.uri)


def _introduce(screen: Console, task: Any, model: Any, who: str, config: Config, workers: int) -> None:  # noqa: ANN401
    from trainers.experiments.book import short_name

    budget = f"{config.budget.passes:,.0f} passes each" if config.budget.passes else "no bound on passes"
    where = f"{workers} Ray workers" if workers else "this process"
    screen.print(f"[bold]{task.name}[/]: {task.notes or 'one step ahead'}", highlight=False)
    screen.print(f"{short_name(model)}, {model.layout.size} genes; {who}; {budget}; in {where}", highlight=False)


def _useful_workers(config: Config) -> int:
    """How many workers one run can use: none unless a generation is long enough to be worth sending."""
    return 0 if config.compute.workers == "auto" else int(config.compute.workers)


def _followed(screen: Console, page: Any, pieces: Any) -> dict[str, Any]:  # noqa: ANN401
    """Write down every slice; the result of the last."""
    import time

    spoke = time.monotonic()
    for piece in pieces:
        page.write(piece)
        if piece.rows and time.monotonic() - spoke > 2.0:
            spoke, row = time.monotonic(), piece.rows[-1]
            losses = f"train {row.metrics['train/loss']:.4g}, validation {row.metrics['validation/loss']:.4g}"
            screen.print(f"{row.passes:>10,} passes  {losses}", highlight=False)
    return dict(page.result)


def _summarise(screen: Console, data: dict[str, Any]) -> None:
    losses = {key.removesuffix("_loss"): value for key, value in data.items() if key.endswith("_loss")}
    screen.print("loss  " + "  ".join(f"{name} {value:.4g}" for name, value in losses.items()), highlight=False)
    for name, values in data["baselines"].items():
        screen.print(f"      {name.replace('_', ' ')} on the test split {values:.4g}", highlight=False)
    spent = f"{data['passes']:,.0f} passes, {data['seconds']:.1f} CPU seconds, {data['learned']:.0f} % learned"
    screen.print(f"stopped: {data['stop_reason']}; {spent}\n", highlight=False)


def _close(screen: Console, made: str, run: str, experiment: str, uri: str) -> None:
    """Say what was made and what to type next."""
    screen.print(
        f"Made: {made} in {uri} (experiment {experiment or 'pending'}, run {run or 'pending'}).", highlight=False
    )
    show = f"evo-rnn show {run[:8]}" if run else "evo-rnn list runs"
    screen.print(f"Next: evo-rnn ui      (browse the runs)\n      {show}", highlight=False)
