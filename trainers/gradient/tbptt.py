"""Truncated backpropagation through time, BPTT(h; h') (Williams and Peng 1990, Neural Computation 2).

Every h' steps credit goes back over the last h steps, from the errors of the newest h' alone. With h' = h this is the usual
training by chunks, where a lag l is credited only (h - l) times out of h; with h' = 1 every lag below h always is, at h
times the cost.

A piece of a run is `unrolled` from the state that stands before its window, so what a window holds beside the newest steps
is run again, with the genes as they are now: after a step of an optimizer these steps are as fresh as the new ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from evo_rnn.cells.cell import Cell
from evo_rnn.errors import ConfigError
from trainers.gradient.estimator import (
    NEVER,
    Memory,
    Traits,
    check_least,
    layout_of,
    tape_adds,
    taped,
    unpacked,
    unrolled,
)


@dataclass(frozen=True)
class TBPTT:
    """Credit for lags below a horizon; memory does not grow with the sequence.

    Args:
        horizon: h, the steps that credit goes back over.
        every: h', the steps from one way back to the next; "horizon" takes h.
    """

    horizon: int = 16
    every: int | str = "horizon"
    traits = Traits(local_in_time=True)

    def __post_init__(self) -> None:
        check_least(self, horizon=1)
        if self.every != "horizon":
            check_least(self, every=1)
            if int(self.every) > self.horizon:
                raise ConfigError(
                    f"every should be at most the horizon, {self.horizon}, but is {self.every}. "
                    "Steps in between would never get credit; raise horizon."
                )

    @property
    def _every(self) -> int:
        return self.horizon if self.every == "horizon" else int(self.every)

    def check(self, cell: Cell) -> None:
        """Any cell."""

    def sees(self, cell: Cell, steps: int) -> int:
        """H' steps go back together."""
        return self.block(cell, steps)

    def block(self, cell: Cell, steps: int) -> int:  # noqa: ARG002 (one signature for all estimators)
        """h', or all steps if there are fewer."""
        return min(self._every, steps)

    def begin(self, cell: Cell, genes: Tensor, batch: int) -> Memory:
        """The cell's start, an empty window, and no step done."""
        start = cell.start(unpacked(cell, genes.detach()), batch)
        return {"s": start, "before": start, "step": torch.tensor(0)}

    def advance(
        self, cell: Cell, genes: Tensor, x: Tensor, memory: Memory, reset: Tensor = NEVER
    ) -> tuple[Tensor, Memory]:
        """Run each piece's window on a tape; its last steps are the piece."""
        parts = []
        for here, ends in pieces(int(memory["step"]), x.shape[-2], self._every):
            window = widened(memory, x[..., here, :], reset[:, here])
            states = unrolled(cell, genes, window["x"], memory["before"], window["reset"])
            parts.append(states[:, :, here.start - here.stop :])
            memory = kept(window, states.detach(), self.horizon - self._every if ends else self.horizon)
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2), memory

    def storage(self, cell: Cell, steps: int) -> int:
        """A tape of the window for every piece that is handed over."""
        return -(-steps // self._every) * self.horizon * taped(cell)

    def flops(self, cell: Cell, steps: int) -> float:
        """The window forward, and twice as much back, once in h' steps."""
        ends = range(self._every, steps + self._every, self._every)
        run = sum(min(end, steps) - max(end - self.horizon, 0) for end in ends)
        return tape_adds(layout_of(cell)) * run / max(steps, 1)

    def again(self, cell: Cell, every: int) -> float:
        """What a step takes more when `every` steps are handed over at once."""
        return run_again(cell, self.horizon, self._every, every)


def run_again(cell: Cell, horizon: int, block: int, every: int) -> float:
    """What a step takes more when `every` steps are handed over at once: the window so far is run again each time."""
    ends = [*range(every, block, every), block]
    return float(tape_adds(layout_of(cell)) * (sum(horizon - block + end for end in ends) - horizon) / block)


def pieces(step: int, steps: int, block: int) -> Iterator[tuple[slice, bool]]:
    """A chunk of `steps` steps after `step` steps, cut where blocks end; and whether a block ends with each piece."""
    at = 0
    while at < steps:
        stop = min(steps, at + block - (step + at) % block)
        yield slice(at, stop), (step + stop) % block == 0
        at = stop


def starting(x: Tensor, memory: Memory, reset: Tensor) -> Tensor:
    """`reset` (B, t), with a new episode at the very first step: a start that is learned is credited with what follows."""
    if int(memory["step"]):
        return reset
    first = torch.zeros(x.shape[-3:-1], dtype=torch.bool, device=x.device) if not len(reset) else reset.clone()
    first[:, 0] = True
    return first


def widened(memory: Memory, x: Tensor, reset: Tensor) -> dict[str, Tensor]:
    """The window so far with new steps behind it: its inputs, its resets, the state before it, and the steps done."""
    reset, x = starting(x, memory, reset), x if x.dim() == 4 else x[None]
    window = {"before": memory["before"], "step": memory["step"] + x.shape[2]}
    if "x" not in memory:
        return {**window, "x": x, "reset": reset}
    people = max(len(memory["x"]), len(x))
    inputs = torch.cat([each.expand(people, *each.shape[1:]) for each in (memory["x"], x)], dim=2)
    cuts = [
        cut if len(cut) else torch.zeros(each.shape[1:3], dtype=torch.bool, device=x.device)
        for cut, each in ((memory["reset"], memory["x"]), (reset, x))
    ]
    return {**window, "x": inputs, "reset": torch.cat(cuts, dim=1) if any(cut.any() for cut in cuts) else NEVER}


def kept(window: Memory, states: Tensor, steps: int) -> Memory:
    """What to remember of a window that has run to `states` (P, B, t, S): its last `steps` steps, and the last state."""
    gone = max(states.shape[2] - steps, 0)
    before = states[:, :, gone - 1] if gone else window["before"]
    memory = {"s": states[:, :, -1], "before": before, "step": window["step"]}
    if gone == states.shape[2]:
        return memory
    return {**memory, "x": window["x"][:, :, gone:], "reset": window["reset"][:, gone:]}
