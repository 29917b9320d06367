"""A look at a cell's step: its derivatives at random points say what each sum touches and what each link hears."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evo_rnn.cells.cell import Cell
from evo_rnn.errors import ConfigError
from evo_rnn.shapes import Weights
from trainers.gradient.chance import Decided
from trainers.gradient.estimator import layout_of
from trainers.gradient.taps import Notes, Unseen, Use, as_it_is, tapped

POINTS = 48  # a derivative that is zero at all of them is taken for zero everywhere; half of a relu's are
SIZES = 1.0, 0.3, 3.0, 30.0  # of inputs and states
FEW, MANY, LARGE = 3, 12, 2**11  # points of one network, and of one that has so many genes
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
        certain: nothing can have been missed; else what was seen is compared with every run (`tangent`).
    """

    direct: tuple[str, ...]
    uses: list[Use]
    touches: list[Tensor]
    marks: list[Tensor]
    local: Tensor
    dynamics: Tensor
    heard: list[Tensor]
    plain: bool
    certain: bool


def looked_at(cell: Cell, cut: bool) -> Look:
    """The step of a cell; with `cut`, of the cell whose links pass no credit on.

    Raises:
        ConfigError: if the step decides outside torch which weights it uses.
    """
    direct: list[str] = []
    while True:
        try:
            return _look(cell, cut, tuple(direct))
        except Unseen as use:
            direct += [use.leaf] if use.leaf else [leaf.name for leaf in cell.leaves() if leaf.name not in direct]


def _look(cell: Cell, cut: bool, direct: tuple[str, ...]) -> Look:
    each = FEW if layout_of(cell).size < LARGE else MANY
    every = torch.arange(POINTS).view(-1, each)
    uses = _seen(cell, direct, every[:1, :1]).uses
    width = max(cell.state, *(use.rows for use in uses), 1)
    piece = max(1, ROOM // (cell.state * width))
    if piece < each or each == MANY:  # a batched way back copies the weights, unless there is one network
        parts = [part for network in every.split(1) for part in network.split(piece, dim=1)]
    else:
        parts = list(every.split(piece // each))
    looks = [_seen(cell, direct, part) for part in parts]
    if any(look.uses != uses for look in looks):
        raise ConfigError(unforeseen(cell))
    dynamics, *derivatives = _any([look.whole for look in looks])
    local, *cuts = _any([look.severed for look in looks])
    chosen = [look.severed if cut else look.whole for look in looks]
    marks = [torch.cat([_mark(points[number]) for points in chosen]) for number in range(1, len(uses) + 1)]
    heard = [_agreed(list(each)) for each in zip(*(look.heard for look in looks), strict=True)]
    plain = all(len(found) for found in heard)
    shown = [found if len(found) else torch.full((use.fan,), OUTSIDE) for found, use in zip(heard, uses, strict=False)]
    shown += [torch.full((1,), OUTSIDE) for _ in range(len(uses) - len(shown))]
    touches = [each.T for each in (cuts if cut else derivatives)]
    certain = all(look.certain for look in looks)
    return Look(direct, uses, touches, marks, local, local if cut else dynamics, shown, plain, certain)


def unforeseen(cell: Cell) -> str:
    """What is said of a step that does what its look did not show."""
    return (
        f"{type(cell).__name__} should take the same step for all values but takes one that its structure did not show. "
        "Write its conditions as comparisons of tensors inside the step (torch.where), or use bptt."
    )


def _place(cell: Cell, points: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Weights (P, ...), inputs (P, B, I) and states (P, B, S) at random points (P, B); networks come in opposite pairs."""
    layout = layout_of(cell)
    middle, half = (torch.from_numpy(each).double() for each in layout.ranges())
    each = FEW if layout.size < LARGE else MANY
    width = torch.cat([torch.full((leaf.size,), (leaf.full / leaf.shape[0]) ** -0.5) for leaf in layout.leaves])

    def normal(seed: int, *shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))

    def genes(number: int) -> Tensor:
        pair, opposite = divmod(number, 2)
        value = normal(pair, layout.size)
        value = middle + 2 * half * value if pair % 2 else width * value  # as trainers draw them, or about zero
        return -value if opposite else value

    drawn = [normal(POINTS + point, 1 + cell.inputs + cell.state) for point in points.flatten().tolist()]
    sizes = torch.tensor(SIZES, dtype=torch.float64)[points % len(SIZES)]
    values = sizes[..., None] * torch.stack(drawn).view(*points.shape, -1)
    weights = layout.unpack(torch.stack([genes(number) for number in (points[:, 0] // each).tolist()]))
    return dict(weights), values[..., 1 : 1 + cell.inputs], values[..., 1 + cell.inputs :]


@dataclass(frozen=True, eq=False)
class Seen:
    """What some points show: ∂s'/∂s and ∂s'/∂a of each use (points, S, A), with links and with links cut.

    Args:
        uses: all uses of leaves.
        whole: derivatives with links.
        severed: derivatives with links cut.
        heard: what each link hears.
        certain: the step can hide nothing.
    """

    uses: list[Use]
    whole: list[Tensor]
    severed: list[Tensor]
    heard: list[Tensor]
    certain: bool


def _seen(cell: Cell, direct: tuple[str, ...], points: Tensor) -> Seen:
    if direct:  # every row is a network of its own, so that entries of weights have derivatives of their own
        points = points.view(-1, 1)
    weights, x, s = _place(cell, points)
    weights = {name: w.clone() for name, w in weights.items()}
    leaves = [weights[name].requires_grad_() for name in direct]
    s = s.clone().requires_grad_()

    def looked(whole: bool) -> tuple[Notes, list[Tensor], bool]:
        notes = Notes(as_it_is if whole else Tensor.detach, lambda total: torch.zeros_like(total).requires_grad_())
        with Decided([x, s, *weights.values()], points) as trial:
            after = _stepped(cell, tapped(weights, notes, x.shape[1], direct), x, s, direct)
        return notes, _rows_of(after, [s, *notes.nudges, *leaves]), trial.shows_all

    (notes, whole, certain), (_, severed, _) = looked(True), looked(False)
    uses = notes.uses + [Use(name, 0, leaf[0].numel(), 1) for name, leaf in zip(direct, leaves, strict=True)]
    heard = [_heard(z, s, notes.nudges[:number]) for number, z in enumerate(notes.heard)]
    return Seen(uses, whole, severed, heard, certain)


def _stepped(cell: Cell, weights: Weights, x: Tensor, s: Tensor, direct: tuple[str, ...]) -> Tensor:
    try:
        return cell.step(weights, x, s)
    except Unseen:
        raise
    except Exception:
        if len(direct) == len(weights):
            raise
        raise Unseen("") from None  # what met a tap could not say so


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
