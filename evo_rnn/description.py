"""Models as plain data and back: what is shipped to workers, saved beside weights and shown to people.

>>> from evo_rnn.cells import Elman
>>> describe(Elman(inputs=1, hidden=5))
{'kind': 'Elman', 'inputs': 1, 'hidden': 5}
>>> build({'kind': 'Elman', 'inputs': 1, 'hidden': 5})
Elman(inputs=1, hidden=5)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from evo_rnn.cells import CELLS, Edge, Graph, Node, Stack
from evo_rnn.errors import ConfigError
from evo_rnn.network import Identity, Linear, Logistic, Network

KINDS = {
    kind.__name__: kind for kind in (*CELLS.values(), Stack, Graph, Node, Edge, Linear, Logistic, Identity, Network)
}


def describe(value: Any) -> Any:  # noqa: ANN401 (any field of a description)
    """Plain data (dicts, lists, numbers, strings) that `build` turns back into an equal object."""
    if is_dataclass(value):
        return {"kind": type(value).__name__} | {f.name: describe(getattr(value, f.name)) for f in fields(value)}
    return [describe(item) for item in value] if isinstance(value, tuple) else value


def build(description: Any) -> Any:  # noqa: ANN401
    """The object that `describe` described.

    Raises:
        ConfigError: if a kind is unknown or its fields do not fit.
    """
    if isinstance(description, Mapping):
        settings = {name: build(value) for name, value in description.items() if name != "kind"}
        kind = description.get("kind")
        if kind not in KINDS:
            raise ConfigError(
                f"kind should be one of {sorted(KINDS)} but is {kind!r}. Add a class of your own to "
                "evo_rnn.description.KINDS before it is used."
            )
        try:
            return KINDS[kind](**settings)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{kind} cannot be built from {sorted(settings)}: {error}.") from None
    return tuple(build(item) for item in description) if isinstance(description, list) else description
