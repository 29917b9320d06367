"""A look at a cell's step: its derivatives at random points say what each sum touches and what each link hears."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evo_rnn.cells.cell import Cell
from trainers.gradient.estimator import layout_of
from trainers.gradient.taps import Notes, Unseen, Use, as_it_is, tapped

POINTS = 48  # a derivative that is zero at all of them is taken for zero everywhere; half of a relu's are
ROOM = 2**22  # numbers that are made at once: with many units, a few points a time
OUTSIDE = -1  # in place of a state column: a link hears an input there, or nothing


@dataclass(frozen=True, eq=False)
class Look:
    """What was seen.

    Args:
        direct: leaves that are used in other ways than the three words; each counts as one more use, of single values.
        uses: all uses of leaves.
        touches: for each use, (A, S) bool: which columns of the next state its sums touch.
        marks: for each use, numbers that are equal where ∂s'/∂a is, at all points.
        local: (S, S) bool: which column touches which (next, last), the links being cut.
        dynamics: (S, S) bool: the same with the links.
        heard: for each use, the columns of the last state that it hears, or OUTSIDE.
        plain: links hear inputs and columns of the last state, and nothing that is computed within the step.
    """

    direct: tuple[str, ...]
    uses: list[Use]
    touches: list[Tensor]
    marks: list[Tensor]
    local: Tensor
    dynamics: Tensor
    heard: list[Tensor]
    plain: bool


def looked_at(cell: Cell, cut: bool) -> Look:
    """The step of a cell; with `cut`, of the cell whose links pass no credit on."""
    direct = _direct(cell)
    uses = _seen(cell, direct, 0, 1)[0]
    width = max(cell.state, *(use.rows for use in uses), 1)
    piece = max(1, min(POINTS, ROOM // (cell.state * width)))
    looks = [_seen(cell, direct, first, min(piece, POINTS - first)) for first in range(0, POINTS, piece)]
    whole, severed, columns = [look[1] for look in looks], [look[2] for look in looks], [look[3] for look in looks]
    dynamics, *derivatives = _any(whole)
    local, *cuts = _any(severed)
    chosen = severed if cut else whole
    marks = [torch.cat([_mark(points[number]) for points in chosen]) for number in range(1, len(uses) + 1)]
    heard = [_agreed([each[number] for each in columns]) for number in range(len(columns[0]))]
    plain = all(len(found) for found in heard)
    shown = [found if len(found) else torch.full((use.fan,), OUTSIDE) for found, use in zip(heard, uses, strict=False)]
    shown += [torch.full((1,), OUTSIDE) for _ in direct]
    touches = [each.T for each in (cuts if cut else derivatives)]
    return Look(direct, uses, touches, marks, local, local if cut else dynamics, shown, plain)


def _direct(cell: Cell) -> tuple[str, ...]:
    found: list[str] = []
    weights, x, s = _place(cell, 0, 1)
    while True:
        try:
            cell.step(tapped(weights, Notes(), 1, found), x, s)
        except Unseen as use:
            found.append(use.leaf)
        else:
            return tuple(found)


def _place(cell: Cell, first: int, points: int) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Weights of one network, and inputs and states at some of the random points, of several sizes, as rows of a batch."""
    layout = layout_of(cell)

    def normal(seed: int, *shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))

    sizes = torch.tensor([0.3, 1.0, 3.0], dtype=torch.float64).repeat(POINTS)[first : first + points, None]
    x, s = (normal(seed, 1, POINTS, count) for seed, count in ((1, cell.inputs), (2, cell.state)))
    weights = layout.unpack(normal(0, 1, layout.size) / max(cell.state, 1) ** 0.5)
    return dict(weights), sizes * x[:, first : first + points], sizes * s[:, first : first + points]


Seen = tuple[list[Use], list[Tensor], list[Tensor], list[Tensor]]


def _seen(cell: Cell, direct: tuple[str, ...], first: int, points: int) -> Seen:
    """Uses; ∂s'/∂s and ∂s'/∂a of each (points, S, A), with links and with links cut; and what each link hears."""
    weights, x, s = _place(cell, first, points)
    if direct:  # every row is a network of its own, so that entries of weights have derivatives of their own
        x, s = x.transpose(0, 1), s.transpose(0, 1)
        weights = {name: w.expand(points, *w.shape[1:]).clone() for name, w in weights.items()}
    leaves = [weights[name].requires_grad_() for name in direct]
    s = s.clone().requires_grad_()

    def looked(whole: bool) -> tuple[Notes, list[Tensor]]:
        notes = Notes(as_it_is if whole else Tensor.detach, lambda total: torch.zeros_like(total).requires_grad_())
        after = cell.step(tapped(weights, notes, x.shape[1], direct), x, s)
        return notes, _rows_of(after, [s, *notes.nudges, *leaves])

    (notes, whole), (_, severed) = looked(True), looked(False)
    uses = notes.uses + [Use(name, 0, leaf[0].numel(), 1) for name, leaf in zip(direct, leaves, strict=True)]
    return uses, whole, severed, [_heard(z, s, notes.nudges[:number]) for number, z in enumerate(notes.heard)]


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
    slope, *others = _rows_of(z, [s, *earlier])  # (rows, M, S)
    same = (slope == slope[:1]).all() and ((slope[0] == 0) | (slope[0] == 1)).all() and (slope[0].sum(dim=1) <= 1).all()
    if not same or any(bool((each != 0).any()) for each in others):
        return torch.empty(0, dtype=torch.long)
    return torch.where(slope[0].any(dim=1), slope[0].argmax(dim=1), OUTSIDE)


def _any(looks: list[list[Tensor]]) -> list[Tensor]:
    """(S, A) bool for each input: which derivatives are not zero at some point."""
    return [torch.stack([(look != 0).any(dim=0) for look in column]).any(dim=0) for column in zip(*looks, strict=True)]


def _mark(derivative: Tensor) -> Tensor:
    """(points, S + A): sums of the derivative (points, S, A) along each side, which equal derivatives share to the bit."""
    return torch.cat([derivative.sum(dim=1), derivative.sum(dim=2)], dim=1)


def _agreed(columns: list[Tensor]) -> Tensor:
    same = all(torch.equal(each, columns[0]) for each in columns)
    return columns[0] if same else columns[0].new_empty(0)
