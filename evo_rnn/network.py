"""A cell and a readout, run over sequences: what a chromosome is the weights of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from evo_rnn.cells.cell import Cell, affine, linear, row
from evo_rnn.cells.graph import Graph
from evo_rnn.cells.stack import Stack
from evo_rnn.layout import Layout, Leaf, matrix, prefixed, under, units, vector
from evo_rnn.shapes import Weights, check_shape


class Model(Protocol):
    """Anything a chromosome describes: it has a layout, and it answers inputs with outputs."""

    @property
    def layout(self) -> Layout:
        """Where each weight lies in a chromosome."""
        ...

    def predict(self, genes: Tensor, inputs: Tensor) -> Tensor:
        """Outputs (P, B, T, O) of chromosomes (P, D) on inputs (B, T, I)."""
        ...


@dataclass(frozen=True)
class Linear:
    """y = V h + a."""

    inputs: int
    outputs: int

    def leaves(self) -> tuple[Leaf, ...]:
        """V (O, H), a (O,)."""
        y = units("y", self.outputs)
        return (matrix("weight", y, units("h", self.inputs)), vector("bias", y, ["one"], -0.5, 0.5))

    def __call__(self, weights: Weights, h: Tensor) -> Tensor:
        """Outputs (P, N, O) from hidden values (P, N, H)."""
        return affine(weights["weight"], h, weights["bias"][:, None])


@dataclass(frozen=True)
class Logistic:
    """y = f(V h + a) with the logistic function f: outputs between 0 and 1, as in Hochreiter and Schmidhuber 1997.

    Args:
        inputs: H.
        outputs: O.
        bias: whether there is an a.
    """

    inputs: int
    outputs: int
    bias: bool = True

    def leaves(self) -> tuple[Leaf, ...]:
        """V (O, H), and a (O,) if it is biased."""
        weight, bias = Linear(self.inputs, self.outputs).leaves()
        return (weight, bias) if self.bias else (weight,)

    def __call__(self, weights: Weights, h: Tensor) -> Tensor:
        """Outputs (P, N, O) from hidden values (P, N, H)."""
        net = linear(weights["weight"], h)
        return torch.sigmoid(net + row(weights["bias"]) if self.bias else net)


@dataclass(frozen=True)
class Identity:
    """y = h: the cell's outputs are the network's."""

    inputs: int

    @property
    def outputs(self) -> int:
        """As many as inputs."""
        return self.inputs

    def leaves(self) -> tuple[Leaf, ...]:
        """None."""
        return ()

    def __call__(self, weights: Weights, h: Tensor) -> Tensor:  # noqa: ARG002 (one signature for all readouts)
        """The hidden values themselves."""
        return h


def seen(cell: Cell) -> tuple[str, ...]:
    """The names of a cell's output units: those of the top one in a stack."""
    if isinstance(cell, Stack):
        return tuple(f"layer{len(cell.cells)}.{name}" for name in seen(cell.cells[-1]))
    return cell.heard() if isinstance(cell, Graph) else units("h", cell.outputs)


@dataclass(frozen=True)
class Network:
    """A cell (or a stack) and a readout."""

    cell: Cell
    readout: Linear | Logistic | Identity

    def __post_init__(self) -> None:
        if self.readout.inputs != self.cell.outputs:
            raise ValueError(
                f"readout should have {self.cell.outputs} inputs, as many as the cell has outputs, "
                f"but has {self.readout.inputs}."
            )

    @cached_property
    def layout(self) -> Layout:
        """The genes of the cell, then those of the readout."""
        heard = dict(zip(units("h", self.readout.inputs), (f"cell.{name}" for name in seen(self.cell)), strict=True))
        return Layout((*prefixed("cell", self.cell.leaves()), *prefixed("readout", self.readout.leaves(), heard)))

    def predict(self, genes: Tensor, inputs: Tensor) -> Tensor:
        """Outputs (P, B, T, O) of chromosomes (P, D) on inputs (B, T, I), from the cell's start.

        Raises:
            ValueError: if a shape does not fit the network.
        """
        return self.run(genes, inputs)[0]

    def run(self, genes: Tensor, inputs: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Outputs (P, B, T, O) and the last state (P, B, S), from `state` or the cell's start."""
        states = self.states(genes, inputs, state)
        return self.read(genes, states), states[:, :, -1]

    def states(self, genes: Tensor, inputs: Tensor, state: Tensor | None = None) -> Tensor:
        """The states (P, B, T, S) after every step."""
        check_shape(inputs, "inputs", ("B", "T", self.cell.inputs), "The last axis holds the network's inputs.")
        weights = under("cell", self.layout.unpack(genes))
        s = self.cell.start(weights, len(inputs)) if state is None else state
        steps = []
        for x in inputs.unbind(dim=1):
            s = self.cell.step(weights, x.expand(len(genes), *x.shape), s)
            steps.append(s)
        return torch.stack(steps, dim=2)

    def recurrent(self, genes: Tensor) -> Tensor:
        """The cell's genes of chromosomes (P, D). They come first; a readout that feeds nothing back has no influence."""
        return genes[:, : sum(leaf.size for leaf in self.cell.leaves())]

    def read(self, genes: Tensor, states: Tensor) -> Tensor:
        """Outputs (P, B, T, O) from states (P, B, T, S)."""
        weights = under("readout", self.layout.unpack(genes))
        flat = states[..., : self.cell.outputs].flatten(1, 2)
        outputs = self.readout(weights, flat)
        return outputs.view(*states.shape[:3], outputs.shape[-1])


def network(cell: Cell, outputs: int) -> Network:
    """The usual network: `cell` and a linear readout to `outputs` values."""
    return Network(cell, Linear(cell.outputs, outputs))
