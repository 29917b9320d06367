"""The on-line gradient of any signal-flow graph (Campolucci, Uncini & Piazza 2000, Neural Computation 12).

The paper: A signal-flow-graph approach to on-line gradient calculation. At every step t the adjoint graph runs back from
the present error, or from the sum of the last few, over the present and the Q steps before it:

    ∂E_t/∂w ≈ Σ_{k=t-Q}^{t} δ(k) a(k)

Memory is fixed; with Q >= t it is exact at fixed weights.
Old signals were made with old weights and the adjoint uses the present ones: while learning, that is off by O(rate).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from evo_rnn.errors import ConfigError
from evo_rnn.shapes import check_shape
from trainers.gradient.signal_flow.graph import SignalFlowGraph
from trainers.gradient.signal_flow.simulation import Signals, gradient, simulate


class Window(NamedTuple):
    """The graph's state, the signals (P, B, up to Q + 1) of the latest steps, and their errors (P, B, up to N, O)."""

    state: Signals
    signals: Signals
    errors: Tensor


@dataclass(frozen=True)
class OnlineAdjoint:
    """Gradients step by step, for a loop of your own: `forward`, look at the output, `backward`, change the weights.

    Args:
        graph: any signal-flow graph that runs forward in time.
        horizon: Q, how many steps before the present the adjoint goes back.
        errors: N, of how many of the latest steps E_t sums the errors.
    """

    graph: SignalFlowGraph
    horizon: int
    errors: int = 1

    def __post_init__(self) -> None:
        if self.graph.backward or not self.graph.weights:
            raise ConfigError("graph should run forward in time and have a learned weight. Name a gain's weight.")
        if self.horizon < 0:
            raise ConfigError(f"horizon should be 0 steps back or more but is {self.horizon}.")
        if not 1 <= self.errors <= self.horizon + 1:
            span = f"1 to horizon + 1 = {self.horizon + 1}"
            raise ConfigError(f"errors should be {span} steps but is {self.errors}. Give a longer horizon.")

    def begin(self, weights: Tensor, batch: int) -> Window:
        """The memory before the first step of B sequences for weights (P, D)."""
        return Window({}, {}, weights.new_zeros(len(weights), batch, 0, len(self.graph.names("output"))))

    def forward(self, weights: Tensor, x: Tensor, memory: Window) -> tuple[Tensor, Window]:
        """Outputs (P, B, O) for inputs x (B, I) of one step.

        Raises:
            ValueError: if a shape is wrong.
            DataError: if an input is not a finite number.
        """
        check_shape(x, "x", (memory.errors.shape[1], len(self.graph.names("input"))), "One row a sequence.")
        run = simulate(self.graph, weights, x[:, None], memory.state)
        known = memory.signals or {name: now[:, :, :0] for name, now in run.signals.items()}
        signals = {name: _latest(known[name], now, self.horizon + 1) for name, now in run.signals.items()}
        errors = _latest(memory.errors, torch.zeros_like(run.outputs), self.errors)
        return run.outputs[:, :, 0], Window(run.state, signals, errors)

    def backward(self, weights: Tensor, error: Tensor, memory: Window) -> tuple[Tensor, Window]:
        """∂E_t/∂weights (P, D), summed over sequences, from error (P, B, O) = ∂E/∂outputs of this step.

        Raises:
            ValueError: if `error` has not the shape of the outputs, or if no step was made.
            DataError: if an error is not a finite number.
        """
        if not memory.signals:
            raise ValueError("backward should come after forward but no step was made. Call forward first.")
        check_shape(error, "error", (*memory.errors.shape[:2], memory.errors.shape[3]), "Its shape is the outputs'.")
        errors = torch.cat([memory.errors[:, :, :-1], error[:, :, None]], dim=2)
        length = next(iter(memory.signals.values())).shape[2]
        before = errors.new_zeros(*errors.shape[:2], length - errors.shape[2], errors.shape[3])
        found = gradient(self.graph, weights, memory.signals, torch.cat([before, errors], dim=2))
        return found.weights, memory._replace(errors=errors)


def _latest(past: Tensor, now: Tensor, count: int) -> Tensor:
    """The last `count` steps of past and now, along axis 2."""
    return torch.cat([past, now], dim=2)[:, :, -count:]
