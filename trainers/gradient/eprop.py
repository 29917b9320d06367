"""e-prop (Bellec et al. 2020, A solution to the learning dilemma for recurrent networks of spiking neurons, Nat. Commun. 11).

What a link j → i did to its unit is kept in an eligibility vector ε_t = (∂s_t^i/∂s_{t-1}^i) ε_{t-1} + ∂s_t^i/∂w_ji, credit
through other units is dropped, and gradient = Σ_t L_t^i e_t with the learning signal L_t^i = ∂L_t/∂z_t^i and the trace
e_t = (∂z_t^i/∂s_t^i) ε_t. A readout that leaks, y_t = κ y_{t-1} + W z_t, hears e low-passed: ē_t = κ ē_{t-1} + e_t.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evo_rnn.cells.cell import Cell
from evo_rnn.errors import ConfigError
from trainers.gradient.estimator import NEVER, Memory, Traits
from trainers.gradient.mask import CLOSED, Mask, chained, mask_of, reaches
from trainers.gradient.masked import (
    HANDED_OVER,
    Carried,
    advanced,
    begun,
    carried_flops,
    check_feedback,
    gathered,
    immediate,
    kept,
    masked_flops,
    named,
    onward,
    stepped,
    weighed,
)
from trainers.gradient.tangent import joined


@dataclass(frozen=True)
class EProp:
    """Each unit remembers through its own state alone, however many columns that has.

    Random feedback is a matter of the readout: the loop that knows it carries it out (`trainers.gradient.slope`).

    Args:
        feedback: what leads the error back to the units: "true", the readout's weights, or "random", fixed random ones.
        feedback_seed: of the random ones.
        decay: κ of a leaky readout that is fed its last output detached; 0 for a readout that does not leak.
    """

    feedback: str = "true"
    feedback_seed: int = 0
    decay: float = 0.0
    traits = Traits(local_in_time=True, local_in_space=True, needs="units whose links touch no other unit")

    def __post_init__(self) -> None:
        check_feedback(self.feedback)
        if not 0 <= self.decay < 1:
            raise ConfigError(f"decay should be at least 0 and below 1 but is {self.decay!r}.")

    def check(self, cell: Cell) -> None:
        """Refuse links that touch other units.

        Raises:
            ConfigError: naming what could be used.
        """
        several = int(reaches(cell, cut=True)[:, : cell.outputs].sum(dim=1).max()) > 1
        if several or chained(cell):
            where = "several units at once" if several else "other units within the same step"
            raise ConfigError(
                f"EProp needs units whose links touch no other unit, but links of {cell} touch {where}. Use "
                f"{'lstm1997 for memory blocks, or ' if several else ''}snap, bptt or hybrid."
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
        memory = begun(cell, genes, batch, _mask(cell))
        if not self.decay:
            return memory
        sizes = [(len(genes) * batch, *part.rows.shape, part.columns.shape[1]) for part in _mask(cell).parts]
        return {**memory, **named("e", tuple(genes.new_zeros(size) for size in sizes))}

    def advance(
        self, cell: Cell, genes: Tensor, x: Tensor, memory: Memory, reset: Tensor = NEVER
    ) -> tuple[Tensor, Memory]:
        """States and eligibilities go forward together."""
        if not self.decay:
            return stepped(cell, genes, x, memory, reset, mask=_mask(cell))
        states, along = advanced(cell, genes, x, memory, reset, _mask(cell))
        traces = _low_passed(along, memory, self.decay)

        def pull(ds: Tensor) -> Tensor:
            total = ds.new_zeros(ds.shape[1], len(along.mask.anatomy.order))
            for part, trace in zip(along.mask.parts, traces, strict=True):
                total[:, part.span] += weighed(gathered(ds, part.rows), trace.unbind()).flatten(1)
            return total

        last = tuple(trace[-1].clone() for trace in traces)
        after = {"s": states[:, :, -1], **named("J", along.last), **named("e", last)}
        return joined(cell, genes, states, along.mask.anatomy, pull), after

    def storage(self, cell: Cell, steps: int) -> int:
        """The tangent and the eligibility vectors of every step handed over, and all traces if they are low-passed."""
        rows = sum(part.rows.shape[1] * part.columns.numel() for part in _mask(cell).parts) if self.decay else 0
        return kept(cell, _mask(cell), steps) + (steps + 1) * rows

    def flops(self, cell: Cell, steps: int) -> float:  # noqa: ARG002
        """A few for each link."""
        if not self.decay:
            return masked_flops(cell, _mask(cell))
        traces = ((part.size + 3) * part.rows.shape[1] * part.columns.numel() for part in _mask(cell).parts)
        return carried_flops(cell, _mask(cell)) + sum(traces)


def _low_passed(along: Carried, memory: Memory, decay: float) -> tuple[Tensor, ...]:
    """ē_t = κ ē_{t-1} + J_t[R] (t, N, A, k, q) of each part; a new episode begins with none."""
    found = []
    for number, part in enumerate(along.mask.parts):
        traces, last = immediate(along.run, part, part.rows.shape[1]), memory[f"e{number}"]
        for t, trace in enumerate(traces):
            if part.size:
                onward(trace, along.moves[number][t], along.entering[number][t])
            if len(along.run.cut):
                last = torch.where(along.run.cut[t, :, None, None, None], 0, last)
            last = trace.add_(last, alpha=decay)
        found.append(traces)
    return tuple(found)


def _mask(cell: Cell) -> Mask:
    return mask_of(cell, CLOSED, True)
