"""Recursive backpropagation, RBP: the exact batch gradient of networks with IIR synapses (Campolucci et al. 1999).

    (4)  ∂y_nm[t]/∂w_nm(p) = x_m[t-p]  + Σ_r v_nm(r) ∂y_nm[t-r]/∂w_nm(p)
         ∂y_nm[t]/∂v_nm(p) = y_nm[t-p] + Σ_r v_nm(r) ∂y_nm[t-r]/∂v_nm(p)
    (5)  e_n^M[t] = ∂E/∂x_n^M[t],    e_n^l[t] = Σ_q Σ_{p=0}^{T-1-t} δ_q^{l+1}[t+p] ∂y_qn^{l+1}[t+p]/∂x_n^l[t]
    (6)  δ_n^l[t] = e_n^l[t] f'(s_n^l[t])
    (7)  ∂E/∂w_nm(p) = Σ_t δ_n[t] ∂y_nm[t]/∂w_nm(p),   the same for v,   ∂E/∂b_n = Σ_t δ_n[t]

It is RTRL inside each synapse and backpropagation between layers. Static backpropagation (L = 1, I = 0) and temporal
backpropagation (I = 0) are special cases.
"""

from __future__ import annotations

import torch
from torch import Tensor

from evo_rnn.shapes import check_shape
from trainers.gradient.signal_flow.filters import delayed, iir, recursive
from trainers.gradient.signal_flow.functions import function
from trainers.gradient.signal_flow.locally_recurrent import IIRMLP, LayerRun, LayerWeights
from trainers.gradient.signal_flow.simulation import check_finite


@torch.no_grad()
def rbp(net: IIRMLP, genes: Tensor, runs: tuple[LayerRun, ...], error: Tensor) -> Tensor:
    """∂E/∂genes (P, D), summed over sequences and steps.

    Args:
        net: the network.
        genes: chromosomes (P, D).
        runs: what `net.run(genes, x)` says that each layer did.
        error: ∂E/∂outputs (P, B, T, O).

    Raises:
        ValueError: if `error` has not the shape of the outputs.
        DataError: if an error is not a finite number.
    """
    check_shape(error, "error", tuple(runs[-1].s.shape), "Its shape is the outputs'.")
    check_finite(error, "error")
    found = []
    for layer, weights, ran in zip(net.layers[::-1], net.weights(genes)[::-1], runs[::-1], strict=True):
        delta = error * function(layer.function).slope(ran.s)  # (6)
        found.append(_slopes(weights, ran, delta))
        error = _down(weights, delta)
    return net.pack(found[::-1])


def _slopes(weights: LayerWeights, ran: LayerRun, delta: Tensor) -> LayerWeights:
    """(7). The derivative by a tap is that by the tap before it, a step later: one recursion (4) serves all taps."""
    by_x = recursive(weights.v, ran.x[..., None, :].expand_as(ran.y))
    by_y = recursive(weights.v, ran.y)
    w = [torch.einsum("pbtn,pbtnm->pnm", delta, delayed(by_x, p)) for p in range(weights.w.shape[-1])]
    v = [torch.einsum("pbtn,pbtnm->pnm", delta, delayed(by_y, p + 1)) for p in range(weights.v.shape[-1])]
    stacked_v = torch.stack(v, dim=-1) if v else torch.zeros_like(weights.v)
    return LayerWeights(torch.stack(w, dim=-1), stacked_v, delta.sum(dim=(1, 2)))


def _down(weights: LayerWeights, delta: Tensor) -> Tensor:
    """(5). A correlation with the impulse response of a filter is that filter, run back in time."""
    back = iir(weights.w, weights.v, delta.flip(2)[..., None])
    return back.flip(2).sum(dim=3)
