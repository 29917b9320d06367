"""Gradient steps inside evolution (memetic algorithms: Moscato 1989): a fit like any other."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from evo_rnn.errors import ConfigError
from evo_rnn.fitness import LOSSES, Batch
from evo_rnn.network import Model, Network
from trainers.gradient import BPTT, Estimator, passes, slope
from trainers.gradient.estimator import reseeded
from trainers.moving import clipped


@dataclass(frozen=True)
class GradientSteps:
    """A few steps of Adam on each chromosome, with a fresh memory each time.

    Args:
        gradients: how many gradients each chromosome may follow.
        learning_rate: of Adam.
        clip: bound on the norm of each row's gradient; 0 means none.
        loss: a name in `LOSSES`.
        estimator: how credit goes through time.
    """

    gradients: int = 5
    learning_rate: float = 0.03
    clip: float = 1.0
    loss: str = "mse"
    estimator: Estimator = field(default_factory=BPTT)

    def __call__(self, model: Model, genes: Tensor, data: Batch) -> Tensor:
        """Chromosomes (P, D) after the steps; a row that breaks on the way stays as it was."""
        network = _network(model)
        moved = genes.detach().clone().requires_grad_()
        optimizer = torch.optim.Adam([moved], lr=self.learning_rate)  # element-wise, so rows stay apart
        for step in range(self.gradients):
            _, gradient = slope(reseeded(self.estimator, 0, step), network, moved, data, LOSSES[self.loss])
            moved.grad = clipped(gradient, self.clip)
            optimizer.step()
        sound = torch.isfinite(moved).all(dim=1, keepdim=True)
        return torch.where(sound, moved.detach(), genes)

    def passes(self, model: Model, steps: int) -> float:
        """Of all its gradients."""
        return self.gradients * passes(self.estimator, _network(model), steps)


def _network(model: Model) -> Network:
    if not isinstance(model, Network):
        raise ConfigError(f"model should be a Network for gradient steps but is {model}. Use evolution without them.")
    return model
