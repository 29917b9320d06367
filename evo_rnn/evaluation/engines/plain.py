"""The plain engine: the model's own `predict`. It knows every model and is what the fused engine is checked against."""

from __future__ import annotations

from torch import Tensor

from evo_rnn.network import Model

BLOCK = 32


class Plain:
    """Calls `model.predict`."""

    block = chunk = BLOCK

    def __init__(self, model: Model, inputs: Tensor, blocks: int = 1) -> None:  # noqa: ARG002 (always one)
        self.model, self.inputs = model, inputs

    def __call__(self, genes: Tensor) -> Tensor:
        """Outputs (block, B, T, O) of chromosomes (block, D)."""
        return self.model.predict(genes, self.inputs)
