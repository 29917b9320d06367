"""What is around training on the command line: its tracker, and the first and the last words."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from evo_rnn.champion_card import Columns
from evo_rnn.tracking import MlflowTracker, tracking_uri
from evo_rnn.tracking.store import public
from evo_rnn.tracking.tracker import new_run_id
from trainers.commands.plan import Plan, config_text
from trainers.commands.terminal import say
from trainers.experiments.book import short_name
from trainers.experiments.guard import circumstances
from trainers.experiments.journal import Journal, begin

GO_ON = "Go on with: evo-rnn resume "  # what the note of an error begins with that ended a run


@dataclass(frozen=True)
class Place:
    """Where MLflow has what was made.

    Args:
        run: MLflow's id; empty if the store did not take it yet.
        experiment: MLflow's id.
        uri: of the store.
    """

    run: str
    experiment: str
    uri: str


@contextmanager
def tracked(plan: Plan) -> Iterator[MlflowTracker]:
    """The tracker of a command; every orderly and disorderly end closes it, and then a second signal must wait."""
    settings = plan.config.tracking
    tracker = MlflowTracker(settings.experiment or plan.task.name, settings.uri)
    try:
        yield tracker
    except BaseException:
        with _deaf():
            tracker.close(2.0)
        raise
    tracker.close()


def new_journal(plan: Plan, *, many: bool) -> Journal:
    """The journal of a run that begins.

    Raises:
        DiskError: nothing can be written here.
    """
    about = {
        "command": "compare" if many else "run",
        "source": plan.source,
        "uri": public(tracking_uri(plan.config.tracking.uri)),
        "grid": plan.rules.grid,
        "spacing": plan.rules.spacing,
        "circumstances": circumstances(plan.task, plan.rules.device),
    }
    return begin(new_run_id(), about, config_text(plan.config, many=many))


@contextmanager
def going(journal: Journal) -> Iterator[Journal]:
    """An open journal; an error within the block says how to go on after it."""
    try:
        yield journal
    except BaseException as error:
        error.add_note(f"{GO_ON}{journal.run[:8]}")
        raise
    finally:
        journal.close()


@contextmanager
def _deaf() -> Iterator[None]:
    """Signals are ignored within the block."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def introduce(screen: Console, plan: Plan, who: str, each: str, workers: int) -> None:
    """Say what is trained by whom, under which budget and where."""
    budget = plan.config.budget.passes
    bound = f"{budget:,.0f} passes{each}" if budget else "no bound on passes"
    where = f"on {workers} Ray worker{'s' if workers > 1 else ''}" if workers else "in this process"
    say(screen, f"{plan.task.name}: {plan.task.notes or 'one step ahead'}")
    say(screen, f"{short_name(plan.model)}, {plan.model.layout.size} genes; {who}; {bound}; {where}")


def closing(screen: Console, made: str, place: Place, columns: Columns) -> None:
    """Say what was made and what to type next."""
    store = public(place.uri).removeprefix(f"sqlite:///{Path.cwd()}/").removeprefix("sqlite:///")
    if not place.run:
        say(screen, f"Made: {made}; {store} did not take them yet, the next command sends them on.", whole=True)
        return
    say(screen, f"Made: {made} in {store}, experiment {place.experiment}, run {place.run}", whole=True)
    run = place.run[:8]
    steps = {"evo-rnn ui": "browse the runs", f"evo-rnn show {run}": "read this again"}
    if columns.inputs:
        steps[f"evo-rnn predict {run} FILE.csv -o OUT.csv"] = "put the champion to work"
    width = max(map(len, steps))
    for head, (command, why) in zip(("Next:", *[""] * len(steps)), steps.items(), strict=False):
        say(screen, f"{head:<5} {command:<{width}}  {why}", whole=True)
