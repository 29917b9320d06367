"""One layer of the fused engine: the packed weights of a cell, its states over a window, and the calls of a step.

Rows of a readout ride on the product of the step after: they read h before it is replaced.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from evo_rnn.evaluation.engines.fused_cells import Fusable, Rows, form_of, place
from evo_rnn.evaluation.engines.fused_plane import Call, Plane
from evo_rnn.shapes import Weights


def shape(cell: Fusable, outputs: int) -> tuple[int, int]:
    """Rows, `outputs` of them a readout's, and columns of [recurrent | input | bias], which multiplies [h; x; 1]."""
    return form_of(cell).gates * cell.hidden + outputs, cell.hidden + cell.inputs + 1


class Layer:
    """One cell, and the rows of a readout if it is the top one.

    Args:
        cell: the cell.
        outputs: rows of the readout, 0 below the top.
        plane: where all lies.
        window: how many steps have room of their own.
    """

    def __init__(self, cell: Fusable, outputs: int, plane: Plane, window: int) -> None:
        self.hidden, self.fan, self.visible, self.outputs = cell.hidden, cell.inputs, cell.outputs, outputs
        self.form, self.plane = form_of(cell)(cell, plane), plane
        rows, columns = shape(cell, outputs)
        self.rows = rows - outputs
        # Rows and first column of each product of a step; one that does not see h leaves the readout to a second.
        cuts = [(rows, 0)] if self.form.dense else [(self.rows, self.hidden), (outputs, 0)][: 1 + (outputs > 0)]
        self.firsts = [first for _, first in cuts]
        self.weights = [plane.weight(count, columns - first) for count, first in cuts]
        self.results = [plane.values(count, window) for count, _ in cuts]
        self.states = plane.values(columns, window)
        self.states[:, :, -1] = 1
        self.inputs = self.states[:, :, self.hidden : -1]
        self.answers = self.results[-1][:, :, self.results[-1].shape[2] - outputs :]

    def reset(self) -> None:
        """The start of a sequence: h = 0."""
        self.states[0, :, : self.hidden] = -self.form.shift / self.form.scale
        for memory in self.form.memory:
            memory.zero_()

    def step(self, slot: int) -> list[Call]:
        """The calls of the step whose values lie in `slot` of the window; it writes h into the next slot."""
        before, after = self.states[slot], self.states[(slot + 1) % len(self.states)]
        products = [
            call
            for weight, first, result in zip(self.weights, self.firsts, self.results, strict=True)
            for call in self.plane.product(weight, before[:, first:], result[slot])
        ]
        gates = self.results[0][slot][:, : self.rows]
        return [*products, self.form.step(gates, before[:, : self.hidden], after[:, : self.hidden])]

    def feed(self, above: Layer, slot: int) -> Call:
        """The call that hands what step `slot` has made to the layer above."""
        return partial(above.inputs[slot].copy_, self.states[(slot + 1) % len(self.states), :, : self.visible])

    def pack(self, cell: Weights, readout: Weights, scale: float, shift: float) -> None:
        """Lays out the weights for inputs kept as s with x = scale s + shift; an empty readout is the identity."""
        rows = self._columns(self.weights[0][:, : self.rows])
        self.form.pack(cell, rows)
        if scale != 1:
            rows.input.mul_(scale)
        self._shift(rows.bias, rows.input, shift / scale)
        read = self._columns(self.weights[-1][:, self.weights[-1].shape[1] - self.outputs :])
        if readout:
            place(readout["weight"], self.form.scale, read.recurrent[:, :, : self.visible])
            place(readout["bias"], 1, read.bias)
        elif self.outputs:
            read.recurrent.diagonal(dim1=1, dim2=2).fill_(self.form.scale)
            read.bias.zero_()
        last = self.weights[-1]
        if self.form.dense or self.outputs:
            self._shift(last[:, :, -1:], last[:, :, : self.hidden], self.form.shift / self.form.scale)

    def _columns(self, rows: Tensor) -> Rows:
        """Rows (P, rows, columns, L) of packed weights by what they multiply: s (or not), x, 1."""
        last = rows.shape[2] - 1
        return Rows(rows[:, :, : last - self.fan], rows[:, :, last - self.fan : last], rows[:, :, last:])

    def _shift(self, bias: Tensor, weight: Tensor, by: float) -> None:
        """Adds to the bias what the weights make of the constant `by` in every column; sums go block by block too."""
        if by:
            for whole, part in zip(bias.split(self.plane.block), weight.split(self.plane.block), strict=True):
                whole.add_(part.sum(dim=2, keepdim=True, dtype=torch.float64), alpha=by)
