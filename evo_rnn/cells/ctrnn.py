"""Continuous-time network (Pearlmutter 1989, Neural Computation 1), stepped by Euler's rule.

tau_i dy_i/dt = -y_i + f(sum_j w_ij y_j + sum_k v_ik x_k + b_i)

Pearlmutter adds an input of each unit outside f; here inputs have weights and are heard inside it, as other units are.
So stepped it is the rate model of Murray 2019 (eLife 8, e43299), whose leak rate is dt / tau. Beer's form (1995, Adaptive
Behavior 3), which sums f(y_j) and adds inputs outside, is another one.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from evo_rnn.cells.cell import affine, row, zeros
from evo_rnn.layout import Leaf, matrix, units, vector
from evo_rnn.shapes import Weights

ACTIVATIONS = {"logistic": torch.sigmoid, "tanh": torch.tanh}
RANGE = (1.5, 20.0)  # of initial time constants, in steps: from units that forget at once to units that average


@dataclass(frozen=True)
class CTRNN:
    """h' = h + dt/tau (f(W x + U h + b) - h): leaky units, each with a time constant tau of its own that is learned.

    A gene holds log(tau/dt - 1). So any gene gives a time constant above dt, where Euler's step cannot overshoot, and the
    leak rate dt/tau is the logistic function of minus the gene; one step along the gene is about one e-fold of tau.

    Args:
        inputs: I.
        hidden: H.
        dt: time from one step to the next, in the unit of tau.
        tau: ends of the range that initial time constants are drawn from, in the unit of dt, evenly on the gene's scale;
            empty means 1.5 dt to 20 dt.
        activation: f, "tanh" or "logistic" (Pearlmutter's).
    """

    inputs: int
    hidden: int
    dt: float = 1.0
    tau: tuple[float, ...] = ()
    activation: str = "tanh"

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation should be one of {sorted(ACTIVATIONS)} but is {self.activation!r}.")
        if not 0 < self.dt < float("inf"):
            raise ValueError(f"dt should be a positive time but is {self.dt}.")
        if self.tau and not (len(self.tau) == 2 and self.dt < self.tau[0] <= self.tau[1] < float("inf")):
            raise ValueError(f"tau should be two times above dt = {self.dt}, the shorter first, but is {self.tau}.")

    @property
    def outputs(self) -> int:
        """H."""
        return self.hidden

    @property
    def state(self) -> int:
        """H."""
        return self.hidden

    def leaves(self) -> tuple[Leaf, ...]:
        """W (H, I), U (H, H), b (H,), and log(tau/dt - 1) (H,)."""
        h, x = units("h", self.hidden), units("x", self.inputs)
        low, high = (log(tau - 1) for tau in ([tau / self.dt for tau in self.tau] or RANGE))
        return (
            matrix("input", h, x),
            matrix("recurrent", h, h),
            vector("bias", h, ["one"], -0.5, 0.5),
            vector("log_tau", h, h, low, high),
        )

    def start(self, weights: Weights, batch: int) -> Tensor:
        """Zeros."""
        return zeros(weights, batch, self.state)

    def step(self, weights: Weights, x: Tensor, s: Tensor) -> Tensor:
        """One step of Euler's rule: y + dt dy/dt."""
        drive = ACTIVATIONS[self.activation](net_input(weights, x, s))
        return s + leak(weights) * (drive - s)

    def time_constants(self, weights: Weights) -> Tensor:
        """Time constants tau (P, 1, H), in the unit of dt."""
        return self.dt / leak(weights)

    def rate(self, weights: Weights, x: Tensor, s: Tensor) -> Tensor:
        """dy/dt (P, B, H) at inputs (P, B, I) and state (P, B, H): the right-hand side, whatever the step."""
        drive = ACTIVATIONS[self.activation](net_input(weights, x, s))
        rate: Tensor = (drive - s) / self.time_constants(weights)
        return rate


def net_input(weights: Weights, x: Tensor, s: Tensor) -> Tensor:
    """W x + U y + b (P, B, H): what f is applied to."""
    return affine(weights["recurrent"], s, affine(weights["input"], x, row(weights["bias"])))


def leak(weights: Weights) -> Tensor:
    """Leak rate dt / tau (P, 1, H), between 0 and 1: how much of a unit's value one step replaces."""
    return torch.sigmoid(-row(weights["log_tau"]))
