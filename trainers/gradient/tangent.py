"""The tangent of a cell along a run: D_t and I_t of every step, found for a whole chunk at once.

First the states are run forward without a tape. Then all steps of the chunk are rows of one batch, since each depends only
on its own input and last state, and a few calls give D_t and K_t of all of them. The immediate term I_t = K_t ⊗ z_t stays
factored (`anatomy`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from evo_rnn.cells.cell import Cell
from evo_rnn.errors import ConfigError
from evo_rnn.shapes import Weights
from trainers.gradient.anatomy import Anatomy, Sums, anatomy
from trainers.gradient.audit import audited, check_reaches, stepped
from trainers.gradient.estimator import (
    NEVER,
    attached,
    check_chunk,
    entered,
    layout_of,
    multiply_adds,
    tape_adds,
    unpacked,
)
from trainers.gradient.look import unforeseen
from trainers.gradient.taps import Notes, as_it_is

FEW = 4  # colours that are gone through one by one
ROOM = 2**24  # numbers that one batched sweep may make: longer chunks are swept in pieces


@dataclass(frozen=True, eq=False)
class Tangent:
    """D and I along t steps of N = P B runs.

    Args:
        anatomy: of the cell.
        D: (t, N, S, S), or (t, N, G, S) by colours where that was asked for and no credit goes through links.
        K: for each group of sums, (t, N, G, A): what each sum does to its column of each colour.
        z: for each group of sums, (t, N, q): what the sums hear.
        cut: (t, N) bool, the steps that begin a new episode; empty if none does.
    """

    anatomy: Anatomy
    D: Tensor
    K: tuple[Tensor, ...]
    z: tuple[Tensor, ...]
    cut: Tensor
    coloured: bool = False

    def pulled(self, v: Tensor) -> Tensor:
        """Σ_t v_t I_t: (N, V, F) of v (t, N, V, S)."""
        parts = []
        for k, z, sums in zip(self.K, self.z, self.anatomy.sums, strict=True):
            c = _swept(v, k, sums)  # (t, N, V, A)
            t, n, rows, size = c.shape
            product = torch.bmm(c.permute(1, 2, 3, 0).reshape(n, rows * size, t), z.transpose(0, 1))
            parts.append(product.view(n, rows, size * sums.fan))
        return self._whole(parts, v.shape[1:3])

    def pulled_each(self, v: Tensor) -> Tensor:
        """v_t I_t of every step: (t, N, F) of v (t, N, S)."""
        parts = [
            torch.einsum("tna,tnq->tnaq", _swept(v[:, :, None], k, sums)[:, :, 0], z).flatten(2)
            for k, z, sums in zip(self.K, self.z, self.anatomy.sums, strict=True)
        ]
        return self._whole(parts, v.shape[:2])

    def immediate(self) -> tuple[Tensor, Tensor]:
        """I of every step, its entries that are not zero: where they lie in a flat (S F), and what they are, (t, N, .)."""
        groups = tuple(zip(self.K, self.z, self.anatomy.sums, strict=True))
        values = [  # (t, N, G, A, q) without what is not there
            (k[..., None] * z[:, :, None, None] if sums.there.all() else k[:, :, sums.there, None] * z[:, :, None])
            for k, z, sums in groups
        ]
        places = [sums.places.to(self.D.device) for sums in self.anatomy.sums]
        flat = [each.flatten(2) for each in values]
        return (places[0], flat[0]) if len(flat) == 1 else (torch.cat(places), torch.cat(flat, dim=2))

    def _whole(self, parts: list[Tensor], rows: torch.Size) -> Tensor:
        idle = len(self.anatomy.order) - sum(part.shape[-1] for part in parts)
        parts = [*parts, self.D.new_zeros(*rows, idle)] if idle else parts
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


def _swept(v: Tensor, k: Tensor, sums: Sums) -> Tensor:
    """V K: (t, N, V, A) of v (t, N, V, S), colour by colour; K is zero where a sum has no column of a colour."""
    columns = sums.column.clamp(max=v.shape[-1] - 1).to(v.device)
    if len(columns) > FEW:
        return torch.einsum("tnvga,tnga->tnva", v[..., columns], k)
    total = v[..., :0]
    for colour, column in enumerate(columns):
        if sums.there[colour].any():
            part = (v if sums.straight[colour] else v[..., column]) * k[:, :, colour, None]
            total = total + part if total.shape[-1] else part
    return total if total.shape[-1] else v.new_zeros(*v.shape[:-1], sums.size)


def ran(cell: Cell, weights: Weights, x: Tensor, s: Tensor, reset: Tensor) -> tuple[Tensor, Tensor]:
    """The states that each step begins from and ends in, (P, t, B, S) each, on inputs (P, B, t, I)."""
    before, after = [], []
    with torch.no_grad():
        for t, now in enumerate(x.unbind(dim=2)):
            s = entered(cell, weights, s, reset[:, t]) if len(reset) else s
            before.append(s)
            s = cell.step(weights, now, s)
            after.append(s)
    return torch.stack(before, dim=1), torch.stack(after, dim=1)


def tangent(
    cell: Cell, genes: Tensor, x: Tensor, s: Tensor, reset: Tensor = NEVER, *, cut: bool = False, coloured: bool = False
) -> tuple[Tensor, Tangent]:
    """States (P, B, t, S), detached, and the tangent along them; with `cut`, of the cell whose links pass no credit on.

    Args:
        cell: any.
        genes: (P, D).
        x: (B, t, I) or (P, B, t, I).
        s: (P, B, S), the state before.
        reset: (B, t) or empty.
        cut: whether credit through the links is dropped.
        coloured: whether D may stay in the form (t, N, G, S), which is far smaller where no unit hears another.
    """
    check_chunk(cell, genes, x, s, reset)
    weights = unpacked(cell, genes.detach())
    people, (batch, steps) = len(genes), x.shape[-3:-1]
    x = x.expand(people, *x.shape[-3:])
    parts = anatomy(cell, cut)
    small = coloured and unlinked(parts, cut)
    before, after = ran(cell, weights, x, s, reset)
    most = max(1, ROOM // (people * batch * cell.state * max(cell.state, *(g.size for g in parts.sums), 1)))
    found = [
        _at(
            cell,
            weights,
            x[:, :, a : a + most].transpose(1, 2),
            before[:, a : a + most],
            parts,
            cut,
            small,
            after[:, a : a + most],
        )
        for a in range(0, steps, most)
    ]
    d, k, z = (tuple(torch.cat(each) for each in zip(*column, strict=True)) for column in zip(*found, strict=True))
    episodes = reset.T.repeat(1, people) if reset.any() else NEVER
    return after.transpose(1, 2), Tangent(parts, d[0], k, z, episodes, small)


def unlinked(parts: Anatomy, cut: bool) -> bool:
    """Whether no credit goes through links: they are cut, or hear inputs alone."""
    return cut or (parts.plain and not any(group.links for group in parts.sums))


Piece = tuple[tuple[Tensor], tuple[Tensor, ...], tuple[Tensor, ...]]


def _at(
    cell: Cell, weights: Weights, x: Tensor, s: Tensor, parts: Anatomy, cut: bool, small: bool, ends: Tensor
) -> Piece:
    """D, K and z at inputs (P, t, B, I) and states (P, t, B, S), laid time first."""
    people, steps, batch = s.shape[:3]
    rows, enter = (people, steps * batch), Tensor.detach if cut or parts.plain else as_it_is
    x, s = x.reshape(*rows, -1), s.reshape(*rows, -1)
    given = weights
    if parts.direct:  # a network of its own for every row
        x, s = x.reshape(rows[0] * rows[1], 1, -1), s.reshape(rows[0] * rows[1], 1, -1)
        given = {name: w.repeat_interleave(rows[1], dim=0) for name, w in weights.items()}
    with torch.enable_grad():
        s = s.detach().requires_grad_()
        notes = Notes(enter, lambda total: torch.zeros_like(total).requires_grad_())
        leaves = [given[name].requires_grad_() for name in parts.direct]
        after = stepped(cell, given, x, s, notes, parts)
    if not torch.allclose(after.detach().reshape(ends.shape), ends, rtol=1e-3, atol=1e-3, equal_nan=True):
        raise ConfigError(unforeseen(cell))  # it drew at random, or branched on what other rows hold
    nudges = [*notes.nudges, *leaves]
    ones = [leaf.new_ones(len(leaf), 1, 1) for leaf in leaves]
    heard = [z.detach() for z in (*notes.heard, *ones)]
    found = _derivatives(after, [s, *(nudges[group.first] for group in parts.sums)], parts.colours, s.dtype)
    if not parts.certain:
        known = found if cut or parts.plain else [found[0][:0], *found[1:]]
        audited(cell, after, s, notes, leaves, known, parts)

    def timed(value: Tensor) -> Tensor:  # (P t B, ...) to (t, N, ...)
        return value.reshape(people, steps, batch, *value.shape[1:]).transpose(0, 1).flatten(1, 2)

    own, *k = (timed(each) for each in found)
    z = [timed(torch.cat([heard[use] for use in g.uses], dim=2).flatten(0, 1)) for g in parts.sums]
    if cut or small:
        d = own if small else _placed(own, parts)
    elif parts.plain:
        d = _linked(_placed(own, parts), k, weights, parts, batch)
    else:
        basis = torch.eye(cell.state, dtype=torch.bool, device=s.device)
        d = timed(_derivatives(after, [s], basis, s.dtype)[0])
        check_reaches(cell, d, parts)
    return (d,), tuple(k), tuple(z)


def _derivatives(outputs: Tensor, inputs: list[Tensor], seeds: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """(rows, G, entries of a row) of outputs (P, B, S) for cotangents `seeds` (G, S)."""
    rows, count = outputs.shape[0] * outputs.shape[1], len(seeds)
    if not outputs.requires_grad:
        return [each.new_zeros(rows, count, each.numel() // rows) for each in inputs]
    seeds = seeds.to(outputs.device, dtype)[:, None, None].expand(-1, *outputs.shape)
    parts: tuple[Tensor | None, ...]
    if count == 1:
        plain = torch.autograd.grad(outputs, inputs, seeds[0], retain_graph=True, allow_unused=True)
        parts = tuple(each if each is None else each[None] for each in plain)
    else:
        parts = torch.autograd.grad(outputs, inputs, seeds, is_grads_batched=True, retain_graph=True, allow_unused=True)
    found = [each.new_zeros(count, *each.shape) if d is None else d for d, each in zip(parts, inputs, strict=True)]
    return [each.reshape(count, rows, -1).transpose(0, 1) for each in found]


def _placed(own: Tensor, parts: Anatomy) -> Tensor:
    """The local dynamics (t, N, S, S) of its coloured form (t, N, G, S)."""
    count = own.shape[-1]
    if not parts.local.any():
        return own.new_zeros(*own.shape[:2], count, count)
    d = own.new_zeros(*own.shape[:2], count + 1, count)
    return d.scatter_(2, parts.local_column.to(own.device).expand(*own.shape), own)[:, :, :count]


def _linked(d: Tensor, k: list[Tensor], weights: Weights, parts: Anatomy, batch: int) -> Tensor:
    """D = local dynamics + K W, for links that hear columns of the last state."""
    for group, slope in zip(parts.sums, k, strict=True):
        for link in group.links:
            weight = weights[link.leaf][:, link.rows, link.sources]
            weight = weight.repeat_interleave(batch, dim=0) if batch > 1 else weight
            credit = slope[:, :, link.colour, link.sums, None]
            if isinstance(link.heard, slice):
                d[:, :, link.onto, link.heard].addcmul_(credit, weight)
            else:
                d[:, :, link.onto, link.heard] += credit * weight
    return d


def joined(cell: Cell, genes: Tensor, states: Tensor, parts: Anatomy, pull: Callable[[Tensor], Tensor]) -> Tensor:
    """States attached to genes (P, D) by `pull`: from ds (t, N, S) to (N, F) in the columns of the influence."""

    def whole(grad: Tensor) -> Tensor:
        people, batch, steps, count = grad.shape
        found = pull(grad.permute(2, 0, 1, 3).reshape(steps, people * batch, count))
        summed = found.view(people, batch, -1).sum(dim=1)
        return summed.new_zeros(people, parts.entries).index_add_(1, parts.order.to(grad.device), summed)

    return attached(cell, genes, states, whole)


def owed(cell: Cell, genes: Tensor, batch: int) -> Tensor:
    """The influence (N, S, F) of the genes on the cell's start: nothing, unless the start is learned."""
    order = anatomy(cell).order
    leaves = {name: w.repeat_interleave(batch, dim=0) for name, w in unpacked(cell, genes.detach()).items()}
    flat = torch.cat([leaf.flatten(1) for leaf in leaves.values()], dim=1).requires_grad_()
    sizes = [leaf.full for leaf in layout_of(cell).leaves]
    with torch.enable_grad():
        parts = flat.split(sizes, dim=1)
        named = {n: p.view_as(w) for (n, w), p in zip(leaves.items(), parts, strict=True)}
        start = cell.start(named, 1)
    influence = flat.new_zeros(len(flat), cell.state, len(order))
    if start.requires_grad:
        slope = _derivatives(start, [flat], torch.eye(cell.state, dtype=torch.bool), flat.dtype)[0]
        there = slope.any(dim=0).any(dim=0).nonzero().flatten().tolist()
        home = [int((order == entry).nonzero()[0]) for entry in there]
        influence[:, :, home] = slope[:, :, order[home].to(flat.device)]
    return influence


def tangent_flops(cell: Cell, *, cut: bool = False) -> float:
    """Multiply-adds of one step and its tangent: D is K W, or S ways back through the links, or without links nothing."""
    layout = layout_of(cell)
    if cut:
        return 2 * multiply_adds(layout)
    inner, parts = tape_adds(layout) - 2 * multiply_adds(layout), anatomy(cell)
    return 2 * multiply_adds(layout) + inner * (1 if parts.plain else cell.state + len(parts.colours))


def tangent_storage(cell: Cell, steps: int, *, cut: bool = False, coloured: bool = False) -> int:
    """Numbers in D, K, z and the states of `steps` steps of one network on one sequence."""
    sums = anatomy(cell, cut)
    slopes = sum(group.column.numel() + group.fan for group in sums.sums)
    rows = len(sums.colours) if coloured and unlinked(sums, cut) else cell.state
    return steps * (cell.state * (rows + 1) + slopes)
