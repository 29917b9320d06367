"""Pearlmutter's continuous adjoint (1989, Neural Computation 1; 1995, IEEE Transactions on Neural Networks 6).

The network tau_i dy_i/dt = -y_i + f(a_i), a = W x + U y + b, is seen as a flow in continuous time, whose credit z obeys a
differential equation of its own, integrated backward from z(end) = 0 along the trajectory that was recorded:
    dz_i/dt = z_i / tau_i - e_i - Σ_j u_ji f'(a_j) z_j / tau_j,
    ∂E/∂u_ji = (1 / tau_j) ∫ y_i f'(a_j) z_j dt,   ∂E/∂tau_i = -(1 / tau_i) ∫ z_i (dy_i/dt) dt.
Euler's rule serves both ways, each taking its slope at the end it comes from. So the two do not mirror each other, as those
of backpropagation through the stepped network do, and the gradient is that of the flow up to an error O(dt): a reference,
and a lesson. To train the network that is simulated, any other estimator is exact where this one is near.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evo_rnn.cells.cell import Cell
from evo_rnn.cells.ctrnn import ACTIVATIONS, CTRNN, net_input
from evo_rnn.errors import ConfigError
from evo_rnn.shapes import Weights
from trainers.gradient.estimator import NEVER, Memory, Traits, attached, check_chunk, layout_of, multiply_adds, unpacked
from trainers.gradient.tangent import ran


@dataclass(frozen=True)
class Pearlmutter:
    """The gradient of the flow that a CTRNN samples, not of its steps; what is handed over together is one trajectory."""

    traits = Traits(needs="continuous time, as the cell ctrnn")

    def check(self, cell: Cell) -> None:
        """Refuse cells without continuous time.

        Raises:
            ConfigError: for any cell but a CTRNN.
        """
        _flow(cell)

    def sees(self, cell: Cell, steps: int) -> int:  # noqa: ARG002 (one signature for all estimators)
        """All steps."""
        return steps

    def block(self, cell: Cell, steps: int) -> int:  # noqa: ARG002
        """All steps."""
        return steps

    def begin(self, cell: Cell, genes: Tensor, batch: int) -> Memory:
        """The cell's start.

        Raises:
            ConfigError: for any cell but a CTRNN.
        """
        return {"s": _flow(cell).start(unpacked(cell, genes.detach()), batch)}

    def advance(
        self, cell: Cell, genes: Tensor, x: Tensor, memory: Memory, reset: Tensor = NEVER
    ) -> tuple[Tensor, Memory]:
        """Run forward and record the trajectory; credit ends where the chunk began, as that of BPTT does."""
        check_chunk(cell, genes, x, memory["s"], reset)
        weights, x = unpacked(cell, genes.detach().clone()), x.expand(len(genes), *x.shape[-3:]).transpose(1, 2)
        _, y = ran(cell, weights, x.transpose(1, 2), memory["s"], reset)
        cuts = reset.T if reset.any() else torch.zeros(x.shape[1:3], dtype=torch.bool, device=x.device)

        def pull(ds: Tensor) -> Tensor:
            return _integrated(_flow(cell), weights, x, y, ds.transpose(1, 2), cuts)

        return attached(cell, genes, y.transpose(1, 2), pull), {"s": y[:, -1]}

    def storage(self, cell: Cell, steps: int) -> int:
        """The trajectory, and the weights that it was run with."""
        return steps * cell.state + layout_of(cell).size

    def flops(self, cell: Cell, steps: int) -> float:  # noqa: ARG002
        """Forward, forward again at all points, the adjoint (S²) and the integrals."""
        return 3 * multiply_adds(layout_of(cell)) + cell.state**2


def _flow(cell: Cell) -> CTRNN:
    if not isinstance(cell, CTRNN):
        raise ConfigError(
            f"pearlmutter needs a cell in continuous time, ctrnn, but got {type(cell).__name__}. "
            "Use ctrnn, or bptt, rtrl or hybrid, which serve any cell."
        )
    return cell


def _integrated(cell: CTRNN, weights: Weights, x: Tensor, y: Tensor, errors: Tensor, cuts: Tensor) -> Tensor:
    """∂E/∂w (P, F) of inputs, trajectory and errors e dt (P, t, B, .), and of the steps (t, B) that begin an episode."""
    tau, recurrent = cell.time_constants(weights), weights["recurrent"]
    drive, slope = _driven(cell, weights, x, y)
    z, credit = torch.zeros_like(y[:, 0]), torch.empty_like(y)
    for t in range(y.shape[1] - 1, -1, -1):
        z = z + errors[:, t]  # an error at a point of time is a jump of z
        credit[:, t] = z
        decline = z / tau - torch.bmm(slope[:, t] / tau * z, recurrent)  # dz/dt without e
        z = (z - cell.dt * decline) * ~cuts[t, :, None]
    heard = cell.dt * slope * credit / tau[:, None]  # f'(a_j) z_j dt / tau_j
    speed = (drive - y) / tau[:, None]  # dy/dt
    by_tau = -cell.dt * (credit * speed).sum(dim=(1, 2)) / tau[:, 0]
    flat = heard.flatten(1, 2)
    parts = {
        "input": torch.bmm(flat.mT, x.flatten(1, 2)),
        "recurrent": torch.bmm(flat.mT, y.flatten(1, 2)),
        "bias": flat.sum(dim=1),
        "log_tau": by_tau * (tau[:, 0] - cell.dt),  # the gene is log(tau/dt - 1)
    }
    return torch.cat([parts[leaf.name].flatten(1) for leaf in cell.leaves()], dim=1)


def _driven(cell: CTRNN, weights: Weights, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """F(a) and f'(a), (P, t, B, H), along the trajectory."""
    with torch.enable_grad():
        sums = net_input(weights, x.flatten(1, 2), y.flatten(1, 2)).detach().requires_grad_()
        drive = ACTIVATIONS[cell.activation](sums)
        (slope,) = torch.autograd.grad(drive, sums, torch.ones_like(drive))
    return drive.detach().view_as(y), slope.view_as(y)
