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
from trainers.gradient.taps import Notes, Unseen, Use, as_it_is, tapped

POINTS = 48  # random places where derivatives are looked at: a zero at all of them is taken for a zero everywhere
OUTSIDE = -1  # in place of a state column: a link hears an input there, or nothing


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


@lru_cache(maxsize=64)
def anatomy(cell: Cell, cut: bool = False) -> Anatomy:
    """The anatomy of a cell; with `cut`, of the cell whose links pass no credit on."""
    layout, count = layout_of(cell), cell.state
    direct = _direct(cell, layout)
    uses, derivatives, own, whole, heard, plain = _looked_at(cell, layout, direct, cut)
    touches = [(d != 0).any(dim=0).T for d in derivatives]  # (A, S) each
    local, dynamics = ((d != 0).any(dim=0) for d in (own, whole))
    if plain and not cut:
        dynamics = local | _through(uses, heard, touches, layout, count)
    colours = _coloured(torch.cat([*touches, local.T]))
    sums, order = _grouped(uses, derivatives, heard, touches, colours, layout)
    return Anatomy(
        direct, sums, plain, local, dynamics, colours, _columns(local.T, colours), order, int(order.max()) + 1
    )


def _direct(cell: Cell, layout: Layout) -> tuple[str, ...]:
    found: list[str] = []
    weights, x, s = _place(cell, layout, 1)
    while True:
        try:
            cell.step(tapped(weights, Notes(), 1, found), x, s)
        except Unseen as use:
            found.append(use.leaf)
        else:
            return tuple(found)


def _place(cell: Cell, layout: Layout, points: int) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Weights of one network, and inputs and states at random points of several sizes, as rows of a batch."""
    random = torch.Generator().manual_seed(len(layout.leaves) + layout.size)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=random)

    sizes = torch.tensor([0.3, 1.0, 3.0], dtype=torch.float64).repeat(points)[:points, None]
    weights = layout.unpack(normal(1, layout.size) / max(cell.state, 1) ** 0.5)
    return dict(weights), sizes * normal(1, points, cell.inputs), sizes * normal(1, points, cell.state)


Looks = tuple[list[Use], list[Tensor], Tensor, Tensor, list[Tensor], bool]


def _looked_at(cell: Cell, layout: Layout, direct: tuple[str, ...], cut: bool) -> Looks:
    """Uses, ∂s'/∂a of each (points, S, A), ∂s'/∂s without and with links (points, S, S), what each hears, and plainness."""
    weights, x, s = _place(cell, layout, POINTS)
    if direct:  # every row is a network of its own, so that entries of weights have derivatives of their own
        x, s = x.transpose(0, 1), s.transpose(0, 1)
        weights = {name: w.expand(POINTS, *w.shape[1:]).clone() for name, w in weights.items()}
    leaves = [weights[name].requires_grad_() for name in direct]
    s = s.clone().requires_grad_()

    def looked(enter: bool) -> tuple[Notes, list[Tensor]]:
        notes = Notes(as_it_is if enter else Tensor.detach, lambda total: torch.zeros_like(total).requires_grad_())
        after = cell.step(tapped(weights, notes, x.shape[1], direct), x, s)
        return notes, _rows_of(after, [s, *notes.nudges, *leaves])

    whole, (dynamics, *derivatives) = looked(True)
    _, (local, *severed) = looked(False)
    uses = whole.uses + [Use(name, 0, leaf[0].numel(), 1) for name, leaf in zip(direct, leaves, strict=True)]
    heard = [_heard(z, s, whole.nudges[:number]) for number, z in enumerate(whole.heard)]
    plain = all(len(found) for found in heard) or not heard
    columns = [found if len(found) else torch.full((u.fan,), OUTSIDE) for found, u in zip(heard, uses, strict=False)]
    columns += [torch.full((1,), OUTSIDE) for _ in direct]
    return uses, severed if cut else derivatives, local, local if cut else dynamics, columns, plain


def _rows_of(outputs: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    """Derivatives (rows, S, entries of a row) of outputs (P, B, S), whose rows do not feel each other."""
    count, rows = outputs.shape[2], outputs.shape[0] * outputs.shape[1]
    if not outputs.requires_grad:
        return [outputs.new_zeros(rows, count, each.numel() // rows) for each in inputs]
    basis = torch.eye(count, dtype=outputs.dtype)[:, None, None].expand(count, *outputs.shape)
    parts = torch.autograd.grad(outputs, inputs, basis, is_grads_batched=True, retain_graph=True, allow_unused=True)
    found = [each.new_zeros(count, *each.shape) if d is None else d for d, each in zip(parts, inputs, strict=True)]
    return [each.reshape(count, rows, -1).transpose(0, 1) for each in found]


def _heard(z: Tensor, s: Tensor, earlier: list[Tensor]) -> Tensor:
    """The state column that each value of z (P, B, M) is, or OUTSIDE; empty if z is computed within the step."""
    if not z.requires_grad:
        return torch.full((z.shape[2],), OUTSIDE)
    found = _rows_of(z, [s, *earlier])
    if any(bool((each != 0).any()) for each in found[1:]):
        return torch.empty(0, dtype=torch.long)
    slope = found[0]  # (rows, M, S)
    same = (slope == slope[:1]).all() and ((slope[0] == 0) | (slope[0] == 1)).all() and (slope[0].sum(dim=1) <= 1).all()
    if not same:
        return torch.empty(0, dtype=torch.long)
    return torch.where(slope[0].any(dim=1), slope[0].argmax(dim=1), OUTSIDE)


def _through(uses: list[Use], heard: list[Tensor], touches: list[Tensor], layout: Layout, count: int) -> Tensor:
    """(S, S) bool: which column reaches which by a link that exists."""
    exists = {leaf.name: torch.ones(leaf.full, dtype=torch.bool) for leaf in layout.leaves}
    for leaf in layout.leaves:
        if leaf.free:
            exists[leaf.name] = torch.zeros(leaf.full, dtype=torch.bool).index_fill(0, torch.tensor(leaf.free), True)
    found = torch.zeros(count, count, dtype=torch.bool)
    for use, columns, touched in zip(uses, heard, touches, strict=True):
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


def _grouped(
    uses: list[Use],
    derivatives: list[Tensor],
    heard: list[Tensor],
    touches: list[Tensor],
    colours: Tensor,
    layout: Layout,
) -> tuple[tuple[Sums, ...], Tensor]:
    """Uses whose derivatives are the same everywhere become one group; and the order of all columns."""
    groups: list[list[int]] = []
    for number, derivative in enumerate(derivatives):
        same = (group for group in groups if torch.equal(derivatives[group[0]], derivative))
        if (group := next(same, None)) is not None:
            group.append(number)
        else:
            groups.append([number])
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
        links = tuple(link for number in group for link in _stretches(uses[number], heard[number], column, none))
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
