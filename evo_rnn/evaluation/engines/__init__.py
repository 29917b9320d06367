"""Engines: how one block of chromosomes is run over the data. Which one serves depends on model and data only."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from evo_rnn.errors import ConfigError
from evo_rnn.evaluation.engines.engine import Engine
from evo_rnn.evaluation.engines.fused import Fused, fuses, plane_of
from evo_rnn.evaluation.engines.plain import BLOCK, Plain
from evo_rnn.network import Model, Network


class Make(Protocol):
    """Builds an engine for a model on inputs (B, T, I), which takes so many blocks a call if it can."""

    def __call__(self, model: Model, inputs: Tensor, blocks: int = 1) -> Engine: ...


ENGINES: dict[str, Make] = {"fused": Fused, "plain": Plain}


def engine_for(model: Model, inputs: Tensor, name: str = "auto", blocks: int = 1) -> Engine:
    """The engine called `name` for `model` on inputs (B, T, I) float32; "auto" takes the fastest that knows the model.

    Raises:
        ConfigError: if there is no such engine, or it cannot run the model.
    """
    return ENGINES[chosen(model, inputs, name)](model, inputs, blocks)


def chosen(model: Model, inputs: Tensor, name: str = "auto") -> str:
    """The name of the engine that `name` stands for.

    Raises:
        ConfigError: if there is no such engine.
    """
    if name not in ("auto", *ENGINES):
        raise ConfigError(f"engine should be auto or one of {sorted(ENGINES)} but is {name!r}.")
    return name if name != "auto" else "fused" if fuses(model, inputs) else "plain"


def block_of(model: Model, batch: int, name: str, device: str) -> int:
    """The block of the engine called `name` (not "auto") on `batch` sequences, without making one."""
    if name == "fused" and isinstance(model, Network):
        return plane_of(model, batch, torch.device(device)).block
    return BLOCK


__all__ = ["ENGINES", "Engine", "Fused", "Plain", "block_of", "chosen", "engine_for"]
