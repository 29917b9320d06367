"""The fused engine: a step is one product of [recurrent | input | bias] with [h; x; 1], and few passes, all in place.

The readout's rows ride on the product of the next step, so one step more than there are inputs is run. The time loop
runs inside a block whose numbers fit in the cache, in windows of steps whose inputs are laid out at once.

Accuracy: tanh is taken from a sigmoid (fused_cells.py), whose error near 0 is absolute (about 1e-7) and not relative.
No loss of usual size shows it; where hidden values stay below about 1e-3, take the plain engine, whose tanh is exact.
A chromosome with an infinite gene gets NaN here even where the plain engine's tanh would have saturated.
"""

from __future__ import annotations

from typing import TypeGuard, get_args

import torch
from torch import Tensor
from torch.nn.functional import pad

from evo_rnn.cells import Stack
from evo_rnn.cells.cell import Cell
from evo_rnn.errors import ConfigError
from evo_rnn.evaluation.engines.fused_cells import Fusable
from evo_rnn.evaluation.engines.fused_layer import Layer, shape
from evo_rnn.evaluation.engines.fused_plane import Plane, padded, plane
from evo_rnn.layout import under
from evo_rnn.network import Identity, Linear, Model, Network


def fuses(model: Model, inputs: Tensor) -> TypeGuard[Network]:
    """Whether the fused engine can run `model` on inputs (B, T, I).

    Inputs must be finite: the product that reads step t out has those of step t + 1 beside, times zero.
    """
    if not isinstance(model, Network) or type(model.readout) not in (Linear, Identity):
        return False
    known = all(type(cell) in get_args(Fusable) for cell in _cells(model.cell))
    return known and bool(torch.isfinite(inputs).all())


def _cells(cell: Cell) -> tuple[Cell, ...]:
    return cell.cells if type(cell) is Stack else (cell,)


def _layers(model: Network) -> tuple[list[Fusable], list[int]]:
    """The cells, and the rows of a readout that ride on each."""
    cells = [cell for cell in _cells(model.cell) if isinstance(cell, Fusable)]
    return cells, [0] * (len(cells) - 1) + [model.readout.outputs]


def _shapes(model: Network) -> list[tuple[int, int]]:
    return [shape(cell, count) for cell, count in zip(*_layers(model), strict=True)]


def plane_of(model: Network, batch: int, device: torch.device, blocks: int = 1) -> Plane:
    """Where the fused engine puts `model` on `batch` sequences; nothing is allocated."""
    shapes = _shapes(model)
    size = sum(rows * columns for rows, columns in shapes)
    return plane(size, sum(map(sum, shapes)), batch, device, blocks)


class Fused:
    """Runs a network of our cells, one or a stack of them.

    Args:
        model: a network that it `fuses`.
        inputs: (B, T, I) float32.
        blocks: how many a call takes, if the memory order has room for more than one.

    Raises:
        ConfigError: if it cannot run this.
    """

    def __init__(self, model: Model, inputs: Tensor, blocks: int = 1) -> None:
        if not fuses(model, inputs):
            raise ConfigError(f"engine fused needs a network of known cells and finite inputs, not {model}. Take auto.")
        self.model, self.stacked = model, type(model.cell) is Stack
        cells, outputs = _layers(model)
        values = sum(map(sum, _shapes(model)))
        self.plane = plane_of(model, len(inputs), inputs.device, blocks)
        self.inputs, window = self._windows(inputs, values)
        self.layers = [Layer(cell, count, self.plane, window) for cell, count in zip(cells, outputs, strict=True)]
        self.calls = []
        for slot in range(window):
            for layer, above in zip(self.layers, self.layers[1:], strict=False):
                self.calls += [*layer.step(slot), layer.feed(above, slot)]
            self.calls += self.layers[-1].step(slot)
        self.batch, time, _ = inputs.shape
        self.answers = inputs.new_empty(self.chunk, len(self.inputs) * self.plane.batch, time + 1, outputs[-1])

    @property
    def block(self) -> int:
        """As many as fit in the cache."""
        return self.plane.block

    @property
    def chunk(self) -> int:
        """P: some whole blocks."""
        return self.plane.chunk

    def __call__(self, genes: Tensor) -> Tensor:
        """Outputs (P, B, T, O) of chromosomes (P, D): a buffer that the next call overwrites."""
        self._pack(genes.detach())
        bottom, top, steps = self.layers[0], self.layers[-1], self.answers.shape[2]
        window = len(bottom.states)
        each = len(self.calls) // window
        for inputs, answers in zip(self.inputs, self.answers.chunk(len(self.inputs), dim=1), strict=True):
            for layer in self.layers:
                layer.reset()
            for start in range(0, steps, window):
                bottom.inputs.copy_(inputs[start : start + window])
                count = min(window, steps - start)
                for call in self.calls[: each * count]:
                    call()
                answers[:, :, start : start + count] = top.answers[:count].permute(1, 3, 0, 2)
        return self.answers[:, : self.batch, 1:]

    def _windows(self, inputs: Tensor, values: int) -> tuple[Tensor, int]:
        """The inputs (chunks, steps, 1, I, B of a chunk) with zeros beyond their end, and the steps of a window."""
        batch, time, fan = inputs.shape
        width = self.plane.batch
        window = min(max(self.plane.window // (self.block * values * width), 1), time + 1)
        chunks = padded(batch, width) // width
        whole = pad(inputs, (0, 0, 0, padded(time + 1, window) - time, 0, chunks * width - batch))
        return whole.view(chunks, width, -1, fan).permute(0, 2, 3, 1)[:, :, None].contiguous(), window

    def _pack(self, genes: Tensor) -> None:
        weights = self.model.layout.unpack(genes)
        cell, readout, scale, shift = under("cell", weights), under("readout", weights), 1.0, 0.0
        for number, layer in enumerate(self.layers, start=1):
            own = under(f"layer{number}", cell) if self.stacked else cell
            layer.pack(own, readout if layer.outputs else {}, scale, shift)
            scale, shift = layer.form.scale, layer.form.shift
