"""How well a network does: losses (lower is better), the share learned, and the one function from loss to fitness."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from evo_rnn import ctc
from evo_rnn.shapes import Array, Losses
from evo_rnn.tasks.task import Sequences

FLOOR = 1e-12  # a loss below it counts as it: fitness stays finite and sums of fitness never overflow


@dataclass(frozen=True)
class Batch:
    """Sequences as tensors of one dtype on one device: what a loss compares outputs with."""

    inputs: Tensor  # (B, T, I)
    targets: Tensor  # (B, T, O)
    counts: Tensor  # (B, T) bool

    @property
    def counted(self) -> Tensor:
        """How many steps count, as a scalar."""
        return self.counts.sum()


def batch(data: Sequences, dtype: torch.dtype = torch.float64, device: str = "cpu") -> Batch:
    """`data` as tensors, with targets that do not count set to 0: whatever they are, slopes stay finite.

    Copies: arrays that came to a worker are read-only, which torch does not know.
    """
    asked = np.where(data.counts[..., None], data.targets, 0.0)
    inputs, targets = (torch.tensor(array, dtype=dtype, device=device) for array in (data.inputs, asked))
    return Batch(inputs, targets, torch.tensor(data.counts, device=device))


@dataclass(frozen=True)
class Loss:
    """A mean over the counted steps.

    Args:
        name: key in `LOSSES`.
        terms: (P, B, T, O) outputs and the data to what each step adds, (P, B, T).
        learned: which steps are right, (P, B, T) bool, given also the tolerance of each output (O,).
        classes: the targets are class numbers, the outputs one value a class.
        causal: what a step adds depends on that step alone, so online gradient rules can use it. Else a whole sequence
            adds its loss at the last step that counts.
    """

    name: str
    terms: Callable[[Tensor, Batch], Tensor]
    learned: Callable[[Tensor, Batch, Tensor], Tensor]
    classes: bool = False
    causal: bool = True

    def __call__(self, outputs: Tensor, data: Batch) -> Tensor:
        """The loss (P,) of outputs (P, B, T, O): the mean term over the steps that count."""
        return self.total(outputs, data) / data.counted

    def total(self, outputs: Tensor, data: Batch) -> Tensor:
        """The sum (P,) of the terms of the steps that count. Other steps cannot matter, not even as NaN."""
        terms = self.terms(outputs, data)
        return torch.where(data.counts, terms, 0.0).sum(dim=(1, 2))

    def share(self, outputs: Tensor, data: Batch, tolerance: Tensor) -> Tensor:
        """The share (P,) of counted steps that are learned, 0 to 1."""
        right = self.learned(outputs, data, tolerance) & data.counts
        return right.sum(dim=(1, 2)) / data.counted


def _squares(outputs: Tensor, data: Batch) -> Tensor:
    squares = (outputs - data.targets).square()
    return squares.mean(dim=3) if squares.shape[3] > 1 else squares[..., 0]  # a mean of one is slow


def _close(outputs: Tensor, data: Batch, tolerance: Tensor) -> Tensor:
    return ((outputs - data.targets).abs() <= tolerance).all(dim=3)


def _surprise(outputs: Tensor, data: Batch) -> Tensor:
    classes = data.targets[..., 0].long().expand(outputs.shape[:3])
    return -torch.log_softmax(outputs, dim=3).gather(3, classes[..., None])[..., 0]


def _exact(outputs: Tensor, data: Batch, tolerance: Tensor) -> Tensor:  # noqa: ARG001 (classes need none)
    finite = outputs.isfinite().all(dim=3)  # else the place of a NaN would be taken for the answer
    return (outputs.argmax(dim=3) == data.targets[..., 0].long()) & finite


def _string_surprise(outputs: Tensor, data: Batch) -> Tensor:
    steps = torch.arange(1, data.counts.shape[1] + 1, device=data.counts.device)
    last = steps == data.counts.sum(dim=1, keepdim=True)
    return torch.where(last, ctc.surprise(outputs, data.targets, data.counts)[..., None], 0.0)


def _spelled(outputs: Tensor, data: Batch, tolerance: Tensor) -> Tensor:  # noqa: ARG001 (labels need none)
    return ctc.right(outputs, data.targets, data.counts)[..., None].expand(outputs.shape[:3])


LOSSES = {
    "mse": Loss("mse", _squares, _close),
    "cross_entropy": Loss("cross_entropy", _surprise, _exact, classes=True),
    "ctc": Loss("ctc", _string_surprise, _spelled, classes=True, causal=False),  # nats a step; all steps right or none
}


def tolerances(data: Sequences, tolerance: float = 0.1) -> Array:
    """How far (O,) an output may be off and still count as learned: `tolerance` standard deviations of its target."""
    deviation: Array = data.targets[data.counts].std(axis=0)
    return tolerance * deviation


def sanitise(loss: Array) -> Losses:
    """Losses (P,) float64 with everything that is not a finite number >= 0 made infinite: invalid, worse than all.

    The one place where broken networks are recognised; what selects, reports or logs sees sanitised losses only.
    """
    loss = np.asarray(loss, dtype=np.float64)
    return np.where(np.isfinite(loss) & (loss >= 0), loss, np.inf)


def reciprocal(loss: Array, floor: float = FLOOR) -> Losses:
    """Fitness (P,) of losses (P,): 1 / max(loss, floor), and exactly 0 for an invalid loss."""
    clean = sanitise(loss)
    return np.where(np.isfinite(clean), 1.0 / np.maximum(clean, floor), 0.0)


def ranking(loss: Array) -> Array:
    """Indices (P,) from best to worst: by fitness, then loss, then index."""
    clean = sanitise(loss)
    return np.lexsort((np.arange(len(clean)), clean, -reciprocal(clean)))
