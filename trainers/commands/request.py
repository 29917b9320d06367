"""From what a user typed to a checked config: a name, a YAML file or a data file, then overrides, then options."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evo_rnn.errors import ConfigError
from evo_rnn.local_file import quoted, shown
from evo_rnn.nearest import did_you_mean

if TYPE_CHECKING:
    from trainers.experiments.config import Config

TABLES = (".csv", ".tsv", ".txt", ".parquet")


@dataclass(frozen=True)
class Request:
    """What was typed. Empty values were not.

    Args:
        source: the name of an experiment, a YAML file, or a CSV or Parquet file.
        overrides: `a.b=c`.
        target: columns to predict, separated by commas.
        inputs: columns to predict from.
        horizon: rows ahead; 0 if not given.
        method: of a run.
        methods: of a comparison, separated by commas.
        seeds: how many; 0 if not given.
        workers: how many processes; negative if not given.
        ray: a file with the section `compute`.
    """

    source: str
    overrides: Sequence[str] = ()
    target: str = ""
    inputs: str = ""
    horizon: int = 0
    method: str = ""
    methods: str = ""
    seeds: int = 0
    workers: int = -1
    ray: str = ""

    def config(self) -> Config:
        """The checked config.

        Raises:
            ConfigError: naming what is wrong.
        """
        from evo_rnn.safe_yaml import apply_overrides, load_yaml

        raw = self._raw()  # a file that cannot be read is refused before anything heavy is imported
        compute = load_yaml(self.ray) if self.ray else {}
        from trainers.experiments.config import compute_section, named_forms, resolve

        raw = named_forms(raw)
        if compute:
            raw["compute"] = {**_section(raw, "compute"), **compute_section(compute, self.ray)}
        if self.method:
            raw["method"] = {"name": self.method} | _section(_section(raw, "methods"), self.method)
        raw = named_forms(apply_overrides(raw, self.overrides))
        if self.methods:
            raw["methods"] = _chosen(self.methods, _section(raw, "methods"))
        if self.seeds:
            raw["seeds"] = self.seeds
        if self.workers >= 0:
            raw["compute"] = {**_section(raw, "compute"), "workers": self.workers}
        return resolve(raw, shown(self.source))

    def _raw(self) -> dict[str, Any]:
        from evo_rnn.safe_yaml import load_yaml
        from trainers.experiments.named import EVERY, NAMED

        suffix = Path(self.source).suffix.lower()
        if suffix in (".yaml", ".yml") or self.source in NAMED:
            if self.target or self.inputs or self.horizon:
                raise ConfigError(
                    "--target, --inputs and --horizon go with a CSV or Parquet file, not with "
                    f"{quoted(self.source)}. Override a setting instead: task.horizon=3."
                )
            return copy.deepcopy(NAMED[self.source]) if self.source in NAMED else load_yaml(self.source)
        if self.target or suffix in TABLES or Path(self.source).is_file():
            return {"task": self._table(), "methods": list(EVERY), "model": {"hidden": 8}, "budget": {"passes": 8_000}}
        raise ConfigError(
            f"CONFIG should be one of {', '.join(NAMED)}, or a .yaml, .csv or .parquet file, but is "
            f"{quoted(self.source)}.{did_you_mean(self.source, NAMED)}"
        )

    def _table(self) -> dict[str, Any]:
        if not _names(self.target):
            name = shown(self.source)
            raise ConfigError(f"{name}: say which column to predict: evo-rnn run {name} --target COLUMN.")
        task: dict[str, Any] = {"name": "file", "path": self.source, "target": _names(self.target)}
        task |= {"inputs": _names(self.inputs)} if self.inputs else {}
        return task | ({"horizon": self.horizon} if self.horizon else {})


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _section(raw: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A section of an unchecked config; what is no section is left for the check to refuse."""
    found = raw.get(key)
    return dict(found) if isinstance(found, Mapping) else {}


def _chosen(text: str, known: Mapping[str, Any]) -> dict[str, Any]:
    if not _names(text):
        raise ConfigError("--methods should name at least one. See: evo-rnn list methods.")
    return {name: known.get(name, {}) for name in _names(text)}
