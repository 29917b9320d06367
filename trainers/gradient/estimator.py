"""What a gradient estimator is: a way to carry credit through time, attached to the genes by one autograd edge.

Every estimator is used by the same loop. It gives states that are attached to the genes, so whatever follows (a readout,
several losses, masks) is plain PyTorch, and `backward()` does the rest. Optimizers, rates and clipping live outside.

Notation: s state (S), θ genes (D), D_t = ∂s_t/∂s_{t-1}, I_t = ∂s_t/∂θ at fixed s_{t-1}, J_t = ds_t/dθ the influence matrix,
δ_t = ∂L_t/∂s_t, λ_t = dL/ds_t.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from evo_rnn.cells.cell import Cell
from evo_rnn.errors import ConfigError
from evo_rnn.layout import Layout
from evo_rnn.seeds import generator
from evo_rnn.shapes import Weights, check_shape

Memory = Mapping[str, Tensor]  # what an estimator carries from chunk to chunk: the state and what it knows of its past
NEVER = torch.empty(0, 0, dtype=torch.bool)  # no reset
LEARNED = "learned/"  # before the names in a memory of what lives on from one sequence to the next
GIB = 2**30


@dataclass(frozen=True)
class Traits:
    """What an estimator promises.

    Args:
        exact: at fixed genes its gradient is BPTT's.
        unbiased: its expectation is.
        local_in_time: nothing is kept of earlier steps but a summary of fixed size.
        local_in_space: what a link keeps depends on its own two ends alone.
        needs: what a cell must have, in words; empty means any cell.
    """

    exact: bool = False
    unbiased: bool = False
    local_in_time: bool = False
    local_in_space: bool = False
    needs: str = ""


class Estimator(Protocol):
    """Carries credit through time, and promises its traits."""

    traits: Traits

    def check(self, cell: Cell) -> None:
        """Refuse a cell that lacks what is needed, with a ConfigError that names the alternatives."""
        ...

    def sees(self, cell: Cell, steps: int) -> int:
        """How many steps' losses may depend on each other: those of one `backward` that see each other's credit."""
        ...

    def block(self, cell: Cell, steps: int) -> int:
        """How many steps are best handed over at once, of sequences of `steps` steps; any number may be."""
        ...

    def begin(self, cell: Cell, genes: Tensor, batch: int) -> Memory:
        """The memory before the first step, for cell genes (P, D) and B sequences."""
        ...

    def advance(
        self, cell: Cell, genes: Tensor, x: Tensor, memory: Memory, reset: Tensor = NEVER
    ) -> tuple[Tensor, Memory]:
        """States (P, B, t, S), attached to `genes (P, D)`, after inputs `x (B, t, I)`; and the memory for what comes next.

        `x` may have a leading P axis. Where `reset (B, t)` is true, a new episode begins with that step: the state is the
        cell's start again, and no credit crosses.
        """
        ...

    def storage(self, cell: Cell, steps: int) -> int:
        """Numbers kept for one network and one sequence once `steps` steps are handed over: memory, edge and tape."""
        ...

    def flops(self, cell: Cell, steps: int) -> float:
        """Multiply-adds of one step, forward and credit, on sequences of `steps` steps."""
        ...


def multiply_adds(layout: Layout) -> float:
    """Multiply-adds of one step: one for every link that exists or not (zeros are multiplied too); biases are added only."""
    return float(sum(leaf.full for leaf in layout.leaves if leaf.sources != ("one",) and leaf.sources != ("r*one",)))


def tape_adds(layout: Layout) -> float:
    """Multiply-adds of one step forward and back: by all weights, and by the state through the links that hear it."""
    inner = 0
    for leaf in layout.leaves:
        outside = sum(name.rpartition(".")[2].startswith("x[") for name in leaf.sources)
        inner += leaf.full * (len(leaf.sources) - outside) // len(leaf.sources) if multiply_adds(Layout((leaf,))) else 0
    return 2 * multiply_adds(layout) + inner


@lru_cache(maxsize=64)
def layout_of(cell: Cell) -> Layout:
    """The layout of the cell's own genes."""
    return Layout(tuple(cell.leaves()))


def unpacked(cell: Cell, genes: Tensor) -> Weights:
    """The weights of cell genes (P, D).

    Raises:
        ValueError: if they are not the cell's.
    """
    layout = layout_of(cell)
    check_shape(genes, "genes", ("P", layout.size), "Give the cell's genes alone; they come first in a network's.")
    return layout.unpack(genes)


