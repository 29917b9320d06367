"""Approximating RTRL with random Kronecker factors, KF-RTRL (Mujika, Meier and Steger 2018, arXiv 1805.10842).

Where all sums of a step hear the same values z, its immediate term is K_t ⊗ z_t, and the influence matrix is kept in the
same form, J_t ≈ A_t ⊗ u_t, whose expectation is J_t. With two random signs c0, c1 a step (algorithm 1):
    u_t = c0 p0 u_{t-1} + c1 p1 z_t,   A_t = (c0 / p0) D_t A_{t-1} + (c1 / p1) K_t,   gradient_t = (δ_t A_t) ⊗ u_t.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evo_rnn.cells.cell import Cell
from evo_rnn.errors import ConfigError
from trainers.gradient.anatomy import Anatomy, anatomy
from trainers.gradient.estimator import NEVER, Memory, Traits, unpacked
from trainers.gradient.tangent import Tangent, joined, tangent, tangent_flops
from trainers.gradient.uoro import Signs, drawn, ratio

HANDED_OVER = 16  # steps


@dataclass(frozen=True)
class KFRTRL:
    """Unbiased, with less noise than UORO at the cost O(n³): one Kronecker product stands for the influence matrix.

    Args:
        seed: of the signs.
        signs: draws them, (B, 2) or (P, B, 2), from the seed, a word, the step's number, B and 2.
    """

    seed: int = 0
    signs: Signs = drawn
    traits = Traits(unbiased=True, local_in_time=True, needs="sums that all hear the same values")

    def check(self, cell: Cell) -> None:
        """Refuse cells whose sums hear different values.

        Raises:
            ConfigError: for such a cell.
        """
        parts = anatomy(cell)
        if len(parts.sums) != 1:
            raise ConfigError(
                f"kf_rtrl needs a cell whose sums all hear the same values, as those of elman do, but {type(cell).__name__} "
                f"has {len(parts.sums)} kinds of sums. Use uoro, which is unbiased on any cell, or hybrid, which is exact."
            )
        if len(parts.order) != parts.sums[0].size * parts.sums[0].fan:
            raise ConfigError(
                f"kf_rtrl needs a cell whose weights are all heard in its sums, but {type(cell).__name__} also learns "
                "others, such as its start. Use uoro, which is unbiased on any cell, or hybrid, which is exact."
            )

    def sees(self, cell: Cell, steps: int) -> int:  # noqa: ARG002 (one signature for all estimators)
        """One: every step's gradient is complete at that step."""
        return 1

    def block(self, cell: Cell, steps: int) -> int:  # noqa: ARG002
        """A few, to save calls."""
        return min(HANDED_OVER, steps)

    def begin(self, cell: Cell, genes: Tensor, batch: int) -> Memory:
        """The cell's start and a product of zeros.

        Raises:
            ConfigError: if the cell's sums hear different values.
        """
        self.check(cell)
        (sums,) = anatomy(cell).sums
        start, rows = cell.start(unpacked(cell, genes.detach()), batch), len(genes) * batch
        u, a = genes.new_zeros(rows, sums.fan), genes.new_zeros(rows, cell.state, sums.size)
        return {"s": start, "u": u, "A": a, "step": torch.tensor(0)}

    def advance(
        self, cell: Cell, genes: Tensor, x: Tensor, memory: Memory, reset: Tensor = NEVER
    ) -> tuple[Tensor, Memory]:
        """State and product go forward together."""
        states, run = tangent(cell, genes, x, memory["s"], reset)
        u, a = _forward(run, memory["u"], memory["A"], self._signs(genes, int(memory["step"]), len(run.D), x.shape[-3]))

        def pull(ds: Tensor) -> Tensor:
            pulled = torch.matmul(ds[:, :, None], a)[:, :, 0]  # δ_t A_t
            return torch.bmm(pulled.permute(1, 2, 0), u.transpose(0, 1)).flatten(1)

        after = {"s": states[:, :, -1], "u": u[-1], "A": a[-1], "step": memory["step"] + len(run.D)}
        return joined(cell, genes, states, run.anatomy, pull), after

    def _signs(self, genes: Tensor, first: int, steps: int, batch: int) -> Tensor:
        """(t, N, 2)."""
        each = [self.signs(self.seed, "kf_rtrl", first + t, batch, 2) for t in range(steps)]
        signs = torch.stack([c.expand(len(genes), batch, 2).reshape(-1, 2) for c in each])
        return signs.to(genes.device, genes.dtype)

    def storage(self, cell: Cell, steps: int) -> int:
        """Two factors and the state for every step that is handed over."""
        (sums,) = anatomy(cell).sums
        return steps * (sums.fan + (cell.state + 1) * sums.size + cell.state)

    def flops(self, cell: Cell, steps: int) -> float:  # noqa: ARG002
        """D_t A_{t-1} (S² A), δ_t A_t (S A), the gradient (D), and the tangent."""
        (sums,) = anatomy(cell).sums
        return cell.state * (cell.state + 1) * sums.size + sums.size * sums.fan + tangent_flops(cell)


def _forward(run: Tangent, u: Tensor, a: Tensor, signs: Tensor) -> tuple[Tensor, Tensor]:
    """All u (t, N, q) and A (t, N, S, A)."""
    (k,), (z,), places = run.K, run.z, _places(run.anatomy, a.shape[1]).to(a.device)
    own = ratio(k.flatten(2), z)  # p1
    heard = signs[:, :, 1:] * own * z
    values = (signs[:, :, 1:, None] / own[..., None] * k).flatten(2)
    us, many = torch.empty_like(heard), a.new_empty(len(run.D), len(a), a.shape[1] + 1, a.shape[2])
    many[:, :, -1] = 0  # a row beyond the last column: what touches no column falls there
    for t, d in enumerate(run.D):
        if len(run.cut):
            u, a = u.where(~run.cut[t, :, None], 0), a.where(~run.cut[t, :, None, None], 0)
        a = torch.bmm(d, a)
        p = ratio(a.flatten(1), u)
        u = torch.addcmul(heard[t], signs[t, :, :1] * p, u, out=us[t])
        torch.mul(a, (signs[t, :, :1] / p)[:, :, None], out=many[t, :, :-1])
        many[t].flatten(1).scatter_add_(1, places.expand(len(a), -1), values[t])
        a = many[t, :, :-1]
    return us, many[:, :, :-1]


def _places(parts: Anatomy, count: int) -> Tensor:
    """Where the entries of K (G, A) lie in a flat (S + 1, A) matrix."""
    (sums,) = parts.sums
    return (sums.column.clamp(max=count) * sums.size + torch.arange(sums.size)).flatten()
