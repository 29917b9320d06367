"""Tasks, one file each, and the dict that names them. Nothing is imported until a task is made."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from evo_rnn.errors import ConfigError

if TYPE_CHECKING:
    from evo_rnn.tasks.task import Task


@dataclass(frozen=True)
class Entry:
    """A task by name: the function that makes it, imported at its first use."""

    module: str
    function: str

    @property
    def make(self) -> Callable[..., Task]:
        """The function itself, with its settings and their defaults in its signature."""
        made: Callable[..., Task] = getattr(import_module(f"evo_rnn.tasks.{self.module}"), self.function)
        return made

    def __call__(self, *arguments: Any, **settings: Any) -> Task:  # noqa: ANN401 (each task has its own settings)
        """The task with these settings.

        Raises:
            ConfigError: if it has no such setting, lacks a needed one, or refuses a value.
            DataError: if a data file cannot be used.
        """
        signature = inspect.signature(self.make)
        try:
            signature.bind(*arguments, **settings)
        except TypeError as error:
            takes = f"the settings {', '.join(signature.parameters)}" if signature.parameters else "no settings"
            raise ConfigError(f"The task {self.function} takes {takes}: {error}.") from None
        return self.make(*arguments, **settings)


TASKS = {
    "sunspots": Entry("sunspots", "sunspots"),
    "mackey_glass": Entry("mackey_glass", "mackey_glass"),
    "sines": Entry("sines", "sines"),
    "adding": Entry("adding", "adding"),
    "temporal_order": Entry("temporal_order", "temporal_order"),
    "delayed_xor": Entry("delayed_xor", "delayed_xor"),
    "strokes": Entry("strokes", "strokes"),
    "embedded_reber": Entry("reber", "embedded_reber"),
    "file": Entry("file", "from_file"),
}

__all__ = ["TASKS", "Entry"]
