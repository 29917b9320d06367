"""Whether a run does what the look at a cell's step has shown: one more way back, with a cotangent that favours no column.

A structure found at random points may lack what happens at rare values: a relu far out, a branch in plain Python. Where the
look could not exclude that, each chunk is compared with it, and a gradient that would be wrong is an error.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import pad

from evo_rnn.cells.cell import Cell
from evo_rnn.errors import ConfigError
from evo_rnn.shapes import Weights
from trainers.gradient.anatomy import Anatomy
from trainers.gradient.look import OUTSIDE, unforeseen
from trainers.gradient.taps import Notes, Unseen, tapped


def stepped(cell: Cell, weights: Weights, x: Tensor, s: Tensor, notes: Notes, parts: Anatomy) -> Tensor:
    """The next states (P, B, S), noted.

    Raises:
        ConfigError: if the step uses its weights in another way than the look has shown.
    """
    try:
        after = cell.step(tapped(weights, notes, s.shape[1], parts.direct), x, s)
    except Unseen:
        raise ConfigError(unforeseen(cell)) from None
    if notes.uses != list(parts.uses):
        raise ConfigError(unforeseen(cell))
    return after


def check_reaches(cell: Cell, d: Tensor, parts: Anatomy) -> None:
    """Refuse dynamics (t, N, S, S) between columns that were not seen to touch.

    Raises:
        ConfigError: if there are any.
    """
    if not parts.certain and (d != 0)[..., ~parts.dynamics.to(d.device)].any():
        raise ConfigError(unforeseen(cell))


def audited(
    cell: Cell, after: Tensor, s: Tensor, notes: Notes, leaves: list[Tensor], found: list[Tensor], parts: Anatomy
) -> None:
    """Compare a step with its anatomy at rows of values.

    Args:
        cell: whose step it is.
        after: (P, B, S) the next states.
        s: (P, B, S) the last ones.
        notes: of the step.
        leaves: that are used directly.
        found: derivatives (rows, G, .) by colour, of the last state (empty if it is found otherwise) and of each group.
        parts: the anatomy.

    Raises:
        ConfigError: if the step does what its anatomy lacks.
    """
    if not _as_seen(after, s, notes, leaves, found, parts) or (parts.plain and not _hears(s, notes, parts)):
        raise ConfigError(unforeseen(cell))


def _as_seen(after: Tensor, s: Tensor, notes: Notes, leaves: list[Tensor], found: list[Tensor], parts: Anatomy) -> bool:
    v, rows = uneven(s.shape[2], s.dtype, s.device), s.shape[0] * s.shape[1]
    true = [each.reshape(rows, -1) for each in _slopes(after, v, [s, *notes.nudges, *leaves])]
    own, *groups = found
    told = [(true[0], own, parts.local_column)] if len(own) else []
    for sums, k in zip(parts.sums, groups, strict=True):
        told += [(true[1 + use], k, sums.column) for use in sums.uses]
    return all(_same(exact, by_colour, pad(v, (0, 1))[column.to(v.device)]) for exact, by_colour, column in told)


def _hears(s: Tensor, notes: Notes, parts: Anatomy) -> bool:
    """Whether every link hears the columns of the last state that it did, and no sum of the same step."""
    for number, z in enumerate(notes.heard):
        heard = parts.heard[number].to(s.device)
        if not z.requires_grad:
            if (heard != OUTSIDE).any():
                return False
            continue
        v = uneven(z.shape[2], s.dtype, s.device)
        first, *others = _slopes(z, v, [s, *notes.nudges[:number]])
        wanted = s.new_zeros(s.shape[2] + 1).index_add_(0, heard % (s.shape[2] + 1), v)[:-1]  # OUTSIDE is the last
        if not torch.equal(first, wanted.expand_as(first)) or any(bool(each.any()) for each in others):
            return False
    return True


def _slopes(outputs: Tensor, v: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    if not outputs.requires_grad:
        return [torch.zeros_like(each) for each in inputs]
    grads = torch.autograd.grad(outputs, inputs, v.expand_as(outputs), retain_graph=True, allow_unused=True)
    return [torch.zeros_like(each) if d is None else d for d, each in zip(grads, inputs, strict=True)]


def _same(exact: Tensor, by_colour: Tensor, v: Tensor) -> bool:
    """Whether exact (rows, A) is Σ over colours of v (G, A) times by_colour (rows, G, A); NaN is no difference."""
    parts = by_colour * v
    scale = torch.maximum(parts.abs().sum(dim=1).amax(dim=1), exact.abs().amax(dim=1))
    off = (parts.sum(dim=1) - exact).abs().amax(dim=1)
    return not bool((off > torch.finfo(exact.dtype).eps ** 0.5 * scale).any())


@lru_cache(maxsize=64)
def uneven(count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(count,) numbers between 1 and 2 that no two sums share."""
    return (1 + torch.rand(count, generator=torch.Generator().manual_seed(count))).to(device, dtype)
