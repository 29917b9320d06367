"""What a gradient estimator is: a way to carry credit through time, attached to the genes by one autograd edge.

Every estimator is used by the same loop. It gives states that are attached to the genes, so whatever follows (a readout,
several losses, masks) is plain PyTorch, and `backward()` does the rest. Optimizers, rates and clipping live outside.

Notation: s state (S), θ genes (D), D_t = ∂s_t/∂s_{t-1}, I_t = ∂s_t/∂θ at fixed s_{t-1}, J_t = ds_t/dθ the influence matrix.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from evo_rnn.cells.cell import Cell
from evo_rnn.layout import Layout

Memory = Mapping[str, Tensor]  # what an estimator carries from block to block: the state and what it knows of its past


class Estimator(Protocol):
    """Carries credit through time.

    `horizon` is how many steps one block has; 0 means all there are. `exact` says whether the gradient of a sum of losses
    over time, at fixed genes, is the true one.
    """

    @property
    def exact(self) -> bool:
        """Whether it equals BPTT at fixed genes."""
        ...

    def block(self, cell: Cell, steps: int) -> int:
        """How many steps to advance at once on sequences of `steps` steps."""
        ...

    def begin(self, cell: Cell, genes: Tensor, batch: int) -> Memory:
        """The memory before the first step, for cell genes (P, D) and B sequences."""
        ...

    def advance(self, cell: Cell, genes: Tensor, x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """States (P, B, t, S), attached to `genes (P, D)`, after inputs `x (B, t, I)`; and the memory for the next block."""
        ...

    def passes(self, cell: Cell, forward: float, steps: int) -> float:
        """What one gradient costs, in forward passes of a network whose step takes `forward` multiply-adds."""
        ...


def multiply_adds(layout: Layout) -> float:
    """Multiply-adds of one step: one for every link of a weight matrix that exists or not (zeros are multiplied too)."""
    return float(sum(leaf.full for leaf in layout.leaves if len(leaf.shape) > 1))


def unrolled(cell: Cell, genes: Tensor, x: Tensor, s: Tensor) -> Tensor:
    """States (P, B, t, S) of chromosomes (P, D) on inputs (P, B, t, I) from state (P, B, S)."""
    weights = Layout(cell.leaves()).unpack(genes)
    steps = []
    for now in x.unbind(dim=2):
        s = cell.step(weights, now, s)
        steps.append(s)
    return torch.stack(steps, dim=2)


def folded(genes: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """A row for each network and sequence, each with an influence of its own: genes (P B, D), inputs (P B, 1, t, I)."""
    people, batch = len(genes), len(x)
    rows = genes.repeat_interleave(batch, dim=0)
    return rows, x.expand(people, *x.shape).reshape(people * batch, 1, *x.shape[1:])


def jacobian(outputs: Tensor, inputs: tuple[Tensor, ...], *, keep: bool = False) -> tuple[Tensor, ...]:
    """For outputs (N, 1, S): the rows' own derivatives (N, S, *input) by each input (N, *input), in one batched sweep."""
    count = outputs.shape[-1]
    basis = torch.eye(count, dtype=outputs.dtype, device=outputs.device)[:, None, None].expand(count, *outputs.shape)
    parts = torch.autograd.grad(outputs, inputs, basis, is_grads_batched=True, retain_graph=keep)
    return tuple(part.transpose(0, 1) for part in parts)


class Attach(torch.autograd.Function):
    """The edge: a state (N, 1, S) whose backward to the genes (N, D) is `ds @ J` with the influence J (N, S, D)."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, genes: Tensor, s: Tensor, influence: Tensor) -> Tensor:  # noqa: ARG004
        """`s` itself."""
        ctx.save_for_backward(influence)
        return s.clone()

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor, None, None]:
        """Ds @ J, row by row."""
        (influence,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return torch.bmm(grads[0], influence)[:, 0], None, None


def attached(genes: Tensor, s: Tensor, influence: Tensor) -> Tensor:
    """The state (N, 1, S), attached to the genes (N, D) by the influence (N, S, D)."""
    state: Tensor = Attach.apply(genes, s, influence)  # type: ignore[no-untyped-call]
    return state
