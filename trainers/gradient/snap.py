"""SnAp-k (Menick et al. 2021, A practical sparse approximation for real time recurrent learning, arXiv 2006.07232).

J_t = M_k ∘ (D_t J_{t-1} + I_t), where M_k holds what a link reaches within k steps: with k = 1 what it touches
at once, which costs no more than the weights; with a k that reaches everything, RTRL. In a densely linked cell two steps
reach everything, so larger orders are for sparse ones. Layers of units that hear only themselves are exact with k = 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from evo_rnn.cells.cell import Cell
from trainers.gradient.estimator import NEVER, Memory, Traits, check_least, check_storage
from trainers.gradient.mask import mask_of
from trainers.gradient.masked import HANDED_OVER, begun, kept, masked_flops, stepped


@dataclass(frozen=True)
class SnAp:
    """RTRL with the influence that takes k steps or more to arise left out.

    Args:
        order: k.
        limit: GiB that the influence may take.
    """

    order: int = 1
    limit: float = 4.0
    traits = Traits(local_in_time=True)

    def __post_init__(self) -> None:
        check_least(self, order=1)

    def check(self, cell: Cell) -> None:
        """Any cell."""

    def sees(self, cell: Cell, steps: int) -> int:  # noqa: ARG002 (one signature for all estimators)
        """One: every step's gradient is complete at that step."""
        return 1

    def block(self, cell: Cell, steps: int) -> int:  # noqa: ARG002
        """A few, to save calls."""
        return min(HANDED_OVER, steps)

    def begin(self, cell: Cell, genes: Tensor, batch: int) -> Memory:
        """The cell's start and what it owes to the genes.

        Raises:
            ConfigError: if the influence is over the limit.
        """
        check_storage(self, cell, genes, batch, self.limit)
        return begun(cell, genes, batch, mask_of(cell, self.order, False))

    def advance(
        self, cell: Cell, genes: Tensor, x: Tensor, memory: Memory, reset: Tensor = NEVER
    ) -> tuple[Tensor, Memory]:
        """State and masked influence go forward together."""
        return stepped(cell, genes, x, memory, reset, mask=mask_of(cell, self.order, False))

    def storage(self, cell: Cell, steps: int) -> int:
        """The tangent and the masked influence at every step that is handed over."""
        return kept(cell, mask_of(cell, self.order, False), steps)

    def flops(self, cell: Cell, steps: int) -> float:  # noqa: ARG002
        """Each sum's block against its rows of the dynamics."""
        return masked_flops(cell, mask_of(cell, self.order, False))
