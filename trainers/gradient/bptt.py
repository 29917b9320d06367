"""Backpropagation through time (Werbos 1990, Proc. IEEE 78): unroll, then let the tape carry credit back.

λ_t = δ_t + λ_{t+1} D_{t+1},   gradient = Σ_t λ_t I_t.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from evo_rnn.cells.cell import Cell
from trainers.gradient.estimator import NEVER, Memory, Traits, layout_of, tape_adds, taped, unpacked, unrolled


@dataclass(frozen=True)
class BPTT:
    """Exact; what is handed over together is one tape, so memory grows with its length."""

    traits = Traits(exact=True, unbiased=True)

    def check(self, cell: Cell) -> None:
        """Any cell."""

    def sees(self, cell: Cell, steps: int) -> int:  # noqa: ARG002 (one signature for all estimators)
        """All steps."""
        return steps

    def block(self, cell: Cell, steps: int) -> int:  # noqa: ARG002
        """All steps."""
        return steps

    def begin(self, cell: Cell, genes: Tensor, batch: int) -> Memory:
        """The cell's start, attached."""
        return {"s": cell.start(unpacked(cell, genes), batch)}

    def advance(
        self, cell: Cell, genes: Tensor, x: Tensor, memory: Memory, reset: Tensor = NEVER
    ) -> tuple[Tensor, Memory]:
        """Run forward; autograd's tape is the memory of the way back, and ends where the chunk began."""
        states = unrolled(cell, genes, x, memory["s"], reset)
        return states, {"s": states[:, :, -1].detach()}

    def storage(self, cell: Cell, steps: int) -> int:
        """State, and what is inside a step, for every step."""
        return steps * taped(cell)

    def flops(self, cell: Cell, steps: int) -> float:  # noqa: ARG002
        """Forward, and twice as much back: by the states and by the weights."""
        return tape_adds(layout_of(cell))
