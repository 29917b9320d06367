"""A cell of your own: one pure step and the weights it needs; everything else works with it at once.

Run it: python examples/own_cell.py
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evo_rnn.cells.cell import affine, row, zeros
from evo_rnn.layout import Leaf, matrix, units, vector
from evo_rnn.network import network
from evo_rnn.shapes import Weights
from evo_rnn.tasks import TASKS
from populations.evolution import Evolution
from trainers import RTRL, Descent, run


@dataclass(frozen=True)
class Leaky:
    """h' = (1 - a) h + a tanh(W x + U h + b): each unit moves only the part a of the way."""

    inputs: int
    hidden: int
    rate: float = 0.8

    @property
    def outputs(self) -> int:
        """All units are seen."""
        return self.hidden

    @property
    def state(self) -> int:
        """The units are the state."""
        return self.hidden

    def leaves(self) -> tuple[Leaf, ...]:
        """W (H, I), U (H, H), b (H,)."""
        h, x = units("h", self.hidden), units("x", self.inputs)
        return (matrix("input", h, x), matrix("recurrent", h, h), vector("bias", h, ["one"], -0.5, 0.5))

    def start(self, weights: Weights, batch: int) -> Tensor:
        """Zeros."""
        return zeros(weights, batch, self.state)

    def step(self, weights: Weights, x: Tensor, s: Tensor) -> Tensor:
        """One tick of P networks over B sequences."""
        driven = affine(weights["input"], x, row(weights["bias"]))
        aim = torch.tanh(affine(weights["recurrent"], s, driven))
        return torch.lerp(s, aim, self.rate)


def main() -> None:
    """Evolve it, and train it by exact RTRL."""
    task = TASKS["sunspots"]()
    model = network(Leaky(task.inputs, 4), task.outputs)
    print(model.layout.links()[4])
    for name, trainer in {"ga": Evolution(), "rtrl": Descent(RTRL(), learning_rates=(0.03,))}.items():
        result = run(trainer, model, task, passes=5000)
        print(f"{name}: test loss {result['test_loss']:.3f}, {result['stop_reason']}")


if __name__ == "__main__":
    main()
