"""Banks of causal linear filters from rest: P networks, B sequences, n units with m inputs each, one filter a synapse.

Axes: a signal of inputs is (P, B, T, 1, m), one of synapses (P, B, T, n, m); taps are (P, n, m, number of taps).
"""

from __future__ import annotations

import torch
from torch import Tensor


def delayed(signal: Tensor, steps: int) -> Tensor:
    """signal[t - steps] along axis 2 (T), zero before the start."""
    if steps == 0:
        return signal
    kept = max(signal.shape[2] - steps, 0)
    start = torch.zeros_like(signal[:, :, : min(steps, signal.shape[2])])
    return torch.cat([start, signal[:, :, :kept]], dim=2)


def fir(w: Tensor, x: Tensor) -> Tensor:
    """Finite impulse response: y[t] = Σ_{p=0}^{L-1} w_p x[t-p]."""
    parts = (tap[:, None, None] * delayed(x, p) for p, tap in enumerate(w.unbind(dim=-1)))
    return sum(parts, start=x.new_zeros(()))


def recursive(v: Tensor, drive: Tensor) -> Tensor:
    """The all-pole part: y[t] = drive[t] + Σ_{p=1}^{I} v_p y[t-p]."""
    if v.shape[-1] == 0:
        return drive
    past = drive.new_zeros(*drive.shape[:2], *v.shape[1:])  # (P, B, n, m, I), the newest first
    steps = []
    for now in drive.unbind(dim=2):
        y = now + (v[:, None] * past).sum(dim=-1)
        past = pushed(past, y)
        steps.append(y)
    return torch.stack(steps, dim=2)


def iir(w: Tensor, v: Tensor, x: Tensor) -> Tensor:
    """Infinite impulse response: y[t] = Σ_{p=0}^{L-1} w_p x[t-p] + Σ_{p=1}^{I} v_p y[t-p]."""
    return recursive(v, fir(w, x))


def impulse_response(w: Tensor, v: Tensor, length: int) -> Tensor:
    """∂y[t+p]/∂x[t] for p = 0 ... length - 1: (P, length, n, m)."""
    pulse = w.new_zeros(len(w), 1, length, 1, 1)
    pulse[:, :, 0] = 1.0
    return iir(w, v, pulse)[:, 0]


def pushed(window: Tensor, now: Tensor) -> Tensor:
    """A window of the same length, the newest first along its last axis, with `now` in front."""
    return torch.cat([now[..., None], window], dim=-1)[..., : window.shape[-1]]
