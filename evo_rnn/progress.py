"""What every kind of training yields, step after step: who reads the iterator logs, saves and stops.

A trainer never calls back. `for progress in trainer.train(model, task, seed): ...` leaves the loop with the reader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from evo_rnn.evaluation.ray_evaluator import LOCAL, Compute
from evo_rnn.network import Model
from evo_rnn.shapes import Array, Genes
from evo_rnn.tasks.task import Task

State = Mapping[str, Array]  # everything a trainer needs to go on, as arrays
FRESH: State = {}
OFFERED = 16  # chromosomes a step, at most, that selection on the validation split may choose from


@dataclass(frozen=True)
class Progress:
    """One step of training, seen from outside.

    Args:
        step: generations or gradient steps since the start.
        passes: what has been spent: one network over all counted training steps once is 1.
        seconds: CPU seconds spent by training.
        loss: the best training loss so far.
        candidates: (K, D) chromosomes offered for selection on the validation split, the best of this step first.
        losses: (K,) their training losses.
        metrics: whatever else is worth a curve.
        checkpoint: makes the state from which `train(..., resume=state)` goes on bit for bit.
        model: the network that the candidates are weights of, where it is not the run's own: trainers may change it.
    """

    step: int
    passes: float
    seconds: float
    loss: float
    candidates: Genes
    losses: Array
    checkpoint: Callable[[], dict[str, Array]]
    metrics: Mapping[str, float] = field(default_factory=dict)
    model: Model | None = field(default=None, kw_only=True)


class Trainer(Protocol):
    """Anything that improves chromosomes of a model on a task."""

    def train(
        self, model: Model, task: Task, seed: int, resume: State = FRESH, compute: Compute = LOCAL
    ) -> Iterator[Progress]:
        """Yield progress for ever, or until nothing is left to do; deterministic in model, task and seed.

        Args:
            model: what to find the weights of.
            task: what to learn; trainers may look at the training and validation splits.
            seed: names every random stream.
            resume: a `Progress.checkpoint()` to go on from, bit for bit; empty to begin.
            compute: where work is done; it cannot change the result.
        """
        ...
