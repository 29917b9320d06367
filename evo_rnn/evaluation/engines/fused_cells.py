"""What the fused engine runs for each family of cells: one product a step, then passes over its result, all in place.

No `tanh` is computed: tanh(v) = 2 sigmoid(2 v) - 1, and sigmoid is several times cheaper. The 2 v goes into the
weights, and so does the rest, because a form keeps the hidden value h as s with h = scale s + shift.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor

from evo_rnn.cells import FRNN, GRU, LSTM, Elman, IndRNN
from evo_rnn.evaluation.engines.fused_plane import Call, Plane
from evo_rnn.shapes import Weights

Fusable: TypeAlias = Elman | FRNN | IndRNN | LSTM | GRU


class Rows(NamedTuple):
    """Some rows of the packed weights, by the column they multiply; L equal copies (fused_plane.Plane.weight)."""

    recurrent: Tensor  # (P, rows, H, L), on s; (P, rows, 0, L) where a unit hears itself alone
    input: Tensor  # (P, rows, I, L), on x
    bias: Tensor  # (P, rows, 1, L), on 1


class Form(Protocol):
    """One cell on one plane. Its tensors are made once; `pack` fills them for each block of chromosomes."""

    scale: float
    shift: float
    gates: int  # rows of the product a unit
    dense: bool  # whether the product sees the hidden values
    memory: tuple[Tensor, ...]  # what else starts at zero

    def __init__(self, cell: Fusable, plane: Plane) -> None: ...

    def pack(self, weights: Weights, rows: Rows) -> None:
        """Fills the rows of the step's product as if h = scale s; the engine sees to the shift."""
        ...

    def step(self, rows: Tensor, before: Tensor, after: Tensor) -> Call:
        """The call that makes s after (P, H, B) of the product (P, rows, B) and s before."""
        ...


def place(leaf: Tensor, gain: float | Tensor, rows: Tensor) -> None:
    """Puts gain times leaf (P, rows, columns), or (P, rows) for one column, where the product finds it."""
    leaf = leaf if leaf.dim() == 3 else leaf[:, :, None]
    torch.mul(leaf[..., None].expand_as(rows), gain, out=rows)


class Tanh:
    """Elman, FRNN: s' = sigmoid(2 (W x + U h + b)), h = 2 s - 1."""

    scale, shift, gates, dense = 2.0, -1.0, 1, True

    def __init__(self, cell: Elman | FRNN, plane: Plane) -> None:  # noqa: ARG002 (one signature for all)
        self.memory: tuple[Tensor, ...] = ()

    def pack(self, weights: Weights, rows: Rows) -> None:
        """All doubled."""
        place(weights["recurrent"], 4, rows.recurrent)
        place(weights["input"], 2, rows.input)
        place(weights["bias"], 2, rows.bias)

    def step(self, rows: Tensor, before: Tensor, after: Tensor) -> Call:  # noqa: ARG002 (the product has seen it)
        """One pass."""
        return partial(torch.sigmoid, rows, out=after)


class Independent:
    """IndRNN: as Elman with u h unit by unit; with the rectifier h = s."""

    gates, dense = 1, False

    def __init__(self, cell: IndRNN, plane: Plane) -> None:
        self.tanh = cell.activation == "tanh"
        self.scale, self.shift = (2.0, -1.0) if self.tanh else (1.0, 0.0)
        self.recurrent = plane.values(cell.hidden)[0]
        self.memory: tuple[Tensor, ...] = ()

    def pack(self, weights: Weights, rows: Rows) -> None:
        """What a unit hears of itself is kept apart, with its own shift."""
        gain = 2.0 if self.tanh else 1.0
        self.recurrent.copy_(self.scale * gain * weights["recurrent"][:, :, None])
        place(weights["input"], gain, rows.input)
        place(weights["bias"] + self.shift * weights["recurrent"], gain, rows.bias)

    def step(self, rows: Tensor, before: Tensor, after: Tensor) -> Call:
        """Two passes: s' = f(W x + b + u s)."""
        squash: Callable[[Tensor], Tensor] = torch.sigmoid_ if self.tanh else torch.relu_

        def call() -> None:
            torch.addcmul(rows, self.recurrent, before, out=after)
            squash(after)

        return call


