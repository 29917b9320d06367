"""Masked influence: of every sum a = W z, the rows of J_t = ds_t/dθ that its links are allowed to have.

R[n] lists the state columns that sum n may influence. All links of a sum share them, so its part of the influence is a block
J[n] (k, q), and with the mask all blocks go forward by themselves, no dense J anywhere:

    J_t[n] = D_t[R, R] J_{t-1}[n] + K_t[n] ⊗ z_t,   gradient_t = Σ_n δ_t[R] J_t[n].

Kept are the live rows L of R alone, those that influence a row of R at the next step; the others follow from them:

    gradient_t = δ_t I_t + Σ_n (δ_t[R] D_t[R, L]) J_{t-1}[n][L].

The rules differ in the mask (SnAp's, or all that is reached inside a unit) and in the dynamics (with or without credit
through links).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from evo_rnn.cells.cell import Cell
from evo_rnn.errors import ConfigError
from trainers.gradient.estimator import NEVER, Memory, layout_of, unpacked
from trainers.gradient.mask import Mask, Part
from trainers.gradient.tangent import Tangent, joined, owed, tangent, tangent_flops, tangent_storage

HANDED_OVER = 64  # steps, while they fit in the cache (`slope.handed_over`)
SMALL = 4  # rows: below, sums of products are faster than products of matrices


@dataclass(frozen=True, eq=False)
class Carried:
    """The influence along t steps of N runs, part by part.

    Args:
        run: the tangent along them.
        mask: what may influence what.
        moves: D[R, L] (t, N, A, k, l) of each part.
        entering: J (N, A, l, q) before each step, of each part.
        last: J after the last step, of each part.
    """

    run: Tangent
    mask: Mask
    moves: tuple[Tensor, ...]
    entering: tuple[tuple[Tensor, ...], ...]
    last: tuple[Tensor, ...]

    def pull(self, ds: Tensor) -> Tensor:
        """Σ_t δ_t J_t: (N, F) of ds (t, N, S)."""
        total = self.run.pulled(ds[:, :, None])[:, 0]  # δ_t I_t
        for part, moves, entering in zip(self.mask.parts, self.moves, self.entering, strict=True):
            if part.size:
                ahead = gathered(ds, part.rows)  # δ_t[R]
                credit = (
                    (ahead[..., None] * moves).sum(dim=3)
                    if part.size < SMALL
                    else (ahead[..., None, :] @ moves)[..., 0, :]
                )
                total[:, part.span] += weighed(credit, entering).flatten(1)
        return total


def carried(run: Tangent, mask: Mask, memory: Memory, fresh: tuple[Tensor, ...]) -> Carried:
    """J_t[L] = D_t[L, L] J_{t-1}[L] + I_t[L] along a run, from the memory; episodes begin with `fresh`."""
    every, entering, last = [], [], []
    for number, part in enumerate(mask.parts):
        influence, before = memory[f"J{number}"], []
        moves = _moves(run, part)
        if part.size:
            inner, after = moves[..., : part.size, :].contiguous(), immediate(run, part, part.size)
            for t in range(len(run.D)):
                if len(run.cut):
                    influence = torch.where(run.cut[t, :, None, None, None], fresh[number], influence)
                before.append(influence)
                influence = onward(after[t], inner[t], influence)
            influence = influence.clone()  # not a view of all steps
        every.append(moves)
        entering.append(tuple(before))
        last.append(influence)
    return Carried(run, mask, tuple(every), tuple(entering), tuple(last))


def onward(total: Tensor, moves: Tensor, influence: Tensor) -> Tensor:
    """`total (N, A, k, q)` += moves (N, A, k, l) influence (N, A, l, q), in place."""
    if moves.shape[-1] == 1:
        return total.addcmul_(moves, influence)
    flat = total.flatten(0, 1)
    torch.baddbmm(flat, moves.flatten(0, 1), influence.flatten(0, 1), out=flat)
    return total


def immediate(run: Tangent, part: Part, rows: int) -> Tensor:
    """I_t = K_t ⊗ z_t of the first so many rows of a part: (t, N, A, rows, q)."""
    if part.group == len(run.K):  # the start alone depends on these
        return run.D.new_zeros(*run.D.shape[:2], len(part.rows), rows, 1)
    slope, heard = run.K[part.group].flatten(2), run.z[part.group]
    found = slope[:, :, part.slopes[:, :rows].to(slope.device)]
    found = found * part.sloped[:, :rows].to(slope.device) if len(part.sloped) else found
    return found[..., None] * heard[:, :, None, None]


def _moves(run: Tangent, part: Part) -> Tensor:
    """D[R, L]: (t, N, A, k, l)."""
    d, places, moved = run.D, part.moves, part.moved
    if run.coloured:  # a row of D is that of its colour, where the colour's column is the row
        count = d.shape[-1]
        row, column = places // count, places % count
        colour = run.anatomy.colours.int().argmax(dim=0)[row]
        places, there = colour * count + column, run.anatomy.local[row, column]
        moved = there * moved if len(moved) else there
    found = d.flatten(2)[:, :, places.to(d.device)]
    return found * moved.to(d.device) if len(moved) else found


def gathered(v: Tensor, rows: Tensor) -> Tensor:
    """v[rows] (..., A, k) of v (..., S), zero where there is no row."""
    return pad(v, (0, 1))[..., rows.to(v.device)]


def weighed(credit: Tensor, influences: tuple[Tensor, ...]) -> Tensor:
    """Σ_t credit_t J_t: (N, A, q) of credit (t, N, A, l) and J (N, A, l, q)."""
    first = influences[0]
    total = first.new_zeros(*first.shape[:2], 1, first.shape[3])
    for now, influence in zip(credit, influences, strict=True):
        onward(total, now[:, :, None], influence)
    return total


def fresh(cell: Cell, genes: Tensor, batch: int, mask: Mask) -> tuple[Tensor, ...]:
    """J[L] (N, A, l, q) of each part at the cell's start: zeros, unless the start is learned."""
    shapes = [(*part.live.shape, part.columns.shape[1]) for part in mask.parts]
    if not len(mask.owing):
        return tuple(genes.new_zeros(len(genes) * batch, *shape) for shape in shapes)
    whole = pad(owed(cell, genes, 1), (0, 1, 0, 1))  # (P, S + 1, F + 1)
    blocks = [whole[:, part.live[:, :, None], mask.owing[part.columns][:, None]] for part in mask.parts]
    return tuple(block.repeat_interleave(batch, dim=0) for block in blocks)


