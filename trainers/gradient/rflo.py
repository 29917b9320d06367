"""RFLO, random feedback local online learning (Murray 2019, Local online learning in recurrent networks, eLife 8, e43299).

For leaky rate units h' = (1 - α) h + α φ(a), a = W z, a trace a link and no credit through the links:
p_t = (1 - α) p_{t-1} + α φ'(a_t) z_t,   gradient = ε p_t, the error ε being fed back by the readout's weights or random ones.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from evo_rnn.cells.cell import Cell
from evo_rnn.errors import ConfigError
from trainers.gradient.estimator import NEVER, Memory, Traits
from trainers.gradient.mask import CLOSED, Mask, chained, mask_of, reaches
from trainers.gradient.masked import HANDED_OVER, begun, check_feedback, kept, masked_flops, stepped


@dataclass(frozen=True)
class RFLO:
    """Each unit remembers through its own leak alone; what passes through links is dropped.

    Whatever a unit keeps of its last value outside the links counts as its leak, so a unit that forgets all (Elman's) has the
    immediate term and nothing else. Random feedback is a matter of the readout: the loop that knows it carries it out
    (`trainers.gradient.slope`).

    Args:
        feedback: what leads the error back to the units: "true", the readout's weights, or "random", fixed random ones.
        feedback_seed: of the random ones.
    """

    feedback: str = "true"
    feedback_seed: int = 0
    traits = Traits(local_in_time=True, local_in_space=True, needs="rate units, one state column each")

    def __post_init__(self) -> None:
        check_feedback(self.feedback)

    def check(self, cell: Cell) -> None:
        """Refuse units of more than one state column, and links that hear other sums of the same step.

        Raises:
            ConfigError: naming what could be used.
        """
        most = int(reaches(cell, cut=True).sum(dim=1).max())
        if most > 1:
            raise ConfigError(
                f"RFLO needs rate units with one state column each, but a link of {cell} reaches {most}. Use eprop, which "
                "takes units of any state, or snap."
            )
        if chained(cell):
            raise ConfigError(
                f"RFLO needs links that hear inputs and the last state, but {cell} passes sums on within a step. Use snap, "
                "bptt or hybrid."
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
        """Rates and traces go forward together."""
        return stepped(cell, genes, x, memory, reset, mask=_mask(cell))

    def storage(self, cell: Cell, steps: int) -> int:
        """The tangent and a trace of every link at every step that is handed over."""
        return kept(cell, _mask(cell), steps)

    def flops(self, cell: Cell, steps: int) -> float:  # noqa: ARG002
        """A few for each link."""
        return masked_flops(cell, _mask(cell))


def _mask(cell: Cell) -> Mask:
    return mask_of(cell, CLOSED, True)
