"""Experiment 2a of Hochreiter and Schmidhuber 1997: two sequences of p + 1 symbols that differ at both ends alone.

Inputs feed the outputs, one memory cell and its input gate; the cell feeds the outputs too. There are no biases, no output
gate and no links from hidden units to hidden units, so the truncated rule cuts nothing off: it is exact RTRL.
g is the logistic function in [0, 1] and h the identity. Weights of p = 100: 101 x 104 = 10,504.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from lstm1997_rule import Values, logistic
from numpy.typing import NDArray
from torch import Tensor

from evo_rnn.cells.cell import linear, zeros
from evo_rnn.layout import Leaf, matrix, units
from evo_rnn.network import Logistic, Network
from evo_rnn.shapes import Weights

Symbols = NDArray[np.int64]


@dataclass(frozen=True)
class GatedStore:
    """c' = c + i s, seen beside the input itself: the state is [c | x]. For the package's estimators, which check `Long`."""

    inputs: int

    @property
    def outputs(self) -> int:
        """All of the state: inputs feed the outputs."""
        return self.state

    @property
    def state(self) -> int:
        """1 + I."""
        return 1 + self.inputs

    def leaves(self) -> tuple[Leaf, ...]:
        """Of the cell and of its input gate, (1, I) each."""
        x = units("x", self.inputs)
        return (matrix("cell", ["h[0]"], x), matrix("gate", ["i"], x))

    def start(self, weights: Weights, batch: int) -> Tensor:
        """Zeros."""
        return zeros(weights, batch, self.state)

    def step(self, weights: Weights, x: Tensor, s: Tensor) -> Tensor:
        """One tick."""
        stored = torch.sigmoid(linear(weights["gate"], x)) * torch.sigmoid(linear(weights["cell"], x))
        return torch.cat([s[:, :, :1] + stored, x], dim=2)


def long_lag(symbols: int) -> Network:
    """The network of experiment 2a for p + 1 symbols."""
    return Network(GatedStore(symbols), Logistic(symbols + 1, symbols, bias=False))


class Long:
    """P of these networks whose weights change after every symbol. Inputs are numbers of symbols: the rest is zeros."""

    def __init__(self, genes: Values, symbols: int) -> None:
        people = len(genes)
        self.cell, self.gate = genes[:, :symbols].copy(), genes[:, symbols : 2 * symbols].copy()
        out = genes[:, 2 * symbols :].reshape(people, symbols, symbols + 1)
        self.out, self.links = out[:, :, 0].copy(), out[:, :, 1:].transpose(0, 2, 1).copy()  # links: (P, I, O)
        self.grown = np.ones(people)
        self.rows, self.c = np.arange(people), np.zeros(people)
        self.trace_cell, self.trace_gate = np.zeros((people, symbols)), np.zeros((people, symbols))

    def keep(self, rows: NDArray[np.bool_]) -> None:
        """Go on with those rows alone."""
        for name in ("cell", "gate", "out", "links", "grown", "c", "trace_cell", "trace_gate"):
            setattr(self, name, getattr(self, name)[rows])
        self.rows = np.arange(len(self.c))

    def begin(self) -> None:
        """A new sequence."""
        for each in (self.c, self.trace_cell, self.trace_gate):
            each[:] = 0.0

    def step(self, symbol: Symbols, following: Symbols, rate: float) -> Values:
        """One symbol (P,): the squared error (P,) to the next one, by which the weights change."""
        rows = self.rows
        s, i = logistic(self.cell[rows, symbol]), logistic(self.gate[rows, symbol])
        self.trace_cell[rows, symbol] += i * s * (1 - s)
        self.trace_gate[rows, symbol] += s * i * (1 - i)
        self.c += self.grown * i * s
        y = logistic(self.links[rows, symbol] + self.out * self.c[:, None])
        e = -y
        e[rows, following] += 1
        squared: Values = (e * e).sum(axis=1)
        e *= rate * y * (1 - y)
        e_c = (self.out * e).sum(axis=1)[:, None]
        self.links[rows, symbol] += e
        self.out += e * (self.grown * self.c)[:, None]
        self.cell += e_c * self.trace_cell
        self.gate += e_c * self.trace_gate
        return squared

    def worst(self, sequences: Symbols) -> Values:
        """The largest error (P,) of any output at any step of the sequences (N, p + 1), weights standing still."""
        found = np.zeros(len(self.c))
        for sequence in sequences:
            now, following = sequence[:-1], sequence[1:]
            c = self.grown[:, None] * np.cumsum(logistic(self.cell[:, now]) * logistic(self.gate[:, now]), axis=1)
            error = logistic(self.links[:, now] + self.out[:, None] * c[:, :, None])
            error[:, np.arange(len(now)), following] -= 1
            found = np.maximum(found, np.abs(error).max(axis=(1, 2)))
        return found


def two_sequences(p: int) -> Symbols:
    """(y, a_1 ... a_{p-1}, y) and (x, a_1 ... a_{p-1}, x) as numbers of symbols: (2, p + 1)."""
    middle = list(range(p - 1))
    return np.array([[end, *middle, end] for end in (p, p - 1)])
