"""The BPTT/RTRL hybrid by blocks (Schmidhuber 1992, Neural Computation 4, A fixed size storage O(n³) algorithm).

Inside a block of h steps credit goes back, across blocks the influence matrix carries it. With s_0 the state and J_0 the
influence at the block's start:   gradient = ∂L/∂θ + (∂L/∂s_0) J_0,   J_h = ∂s_h/∂θ + (∂s_h/∂s_0) J_0.
One step a block is RTRL, one block for all is BPTT; in between it is exact with fixed memory at the cost O(n³) a step. The
steps of a block may be handed over one by one: each then has its own exact gradient, at the same cost.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evo_rnn.cells.cell import Cell
from trainers.gradient.anatomy import anatomy
from trainers.gradient.estimator import NEVER, Memory, Traits, check_least, check_storage, layout_of
from trainers.gradient.rtrl import RTRL
from trainers.gradient.tangent import Tangent, joined, owed, tangent, tangent_flops

ROOM = 2**22  # numbers of credit that are swept back at once


@dataclass(frozen=True)
class Hybrid:
    """Exact for every block length: BPTT inside blocks, RTRL between them.

    Args:
        horizon: h, steps a block; "auto" takes the number of state columns, but no fewer than 16.
        limit: GiB that the influence matrices may take.
    """

    horizon: int | str = "auto"
    limit: float = 4.0
    traits = Traits(exact=True, unbiased=True, local_in_time=True)

    def __post_init__(self) -> None:
        if self.horizon != "auto":
            check_least(self, horizon=1)

    def _length(self, cell: Cell) -> int:
        return max(cell.state, 16) if self.horizon == "auto" else int(self.horizon)

    def check(self, cell: Cell) -> None:
        """Any cell."""

    def sees(self, cell: Cell, steps: int) -> int:
        """The block."""
        return self.block(cell, steps)

    def block(self, cell: Cell, steps: int) -> int:
        """h, or all steps if there are fewer."""
        return min(self._length(cell), steps)

    def begin(self, cell: Cell, genes: Tensor, batch: int) -> Memory:
        """As RTRL begins, with no step of the block done.

        Raises:
            ConfigError: if the influence is over the limit.
        """
        check_storage(self, cell, genes, batch, self.limit)
        return dict(RTRL(self.limit).begin(cell, genes, batch))

    def advance(
        self, cell: Cell, genes: Tensor, x: Tensor, memory: Memory, reset: Tensor = NEVER
    ) -> tuple[Tensor, Memory]:
        """Go on in the block, over as many block ends as the chunk has."""
        length, parts, at = self._length(cell), [], 0
        while at < x.shape[-2]:
            done = len(memory["D"]) if "D" in memory else 0
            here = slice(at, at + length - done)
            states, memory = _within(cell, genes, x[..., here, :], memory, reset[:, here], length)
            parts.append(states)
            at = here.stop
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2), memory

    def storage(self, cell: Cell, steps: int) -> int:  # noqa: ARG002
        """Two influence matrices, where the block began and where it ended, and the block's tangent."""
        parts, state = anatomy(cell), cell.state
        sums = sum(len(parts.colours) * group.size + group.fan for group in parts.sums)
        return 2 * state * layout_of(cell).size + self._length(cell) * (state * (state + 1) + sums)

    def flops(self, cell: Cell, steps: int) -> float:
        """The block's sweeps: Γ D (S³) and its sums' credit (S D), and once a block (∂s_h/∂s_0) J_0 (S² D)."""
        state, size, length = cell.state, layout_of(cell).size, self._length(cell)
        ended, begun = steps // length, -(-steps // length)
        carried = ended * (length * (state**3 + state * size) + state**2 * size) / steps
        return tangent_flops(cell) + carried + state**2 + size + begun * state * size / steps

    def again(self, cell: Cell, every: int) -> float:
        """What a step takes more when `every` steps are handed over at once: each time errors go back to the start."""
        state, size, length = cell.state, layout_of(cell).size, self._length(cell)
        ends = [*range(every, length, every), length]
        more = ((sum(ends) - length) * (state**2 + size) + (len(ends) - 1) * state * size) / length
        return float(more)


