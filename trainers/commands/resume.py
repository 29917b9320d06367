"""`evo-rnn resume`: a run goes on from its journal, as if nothing had happened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from evo_rnn.errors import ConfigError
from evo_rnn.local_file import quoted


def resume(name: str, overrides: Sequence[str], *, as_json: bool) -> None:
    """Go on with a run or a comparison.

    Args:
        name: the beginning of an id, a name, or `latest` for the newest that is not over.
        overrides: `a.b=c`, of what may change: where the work is done, and how long a single run lasts.
        as_json: print data only.

    Raises:
        ConfigError: there is no such run, it cannot be prolonged, or what it depends on has changed.
        DataError: its data have changed.
        RetryError: another process trains it.
    """
    from evo_rnn.safe_yaml import apply_overrides, load_yaml
    from evo_rnn.tracking.store import private
    from trainers.commands.plan import config_text, plan_of
    from trainers.experiments import guard, journal
    from trainers.experiments.config import named_forms, resolve

    if "=" in name:  # no RUN was given
        name, overrides = "latest", (name, *overrides)
    opened = journal.reopen(journal.find(name) or _tracked(name))
    try:
        about, many = opened.about, opened.about["command"] == "compare"
        if many and about["finished"]:
            raise ConfigError(f"{name} is over. Begin a new comparison: evo-rnn compare.")
        raw = load_yaml(opened.path / "config.yaml")
        raw["tracking"] = {**raw["tracking"], "uri": private(about["uri"])}
        before = resolve(named_forms(dict(raw)), about["source"])
        now = resolve(named_forms(apply_overrides(raw, overrides)), about["source"])
        guard.check_changes(before, now, many=many)
        longer = guard.until(now) != guard.until(before)
        if about["finished"] and not longer:
            raise ConfigError(f"{name} is over. Prolong it, for example with {_longer(before.budget.passes)}.")
        plan = plan_of(now, about["source"], many=many)
        guard.check_circumstances(about["circumstances"], guard.circumstances(plan.task, plan.rules.device))
        rules = replace(plan.rules, grid=about["grid"], spacing=about["spacing"])
        plan = replace(plan, rules=rules)
        if longer:
            opened.prolong(journal.trial_name(now.method["name"], now.seed), config_text(now, many=False))
    except BaseException:
        opened.close()
        raise
    if many:
        from trainers.commands.contest import contest

        contest(plan, as_json=as_json, opening=lambda *_, **__: opened)
    else:
        from trainers.commands.solo import solo

        solo(plan, as_json=as_json, opening=lambda *_, **__: opened)


def _longer(passes: float) -> str:
    return f"budget.passes={2 * passes:.0f}" if passes else "stop.generations=NUMBER"


def _tracked(name: str) -> str:
    """The journal of a run that the tracking store knows by this name or id."""
    from evo_rnn.tracking.delivery import RUN
    from trainers.commands.runs import client_here, find, has_store, parent_of
    from trainers.experiments.journal import RUNS

    if name == "latest" or not has_store():
        raise ConfigError(
            f"RUN should be a run to go on with but {quoted(name)} is none: no unfinished run is kept in {RUNS}. Begin "
            "one: evo-rnn run sunspots."
        )
    client = client_here()
    run = find(client, name)
    if parent := parent_of(run):
        raise ConfigError(f"{quoted(name)} is one run of a comparison. Go on with that: evo-rnn resume {parent[:8]}.")
    if not (RUNS / run.data.tags[RUN]).exists():
        over = "is over" if run.info.status == "FINISHED" else "has no journal here"
        raise ConfigError(f"{quoted(name)} {over}. Begin a new run: evo-rnn run or evo-rnn compare.")
    return str(run.data.tags[RUN])
