"""Unbiased online recurrent optimization, UORO (Tallec and Ollivier 2018, arXiv 1702.05043).

The influence matrix is kept as one product of two vectors, J_t ≈ s~_t ⊗ θ~_t, whose expectation is J_t. With random signs ν:
    s~_t = ρ0 D_t s~_{t-1} + ρ1 ν,   θ~_t = θ~_{t-1} / ρ0 + (ν I_t) / ρ1,   gradient_t = (δ_t · s~_t) θ~_t.
The signs of different columns cancel in the mean, whatever the positive ρ0 and ρ1: these only keep the variance low.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from evo_rnn.cells.cell import Cell
from evo_rnn.seeds import generator
from trainers.gradient.anatomy import anatomy
from trainers.gradient.estimator import NEVER, Memory, Traits, layout_of, unpacked
from trainers.gradient.tangent import joined, tangent, tangent_flops

HANDED_OVER = 16  # steps
STRETCH = 64  # steps whose signs are drawn together
EPSILON = 1e-7  # beside norms, which are zero at first
Signs = Callable[[int, str, int, int, int], Tensor]


def drawn(seed: int, word: str, step: int, batch: int, count: int) -> Tensor:
    """Signs (B, count) of a step: a function of the seed and the step's number, the same for every network."""
    return _stretch(seed, word, step // STRETCH, batch, count)[:, step % STRETCH]


@lru_cache(maxsize=8)
def _stretch(seed: int, word: str, number: int, batch: int, count: int) -> Tensor:
    """(B, STRETCH, count); a sequence's signs do not depend on how many others there are."""
    heads = generator(seed, word, generation=number).integers(0, 2, size=(batch, STRETCH, count), dtype="int8")
    return torch.from_numpy(heads) * 2 - 1


@dataclass(frozen=True)
class UORO:
    """Unbiased and small, but noisy: one product of two vectors stands for the influence matrix.

    Args:
        seed: of the signs.
        signs: draws them, (B, S) or (P, B, S), from the seed, a word, the step's number, B and S.
    """

    seed: int = 0
    signs: Signs = drawn
    traits = Traits(unbiased=True, local_in_time=True)

    def check(self, cell: Cell) -> None:
        """Any cell."""

    def sees(self, cell: Cell, steps: int) -> int:  # noqa: ARG002 (one signature for all estimators)
        """One: every step's gradient is complete at that step."""
        return 1

    def block(self, cell: Cell, steps: int) -> int:  # noqa: ARG002
        """A few, to save calls."""
        return min(HANDED_OVER, steps)

    def begin(self, cell: Cell, genes: Tensor, batch: int) -> Memory:
        """The cell's start, and the product that stands for what it owes to the genes: zero, unless it is learned."""
        start = cell.start(unpacked(cell, genes.detach()), batch).detach()
        s, theta = self._owed(cell, genes, batch, 0)
        return {"s": start, "s~": s, "theta~": theta, "step": torch.tensor(0)}

    def advance(
        self, cell: Cell, genes: Tensor, x: Tensor, memory: Memory, reset: Tensor = NEVER
    ) -> tuple[Tensor, Memory]:
        """State and product go forward together."""
        states, run = tangent(cell, genes, x, memory["s"], reset)
        first, batch = int(memory["step"]), x.shape[-3]
        nu = torch.stack([self._signs("uoro", first + t, genes, batch, cell.state) for t in range(len(run.D))])
        pulled = run.pulled_each(nu)  # ν I_t
        rho = ratio(pulled, nu)
        grown, rows = rho * nu, pulled / rho
        s, theta = memory["s~"], memory["theta~"]
        left, right = torch.empty_like(nu), torch.empty_like(pulled)
        for t, d in enumerate(run.D):
            if len(run.cut) and run.cut[t].any():
                begun = self._owed(cell, genes, batch, first + t)
                s, theta = (torch.where(run.cut[t, :, None], *each) for each in zip(begun, (s, theta), strict=True))
            s = torch.bmm(d, s[:, :, None])[:, :, 0]
            rho = ratio(theta, s)
            s = torch.addcmul(grown[t], rho, s, out=left[t])
            theta = torch.addcdiv(rows[t], theta, rho, out=right[t])

        def pull(ds: Tensor) -> Tensor:
            share = (ds * left).sum(dim=2)  # δ_t · s~_t
            return torch.bmm(share.T[:, None], right.transpose(0, 1))[:, 0]

        after = {"s": states[:, :, -1], "s~": s, "theta~": theta.clone(), "step": memory["step"] + len(run.D)}
        return joined(cell, genes, states, run.anatomy, pull), after

    def _signs(self, word: str, step: int, genes: Tensor, batch: int, count: int) -> Tensor:
        nu = self.signs(self.seed, word, step, batch, count).to(genes.device, genes.dtype)
        return nu.expand(len(genes), batch, count).reshape(-1, count)

    def _owed(self, cell: Cell, genes: Tensor, batch: int, step: int) -> tuple[Tensor, Tensor]:
        """Vectors (N, S) and (N, F) for the influence of the genes on the start of an episode at this step."""
        nu = self._signs("uoro start", step, genes, batch, cell.state)
        pulled = owed_along(cell, genes, batch, nu)
        rho = ratio(pulled, nu) * pulled.any(dim=1, keepdim=True)  # a start that is given owes nothing
        return rho * nu, pulled / rho.where(rho > 0, 1)

    def storage(self, cell: Cell, steps: int) -> int:
        """Two vectors and the state for every step that is handed over, and two vectors to go on from."""
        count = len(anatomy(cell).order)
        return steps * (2 * cell.state + count) + cell.state + count

    def flops(self, cell: Cell, steps: int) -> float:  # noqa: ARG002
        """D_t s~ (S²), ν I_t and the gradient (D each), and the tangent."""
        return cell.state**2 + 2 * layout_of(cell).size + tangent_flops(cell)


def ratio(above: Tensor, below: Tensor) -> Tensor:
    """ρ (..., 1): the root of the ratio of two norms, 1 while both are zero; with it two vectors become equally long."""
    lengths = (torch.linalg.vector_norm(each, dim=-1, keepdim=True) + EPSILON for each in (above, below))
    return torch.sqrt(torch.divide(*lengths))


def owed_along(cell: Cell, genes: Tensor, batch: int, v: Tensor) -> Tensor:
    """V ∂s_0/∂θ (N, F) for v (N, S), in the columns of the influence."""
    leaves = {name: w.repeat_interleave(batch, dim=0) for name, w in unpacked(cell, genes.detach()).items()}
    with torch.enable_grad():
        start = cell.start({name: w.requires_grad_() for name, w in leaves.items()}, 1)
    order, wanted = anatomy(cell).order.to(v.device), list(leaves.values())
    if not start.requires_grad:
        return v.new_zeros(len(v), len(order))
    found = torch.autograd.grad(start, wanted, v[:, None], allow_unused=True)
    parts = [torch.zeros_like(w) if g is None else g for g, w in zip(found, wanted, strict=True)]
    return torch.cat([part.flatten(1) for part in parts], dim=1)[:, order]
