"""Feedback alignment (Lillicrap, Cownden, Tweed and Akerman 2016, Nature Communications 7, 13276).

Forward y = V h + a as ever; backward dh = Bᵀ dy with a fixed random B in place of V, and dV = dy hᵀ, da = dy as ever.
So no unit needs to know the weights that others read it by, which is what makes RFLO (Murray 2019, eLife 8, e43299) and
e-prop with random feedback (Bellec et al. 2020, Nature Communications 11, 3625) local in space.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from evo_rnn.errors import ConfigError
from evo_rnn.layout import Leaf
from evo_rnn.network import Linear, Network
from evo_rnn.seeds import generator
from evo_rnn.shapes import Array, Weights


@dataclass(frozen=True)
class FeedbackAlignment:
    """The readout `Linear`, with the same genes and the same outputs, but errors come back by fixed random weights.

    Args:
        inputs: H.
        outputs: O.
        seed: of the feedback weights; all networks of a population have the same.
    """

    inputs: int
    outputs: int
    seed: int = 0

    @cached_property
    def feedback(self) -> Array:
        """B (O, H) float64, drawn as the readout's own initial weights are."""
        weight, _ = self.leaves()
        return generator(self.seed, "random feedback").uniform(weight.low, weight.high, weight.shape)

    def leaves(self) -> tuple[Leaf, ...]:
        """V (O, H), a (O,)."""
        return Linear(self.inputs, self.outputs).leaves()

    def __call__(self, weights: Weights, h: Tensor) -> Tensor:
        """Outputs (P, N, O) from hidden values (P, N, H)."""
        feedback = torch.as_tensor(self.feedback, dtype=h.dtype, device=h.device)
        outputs: Tensor = _Misaligned.apply(h, weights["weight"], weights["bias"], feedback)  # type: ignore[no-untyped-call]
        return outputs


def misaligned(network: Network, seed: int) -> Network:
    """The same network, with the same chromosomes and outputs, whose slopes come back from the readout by random weights.

    Give it to a gradient rule; score and save the network itself.

    Raises:
        ConfigError: if the readout is not linear.
    """
    if not isinstance(network.readout, Linear):
        raise ConfigError(f"Random feedback needs a linear readout but the network has {network.readout}. Use Linear.")
    readout = FeedbackAlignment(network.readout.inputs, network.readout.outputs, seed)
    return Network(network.cell, readout)  # type: ignore[arg-type]  # a readout in all but name


class _Misaligned(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(h: Tensor, weight: Tensor, bias: Tensor, feedback: Tensor) -> Tensor:  # noqa: ARG004 (for the way back)
        """V h + a."""
        return torch.baddbmm(bias[:, None], h, weight.mT)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:  # noqa: ANN401, ARG004
        """What the way back needs."""
        h, _, _, feedback = inputs
        ctx.save_for_backward(h, feedback)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:  # noqa: ANN401
        """By h through B; by V and a as they are."""
        h, feedback = ctx.saved_tensors
        (dy,) = grads
        return dy @ feedback, dy.mT @ h, dy.sum(dim=1), None
