"""Small problems to try gradient rules on: random genes and inputs, losses of several heads, resets in odd places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from evo_rnn.cells import CTRNN, FRNN, GRU, LSTM, Cell, Elman, IndRNN, Stack
from evo_rnn.cells.cell import affine, row
from evo_rnn.layout import Leaf, matrix, units, vector
from evo_rnn.shapes import Weights
from trainers.gradient.estimator import NEVER, Estimator

EXACT = 1e-12
STEPS = 11


@dataclass(frozen=True)
class Begun:
    """A user's own cell, whose start is learned."""

    inputs: int
    hidden: int

    @property
    def outputs(self) -> int:
        return self.hidden

    @property
    def state(self) -> int:
        return self.hidden

    def leaves(self) -> tuple[Leaf, ...]:
        h, x = units("h", self.hidden), units("x", self.inputs)
        return (
            matrix("mix", h, [*x, *h]),
            vector("bias", h, ["one"], -0.5, 0.5),
            vector("start", h, ["one"], -0.5, 0.5),
        )

    def start(self, weights: Weights, batch: int) -> Tensor:
        return torch.tanh(weights["start"])[:, None].expand(-1, batch, -1)

    def step(self, weights: Weights, x: Tensor, s: Tensor) -> Tensor:
        return torch.tanh(affine(weights["mix"], torch.cat([x, s], dim=2), row(weights["bias"])))


CELLS: dict[str, Cell] = {
    "elman": Elman(2, 3),
    "frnn": FRNN(2, 3, mask=("11011", "01101", "10111")),
    "lstm": LSTM(2, 2),
    "lstm peepholes": LSTM(2, 2, peepholes=True),
    "gru after": GRU(2, 3),
    "gru before": GRU(2, 3, "before"),
    "indrnn": IndRNN(2, 3, "tanh"),
    "ctrnn": CTRNN(2, 3),
    "stack": Stack((Elman(2, 2), LSTM(2, 1))),
    "learned start": Begun(2, 3),
}


@dataclass(frozen=True)
class Problem:
    """Genes (P, D), inputs (B, T, I), two heads' loss, and resets (B, T) or none."""

    cell: Cell
    genes: Tensor
    x: Tensor
    push: Tensor  # (B, T, S)
    along: Tensor  # (S,)
    reset: Tensor = NEVER

    def loss(self, states: Tensor, first: int) -> Tensor:
        """Of states (P, B, t, S) of the steps from `first`: one head is pushed, another's square counts."""
        push = self.push[:, first : first + states.shape[2]]
        return (push * states).sum() + (states @ self.along).square().sum() / 2

    def rows(self, people: slice) -> Problem:
        return replace(self, genes=self.genes[people])


def problem(cell: Cell, people: int = 2, batch: int = 3, steps: int = STEPS, resets: bool = False) -> Problem:
    random = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=random)

    size = sum(leaf.size for leaf in cell.leaves())
    reset = NEVER
    if resets:
        reset = torch.zeros(batch, steps, dtype=torch.bool)
        reset[0, 3] = reset[1, 4] = reset[1, 5] = reset[-1, steps - 1] = True
    parts = normal(batch, steps, cell.inputs), normal(batch, steps, cell.state), normal(cell.state)
    return Problem(cell, 0.9 * normal(people, size), *parts, reset)


def gradient(rule: Estimator, given: Problem, cuts: Sequence[int] = ()) -> Tensor:
    """The rule's gradient (P, D), with chunks of these lengths handed over, or all at once."""
    theta, at = given.genes.clone().requires_grad_(), 0
    memory = rule.begin(given.cell, theta, len(given.x))
    for steps in cuts or (given.x.shape[1],):
        here = slice(at, at + steps)
        states, memory = rule.advance(given.cell, theta, given.x[:, here], memory, given.reset[:, here])
        given.loss(states, at).backward()
        at += steps
    assert at == given.x.shape[1], "the chunks should be the whole"
    assert theta.grad is not None
    return theta.grad


def relative(found: Tensor, true: Tensor) -> float:
    """Distance over the norm of the truth, which must be alive."""
    norm = float(true.norm())
    assert norm > 1e-3, "a dead reference proves nothing"
    return float((found - true).norm()) / norm


def cosine(found: Tensor, true: Tensor) -> float:
    """Of the angle between two gradients."""
    return float((found * true).sum() / found.norm() / true.norm())
