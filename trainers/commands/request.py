"""From what a user typed to a checked config: a name, a YAML file or a data file, then overrides, then options."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evo_rnn.errors import ConfigError

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
        from trainers.experiments.config import named_forms, resolve

        raw = named_forms(self._raw())
        if self.ray:
            raw["compute"] = {**raw.get("compute", {}), **load_yaml(self.ray)}
        raw = apply_overrides(raw, self.overrides)
        if self.method:
            raw["method"] = {"name": self.method}
        if self.methods:
            raw["methods"] = _chosen(self.methods, raw.get("methods", {}))
        if self.seeds:
            raw["seeds"] = self.seeds
        if self.workers >= 0:
            raw["compute"] = {**raw.get("compute", {}), "workers": self.workers}
        return resolve(named_forms(raw), self.source)

    def _raw(self) -> dict[str, Any]:
        from evo_rnn.safe_yaml import load_yaml
        from trainers.experiments.named import EVERY, NAMED

        suffix = Path(self.source).suffix.lower()
        if suffix in TABLES:
            return {"task": self._table(), "methods": list(EVERY), "model": {"hidden": 8}}
        if self.target or self.inputs or self.horizon:
            raise ConfigError(
                f"--target, --inputs and --horizon go with a CSV or Parquet file, not with {self.source!r}."
            )
        if self.source in NAMED:
            return dict(NAMED[self.source])
        if suffix in (".yaml", ".yml"):
            return load_yaml(self.source)
        near = difflib.get_close_matches(self.source, NAMED, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(
            f"CONFIG should be one of {', '.join(NAMED)}, or a .yaml, .csv or .parquet file, but is {self.source!r}.{hint}"
        )

    def _table(self) -> dict[str, Any]:
        if not self.target:
            raise ConfigError(f"{self.source}: say which column to predict: --target COLUMN.")
        task: dict[str, Any] = {"name": "file", "path": self.source, "target": _names(self.target)}
        task |= {"inputs": _names(self.inputs)} if self.inputs else {}
        return task | ({"horizon": self.horizon} if self.horizon else {})


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _chosen(text: str, known: Any) -> dict[str, Any]:  # noqa: ANN401 (whatever the file had)
    settings = known if isinstance(known, dict) else {}
    return {name: settings.get(name, {}) for name in _names(text)}
