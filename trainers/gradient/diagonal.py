"""Real-time recurrent learning of units that hear only themselves (Mozer 1989, Complex Systems 3): exact, at O(D).

With D_t diagonal between units, J_t keeps one trace a link: e_t = d_t e_{t-1} + k_t z_t, gradient = δ e. So it is for the
independently recurrent network (Li et al. 2018) and element-wise LSTMs (Irie et al. 2023, arXiv 2305.19044).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evo_rnn.cells.cell import Cell
from evo_rnn.errors import ConfigError
from trainers.gradient.estimator import NEVER, Memory, Traits
from trainers.gradient.mask import CLOSED, Mask, mask_of, moved, reached, reaches
from trainers.gradient.masked import HANDED_OVER, begun, kept, masked_flops, stepped


@dataclass(frozen=True)
class Diagonal:
    """Exact with one trace a link, for cells in which no link's influence ever leaves its own unit."""

    traits = Traits(
        exact=True, unbiased=True, local_in_time=True, local_in_space=True, needs="units that hear only themselves"
    )

    def check(self, cell: Cell) -> None:
        """Refuse units that hear each other, and layers.

        Raises:
            ConfigError: with the reason and what could be used.
        """
        spread = reaches(cell, cut=False).sum(dim=1)
        if torch.equal(spread, reaches(cell, cut=True).sum(dim=1)):
            return
        every = torch.eye(cell.state, dtype=torch.bool)
        ways, own = (reached(every, moved(cell, cut)) for cut in (False, True))
        mutual = bool((ways & ways.T & ~own & ~own.T).any())
        why = (
            "units hear each other"
            if mutual
            else "a lower layer's links influence every layer above (cross-layer influence)"
        )
        raise ConfigError(
            f"Diagonal needs units that hear only themselves, but in {cell} {why}: one link reaches "
            f"{int(spread.max())} state columns. Use hybrid or rtrl, which are exact for any cell, or snap."
        )

    def sees(self, cell: Cell, steps: int) -> int:  # noqa: ARG002 (one signature for all estimators)
        """One: every step's gradient is complete at that step."""
        return 1

    def block(self, cell: Cell, steps: int) -> int:  # noqa: ARG002
        """A few, to save calls."""
        return min(HANDED_OVER, steps)

    def begin(self, cell: Cell, genes: Tensor, batch: int) -> Memory:
        """The cell's start and what it owes to the genes."""
        self.check(cell)
        return begun(cell, genes, batch, _mask(cell))

    def advance(
        self, cell: Cell, genes: Tensor, x: Tensor, memory: Memory, reset: Tensor = NEVER
    ) -> tuple[Tensor, Memory]:
        """State and traces go forward together."""
        return stepped(cell, genes, x, memory, reset, mask=_mask(cell))

    def storage(self, cell: Cell, steps: int) -> int:
        """The tangent and a trace of every link at every step that is handed over."""
        return kept(cell, _mask(cell), steps)

    def flops(self, cell: Cell, steps: int) -> float:  # noqa: ARG002
        """A few for each link."""
        return masked_flops(cell, _mask(cell))


def _mask(cell: Cell) -> Mask:
    return mask_of(cell, CLOSED, False)
