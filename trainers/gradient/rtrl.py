"""Real-time recurrent learning (Robinson and Fallside 1987; Williams and Zipser 1989, Neural Computation 1).

J_t = D_t J_{t-1} + I_t,   gradient_t = δ_t J_t: credit is carried forward, so every step's gradient is known at that step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evo_rnn.cells.cell import Cell
from trainers.gradient.estimator import NEVER, Memory, Traits, check_storage, layout_of, unpacked
from trainers.gradient.tangent import joined, owed, tangent, tangent_flops

HANDED_OVER = 64  # steps, while they fit in the cache (`slope.handed_over`)


@dataclass(frozen=True)
class RTRL:
    """Exact; the influence matrix is carried at every step, so memory does not grow with the sequence.

    Args:
        limit: GiB that the influence matrices may take.
    """

    limit: float = 4.0
    traits = Traits(exact=True, unbiased=True, local_in_time=True)

    def check(self, cell: Cell) -> None:
        """Any cell."""

    def sees(self, cell: Cell, steps: int) -> int:  # noqa: ARG002 (one signature for all estimators)
        """One: every step's gradient is complete at that step."""
        return 1

    def block(self, cell: Cell, steps: int) -> int:  # noqa: ARG002
        """A few, to save calls."""
        return min(HANDED_OVER, steps)

    def begin(self, cell: Cell, genes: Tensor, batch: int) -> Memory:
        """The cell's start and what it owes to the genes: nothing, unless the start is learned.

        Raises:
            ConfigError: if the influence is over the limit.
        """
        check_storage(self, cell, genes, batch, self.limit)
        start = cell.start(unpacked(cell, genes.detach()), batch).detach()
        return {"s": start, "J": owed(cell, genes, batch)}

    def advance(
        self, cell: Cell, genes: Tensor, x: Tensor, memory: Memory, reset: Tensor = NEVER
    ) -> tuple[Tensor, Memory]:
        """State and influence go forward together, one tick a time."""
        states, run = tangent(cell, genes, x, memory["s"], reset)
        places, immediate = run.immediate()
        influence, places = memory["J"], places.expand(len(memory["J"]), -1)
        earlier, last = (
            influence.new_empty(len(run.D) - 1, *influence.shape),
            torch.empty_like(influence),
        )  # J_1 ... J_t
        fresh = owed(cell, genes, x.shape[-3]) if len(run.cut) else influence
        for t, (d, i, j) in enumerate(zip(run.D.unbind(), immediate.unbind(), (*earlier.unbind(), last), strict=True)):
            if len(run.cut):
                influence = torch.where(run.cut[t, :, None, None], fresh, influence)
            influence = torch.bmm(d, influence, out=j)  # D_t J_{t-1}
            influence.view(len(influence), -1).scatter_add_(1, places, i)  # + I_t

        def pull(ds: Tensor) -> Tensor:
            total = torch.bmm(ds[-1][:, None], last)[:, 0]
            each = torch.bmm(ds[:-1].flatten(0, 1)[:, None], earlier.flatten(0, 1))
            return each.view(*ds[:-1].shape[:2], -1).sum(dim=0).add_(total) if len(earlier) else total

        after = {"s": states[:, :, -1], "J": influence}
        return joined(cell, genes, states, run.anatomy, pull), after

    def storage(self, cell: Cell, steps: int) -> int:
        """An influence matrix for every step that is handed over."""
        return steps * cell.state * layout_of(cell).size

    def flops(self, cell: Cell, steps: int) -> float:  # noqa: ARG002
        """D_t J_{t-1} (S² D), δ_t J_t (S D) and the tangent."""
        return cell.state * (cell.state + 1) * layout_of(cell).size + tangent_flops(cell)
