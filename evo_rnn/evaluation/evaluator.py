"""What an evaluator is: chromosomes in, losses out; the same bits whoever computes them.

Determinism: a chromosome is always scored in a block of one fixed size, at the slot its global index gives it, by one
thread. So neither the number of workers nor the size of the population can change a bit (docs/decisions/0002).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from evo_rnn.evaluation.engines import engine_for
from evo_rnn.fit import Fit, fit_in_blocks
from evo_rnn.fitness import LOSSES, batch, sanitise
from evo_rnn.network import Model
from evo_rnn.shapes import Array, Genes, Losses, check_shape
from evo_rnn.tasks.task import Sequences
from evo_rnn.threads import one_thread


class Evaluator(Protocol):
    """Losses (P,) float64 of chromosomes (P, D) float32, sanitised: an invalid network has an infinite loss."""

    @property
    def seconds(self) -> float:
        """CPU seconds spent in other processes so far; what is spent in this one, its own clock tells."""
        ...

    def __call__(self, genes: Genes) -> Losses:
        """The loss of each chromosome, in order."""
        ...

    def fit(self, fit: Fit, genes: Genes) -> Genes:
        """The fitted chromosomes (P, D), in order."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


class LocalEvaluator:
    """Scores chromosomes in this process: the oracle of every other evaluator.

    Args:
        model: what the chromosomes are the weights of.
        data: the split to score on.
        loss: a name in `LOSSES`.
        device: where to compute, as torch names it.
        engine: a name in `evo_rnn.evaluation.engines.ENGINES`, or "auto".
    """

    def __init__(
        self, model: Model, data: Sequences, loss: str = "mse", device: str = "cpu", engine: str = "auto"
    ) -> None:
        self.model, self.loss, self.device = model, LOSSES[loss], device
        self.data = batch(data, torch.float64, device)
        self.batch = batch(data, torch.float32, device)
        self.engine = engine_for(model, self.batch.inputs, engine)

    seconds = 0.0

    @property
    def block(self) -> int:
        """How many chromosomes are always scored together."""
        return self.engine.block

    def __call__(self, genes: Genes) -> Losses:
        """The sanitised loss (P,) of each chromosome of (P, D).

        Raises:
            ValueError: if the chromosomes are of another network.
        """
        losses = [self.loss(outputs.double(), self.data)[:count] for outputs, count in self._blocks(genes)]
        return sanitise(torch.cat(losses).cpu().numpy()) if losses else np.empty(0)

    def fit(self, fit: Fit, genes: Genes) -> Genes:
        """The chromosomes (P, D) fitted to the data, in blocks of a fixed size."""
        with one_thread():
            return fit_in_blocks(fit, self.model, genes, self.batch)

    def close(self) -> None:
        """Nothing to give back."""

    def predict(self, genes: Genes) -> Array:
        """Outputs (P, B, T, O) float32 of each chromosome."""
        outputs = [outputs[:count].clone() for outputs, count in self._blocks(genes)]
        return torch.cat(outputs).cpu().numpy()

    def learned(self, genes: Genes, tolerance: Array) -> Array:
        """The share (P,) of counted steps within `tolerance (O,)` of the target (for classes: right), 0 to 1."""
        bound = torch.as_tensor(tolerance, dtype=torch.float64, device=self.device)
        shares = [self.loss.share(outputs.double(), self.data, bound)[:count] for outputs, count in self._blocks(genes)]
        return np.asarray(torch.cat(shares).cpu().numpy())

    def _blocks(self, genes: Genes) -> Iterator[tuple[Tensor, int]]:
        check_shape(genes, "genes", ("P", self.model.layout.size), "Was the population made for another network?")
        for start in range(0, len(genes), self.block):
            part = genes[start : start + self.block]
            padded = np.zeros((self.block, genes.shape[1]), np.float32)  # a whole block: kernels differ with the shape
            padded[: len(part)] = part
            with torch.no_grad(), one_thread():
                outputs = self.engine(torch.from_numpy(padded).to(self.device))
            yield outputs, len(part)
