"""The first mistake of a config in one line: the key, what was wanted, what came, and the nearest name that is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from pydantic import ValidationError

from evo_rnn.errors import ConfigError
from evo_rnn.local_file import quoted
from evo_rnn.nearest import did_you_mean, nearest

WANTED = {
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "bool": "true or false",
    "string": "text",
    "tuple": "a list",
    "list": "a list",
    "dict": "a section of keys and values",
    "model": "a section of keys and values",
}
"""What pydantic's kinds of mistakes mean, by the first word of their names."""

OTHERS_SAY = {
    **dict.fromkeys(("percent", "percentage", "accuracy"), "stop.learned"),
    **dict.fromkeys(("mse", "error", "goal"), "stop.loss"),
    **dict.fromkeys(("epochs", "iterations", "max_generations"), "stop.generations"),
    **dict.fromkeys(("units", "neurons", "hidden_size"), "model.hidden"),
    **dict.fromkeys(("lr", "learning_rate"), "method.learning_rates"),
    **dict.fromkeys(("cores", "cpus", "processes", "num_workers"), "compute.workers"),
    "population": "method.population",
    "timeout": "stop.wall_clock",
}
"""What other programs call a setting of ours, by its last word."""

INSIDE = ("str", "int", "constrained-int", "[key]")  # in pydantic's paths, the branch of a union: no key of the user's


def choose(key: str, value: object, known: Sequence[str], source: str) -> None:
    """Refuse a name that is not known.

    Raises:
        ConfigError: with the nearest of those that are.
    """
    if value not in known:
        raise ConfigError(
            f"{source}: {key} should be one of {', '.join(known)} but is {_shown(value)}.{did_you_mean(value, known)}"
        )


def refuse(error: ValidationError, known: Sequence[str], source: str, section: str = "") -> NoReturn:
    """Raise what pydantic found as one line.

    Args:
        error: with at least one mistake.
        known: keys of the section, dotted.
        source: the file, or what else the config came from.
        section: the dotted path of what was checked; empty for the whole.

    Raises:
        ConfigError: always.
    """
    # A misspelt key explains a missing one.
    first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    before = f"{section}." if section else ""
    key = ".".join(str(part) for part in first["loc"] if part not in INSIDE and "[" not in str(part))
    if first["type"] == "extra_forbidden":
        raise ConfigError(f"{source}: {before}{key} is not a known key. {_cure(key, known, before)}") from None
    if first["type"] == "missing":
        raise ConfigError(f"{source}: {before}{key} is missing. Give it a value.") from None
    if first["type"] == "value_error":
        raise ConfigError(f"{source}: {before}{key} {first['ctx']['error']}") from None
    kind = WANTED.get(first["type"].partition("_")[0], "")
    wanted = f"should be {kind}" if kind else _plain(first["msg"])
    names = str(first.get("ctx", {}).get("expected", "")).replace("'", "").replace(" or ", ", ").split(", ")
    hint = did_you_mean(first["input"], names) if first["type"] == "literal_error" else ""
    raise ConfigError(f"{source}: {before}{key} {wanted} but is {_shown(first['input'])}.{hint}") from None


def _cure(key: str, known: Sequence[str], before: str) -> str:
    """Where the key may belong: another section where it is known, what others call it, or what is spelt like it."""
    section, _, last = key.rpartition(".")
    found = [before + name for name in known if name.rpartition(".")[2] == last]
    if last == "loss" and set(found) <= {"stop.loss"}:
        return (
            "The task says what the loss is (see: evo-rnn list losses); to end a run at a value of it, set stop.loss."
        )
    if not found and last in OTHERS_SAY:
        ours = OTHERS_SAY[last]
        own = ours.rpartition(".")[2]
        found = [before + own if own in known else ours]
    elif not found:
        found = [before + name for name in [nearest(key, known)] if name]
    if found:
        return f"Did you mean {found[0]!r}?"
    siblings = [name for name in known if name.rpartition(".")[0] == section]
    if not siblings:
        return "There are no settings." if not known else f"The settings are {', '.join(known)}."
    return f"Known here: {', '.join(name.rpartition('.')[2] for name in siblings)}."


def _plain(message: str) -> str:
    words = {"Input ": "", "greater than or equal to": "at least", "less than or equal to": "at most"}
    for theirs, ours in words.items():
        message = message.replace(theirs, ours)
    return message


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return quoted(value) if not isinstance(value, int | float) else quoted(value).strip("'")
