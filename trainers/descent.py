"""Gradient descent: slope, clip, step, yield; with restarts, a grid of learning rates and early stopping inside one budget.

All restarts and all rates are rows of one matrix (P, D), as a population is, so both kinds of search run equally wide.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from evo_rnn.errors import ConfigError
from evo_rnn.evaluation.evaluator import LocalEvaluator
from evo_rnn.evaluation.ray_evaluator import LOCAL, Compute
from evo_rnn.fitness import LOSSES, Batch, batch, ranking, sanitise
from evo_rnn.network import Model, Network
from evo_rnn.progress import FRESH, OFFERED, Progress, State
from evo_rnn.seeds import generator
from evo_rnn.shapes import Array, Genes
from evo_rnn.tasks.task import Task
from evo_rnn.threads import Stopwatch
from trainers.gradient import BPTT, Estimator, passes, slope
from trainers.rows import OPTIMIZERS, Rows


@dataclass(frozen=True)
class Descent:
    """A trainer that follows slopes.

    Args:
        estimator: how credit goes through time.
        optimizer: a name in `OPTIMIZERS`.
        learning_rates: each is tried by `restarts` rows.
        restarts: rows a learning rate.
        clip: bound on the norm of each row's gradient; 0 means none.
        spread: width of the initial genes, relative to each gene's usual range.
        minibatch: sequences a step; 0 means all. The training loss is then known every `check` steps, for a pass a row.
        check: steps between two looks at the validation split.
        patience: looks without a better validation loss after which a row starts afresh.
    """

    estimator: Estimator = field(default_factory=BPTT)
    optimizer: str = "adam"
    learning_rates: tuple[float, ...] = (0.1, 0.03, 0.01)
    restarts: int = 2
    clip: float = 1.0
    spread: float = 1.0
    minibatch: int = 0
    check: int = 10
    patience: int = 20

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise ConfigError(f"optimizer should be one of {sorted(OPTIMIZERS)} but is {self.optimizer!r}.")
        if not self.learning_rates or min(self.learning_rates) <= 0:
            raise ConfigError(f"learning_rates should be positive numbers but are {self.learning_rates}.")
        for name, least in {"restarts": 1, "check": 1, "patience": 1, "clip": 0, "minibatch": 0}.items():
            if getattr(self, name) < least:
                raise ConfigError(f"{name} should be at least {least} but is {getattr(self, name)}.")

    def train(
        self, model: Model, task: Task, seed: int, resume: State = FRESH, compute: Compute = LOCAL
    ) -> Iterator[Progress]:
        """Yield one progress a gradient step of all rows, for ever.

        Raises:
            ConfigError: if the model is not a network of a cell and a readout.
        """
        if not isinstance(model, Network):
            raise ConfigError(f"model should be a Network for gradient descent but is {model}. Use evolution.")
        rows = Rows(
            self.optimizer, np.repeat(self.learning_rates, self.restarts), self._draw(model, seed), self.patience
        )
        step, spent, budget, best = rows.restore(resume)
        train, loss = batch(task.train, torch.float32, compute.device), LOSSES[task.loss]
        cost = passes(self.estimator, model, train.inputs.shape[1])
        validation = LocalEvaluator(model, task.validation, task.loss, compute.device)
        whole = LocalEvaluator(model, task.train, task.loss, compute.device)
        watch = Stopwatch(spent)
        while True:
            watch.start()
            data = _sample(train, self.minibatch, seed, step)
            genes = rows.genes()
            losses, gradient = slope(self.estimator, model, genes.to(compute.device), data, loss)
            clean = sanitise(losses.cpu().double().numpy())
            norm = rows.step(clipped(gradient.cpu(), self.clip), np.isfinite(clean))
            step += 1
            budget += cost * len(genes) * float(data.counted / train.counted)
            if step % self.check == 0:
                rows.judge(validation(rows.genes().numpy()))
            if data is train:
                best = min(best, clean.min())
            elif step % self.check == 0:  # a loss on a few sequences is no loss on all of them
                genes = rows.genes()
                clean, budget = whole(genes.numpy()), budget + len(genes)
                best = min(best, clean.min())
            seconds = watch.stop()
            yield _progress(rows, step, budget, seconds, best, genes.numpy(), clean, norm)

    def _draw(self, model: Network, seed: int) -> Rows.Draw:
        def draw(row: int, life: int) -> Genes:
            genes: Genes = model.layout.draw(generator(seed, "descent", generation=life, index=row), 1, self.spread)[0]
            return genes

        return draw


def clipped(gradient: Tensor, bound: float) -> Tensor:
    """Each row of (P, D) scaled to a norm of at most `bound`; 0 leaves it alone."""
    if bound == 0:
        return gradient
    norm: Tensor = gradient.norm(dim=1, keepdim=True)
    return gradient * (bound / norm.clamp(min=bound))


def _sample(data: Batch, count: int, seed: int, step: int) -> Batch:
    if not 0 < count < len(data.inputs):
        return data
    useful = np.flatnonzero(data.counts.any(dim=1).cpu().numpy())  # a sequence where nothing counts teaches nothing
    chosen = generator(seed, "minibatch", generation=step).choice(useful, min(count, len(useful)), replace=False)
    index = torch.as_tensor(np.sort(chosen), device=data.inputs.device)
    return replace(data, inputs=data.inputs[index], targets=data.targets[index], counts=data.counts[index])


def _progress(
    rows: Rows, step: int, budget: float, seconds: float, best: float, genes: Genes, losses: Array, norm: float
) -> Progress:
    first = ranking(losses)[:OFFERED]

    def checkpoint() -> dict[str, Array]:
        return rows.state() | {"loop": np.array([step, seconds, budget, best])}

    return Progress(
        step, budget, seconds, best, genes[first].copy(), losses[first], checkpoint, {"gradient/norm": norm}
    )
