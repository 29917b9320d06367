"""A comparison on the command line: several methods side by side, a table and a verdict."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from evo_rnn.evaluation.ray_evaluator import Compute
from evo_rnn.progress import Trainer
from evo_rnn.tracking import Tracker
from trainers.commands.frame import Place, closing, going, introduce, new_journal, tracked
from trainers.commands.plan import Plan, asked_params, config_text, entrants
from trainers.commands.terminal import Board, console, say
from trainers.commands.view import say_table
from trainers.experiments.book import Book, plain
from trainers.experiments.builders import compute_of, trainer_of
from trainers.experiments.journal import Journal, trial_name
from trainers.experiments.methods import METHODS
from trainers.experiments.outcome import Comparison
from trainers.experiments.publish import leader, publish
from trainers.experiments.race import Event, race
from trainers.experiments.report import full_verdict, table


@dataclass(frozen=True)
class Field:
    """Who races.

    Args:
        trainers: by label.
        families: "evolution", "gradient", "memetic" or "control", by label.
        seeds: of the runs.
        compute: where the trials are run.
    """

    trainers: Mapping[str, Trainer]
    families: Mapping[str, str]
    seeds: range
    compute: Compute

    def __str__(self) -> str:
        return f"{', '.join(self.trainers)}; {len(self.seeds)} seed{'s' if len(self.seeds) > 1 else ''}"


def contest(plan: Plan, *, as_json: bool, opening: Callable[..., Journal] = new_journal) -> None:
    """Run a comparison and print its verdict; `opening` hands over the journal of one that goes on."""
    methods, notes = entrants(plan.config, plan.model)
    field, screen = _field(plan, methods), console(as_json)
    introduce(screen, plan, str(field), " a run", field.compute.workers)
    for each in notes:
        say(screen, each)
    with tracked(plan) as tracker, going(opening(plan, many=True)) as journal:
        book = _book(plan, field, tracker, journal)
        found = _raced(plan, field, book, journal, screen)
        best = leader(found)
        publish(tracker, book.run, best.model, plan.task, best.champion, plan.columns, field.trainers)
        place = Place(tracker.mlflow_run_id(book.run), tracker.experiment_id, tracker.uri)
        _told(plan, found, place, screen, as_json=as_json)
        journal.finish(prolongable=False)


def _told(plan: Plan, found: Comparison, place: Place, screen: Console, *, as_json: bool) -> None:
    if as_json:
        heads = {"experiment_id": place.experiment, "run_id": place.run, "verdict": full_verdict(found)}
        print(json.dumps(plain({**heads, "methods": found.summary(), "baselines": found.baselines})), flush=True)
        return
    say_table(screen, table(found))
    say(screen, full_verdict(found) + "\n")
    closing(screen, f"{len(found.trials)} runs and a report", place, plan.columns)


def _field(plan: Plan, methods: Mapping[str, Mapping[str, Any]]) -> Field:
    seeds = range(plan.config.seed, plan.config.seed + plan.config.seeds)
    trainers = {label: trainer_of(dict(method), plan.task) for label, method in methods.items()}
    families = {label: METHODS[method["name"]].family for label, method in methods.items()}
    return Field(trainers, families, seeds, compute_of(plan.config, len(trainers) * len(seeds)))


def _book(plan: Plan, field: Field, tracker: Tracker, journal: Journal) -> Book:
    trials = ((method, seed) for method in field.trainers for seed in field.seeds)
    last = {trial: journal.last(trial_name(*trial)) for trial in trials}
    return Book(
        plan.source,
        field.trainers,
        plan.model,
        plan.task,
        field.families,
        field.seeds,
        plan.config.budget.passes,
        tracker,
        config_text(plan.config, many=True),
        plan.columns,
        asked_params(plan.config),
        journal.run,
        {trial: piece for trial, piece in last.items() if piece.state or piece.reason},
    )


def _raced(plan: Plan, field: Field, book: Book, journal: Journal, screen: Console) -> Comparison:
    """Every event is kept, then written down and shown; at last the book is closed."""
    if book.kept:
        over = sum(bool(piece.reason) for piece in book.kept.values())
        say(screen, f"It goes on: {over} runs are over, {len(book.kept) - over} are under way.")
    with Board(screen, field.trainers, len(field.seeds), plan.config.budget.passes).shown() as board:
        for trial, piece in book.kept.items():
            if not journal.reported(trial_name(*trial)):
                book.write_again(trial)
            board.update(Event(*trial, piece))
        rules, compute = plan.rules, field.compute
        for event in race(field.trainers, plan.model, plan.task, rules, field.seeds, compute=compute, kept=book.kept):
            trial = event.method, event.seed
            if event.slice.state or event.slice.reason:
                journal.keep(trial_name(*trial), event.slice, [*book.rows.get(trial, ()), *event.slice.rows])
            book.write(event)
            if event.slice.reason:
                journal.report(trial_name(*trial))
            board.update(event)
    return book.close()
