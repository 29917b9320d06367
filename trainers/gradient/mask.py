"""What may influence what: which rows of the influence matrix J = ds/dθ each sum a = W z of a cell is given.

All links of a sum influence the same state columns, so a mask is a list of columns for each sum (`anatomy` finds the sums).
If the cell's start depends on one of them, all are given the columns of the start too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import pad

from evo_rnn.cells.cell import Cell
from trainers.gradient.anatomy import Anatomy, Sums, anatomy
from trainers.gradient.estimator import layout_of
from trainers.gradient.tangent import owed

NONE = -1
CLOSED = 0  # in place of an order: the mask is everything that is ever reached


@dataclass(frozen=True, eq=False)
class Part:
    """A sums of one group, whose masks are about equally long.

    Args:
        group: number of their group; behind the last group come entries that only the cell's start depends on.
        sums: (A,) their numbers in the group.
        rows: (A, k) state columns that they may influence, live ones first; S where there is none.
        live: (A, l) those whose influence goes on; S where there is none.
        columns: (A, q) their columns of the influence; `span` is the same, flat, as a slice where they follow each other.
        slopes: (A, k) where in K (G A) the slope of each row lies.
        sloped: (A, k) whether there is one; empty if all are there.
        moves: (A, k, l) where in D (S S) the slope from each live row to each row lies.
        moved: (A, k, l) whether there is one; empty if all are there.
    """

    group: int
    sums: Tensor
    rows: Tensor
    live: Tensor
    columns: Tensor
    span: slice | Tensor
    slopes: Tensor
    sloped: Tensor
    moves: Tensor
    moved: Tensor

    @property
    def size(self) -> int:
        """L."""
        return self.live.shape[1]


@dataclass(frozen=True, eq=False)
class Mask:
    """What may influence what.

    Args:
        anatomy: of the cell, with or without credit through its links.
        cut: without.
        parts: all sums.
        owing: (F,) the column of `owed` for each column of the influence, or F where the start owes nothing; empty if it
            owes nothing at all.
    """

    anatomy: Anatomy
    cut: bool
    parts: tuple[Part, ...]
    owing: Tensor

    @property
    def size(self) -> int:
        """Numbers that are carried."""
        return sum(part.size * part.columns.numel() for part in self.parts)


@lru_cache(maxsize=64)
def mask_of(cell: Cell, order: int, cut: bool) -> Mask:
    """The mask of a cell: what a sum reaches in fewer than `order` further steps, or ever if the order is CLOSED."""
    parts, moves = anatomy(cell, cut), moved(cell, cut)
    owing, begun = _begun(cell, parts)
    found, behind = [], len(parts.sums)
    for number, sums in enumerate(parts.sums):
        columns = torch.arange(sums.columns.start, sums.columns.stop).view(sums.size, sums.fan)
        touches = sums.touches | begun[columns].any(dim=1)
        slopes = _slopes(sums, parts.colours)
        found += _split(number, reached(touches, moves, order), moves, columns, slopes)
    idle = torch.arange(max((sums.columns.stop for sums in parts.sums), default=0), len(parts.order))
    idle = idle[begun[idle].any(dim=1)]
    none = torch.full((len(idle), cell.state), NONE)
    found += _split(behind, reached(begun[idle], moves, order), moves, idle[:, None], none)
    return Mask(parts, cut, tuple(found), owing)


def moved(cell: Cell, cut: bool) -> Tensor:
    """(S, S) bool, which column moves which at a step (next, last), with or without credit through the links."""
    parts = anatomy(cell, cut)
    return parts.local if cut else parts.dynamics


def reached(touches: Tensor, moves: Tensor, order: int = CLOSED) -> Tensor:
    """(A, S) bool: what sums that touch `touches (A, S)` reach in fewer than `order` further steps of `moves (S, S)`."""
    found = touches
    for _ in range((order or len(moves)) - 1):
        more = found | (found.float() @ moves.T.float() > 0)
        if torch.equal(more, found):
            break
        found = more
    return found


@lru_cache(maxsize=64)
def reaches(cell: Cell, cut: bool, order: int = CLOSED) -> Tensor:
    """(A, S) bool: what each sum of a cell reaches, all groups one after the other."""
    moves = moved(cell, cut)
    every = [reached(sums.touches, moves, order) for sums in anatomy(cell, cut).sums]
    return torch.cat([*every, moves.new_empty(0, len(moves))])


@lru_cache(maxsize=64)
def chained(cell: Cell) -> bool:
    """Whether links hear other sums of the same step, so that a sum touches more than its own unit."""
    whole, severed = anatomy(cell), anatomy(cell, True)
    return not torch.equal(*(_touched(each) for each in (whole, severed)))


def _touched(parts: Anatomy) -> Tensor:
    """(F, S) bool: what the links of the unpacked weights touch."""
    found = torch.zeros(parts.entries, len(parts.local), dtype=torch.bool)
    for sums in parts.sums:
        entries, touches = parts.order[sums.columns], sums.touches.repeat_interleave(sums.fan, dim=0)
        found.index_put_((entries,), found[entries] | touches)
    return found


def _begun(cell: Cell, parts: Anatomy) -> tuple[Tensor, Tensor]:
    """For each column of the influence: what the cell's start owes to it, as a column of `owed`, and where (F, S)."""
    width, layout = len(parts.order), layout_of(cell)
    random = torch.Generator().manual_seed(0)
    genes = torch.randn(1, layout.size, dtype=torch.float64, generator=random).requires_grad_()
    touches = torch.zeros(width, cell.state, dtype=torch.bool)
    if not cell.start(layout.unpack(genes), 1).requires_grad:
        return torch.empty(0, dtype=torch.long), touches
    found = (owed(cell, genes.detach(), 1)[0] != 0).T  # (F, S)
    owing, theirs = torch.full((width,), len(found)), anatomy(cell).order
    for column in found.any(dim=1).nonzero().flatten().tolist():
        home = int((parts.order == theirs[column]).nonzero()[0])
        owing[home], touches[home] = column, found[column]
    return owing, touches


