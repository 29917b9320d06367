"""Causal recursive backpropagation, CRBP(Q): RBP as it goes along, in fixed memory (Campolucci et al. 1999).

The future that (5) asks for is cut to Q_{l+1} steps and waited for: layer l gets its credit D_l steps late.

    (8)  D_M = 0,  D_l = D_{l+1} + Q_{l+1}
    (9)  e_n^l[t-D_l] = Σ_q Σ_{p=0}^{Q_{l+1}} δ_q^{l+1}[t-D_l+p] ∂y_qn^{l+1}[t-D_l+p]/∂x_n^l[t-D_l]

and the step at t is δ_n^l[t-D_l] ∂y_nm^l[t-D_l]/∂weight by (4), (6), (7). The output layer is exact for every Q; all layers
are if each Q reaches to the end. Weights may change at every step; what was kept from before is then off by O(rate).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from evo_rnn.errors import ConfigError
from evo_rnn.shapes import check_shape
from trainers.gradient.signal_flow.filters import impulse_response, pushed
from trainers.gradient.signal_flow.functions import function
from trainers.gradient.signal_flow.locally_recurrent import IIRMLP, IIRLayer, LayerWeights
from trainers.gradient.signal_flow.simulation import check_finite


class LayerWindow(NamedTuple):
    """What one layer keeps of the past, the newest first along the last axis.

    x (P, B, m, L) and y (P, B, n, m, I) feed the filters; by_x and by_y (P, B, n, m, .) are the recursions (4); slope is
    f'(s) and delta is (6), (P, B, n, .).
    """

    x: Tensor
    y: Tensor
    by_x: Tensor
    by_y: Tensor
    slope: Tensor
    delta: Tensor


class Windows(NamedTuple):
    """What each layer keeps, and whether the latest step still waits for its error."""

    layers: tuple[LayerWindow, ...]
    waiting: bool


@dataclass(frozen=True)
class CRBP:
    """Gradients step by step, for a loop of your own: `forward`, look at the output, `backward`, change the genes.

    Every step wants its `backward`, with an error of zero where there is no target: credit of earlier steps is still due.

    Args:
        net: the network.
        horizons: Q_2 ... Q_M, how far credit is awaited through layer l; one number a layer but the first.
    """

    net: IIRMLP
    horizons: tuple[int, ...]

    def __post_init__(self) -> None:
        wanted = len(self.net.layers) - 1
        if len(self.horizons) != wanted or any(q < 0 for q in self.horizons):
            raise ConfigError(
                f"horizons should be {wanted} numbers, 0 or more, but are {self.horizons}. One a layer above."
            )

    @property
    def delays(self) -> tuple[int, ...]:
        """D_1 ... D_M, in steps: (8)."""
        return tuple(sum(self.horizons[number:]) for number in range(len(self.net.layers)))

    def begin(self, genes: Tensor, batch: int) -> Windows:
        """The memory before the first step of B sequences for chromosomes (P, D).

        All zero, slopes too: no credit falls before the start.
        """
        windows, m = [], self.net.inputs
        for layer, late, q in zip(self.net.layers, self.delays, (0, *self.horizons), strict=True):
            n, feedback = layer.units, layer.feedback
            by = max(late + layer.taps, feedback), late + feedback + 1
            sizes = (m, layer.taps), (n, m, feedback), (n, m, by[0]), (n, m, by[1]), (n, late + 1), (n, q + 1)
            windows.append(LayerWindow(*(genes.new_zeros(len(genes), batch, *size) for size in sizes)))
            m = n
        return Windows(tuple(windows), waiting=False)

    @torch.no_grad()
    def forward(self, genes: Tensor, x: Tensor, memory: Windows) -> tuple[Tensor, Windows]:
        """Outputs (P, B, O) for inputs x (B, I) of one step.

        Raises:
            ValueError: if a shape is wrong, or the step before had no `backward`.
            DataError: if an input is not a finite number.
        """
        if memory.waiting:
            raise ValueError(
                "backward should come after every forward. Give an error of zero where there is no target."
            )
        check_shape(x, "x", (memory.layers[0].x.shape[1], self.net.inputs), "One row a sequence.")
        check_finite(x, "x")
        x = x.expand(len(genes), *x.shape)
        after = []
        for layer, weights, window in zip(self.net.layers, self.net.weights(genes), memory.layers, strict=True):
            x, window = _tick(layer, weights, window, x)
            after.append(window)
        return x, Windows(tuple(after), waiting=True)

    @torch.no_grad()
    def backward(self, genes: Tensor, error: Tensor, memory: Windows) -> tuple[Tensor, Windows]:
        """The step's share (P, D) of ∂E/∂genes, summed over sequences, from error (P, B, O) = ∂E/∂outputs of this step.

        Raises:
            ValueError: if `error` has not the shape of the outputs, or no step waits for it.
            DataError: if an error is not a finite number.
        """
        if not memory.waiting:
            raise ValueError(
                "backward should come once after each forward but no step waits for it. Call forward first."
            )
        check_shape(error, "error", tuple(memory.layers[-1].slope.shape[:-1]), "Its shape is the outputs'.")
        check_finite(error, "error")
        found, after = [], []
        layers = zip(self.net.weights(genes), memory.layers, self.delays, strict=True)
        for weights, window, late in reversed(list(layers)):
            delta = error * window.slope[..., late]  # (6), late steps ago
            found.append(_slopes(weights, window, delta, late))
            window = window._replace(delta=pushed(window.delta, delta))
            after.append(window)
            error = _down(weights, window.delta)
        return self.net.pack(found[::-1]), Windows(tuple(after[::-1]), waiting=False)

    def finish(self, genes: Tensor, memory: Windows) -> Tensor:
        """The shares (P, D) still due when the sequences have ended: D_1 more steps without error."""
        total = torch.zeros_like(genes)
        none = torch.zeros_like(memory.layers[0].x[0, ..., 0])
        for _ in range(self.delays[0]):
            outputs, memory = self.forward(genes, none, memory)
            share, memory = self.backward(genes, torch.zeros_like(outputs), memory)
            total += share
        return total


def _tick(layer: IIRLayer, weights: LayerWeights, window: LayerWindow, x: Tensor) -> tuple[Tensor, LayerWindow]:
    """One step of a layer by (1)-(3), and of its recursions (4)."""
    w, v, bias = (part[:, None] for part in weights)
    order = layer.feedback
    inputs = pushed(window.x, x)
    y = (w * inputs[:, :, None]).sum(dim=-1) + (v * window.y).sum(dim=-1)  # (1)
    by_x = x[:, :, None] + (v * window.by_x[..., :order]).sum(dim=-1)  # (4)
    by_y = y + (v * window.by_y[..., :order]).sum(dim=-1)
    s = bias + y.sum(dim=-1)  # (2)
    f = function(layer.function)
    outer = pushed(window.by_x, by_x), pushed(window.by_y, by_y), pushed(window.slope, f.slope(s))
    return f.value(s), LayerWindow(inputs, pushed(window.y, y), *outer, window.delta)


def _slopes(weights: LayerWeights, window: LayerWindow, delta: Tensor, late: int) -> LayerWeights:
    """(7) of the step `late` steps ago; a tap's derivative is the recursion (4) as many steps before."""
    taps, order = weights.w.shape[-1], weights.v.shape[-1]
    by_x, by_y = window.by_x[..., late : late + taps], window.by_y[..., late + 1 : late + 1 + order]
    w, v = (torch.einsum("pbn,pbnmk->pnmk", delta, by) for by in (by_x, by_y))
    return LayerWeights(w, v, delta.sum(dim=1))


def _down(weights: LayerWeights, delta: Tensor) -> Tensor:
    """(9): the window of deltas (P, B, n, Q + 1), the newest first, meets the impulse response from its far end."""
    response = impulse_response(weights.w, weights.v, delta.shape[-1])
    return torch.einsum("pbnk,pknm->pbm", delta.flip(-1), response)
