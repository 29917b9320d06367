"""Fitting: anything that improves given chromosomes on given data, the same noun for a solved readout or gradient steps.

Evolution may fit every chromosome before it is scored. Lamarckian evolution writes the result back into the chromosome,
Baldwinian evolution only scores it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from evo_rnn.errors import ConfigError
from evo_rnn.fitness import LOSSES, Batch
from evo_rnn.network import Linear, Model, Network
from evo_rnn.shapes import Genes

SURE = 6.0  # the logit of a class that is certain: exp(6) is 400 times the others
FIT_BLOCK = 32  # rows fitted together, always: kernels, and so the last bits, differ with the shape


class Fit(Protocol):
    """Improves chromosomes, each by itself."""

    def __call__(self, model: Model, genes: Tensor, data: Batch) -> Tensor:
        """Chromosomes (P, D) from chromosomes (P, D); rows do not feel each other."""
        ...

    def passes(self, model: Model, steps: int) -> float:
        """What fitting one chromosome costs, in forward passes over sequences of `steps` steps."""
        ...


@dataclass(frozen=True)
class SolvedReadout:
    """The linear readout of least squared error, ridge-regularised (Evolino: Schmidhuber et al. 2007, Neural Comp. 19).

    Args:
        ridge: penalty on the squared readout weights, relative to the mean square of the hidden values.
        loss: a name in `LOSSES`; where it has classes, a step's own class is regressed to `SURE` and the others to 0.
    """

    ridge: float = 1e-4
    loss: str = "mse"

    def __post_init__(self) -> None:
        if not LOSSES[self.loss].causal:
            raise ConfigError(
                f"A solved readout needs a loss with a target at every step but {self.loss} asks for a whole sequence. "
                "Leave evolino out, or train with memetic or bptt."
            )

    def __call__(self, model: Model, genes: Tensor, data: Batch) -> Tensor:
        """The same cell genes with the readout solved on the counted steps; a row whose states overflow is left alone."""
        network = _with_readout(model)
        states = network.states(genes, data.inputs)[..., : network.cell.outputs].double()
        hidden = torch.where(data.counts[..., None], states, 0.0).flatten(1, 2)  # (P, N, H)
        ones = data.counts.flatten().double().expand(len(genes), -1)[..., None]
        design = torch.cat([hidden, ones], dim=2)  # (P, N, H + 1)
        wanted = data.targets.double()
        if LOSSES[self.loss].classes:
            wanted = SURE * torch.nn.functional.one_hot(wanted[..., 0].long(), network.readout.outputs).double()
        targets = torch.where(data.counts[..., None], wanted, 0.0).flatten(0, 1)  # (N, O)
        gram = design.transpose(1, 2) @ design
        penalty = self.ridge * gram.diagonal(dim1=1, dim2=2).clone()
        penalty[:, -1] = 0.0  # the bias is free
        gram = gram + torch.diag_embed(penalty + 1e-9)
        sound = torch.isfinite(gram).all(dim=(1, 2))
        safe = torch.where(sound[:, None, None], gram, torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device))
        solution = torch.linalg.solve(safe, design.transpose(1, 2) @ targets)  # (P, H + 1, O)
        readout = torch.cat([solution[:, :-1].transpose(1, 2).flatten(1), solution[:, -1]], dim=1).to(genes.dtype)
        kept = genes.shape[1] - readout.shape[1]
        fitted = torch.cat([genes[:, :kept], readout], dim=1)
        return torch.where((sound & torch.isfinite(readout).all(dim=1))[:, None], fitted, genes)

    def passes(self, model: Model, steps: int) -> float:  # noqa: ARG002 (one signature for all fits)
        """One to get the states, and the normal equations' (H + 1)(H + 1 + O) multiply-adds a step."""
        network = _with_readout(model)
        width = network.cell.outputs + 1
        forward = sum(leaf.full for leaf in network.layout.leaves if len(leaf.shape) > 1)
        return 1 + width * (width + network.readout.outputs) / forward


def _with_readout(model: Model) -> Network:
    if not isinstance(model, Network) or not isinstance(model.readout, Linear):
        raise ConfigError(f"model should have a linear readout to solve but is {model}. Use a network with one.")
    return model


def fit_in_blocks(fit: Fit, model: Model, genes: Genes, data: Batch) -> Genes:
    """`fit` applied block by block of a fixed size, padded, so that no row's bits depend on how many others there are."""
    fitted = np.empty_like(genes, dtype=np.float32)
    for start in range(0, len(genes), FIT_BLOCK):
        rows = torch.as_tensor(np.array(genes[start : start + FIT_BLOCK], dtype=np.float32))
        part = torch.zeros(FIT_BLOCK, rows.shape[1])
        part[: len(rows)] = rows
        done = fit(model, part.to(data.inputs.device), data)[: len(rows)]
        fitted[start : start + FIT_BLOCK] = done.detach().cpu().numpy()
    return fitted
