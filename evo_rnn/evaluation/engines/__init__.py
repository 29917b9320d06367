"""Engines: how one block of chromosomes is run over the data. Which one serves depends on model and data only."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from evo_rnn.errors import ConfigError
from evo_rnn.evaluation.engines.engine import Engine
from evo_rnn.evaluation.engines.fused import Fused, fuses
from evo_rnn.evaluation.engines.plain import Plain
from evo_rnn.network import Model

ENGINES: dict[str, Callable[[Model, Tensor], Engine]] = {"fused": Fused, "plain": Plain}


def engine_for(model: Model, inputs: Tensor, name: str = "auto") -> Engine:
    """The engine called `name` for `model` on inputs (B, T, I) float32; "auto" takes the fastest that knows the model.

    Raises:
        ConfigError: if there is no such engine, or it cannot run the model.
    """
    if name not in ("auto", *ENGINES):
        raise ConfigError(f"engine should be auto or one of {sorted(ENGINES)} but is {name!r}.")
    if name == "auto":
        name = "fused" if fuses(model, inputs) else "plain"
    return ENGINES[name](model, inputs)


__all__ = ["ENGINES", "Engine", "Fused", "Plain", "engine_for"]