class Gated:
    """LSTM: keeps h / 2 and 2 c, so that each tanh is a sigmoid less one half."""

    scale, shift, gates, dense = 2.0, 0.0, 4, True

    def __init__(self, cell: LSTM, plane: Plane) -> None:
        self.double = plane.values(cell.hidden)[0]  # 2 c
        self.memory: tuple[Tensor, ...] = (self.double,)
        self.peepholes = [plane.values(cell.hidden)[0] for _ in "ifo" if cell.peepholes]
        self.gain = torch.tensor([1.0, 1.0, 2.0, 1.0], device=plane.device).repeat_interleave(cell.hidden)[
            :, None, None
        ]

    def pack(self, weights: Weights, rows: Rows) -> None:
        """Gates i, f, g, o, with g doubled."""
        place(weights["recurrent"], 2 * self.gain, rows.recurrent)
        place(weights["input"], self.gain, rows.input)
        place(weights["bias"], self.gain, rows.bias)
        for peephole, gate in zip(self.peepholes, "ifo", strict=False):
            peephole.copy_(weights[f"peephole_{gate}"][:, :, None] / 2)

    def step(self, rows: Tensor, before: Tensor, after: Tensor) -> Call:  # noqa: ARG002 (the product has seen it)
        """2 c' = f 2 c + 4 i (sigmoid(2 g) - 1/2), h' / 2 = o (sigmoid(2 c') - 1/2)."""
        i, f, g, o = rows.chunk(4, dim=1)
        first, c = rows[:, : -after.shape[1]] if self.peepholes else rows, self.double

        def call() -> None:
            if self.peepholes:
                i.addcmul_(self.peepholes[0], c)
                f.addcmul_(self.peepholes[1], c)
            torch.sigmoid(first, out=first)
            c.mul_(f).addcmul_(i, g.sub_(0.5), value=4)
            if self.peepholes:
                o.addcmul_(self.peepholes[2], c).sigmoid_()
            torch.mul(o, torch.sigmoid(c, out=g).sub_(0.5), out=after)

        return call


class ResetAfter:
    """GRU with the reset gate after the product: h is a mean of n and the last h, so s is the same mean of theirs."""

    scale, shift, gates, dense = 2.0, -1.0, 4, True

    def __init__(self, cell: GRU, plane: Plane) -> None:  # noqa: ARG002
        self.two, self.three = 2 * cell.hidden, 3 * cell.hidden
        self.memory: tuple[Tensor, ...] = ()

    def pack(self, weights: Weights, rows: Rows) -> None:
        """Rows r, z, then W x + b and U h + d of the candidate apart, both doubled."""
        two, three = self.two, self.three
        place(weights["recurrent"][:, :two], 2, rows.recurrent[:, :two])
        place(weights["recurrent"][:, two:], 4, rows.recurrent[:, three:])
        for name, into in (("input", rows.input), ("bias", rows.bias)):
            place(weights[name][:, :two], 1, into[:, :two])
            place(weights[name][:, two:], 2, into[:, two:three])
        place(weights["reset_bias"], 2, rows.bias[:, three:])

    def step(self, rows: Tensor, before: Tensor, after: Tensor) -> Call:
        """Candidate n = sigmoid(x + r u), then s' = (1 - z) n + z s."""
        r, z, n, u = rows.chunk(4, dim=1)
        gates = rows[:, : self.two]

        def call() -> None:
            torch.sigmoid(gates, out=gates)
            torch.lerp(n.addcmul_(r, u).sigmoid_(), before, z, out=after)

        return call


class ResetBefore:
    """GRU with the reset gate before the product, which takes a second one: 2 U r h = 4 U r (s - 1/2)."""

    scale, shift, gates, dense = 2.0, -1.0, 3, True

    def __init__(self, cell: GRU, plane: Plane) -> None:
        self.two = 2 * cell.hidden
        self.memory: tuple[Tensor, ...] = ()
        self.weight = plane.weight(cell.hidden, cell.hidden)
        self.kept, self.echo = (plane.values(cell.hidden)[0] for _ in range(2))  # r (s - 1/2), and its product
        self.products = plane.product(self.weight, self.kept, self.echo)

    def pack(self, weights: Weights, rows: Rows) -> None:
        """Rows r, z, then W x + b of the candidate, doubled."""
        two = self.two
        place(weights["recurrent"][:, :two], 2, rows.recurrent[:, :two])
        place(weights["recurrent"][:, two:], 4, self.weight)
        for name, into in (("input", rows.input), ("bias", rows.bias)):
            place(weights[name][:, :two], 1, into[:, :two])
            place(weights[name][:, two:], 2, into[:, two:])

    def step(self, rows: Tensor, before: Tensor, after: Tensor) -> Call:
        """Candidate n = sigmoid(x + U r h), then s' = (1 - z) n + z s."""
        r, z, n = rows.chunk(3, dim=1)
        gates = rows[:, : self.two]

        def call() -> None:
            torch.sigmoid(gates, out=gates)
            torch.sub(before, 0.5, out=self.kept).mul_(r)
            for product in self.products:
                product()
            torch.lerp(n.add_(self.echo).sigmoid_(), before, z, out=after)

        return call


def form_of(cell: Fusable) -> type[Form]:
    """The form that runs `cell`."""
    if isinstance(cell, GRU):
        return ResetAfter if cell.reset == "after" else ResetBefore
    forms: dict[type, type[Form]] = {Elman: Tanh, FRNN: Tanh, IndRNN: Independent, LSTM: Gated}
    return forms[type(cell)]
