"""Rows of genes that an optimizer of torch moves, each with its own rate, its own memory and its own early stopping."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from evo_rnn.progress import State
from evo_rnn.shapes import Array, Genes, Losses

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "rmsprop": torch.optim.RMSprop,
    "rprop": torch.optim.Rprop,
    "adagrad": torch.optim.Adagrad,
    "sgd": torch.optim.SGD,
}


class Rows:
    """P chromosomes under descent.

    Args:
        optimizer: a name in `OPTIMIZERS`.
        rates: (P,) learning rates.
        draw: the first genes (D,) of a row in its k-th life.
        patience: looks at the validation loss without a better one after which a row is drawn afresh.
    """

    Draw: TypeAlias = Callable[[int, int], Genes]

    def __init__(self, optimizer: str, rates: Array, draw: Draw, patience: int) -> None:
        self._draw, self._patience = draw, patience
        self._lives = np.zeros(len(rates), dtype=np.int64)
        self._best = np.full(len(rates), np.inf)
        self._waited = np.zeros(len(rates), dtype=np.int64)
        self._rows = [torch.from_numpy(draw(row, 0)).requires_grad_() for row in range(len(rates))]
        groups = [{"params": [row], "lr": float(rate)} for row, rate in zip(self._rows, rates, strict=True)]
        self._optimizer = OPTIMIZERS[optimizer](groups)  # type: ignore[call-arg]

    def genes(self) -> Tensor:
        """A copy (P, D)."""
        return torch.stack([row.detach() for row in self._rows])

    @property
    def lives(self) -> Array:
        """(P,) how often each row was drawn afresh."""
        return self._lives.copy()

    def put(self, genes: Tensor) -> None:
        """Take other genes (P, D) and keep what the optimizer remembers."""
        with torch.no_grad():
            for row, wanted in zip(self._rows, genes, strict=True):
                row.copy_(wanted)

    def step(self, gradient: Tensor, sound: Array) -> float:
        """Move every row along its gradient (P, D), draw broken ones afresh; the median norm of the sound gradients."""
        sound = sound & torch.isfinite(gradient).all(dim=1).numpy()
        for weights, slope, fine in zip(self._rows, gradient, sound, strict=True):
            weights.grad = slope.clone() if fine else torch.zeros_like(weights)
        self._optimizer.step()
        for row in np.flatnonzero(~sound):
            self._renew(int(row))
        norms = gradient.norm(dim=1).numpy()[sound]
        return float(np.median(norms)) if len(norms) else 0.0

    def judge(self, validation: Losses) -> None:
        """Look at the rows' validation losses (P,); a row that has not improved for long starts afresh."""
        better = validation < self._best
        self._best = np.where(better, validation, self._best)
        self._waited = np.where(better, 0, self._waited + 1)
        for row in np.flatnonzero(self._waited >= self._patience):
            self._renew(int(row))

    def _renew(self, row: int) -> None:
        self._lives[row] += 1
        self._best[row], self._waited[row] = np.inf, 0
        with torch.no_grad():
            self._rows[row].copy_(torch.from_numpy(self._draw(row, int(self._lives[row]))))
        self._optimizer.state.pop(self._rows[row], {})

    def state(self) -> dict[str, Array]:
        """Genes, lives, waits and every number that the optimizer remembers."""
        memory = {
            f"optimizer/{index}/{name}": np.asarray(value)
            for index, row in enumerate(self._rows)
            for name, value in self._optimizer.state.get(row, {}).items()
        }
        own = {"genes": self.genes().numpy(), "lives": self._lives, "best": self._best, "waited": self._waited}
        return {name: np.array(value) for name, value in (own | memory).items()}

    def restore(self, state: State) -> tuple[int, float, float, float]:
        """Take back what `state` gave; the step, seconds, passes and best loss of the loop, or those of a beginning."""
        if not state:
            return 0, 0.0, 0.0, np.inf
        self._lives, self._best, self._waited = (np.array(state[name]) for name in ("lives", "best", "waited"))
        self.put(torch.from_numpy(np.array(state["genes"])))
        for name, value in state.items():
            if name.startswith("optimizer/"):
                _, index, key = name.split("/")
                self._optimizer.state[self._rows[int(index)]][key] = torch.from_numpy(np.array(value))
        step, seconds, budget, best = state["loop"]
        return int(step), float(seconds), float(budget), float(best)
