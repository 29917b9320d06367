"""The rule of the first LSTM (Hochreiter and Schmidhuber 1997, Neural Computation 9, appendix A.1): truncated BPTT and RTRL.

Errors that reach the net input of a cell or gate are used there and go no further back; what a memory cell c holds goes on
for ever. With u = [x_t, y(t-1), 1] and c' = f c + i g(net), each link keeps a trace of its own:

    ∂c'/∂w_g = f ∂c/∂w_g + i g' u,   ∂c'/∂w_i = f ∂c/∂w_i + g i' u,   ∂c'/∂w_f = f ∂c/∂w_f + c f' u.

In 1997 f = 1; forget gates are those of Gers, Schmidhuber and Cummins 2000 (Neural Computation 12). Output gates need no
trace. A step costs the order of the weights; the gradient is far from BPTT's.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from evo_rnn.cells.cell import Cell
from evo_rnn.cells.lstm import LSTM
from evo_rnn.cells.memory_blocks import MemoryBlocks
from evo_rnn.errors import ConfigError
from trainers.gradient.estimator import NEVER, Memory, Traits
from trainers.gradient.mask import CLOSED, Mask, mask_of
from trainers.gradient.masked import HANDED_OVER, begun, kept, masked_flops, stepped


@dataclass(frozen=True)
class LSTM1997:
    """Memory cells carry credit through time, links do not."""

    traits = Traits(local_in_time=True, local_in_space=True, needs="memory cells without peepholes")

    def check(self, cell: Cell) -> None:
        """Refuse what is not one layer of memory cells.

        Raises:
            ConfigError: naming what could be used.
        """
        if not isinstance(cell, LSTM | MemoryBlocks):
            raise ConfigError(
                f"LSTM1997 needs memory cells (an LSTM or MemoryBlocks), but the cell is {cell}. Use eprop, snap, bptt "
                "or hybrid."
            )
        if isinstance(cell, LSTM) and cell.peepholes:
            raise ConfigError(
                f"LSTM1997 needs memory cells without peepholes, which its papers do not have, but the cell is {cell}. "
                "Set peepholes to false, or use snap, bptt or hybrid."
            )

    def sees(self, cell: Cell, steps: int) -> int:  # noqa: ARG002 (one signature for all estimators)
        """One: every step's gradient is complete at that step."""
        return 1

    def block(self, cell: Cell, steps: int) -> int:  # noqa: ARG002
        """A few, to save calls."""
        return min(HANDED_OVER, steps)

    def begin(self, cell: Cell, genes: Tensor, batch: int) -> Memory:
        """Empty cells, and traces of zeros."""
        self.check(cell)
        return begun(cell, genes, batch, _mask(cell))

    def advance(
        self, cell: Cell, genes: Tensor, x: Tensor, memory: Memory, reset: Tensor = NEVER
    ) -> tuple[Tensor, Memory]:
        """Cells and traces go forward together."""
        return stepped(cell, genes, x, memory, reset, mask=_mask(cell))

    def storage(self, cell: Cell, steps: int) -> int:
        """The tangent and a trace of every link of a cell, input gate or forget gate, at every step that is handed over."""
        return kept(cell, _mask(cell), steps)

    def flops(self, cell: Cell, steps: int) -> float:  # noqa: ARG002
        """A few for each link."""
        return masked_flops(cell, _mask(cell))


def _mask(cell: Cell) -> Mask:
    return mask_of(cell, CLOSED, True)
