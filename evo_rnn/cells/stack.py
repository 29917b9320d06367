"""A stack of cells, each fed by the one below: itself a cell, so networks of any depth need no other code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from evo_rnn.cells.cell import Cell
from evo_rnn.layout import Leaf, prefixed, under
from evo_rnn.shapes import Weights


@dataclass(frozen=True)
class Stack:
    """Cells from bottom to top; the state puts the top one first, so the output leads as in every cell."""

    cells: tuple[Cell, ...]

    def __post_init__(self) -> None:
        for below, above in zip(self.cells, self.cells[1:], strict=False):
            if below.outputs != above.inputs:
                raise ValueError(f"{above} should have {below.outputs} inputs, as many as {below} has outputs.")

    @property
    def inputs(self) -> int:
        """Of the bottom cell."""
        return self.cells[0].inputs

    @property
    def outputs(self) -> int:
        """Of the top cell."""
        return self.cells[-1].outputs

    @property
    def state(self) -> int:
        """Of all cells together."""
        return sum(cell.state for cell in self.cells)

    def leaves(self) -> tuple[Leaf, ...]:
        """The leaves of each cell, named `layer1.` (bottom), `layer2.`, ..."""
        found: list[Leaf] = []
        below: dict[str, str] = {}
        for name, cell in self._named():
            found += prefixed(name, cell.leaves(), below)
            below = {f"x[{i}]": f"{name}.h[{i}]" for i in range(cell.outputs)}
        return tuple(found)

    def _named(self) -> Iterator[tuple[str, Cell]]:
        return ((f"layer{k}", cell) for k, cell in enumerate(self.cells, start=1))

    def start(self, weights: Weights, batch: int) -> Tensor:
        """The starts of all cells, top first."""
        starts = [cell.start(under(name, weights), batch) for name, cell in self._named()]
        return torch.cat(starts[::-1], dim=2)

    def step(self, weights: Weights, x: Tensor, s: Tensor) -> Tensor:
        """One tick, bottom to top: each cell sees the new output of the one below."""
        states = s.split([cell.state for cell in self.cells[::-1]], dim=2)[::-1]
        after = []
        for (name, cell), state in zip(self._named(), states, strict=True):
            after.append(cell.step(under(name, weights), x, state))
            x = after[-1][..., : cell.outputs]
        return torch.cat(after[::-1], dim=2)
