"""One run on the command line: one method, one seed, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Callable

from rich.console import Console

from evo_rnn.errors import ConfigError
from evo_rnn.evaluation.ray_evaluator import Compute
from evo_rnn.local_file import shown
from evo_rnn.progress import Trainer
from evo_rnn.tracking import Tracker
from trainers.commands.frame import Place, closing, going, introduce, new_journal, tracked
from trainers.commands.plan import Plan, asked_params, config_text
from trainers.commands.terminal import Board, console, say
from trainers.commands.view import say_result
from trainers.control import twinless
from trainers.experiments.book import RunPage, model_params, plain, settings_of, short_name
from trainers.experiments.builders import compute_of, trainer_of
from trainers.experiments.journal import Journal, trial_name
from trainers.experiments.methods import METHODS
from trainers.experiments.publish import publish
from trainers.experiments.race import Event
from trainers.experiments.trial import slices


def solo(plan: Plan, *, as_json: bool, opening: Callable[..., Journal] = new_journal) -> None:
    """Train once and print what came of it; `opening` hands over the journal of a run that goes on."""
    config, screen = plan.config, console(as_json)
    name = config.method["name"]
    trainer = trainer_of(config.method, plan.task)
    if name == "torch" and (why := twinless(plan.model)):
        raise ConfigError(f"{shown(plan.source)}: method torch: {why}. Choose another method or cell.")
    compute = compute_of(config, 0)  # "auto" is none: a generation must be long to be worth sending
    introduce(screen, plan, f"{name}; seed {config.seed}", "", compute.workers)
    with tracked(plan) as tracker, going(opening(plan, many=False)) as journal:
        page = _page(plan, trainer, tracker, journal)
        _trained(plan, trainer, compute, page, journal, screen)
        publish(tracker, page.run, page.model, plan.task, page.champion, plan.columns)
        place = Place(tracker.mlflow_run_id(page.run), tracker.experiment_id, tracker.uri)
        _told(plan, page, place, screen, as_json=as_json)
        journal.finish(prolongable=True)


def _told(plan: Plan, page: RunPage, place: Place, screen: Console, *, as_json: bool) -> None:
    if as_json:
        heads = {"run_id": place.run, "experiment_id": place.experiment, "status": "FINISHED"}
        print(json.dumps(plain({**heads, **page.result})), flush=True)
        return
    say(screen, "")
    say_result(screen, page.result)
    say(screen, "")
    closing(screen, "1 run with its champion", place, plan.columns)


def _page(plan: Plan, trainer: Trainer, tracker: Tracker, journal: Journal) -> RunPage:
    config, model, name = plan.config, plan.model, plan.config.method["name"]
    params = {"method": name, "seed": config.seed, "task": plan.task.name, "budget.passes": config.budget.passes}
    params |= {**model_params(model), **settings_of(trainer, name), **asked_params(config)}
    tags = {"evo.method": name, "evo.family": METHODS[name].family, "evo.seed": str(config.seed)}
    title = f"{name} - {short_name(model)} - seed {config.seed}"
    again = journal.about["resumed"] > 0
    tags |= {"evo.resumed": str(journal.about["resumed"])} if again else {}
    page = RunPage(tracker, title, model, plan.task, params, tags, columns=plan.columns, run=journal.run, again=again)
    page.keep("config.yaml", config_text(config, many=False))
    return page


def _trained(plan: Plan, trainer: Trainer, compute: Compute, page: RunPage, journal: Journal, screen: Console) -> None:
    """Every slice is kept, then written down and shown. What was kept last may not have been written: it is again."""
    name, seed = plan.config.method["name"], plan.config.seed
    trial = trial_name(name, seed)
    last = journal.last(trial)
    if last.rows:
        say(screen, f"It goes on after {last.rows[-1].passes:,} passes.")
    with Board(screen, [name], 1, plan.config.budget.passes).shown() as board:
        page.write(last)
        board.update(Event(name, seed, last))
        if last.reason:
            return
        for piece in slices(trainer, plan.model, plan.task, plan.rules, seed, state=last.state, compute=compute):
            journal.keep(trial, piece, piece.rows)
            page.write(piece)
            board.update(Event(name, seed, piece))
