"""What a config comes to, and who takes part: judged before anything is written.

Heavy imports stay inside the functions, so that a config that cannot be read is refused at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainers.commands.request import Request

if TYPE_CHECKING:
    from evo_rnn.champion_card import Columns
    from evo_rnn.network import Model
    from evo_rnn.tasks.task import Task
    from trainers.experiments.config import Config
    from trainers.experiments.trial import Rules


@dataclass(frozen=True)
class Plan:
    """What a config comes to.

    Args:
        source: what the user called it.
        config: checked.
        task: what is learned.
        model: what is trained.
        rules: how it is judged.
        columns: of the user's table, where there is one.
    """

    source: str
    config: Config
    task: Task
    model: Model
    rules: Rules
    columns: Columns


def planned(request: Request, *, many: bool) -> Plan:
    """Everything that can be wrong with what a user gave is found here.

    Raises:
        ConfigError: if a setting does not fit.
        DataError: if a file cannot be used.
    """
    return plan_of(request.config(), request.source, many=many)


def plan_of(config: Config, source: str, *, many: bool) -> Plan:
    """What a checked config comes to. Raises as `planned`."""
    from evo_rnn.tracking import tracking_uri

    tracking_uri(config.tracking.uri)
    import torch

    from evo_rnn.champion import columns_of
    from evo_rnn.errors import ConfigError
    from evo_rnn.local_file import shown
    from trainers.experiments.builders import check_methods, model_of, rules_of, task_of

    torch.set_num_threads(1)
    try:
        task = task_of(config)
        columns = columns_of(config.task["name"], config.task)
        model = model_of(config, task)
        named = {f"methods.{label}": method for label, method in config.methods.items()} if many else {}
        check_methods(named or {"method": config.method}, task, model)
        return Plan(source, config, task, model, rules_of(config, many=many), columns)
    except ConfigError as error:
        raise ConfigError(f"{shown(source)}: {error}") from None


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
