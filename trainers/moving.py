"""One way over the data by which rows of genes move: once at its end, or every few steps inside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from evo_rnn.fitness import Batch, Loss
from evo_rnn.network import Network
from evo_rnn.shapes import Array
from evo_rnn.threads import one_thread
from trainers.gradient.estimator import LEARNED, Estimator, Memory
from trainers.gradient.regulation import regulated
from trainers.gradient.slope import Sweep, check_served, fed_back, heard, influence_norm, sweep
from trainers.rows import Rows


@dataclass(frozen=True, eq=False)
class Move:
    """Moves rows along their slopes on one batch.

    Args:
        rows: P chromosomes under descent.
        estimator: how credit goes through time.
        network: a cell and a readout.
        data: the sequences.
        loss: what is differentiated.
        every: time steps after which the rows move; 0 means at the end of the sequences.
        clip: bound on the norm of each row's gradient; 0 means none.
        regulation: bound on the growth through units that hear only themselves; 0 means none.
    """

    rows: Rows
    estimator: Estimator
    network: Network
    data: Batch
    loss: Loss
    every: int = 0
    clip: float = 0.0
    regulation: float = 0.0

    def __call__(self, learned: Memory) -> tuple[Sweep, float]:
        """What the sweep gave, going on with what the estimator has `learned`, and the median norm of the gradients."""
        return self._inside(learned) if self.every else self._at_the_end(learned)

    def _at_the_end(self, learned: Memory) -> tuple[Sweep, float]:
        genes = self.rows.genes().to(self.data.inputs.device)
        found = sweep(self.estimator, self.network, genes, self.data, self.loss, learned)
        return found, self._step(found.gradient, np.isfinite(found.loss.cpu().numpy()))

    def _inside(self, learned: Memory) -> tuple[Sweep, float]:
        """Rows that break are drawn afresh at once, and wait for the next way over the data."""
        data, device = self.data, self.data.inputs.device
        check_served(self.estimator, self.network, self.every, self.loss)
        network, cell = fed_back(self.estimator, self.network), self.network.cell
        genes = self.rows.genes().to(device).requires_grad_()
        total, largest, alive, norms = genes.new_zeros(len(genes)), genes.new_zeros(len(genes)), np.ones(len(genes)), []
        memory: Memory = {**self.estimator.begin(cell, network.recurrent(genes), len(data.inputs)), **learned}
        for start in range(0, data.inputs.shape[1], self.every):
            part = Batch(*(t[:, start : start + self.every] for t in (data.inputs, data.targets, data.counts)))
            theta = self.rows.genes().to(device).requires_grad_() if start else genes  # the start may be learned
            with one_thread():
                terms, memory = heard(self.estimator, network, theta, part, self.loss, memory)
            total += terms
            largest = torch.maximum(largest, influence_norm(memory, len(genes)).to(largest))
            if part.counts.any() and theta.grad is not None:
                lost = torch.from_numpy(alive == 0).to(device)
                gradient = torch.where(lost[:, None], 0.0, theta.grad / part.counted)
                sound = np.isfinite(terms.cpu().numpy()) & torch.isfinite(gradient).all(dim=1).cpu().numpy()
                norms.append(self._step(gradient, sound | (alive == 0)))
                alive = np.where(sound, alive, 0)
        kept = {name: value for name, value in memory.items() if name.startswith(LEARNED)}
        found = Sweep(total / data.counted, torch.zeros_like(genes), largest, kept)
        return found, float(np.median(norms)) if norms else 0.0

    def _step(self, gradient: Tensor, sound: Array) -> float:
        norm = self.rows.step(clipped(gradient.cpu(), self.clip), sound)
        if self.regulation:
            layout, steps = self.network.layout, self.data.inputs.shape[1]
            self.rows.put(regulated(layout, self.rows.genes(), steps, self.regulation))
        return norm


def clipped(gradient: Tensor, bound: float) -> Tensor:
    """Each row of (P, D) scaled to a norm of at most `bound`; 0 leaves it alone."""
    if bound == 0:
        return gradient
    norm: Tensor = gradient.norm(dim=1, keepdim=True)
    return gradient * (bound / norm.clamp(min=bound))
