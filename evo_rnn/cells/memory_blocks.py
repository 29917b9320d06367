"""Memory blocks, the first long short-term memory (Hochreiter and Schmidhuber 1997, Neural Computation 9, appendix A.1).

Some cells share an input gate and an output gate; forget gates are those of Gers, Schmidhuber and Cummins 2000 (Neural
Computation 12). Squashing is logistic everywhere: g in [-2, 2], h in [-1, 1], gates in [0, 1]. The hidden layer is fully
connected: cells and gates hear the outputs of all cells and, in 1997, of all gates of the step before.

What the papers wire, by their counts of weights (a readout from the cells with logistic units, `Logistic`):

* 1997, experiment 1 (7 inputs, 7 outputs): only gates are biased; 4 blocks of 1 cell have 264 weights, 3 of 2 have 276.
* 1997, experiment 3 (1, 1): `biases="all"`, no bias in the readout; 3 blocks of 1 cell have 102.
* 1997, experiments 4 (2, 1), 6a (8, 4) and 6b (8, 8): `biases="all"`, a bias in the readout; 2 blocks of 2 cells have
  93 and 156, 3 blocks of 2 have 308.
* 2000 (7, 7): `forget=True`, gates biased, `gates_heard=False`; 4 blocks of 2 cells have 312 before the readout.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evo_rnn.cells.cell import affine, linear, row, zeros
from evo_rnn.layout import Leaf, matrix, units, vector
from evo_rnn.shapes import Weights

BIASED = {"gates": "iof", "all": "iofg", "none": ""}
SHUT, OPEN = (-2.0, -0.5), (0.5, 2.0)  # what Gers et al. 2000 start from: input and output gates, forget gates


@dataclass(frozen=True)
class MemoryBlocks:
    """c' = f c + i g(net), h' = o h(c'): blocks of cells, those of a block under one input gate and one output gate.

    The state is [h | c | i | o | f]: outputs of cells, what they hold, outputs of gates (unless nobody hears them).
    Rows of the weights are [i | o | f | g]: gates, one a block, then cells, block after block. Papers that start gates
    from certain biases do so on the genes: `layout.unpack(genes)["cell.bias_o"][:] = torch.tensor([-1.0, -2.0, -3.0])`.

    Args:
        inputs: I.
        blocks: how many blocks, J.
        block_size: cells in each of them.
        forget: whether blocks have forget gates; without, f = 1.
        biases: "gates" (only they have biases), "all" (cells too) or "none".
        gates_heard: whether cells and gates hear the outputs of gates.
    """

    inputs: int
    blocks: int
    block_size: int = 1
    forget: bool = False
    biases: str = "gates"
    gates_heard: bool = True

    def __post_init__(self) -> None:
        if self.biases not in BIASED:
            raise ValueError(f"biases should be one of {sorted(BIASED)} but is {self.biases!r}.")
        if min(self.blocks, self.block_size) < 1:
            raise ValueError(f"blocks and block_size should be at least 1 but are {self.blocks} and {self.block_size}.")

    @property
    def hidden(self) -> int:
        """H, the number of cells."""
        return self.blocks * self.block_size

    @property
    def outputs(self) -> int:
        """H."""
        return self.hidden

    @property
    def state(self) -> int:
        """2 H, and one for each gate that is heard."""
        return 2 * self.hidden + self.gates_heard * len(self._gates()) * self.blocks

    def _gates(self) -> str:
        return "iof" if self.forget else "io"

    def leaves(self) -> tuple[Leaf, ...]:
        """W (N, I), U (N, M), and a bias leaf for each kind of unit that has one: `bias_i`, `bias_o` (J,), ..."""
        named = {gate: units(gate, self.blocks) for gate in self._gates()}
        h, x, gates = (
            units("h", self.hidden),
            units("x", self.inputs),
            [name for each in named.values() for name in each],
        )
        named["g"] = units("g", self.hidden)
        rows, heard = [*gates, *named["g"]], [*h, *(gates if self.gates_heard else ())]
        ranges = {"i": SHUT, "o": SHUT, "f": OPEN, "g": (-0.5, 0.5)}
        biases = (vector(f"bias_{k}", named[k], ["one"], *ranges[k]) for k in named if k in BIASED[self.biases])
        return (matrix("input", rows, x), matrix("recurrent", rows, heard), *biases)

    def start(self, weights: Weights, batch: int) -> Tensor:
        """Zeros."""
        return zeros(weights, batch, self.state)

    def step(self, weights: Weights, x: Tensor, s: Tensor) -> Tensor:
        """One tick."""
        h, c, gates = s.tensor_split((self.hidden, 2 * self.hidden), dim=2)
        net = affine(weights["recurrent"], torch.cat([h, gates], dim=2), linear(weights["input"], x))
        kinds = (*self._gates(), "g")
        parts = net.split([*[self.blocks] * (len(kinds) - 1), self.hidden], dim=2)
        nets = {
            k: part + row(weights[f"bias_{k}"]) if f"bias_{k}" in weights else part
            for k, part in zip(kinds, parts, strict=True)
        }
        opened = {k: torch.sigmoid(nets[k]) for k in self._gates()}
        i, o, *f = (each.repeat_interleave(self.block_size, dim=2) for each in opened.values())
        c = (f[0] * c if f else c) + i * squashed(nets["g"], 2.0)
        return torch.cat([o * squashed(c, 1.0), c, *(opened.values() if self.gates_heard else ())], dim=2)


def squashed(value: Tensor, bound: float) -> Tensor:
    """The logistic function stretched to ±bound: the papers' g with 2, their h with 1."""
    return 2 * bound * torch.sigmoid(value) - bound
