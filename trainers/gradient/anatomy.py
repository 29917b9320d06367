"""What the next state of a cell is made of: found once by looking at the step, not declared.

A step is a few sums a = W z and a function of them and of the last state. Which state columns each sum touches, and whether
the links hear the last state itself, decides how cheaply influence can be carried, and which rules can serve a cell.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from evo_rnn.cells.cell import Cell
from evo_rnn.layout import Layout
from trainers.gradient.estimator import layout_of
from trainers.gradient.look import OUTSIDE, Look, looked_at
from trainers.gradient.taps import Use


@dataclass(frozen=True, eq=False)
class Stretch:
    """Links that hear columns of the last state and feed sums whose columns of one colour follow each other.

    Args:
        leaf: their leaf.
        rows: of the leaf.
        sources: columns of the leaf.
        colour: G.
        sums: A, as many as rows.
        onto: the columns of the next state that these sums touch, as many as rows.
        heard: the columns of the last state that the links hear, as many as sources.
    """

    leaf: str
    rows: slice
    sources: slice | Tensor
    colour: int
    sums: slice
    onto: slice
    heard: slice | Tensor


@dataclass(frozen=True, eq=False)
class Sums:
    """A sums a = W z that reach the next state in the same way, with all links that add to them.

    Args:
        first: number of the use whose nudge stands for all.
        uses: numbers of all its uses.
        fan: q, how many values z the sums hear.
        touches: (A, S) bool, which state columns each sum touches.
        column: (G, A), the one state column of colour g that a sum touches, or S where there is none.
        columns: slice of the influence's columns that belong to it, in the order (A, q).
        links: the stretches of weights that hear columns of the last state.
        straight: for each colour, whether sum and column have the same number throughout.
        there: (G, A) bool, whether a sum touches a column of a colour.
        places: where the immediate term of the sums that are `there` lies in a flat influence (S F).
    """

    first: int
    uses: tuple[int, ...]
    fan: int
    touches: Tensor
    column: Tensor
    columns: slice
    links: tuple[Stretch, ...]
    straight: tuple[bool, ...]
    there: Tensor
    places: Tensor

    @property
    def size(self) -> int:
        """A."""
        return len(self.touches)


@dataclass(frozen=True, eq=False)
class Anatomy:
    """A cell, taken apart.

    Args:
        direct: leaves that are used in other ways than the three words; each entry of them counts as a sum of its own.
        sums: all groups of sums.
        plain: links hear inputs and columns of the last state, and nothing that is computed within the step.
        local: (S, S) bool, which state column touches which (next, last), the links being cut.
        dynamics: (S, S) bool, the same with the links.
        colours: (G, S) bool; no two columns of one colour are ever touched by the same sum.
        local_column: (G, S), the column of colour g that a column touches with the links cut, or S.
        order: (F,) the entry of the unpacked weights that each column of the influence stands for.
        entries: how many entries the unpacked weights have.
        uses: of leaves in the three words.
        heard: for each of them, the columns of the last state that it hears, or OUTSIDE.
        certain: nothing can have been missed.
    """

    direct: tuple[str, ...]
    sums: tuple[Sums, ...]
    plain: bool
    local: Tensor
    dynamics: Tensor
    colours: Tensor
    local_column: Tensor
    order: Tensor
    entries: int
    uses: tuple[Use, ...]
    heard: tuple[Tensor, ...]
    certain: bool


@lru_cache(maxsize=64)
def anatomy(cell: Cell, cut: bool = False) -> Anatomy:
    """The anatomy of a cell; with `cut`, of the cell whose links pass no credit on."""
    layout, seen = layout_of(cell), looked_at(cell, cut)
    local, dynamics = seen.local, seen.local if cut else seen.dynamics
    if seen.plain and not cut:
        dynamics = local | _through(seen, layout, cell.state)
    colours = _coloured(torch.cat([*seen.touches, local.T]))
    sums, order = _grouped(seen, colours, layout)
    columns = _columns(local.T, colours)
    found = (seen.direct, sums, seen.plain, local, dynamics, colours, columns, order)
    words = tuple(use for use in seen.uses if use.leaf not in seen.direct)
    return Anatomy(*found, int(order.max()) + 1, words, tuple(seen.heard), seen.certain)


def _through(seen: Look, layout: Layout, count: int) -> Tensor:
    """(S, S) bool: which column reaches which by a link that exists."""
    exists = {leaf.name: torch.ones(leaf.full, dtype=torch.bool) for leaf in layout.leaves}
    for leaf in layout.leaves:
        if leaf.free:
            exists[leaf.name] = torch.zeros(leaf.full, dtype=torch.bool).index_fill(0, torch.tensor(leaf.free), True)
    found = torch.zeros(count, count, dtype=torch.bool)
    for use, columns, touched in zip(seen.uses, seen.heard, seen.touches, strict=True):
        inner = columns != OUTSIDE
        if inner.any():
            links = exists[use.leaf].view(-1, use.fan)[use.first : use.first + use.rows][:, inner]
            found[:, columns[inner]] |= (touched.T.float() @ links.float()) > 0
    return found


def _coloured(touches: Tensor) -> Tensor:
    """Colours (G, S) of state columns, greedily: columns that one sum touches get different ones."""
    count = touches.shape[1]
    conflicts = (touches.T.float() @ touches.float()) > 0
    colour = torch.full((count,), OUTSIDE)
    for column in range(count):
        taken = set(colour[conflicts[column]].tolist())
        colour[column] = next(c for c in range(count + 1) if c not in taken)
    return colour == torch.arange(int(colour.max()) + 1)[:, None]


def _columns(touches: Tensor, colours: Tensor) -> Tensor:
    """(G, A): the column of each colour that a row of touches (A, S) has, or S."""
    both = touches & colours[:, None]  # (G, A, S)
    return torch.where(both.any(dim=2), both.float().argmax(dim=2), touches.shape[1])


def _grouped(seen: Look, colours: Tensor, layout: Layout) -> tuple[tuple[Sums, ...], Tensor]:
    """Uses that reach the next state in the same way become one group; and the order of all columns."""
    groups: list[list[int]] = []
    for number, marks in enumerate(seen.marks):
        same = (group for group in groups if torch.equal(seen.marks[group[0]], marks))
        if (group := next(same, None)) is not None:
            group.append(number)
        else:
            groups.append([number])
    uses, touches = seen.uses, seen.touches
    begin = {leaf.name: start for leaf, start in zip(layout.leaves, _starts(layout), strict=True)}
    entries = [
        torch.cat([_entries(uses[number], begin[uses[number].leaf]) for number in group], dim=1) for group in groups
    ]
    every = torch.arange(sum(leaf.full for leaf in layout.leaves))
    known = torch.cat([*(each.flatten() for each in entries), every.new_empty(0)])
    order = torch.cat([known, every[~torch.isin(every, known)]])
    sums, at = [], 0
    for group, own in zip(groups, entries, strict=True):
        column = _columns(touches[group[0]], colours)
        span, none = slice(at, at + own.numel()), colours.shape[1]
        place = column[:, :, None] * len(order) + torch.arange(span.start, span.stop).view(own.shape)
        there = column < none
        links = tuple(link for number in group for link in _stretches(uses[number], seen.heard[number], column, none))
        straight = tuple(each.tolist() == list(range(none)) for each in column)
        flat = place[there].flatten()
        sums.append(
            Sums(group[0], tuple(group), own.shape[1], touches[group[0]], column, span, links, straight, there, flat)
        )
        at = span.stop
    return tuple(sums), order


def _stretches(use: Use, heard: Tensor, column: Tensor, none: int) -> Iterator[Stretch]:
    """The links of a use that hear the last state, stretch by stretch."""
    inner = (heard != OUTSIDE).nonzero().flatten()
    if not len(inner):
        return
    for colour, columns in enumerate(column):
        runs: list[list[int]] = []  # first sum, sum after the last, first column
        for number, state in enumerate(columns.tolist()):
            if state != none and runs and runs[-1][1] == number and runs[-1][2] + number - runs[-1][0] == state:
                runs[-1][1] = number + 1
            elif state != none:
                runs.append([number, number + 1, state])
        for first, stop, onto in runs:
            yield Stretch(
                use.leaf,
                slice(use.first + first, use.first + stop),
                _slice(inner),
                colour,
                slice(first, stop),
                slice(onto, onto + stop - first),
                _slice(heard[inner]),
            )


def _slice(index: Tensor) -> slice | Tensor:
    """The index as a slice, if it is one: slices are views."""
    first, count = int(index[0]), len(index)
    return slice(first, first + count) if torch.equal(index, torch.arange(first, first + count)) else index


def _starts(layout: Layout) -> list[int]:
    sizes = [0, *(leaf.full for leaf in layout.leaves)]
    return [sum(sizes[: k + 1]) for k in range(len(layout.leaves))]


def _entries(use: Use, start: int) -> Tensor:
    """(rows, fan): where in the unpacked weights the links of a use lie."""
    rows = torch.arange(use.first, use.first + use.rows)
    return start + rows[:, None] * use.fan + torch.arange(use.fan)
