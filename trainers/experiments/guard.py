"""What must be as it was for a run to go on bit for bit, and what may be changed: the guard of `evo-rnn resume`."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import torch

from evo_rnn.errors import ConfigError, DataError
from evo_rnn.evaluation.worker import source_hash, source_root
from evo_rnn.tasks.task import Task
from evo_rnn.tracking.tracker import describe_dataset
from trainers.experiments.config import Config

LIBRARIES = ("torch", "numpy", "deap", "cma")  # whose version can change a number
WHERE = r"compute\.(?!device$)\w+"  # where the work is done never changes a result
UNTIL = r"budget\.(passes|seconds)|stop\.(generations|wall_clock)"  # and a single run may go on for longer

_log = logging.getLogger(__name__)


def circumstances(task: Task, device: str) -> dict[str, Any]:
    """What a result depends on beside its config: data, libraries, instruction set and our own source."""
    return {
        "data": digest(task),
        "device": device,
        "versions": {name: version(name) for name in LIBRARIES},
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "program": source_hash(source_root()),
    }


def digest(task: Task) -> str:
    """32 hexadecimal digits over every number of every split."""
    splits = {"train": task.train, "validation": task.validation, "test": task.test, **task.spans}
    arrays = {f"{name}/{key}": value for name, data in splits.items() for key, value in data.arrays().items()}
    return describe_dataset("", arrays, "")["digest"]


def check_circumstances(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on where the result would be another.

    Raises:
        ConfigError: a library or the device is another one.
        DataError: the data are others.
    """
    if now["data"] != before["data"]:
        raise DataError(
            f"the data should be those that the run began with (digest {before['data'][:12]}) but have changed "
            f"({now['data'][:12]}). Put them back, or begin a new run."
        )
    for name, wanted in before["versions"].items():
        if now["versions"][name] != wanted:
            raise ConfigError(
                f"{name} should be {wanted}, as when the run began, but is {now['versions'][name]}: the numbers could "
                f"be others. Install {name}=={wanted}, or begin a new run."
            )
    if now["device"] != before["device"]:
        raise ConfigError(
            f"compute.device should be {before['device']!r}, as when the run began, but is {now['device']!r}. Go on "
            "where there is one, or begin a new run."
        )
    for key, what in (("cpu", "the processor's instruction set"), ("program", "this program's source")):
        if now[key] != before[key]:
            _log.warning("%s was %s when the run began and is %s: last bits may differ", what, before[key], now[key])


def check_changes(before: Config, now: Config, *, many: bool) -> None:
    """Refuse a change of what a result depends on.

    Raises:
        ConfigError: naming the key.
    """
    old, new = flat(before.model_dump(mode="json")), flat(now.model_dump(mode="json"))
    free = re.compile(WHERE if many else f"{WHERE}|{UNTIL}")
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key) and not free.fullmatch(key):
            may = "compute.*" if many else "compute.*, budget.* and stop.generations or stop.wall_clock"
            raise ConfigError(
                f"{key} should stay {old.get(key)!r} when a run goes on but would become {new.get(key)!r}. Only {may} "
                "may change; begin a new run for anything else."
            )


def until(config: Config) -> dict[str, Any]:
    """The keys that say how long a single run lasts."""
    return {key: value for key, value in flat(config.model_dump(mode="json")).items() if re.fullmatch(UNTIL, key)}


def flat(tree: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= flat(value, f"{before}{key}.") if isinstance(value, Mapping) else {before + key: value}
    return found