def _within(cell: Cell, genes: Tensor, x: Tensor, memory: Memory, reset: Tensor, length: int) -> tuple[Tensor, Memory]:
    """Some steps of one block; the last of them may end it."""
    states, new = tangent(cell, genes, x, memory["s"], reset)
    block, start = _longer(memory, new), memory["J"]
    fresh = owed(cell, genes, x.shape[-3]) if len(block.cut) else start

    def pull(ds: Tensor) -> Tensor:
        errors = torch.cat([ds.new_zeros(len(block.D) - len(ds), *ds.shape[1:]), ds])[:, :, None]
        return _back(block, errors, start, fresh)[:, 0]

    joint = joined(cell, genes, states, block.anatomy, pull)
    if len(block.D) < length:
        return joint, {"s": states[:, :, -1], "J": start, **_kept(block)}
    ends = torch.eye(cell.state, dtype=start.dtype, device=start.device).expand(1, len(start), -1, -1)
    rows = max(1, ROOM // (len(block.D) * len(start) * cell.state))  # of the influence at a time
    swept = [_back(block, part, start, fresh) for part in ends.split(rows, dim=2)]
    return joint, {"s": states[:, :, -1], "J": swept[0] if len(swept) == 1 else torch.cat(swept, dim=1)}


def _back(block: Tangent, errors: Tensor, start: Tensor, fresh: Tensor) -> Tensor:
    """Credit (N, V, F) of errors (t, N, V, S), or (1, N, V, S) at the last step alone: λ_{t-1} = δ_{t-1} + λ_t D_t."""
    credit = errors.new_empty(len(block.D) + 1, *errors.shape[1:])  # λ_0, ..., λ_h
    credit[-1] = errors[-1]
    each, sent, crossing = credit.unbind(), errors.unbind(), torch.zeros_like(credit[0])
    for t, d in zip(range(len(block.D), 0, -1), reversed(block.D.unbind()), strict=True):
        new = 1 < t <= len(errors)
        if not len(block.cut):
            torch.baddbmm(sent[t - 2], each[t], d, out=each[t - 1]) if new else torch.bmm(each[t], d, out=each[t - 1])
            continue
        begun, before = block.cut[t - 1, :, None, None], torch.bmm(each[t], d)
        crossing += before * begun  # a new episode owes to its start, and to nothing before
        each[t - 1].copy_(before * ~begun + sent[t - 2] if new else before * ~begun)
    total = block.pulled(credit[1:])
    torch.baddbmm(total, each[0], start, out=total)  # ∂/∂θ + (∂/∂s_0) J_0
    return torch.baddbmm(total, crossing, fresh, out=total) if len(block.cut) else total


def _longer(memory: Memory, new: Tangent) -> Tangent:
    """The block's tangent so far with the new steps behind it."""
    if "D" not in memory:
        return new
    k = tuple(torch.cat([memory[f"K{i}"], each]) for i, each in enumerate(new.K))
    z = tuple(torch.cat([memory[f"z{i}"], each]) for i, each in enumerate(new.z))
    d = torch.cat([memory["D"], new.D])
    cuts = [
        each if len(each) else torch.zeros(steps, d.shape[1], dtype=torch.bool, device=d.device)
        for each, steps in ((memory["cut"], len(memory["D"])), (new.cut, len(new.D)))
    ]
    cut = torch.cat(cuts) if any(len(each) for each in (memory["cut"], new.cut)) else NEVER
    return Tangent(new.anatomy, d, k, z, cut)


def _kept(block: Tangent) -> Memory:
    named = {f"K{i}": each for i, each in enumerate(block.K)} | {f"z{i}": each for i, each in enumerate(block.z)}
    return {"D": block.D, "cut": block.cut, **named}
