"""`evo-rnn run` and `evo-rnn compare`: a config is judged first, and what is heavy is imported only then."""

from __future__ import annotations

import sys

from trainers.commands.plan import config_text, planned
from trainers.commands.request import Request


def dry_run(request: Request, *, many: bool) -> None:
    """Print the resolved config as YAML."""
    sys.stdout.write(config_text(request.config(), many=many))


def compare(request: Request, *, as_json: bool) -> None:
    """Run a comparison and print its verdict."""
    plan = planned(request, many=True)
    from trainers.commands.contest import contest

    contest(plan, as_json=as_json)


def run(request: Request, *, as_json: bool) -> None:
    """Train once and print what came of it."""
    plan = planned(request, many=False)
    from trainers.commands.solo import solo

    solo(plan, as_json=as_json)