def check_chunk(cell: Cell, genes: Tensor, x: Tensor, s: Tensor, reset: Tensor, *, taped: bool = False) -> None:
    """Refuse a chunk that does not fit the cell, the genes or the memory.

    Raises:
        ValueError: naming what was wanted and what came.
        ConfigError: if the inputs want a gradient and the rule has no tape that leads to them.
    """
    people = (1 if len(x) == 1 else len(genes),) if x.dim() == 4 else ()  # one series for all networks, or each its own
    shape = (*people, s.shape[1], "t", cell.inputs)
    check_shape(x, "x", shape, "B is that of `begin`, the last axis the cell's inputs.")
    if not x.shape[-2]:
        raise ValueError("x should have at least one step but has none. Leave the empty chunk out.")
    if not x.dtype == genes.dtype == s.dtype:
        raise ValueError(f"x, genes and memory should be of one dtype but are {x.dtype}, {genes.dtype} and {s.dtype}.")
    if len(reset):
        check_shape(reset, "reset", tuple(x.shape[-3:-1]), "One flag for each sequence and step.")
        if reset.dtype != torch.bool:
            raise ValueError(f"reset should be bool but is {reset.dtype}. Use `reset.bool()`.")
    if x.requires_grad and not taped and torch.is_grad_enabled():
        raise ConfigError(
            "x should not require grad: this rule sends no credit to its inputs. Use x.detach(), or bptt."
        )


@lru_cache(maxsize=64)
def taped(cell: Cell) -> int:
    """Numbers that autograd keeps of one step of one network on one sequence, beside the weights and the input."""
    genes = torch.zeros(1, layout_of(cell).size, requires_grad=True)
    weights, x = unpacked(cell, genes), genes.new_zeros(1, 1, cell.inputs)
    known, found = {each.untyped_storage().data_ptr() for each in (genes, x, *weights.values())}, {}

    def keep(value: Tensor) -> Tensor:
        found[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes() // value.element_size()
        return value

    s = cell.start(weights, 1)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        after = cell.step(weights, x, s + 0 * genes.sum())
    found[after.untyped_storage().data_ptr()] = after.numel()
    return sum(size for place, size in found.items() if place not in known)


def entered(cell: Cell, weights: Weights, s: Tensor, reset: Tensor) -> Tensor:
    """The state (P, B, S) that a step begins from: the cell's start where `reset (B,)`, the last state elsewhere."""
    return torch.where(reset[:, None], cell.start(weights, s.shape[1]), s) if reset.any() else s


def unrolled(cell: Cell, genes: Tensor, x: Tensor, s: Tensor, reset: Tensor = NEVER) -> Tensor:
    """States (P, B, t, S) of chromosomes (P, D) on inputs (B, t, I) or (P, B, t, I) from state (P, B, S)."""
    check_chunk(cell, genes, x, s, reset, taped=True)
    weights = unpacked(cell, genes)
    x = x.expand(len(genes), *x.shape[-3:])
    steps = []
    for t, now in enumerate(x.unbind(dim=2)):
        s = cell.step(weights, now, entered(cell, weights, s, reset[:, t]) if len(reset) else s)
        steps.append(s)
    return torch.stack(steps, dim=2)


class Edge(torch.autograd.Function):
    """The edge: states (P, B, t, S) whose backward to the unpacked weights (P, F) is `ds @ J`, however J is kept."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        weights: Tensor,  # noqa: ARG004 (what the edge leads to)
        states: Tensor,
        pull: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """`states` themselves."""
        ctx.pull = pull  # type: ignore[attr-defined]
        return states.view_as(states)

    @staticmethod
    @once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor, None, None]:
        """Ds @ J."""
        return ctx.pull(grads[0]), None, None  # type: ignore[attr-defined]


def attached(cell: Cell, genes: Tensor, states: Tensor, pull: Callable[[Tensor], Tensor]) -> Tensor:
    """States attached to genes (P, D) by `pull`: from ∂L/∂s (P, B, t, S) to ∂L/∂w (P, F) of the unpacked weights."""
    layout = layout_of(cell)
    weights = genes
    if any(leaf.free for leaf in layout.leaves):
        weights = torch.cat([leaf.flatten(1) for leaf in layout.unpack(genes).values()], dim=1)
    joined: Tensor = Edge.apply(weights, states, pull)  # type: ignore[no-untyped-call]
    return joined


def check_storage(rule: Estimator, cell: Cell, genes: Tensor, batch: int, limit: float) -> None:
    """Refuse an influence of more than `limit` GiB.

    Raises:
        ConfigError: with what it would take and what else could be used.
    """
    wanted = rule.storage(cell, 1) * len(genes) * batch * genes.element_size() / GIB
    if wanted > limit:
        raise ConfigError(
            f"{type(rule).__name__} would keep {wanted:.3g} GiB for {len(genes)} networks of {cell.state} state columns on "
            f"{batch} sequences, but limit is {limit:g} GiB. Use bptt, tbptt, snap or uoro, fewer networks or sequences at "
            "once, or a higher limit."
        )


def check_least(rule: object, **least: int) -> None:
    """Refuse fields of a rule that are too small.

    Raises:
        ConfigError: naming the field.
    """
    for name, value in least.items():
        came = getattr(rule, name)
        if isinstance(came, str) or came < value:
            raise ConfigError(f"{name} should be at least {value} but is {came!r}.")


Rule = TypeVar("Rule", bound=Any)


def reseeded(rule: Rule, seed: int, step: int) -> Rule:
    """The same rule with draws of its own for each step of a run, if it draws any."""
    if not any(each.name == "seed" for each in fields(rule)):
        return rule
    return replace(rule, seed=int(generator(rule.seed, "estimator", seed, generation=step).integers(2**31)))