def _slopes(sums: Sums, colours: Tensor) -> Tensor:
    """(A, S) where in K (G A) the slope of a sum at a state column lies, or NONE."""
    colour = colours.float().argmax(dim=0)
    return torch.where(sums.touches, colour * sums.size + torch.arange(sums.size)[:, None], NONE)


def _split(group: int, reach: Tensor, moves: Tensor, columns: Tensor, slopes: Tensor) -> list[Part]:
    """Parts of sums that reach `reach (A, S)`; in a part the most live rows are less than twice the fewest."""
    live = reach & (reach.float() @ moves.float() > 0)
    sizes = torch.ceil(torch.log2(live.sum(dim=1).float()))  # -inf: none
    parts = []
    for size in sizes.unique():
        sums = (sizes == size).nonzero().flatten()
        first, rest = _listed(live[sums]), _listed((reach & ~live)[sums])
        parts.append(_part(group, sums, torch.cat([first, rest], dim=1), first, columns[sums], slopes[sums]))
    return parts


def _part(group: int, sums: Tensor, rows: Tensor, live: Tensor, columns: Tensor, slopes: Tensor) -> Part:
    count = slopes.shape[1]
    found = pad(slopes, (0, 1), value=NONE).gather(1, rows)
    moved = (rows < count)[:, :, None] & (live < count)[:, None]
    moves = torch.where(moved, rows[:, :, None] * count + live[:, None], 0)
    flat = columns.flatten()
    first, follow = int(flat[0]), bool((flat.diff() == 1).all())
    span = slice(first, first + len(flat)) if follow else flat
    sloped = found != NONE
    return Part(
        group, sums, rows, live, columns, span, found.clamp(min=0), _unless_all(sloped), moves, _unless_all(moved)
    )


def _unless_all(there: Tensor) -> Tensor:
    return there[:0] if there.all() else there


def _listed(found: Tensor) -> Tensor:
    """The columns in each row of `found (A, S)`: (A, k), filled up with S."""
    count = found.shape[1]
    every = torch.where(found, torch.arange(count), count).sort(dim=1).values
    return every[:, : int(found.sum(dim=1).max())]