def begun(cell: Cell, genes: Tensor, batch: int, mask: Mask) -> Memory:
    """The memory before the first step: the cell's start and what it owes."""
    start = cell.start(unpacked(cell, genes.detach()), batch).detach()
    return {"s": start, **named("J", fresh(cell, genes.detach(), batch, mask))}


def advanced(cell: Cell, genes: Tensor, x: Tensor, memory: Memory, reset: Tensor, mask: Mask) -> tuple[Tensor, Carried]:
    """States (P, B, t, S), detached, and the influence along them."""
    states, run = tangent(cell, genes, x, memory["s"], reset, cut=mask.cut, coloured=True)
    starts = fresh(cell, genes.detach(), x.shape[-3], mask) if len(run.cut) else ()
    return states, carried(run, mask, memory, starts)


def stepped(
    cell: Cell, genes: Tensor, x: Tensor, memory: Memory, reset: Tensor = NEVER, *, mask: Mask
) -> tuple[Tensor, Memory]:
    """`Estimator.advance` by a masked influence."""
    states, along = advanced(cell, genes, x, memory, reset, mask)
    after = {"s": states[:, :, -1], **named("J", along.last)}
    return joined(cell, genes, states, mask.anatomy, along.pull), after


def named(name: str, values: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """Tensors by name and number."""
    return {f"{name}{number}": value for number, value in enumerate(values)}


def kept(cell: Cell, mask: Mask, steps: int) -> int:
    """Numbers kept for one network and one sequence over `steps` steps: the tangent and what is carried along it."""
    return tangent_storage(cell, steps, cut=mask.cut, coloured=True) + _along(mask, steps) + mask.size


def _along(mask: Mask, steps: int) -> int:
    """Numbers in J and the dynamics between its rows."""
    return steps * (mask.size + sum(part.rows.numel() * part.size for part in mask.parts))


def masked_flops(cell: Cell, mask: Mask) -> float:
    """Multiply-adds of one step: the influence goes on, and credit is pulled through it."""
    blocks = sum(part.size * (part.columns.numel() + part.rows.numel()) for part in mask.parts)
    slopes = sum(sums.size * len(sums.column) for sums in mask.anatomy.sums)
    return carried_flops(cell, mask) + blocks + slopes + layout_of(cell).size


def carried_flops(cell: Cell, mask: Mask) -> float:
    """Multiply-adds of one step of every block, D J + K z, and of the tangent."""
    return tangent_flops(cell, cut=mask.cut) + sum(
        (part.size + 1) * part.size * part.columns.numel() for part in mask.parts
    )


def check_feedback(feedback: str) -> None:
    """Refuse another word than "true" or "random".

    Raises:
        ConfigError: naming both.
    """
    if feedback not in ("true", "random"):
        raise ConfigError(f"feedback should be 'true' or 'random' but is {feedback!r}.")
