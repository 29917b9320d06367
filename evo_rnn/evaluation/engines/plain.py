"""The plain engine: the model's own `predict`. It knows every model and is what the fused engine is checked against."""

from __future__ import annotations

from torch import Tensor

from evo_rnn.network import Model


class Plain:
    """Calls `model.predict`."""

    block = 32

    def __init__(self, model: Model, inputs: Tensor) -> None:
        self.model, self.inputs = model, inputs

    def __call__(self, genes: Tensor) -> Tensor:
        """Outputs (block, B, T, O) of chromosomes (block, D)."""
        return self.model.predict(genes, self.inputs)
