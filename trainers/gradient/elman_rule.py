"""Elman's rule (Elman 1990, Finding structure in time, Cognitive Science 14): the last state is one more input.

gradient = Σ_t δ_t I_t: credit never leaves the step, so what is kept between steps (the c of an LSTM too) is cut. All steps
of a chunk are then rows of one batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evo_rnn.cells.cell import Cell
from trainers.gradient.estimator import NEVER, Memory, Traits, check_chunk, layout_of, multiply_adds, taped, unpacked
from trainers.gradient.tangent import ran
from trainers.gradient.tbptt import starting

HANDED_OVER = 64  # steps


@dataclass(frozen=True)
class ElmanRule:
    """Truncated BPTT of horizon 1, the least memory of credit."""

    traits = Traits(local_in_time=True, local_in_space=True)

    def check(self, cell: Cell) -> None:
        """Any cell."""

    def sees(self, cell: Cell, steps: int) -> int:  # noqa: ARG002 (one signature for all estimators)
        """One step."""
        return 1

    def block(self, cell: Cell, steps: int) -> int:  # noqa: ARG002
        """A few, to save calls."""
        return min(HANDED_OVER, steps)

    def begin(self, cell: Cell, genes: Tensor, batch: int) -> Memory:
        """The cell's start, and no step done."""
        return {"s": cell.start(unpacked(cell, genes.detach()), batch), "step": torch.tensor(0)}

    def advance(
        self, cell: Cell, genes: Tensor, x: Tensor, memory: Memory, reset: Tensor = NEVER
    ) -> tuple[Tensor, Memory]:
        """Run forward, then do all steps again at once, on a tape, from the states that they began from."""
        check_chunk(cell, genes, x, memory["s"], reset, taped=True)
        weights, reset = unpacked(cell, genes), starting(x, memory, reset)
        x = x.expand(len(genes), *x.shape[-3:])
        before, after = ran(cell, weights, x, memory["s"], reset)
        people, steps, batch, count = before.shape
        if reset.any():
            start = cell.start(weights, batch)[:, None]
            before = torch.where(reset.T[:, :, None], start, before)
        rows = (people, steps * batch, -1)
        states = cell.step(weights, x.transpose(1, 2).reshape(rows), before.reshape(rows))
        states = states.view(people, steps, batch, count).transpose(1, 2)
        return states, {"s": after[:, -1], "step": memory["step"] + steps}

    def storage(self, cell: Cell, steps: int) -> int:
        """State, and what is inside a step, for every step."""
        return steps * (cell.state + taped(cell))

    def flops(self, cell: Cell, steps: int) -> float:  # noqa: ARG002
        """Forward twice, and back by the weights."""
        return 3 * multiply_adds(layout_of(cell))
