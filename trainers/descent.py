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
from trainers.gradient import BPTT, Estimator, passes
from trainers.gradient.estimator import LEARNED, Memory, check_least, reseeded
from trainers.gradient.regulation import check_regulated, regulated
from trainers.gradient.slope import check_served
from trainers.moving import Move
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
        update_every: time steps after which the weights move, inside the sequences; 0 means at their end. The loss is
            then known as with minibatches.
        regulation: bound on a gradient's growth through a unit that hears only itself, over a whole sequence (Li et al.
            2018 take 2): after each step such weights are put back into it; 0 means none.
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
    update_every: int = 0
    regulation: float = 0.0
    check: int = 10
    patience: int = 20

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise ConfigError(f"optimizer should be one of {sorted(OPTIMIZERS)} but is {self.optimizer!r}.")
        if not self.learning_rates or not all(0 < rate < np.inf for rate in self.learning_rates):
            raise ConfigError(f"learning_rates should be positive numbers but are {self.learning_rates}.")
        if np.isnan([self.clip, self.regulation]).any():
            raise ConfigError(f"clip and regulation should be numbers but are {self.clip} and {self.regulation}.")
        check_least(self, restarts=1, check=1, patience=1, clip=0, minibatch=0, update_every=0, regulation=0)

    def fits(self, model: Network, task: Task) -> None:
        """Refuse a network, a task or a setting that do not fit each other.

        Raises:
            ConfigError: naming what could be used.
        """
        loss, steps = LOSSES[task.loss], task.train.inputs.shape[1]
        check_served(self.estimator, model, self.update_every or steps, loss)
        if not loss.causal and 0 < self.update_every < steps:
            raise ConfigError(
                f"update_every should be 0 for {loss.name}, which needs whole sequences of {steps} steps, but is "
                f"{self.update_every}. Leave it out."
            )
        if self.regulation:
            check_regulated(model.layout, self.regulation)

    def train(
        self, model: Model, task: Task, seed: int, resume: State = FRESH, compute: Compute = LOCAL
    ) -> Iterator[Progress]:
        """Yield one progress a gradient step of all rows, for ever.

        Raises:
            ConfigError: if the model is not a network of a cell and a readout, or does not fit.
        """
        if not isinstance(model, Network):
            raise ConfigError(f"model should be a Network for gradient descent but is {model}. Use evolution.")
        self.fits(model, task)
        train, loss = batch(task.train, torch.float32, compute.device), LOSSES[task.loss]
        steps = train.inputs.shape[1]
        rates = np.repeat(self.learning_rates, self.restarts)
        rows = Rows(self.optimizer, rates, self._draw(model, seed, steps), self.patience)
        step, spent, budget, best = rows.restore(resume)
        learned: Memory = {
            name: torch.tensor(value, device=compute.device)
            for name, value in resume.items()
            if name.startswith(LEARNED)
        }
        cost = passes(self.estimator, model, steps, self.update_every)
        validation = LocalEvaluator(model, task.validation, task.loss, compute.device)
        whole = LocalEvaluator(model, task.train, task.loss, compute.device)
        watch = Stopwatch(spent)
        while True:
            watch.start()
            data = _sample(train, self.minibatch, seed, step)
            rule = reseeded(self.estimator, seed, step)
            move = Move(rows, rule, model, data, loss, self.update_every, self.clip, self.regulation)
            genes = rows.genes()
            lives = rows.lives
            found, norm = move(learned)
            clean = sanitise(found.loss.cpu().double().numpy())
            step += 1
            budget += cost * len(genes) * float(data.counted / train.counted)
            if step % self.check == 0:
                rows.judge(validation(rows.genes().numpy()))
            learned = forgotten(found.memory, rows.lives != lives)
            if data is train and not self.update_every:
                best = min(best, clean.min())
            elif (
                step % self.check == 0
            ):  # a loss on a few sequences, or of weights that move, is no loss on all of them
                genes = rows.genes()
                clean, budget = whole(genes.numpy()), budget + len(genes)
                best = min(best, clean.min())
            loop = np.array([step, watch.stop(), budget, best])
            metrics = {"gradient/norm": norm} | influence_metric(found.influence)
            yield _progress(rows, loop, genes.numpy(), clean, learned, metrics)

    def _draw(self, model: Network, seed: int, steps: int) -> Rows.Draw:
        def draw(row: int, life: int) -> Genes:
            genes = model.layout.draw(generator(seed, "descent", generation=life, index=row), 1, self.spread)
            if self.regulation:
                genes = regulated(model.layout, torch.from_numpy(genes), steps, self.regulation).numpy()
            drawn: Genes = genes[0]
            return drawn

        return draw


def _sample(data: Batch, count: int, seed: int, step: int) -> Batch:
    if not 0 < count < len(data.inputs):
        return data
    useful = np.flatnonzero(data.counts.any(dim=1).cpu().numpy())  # a sequence where nothing counts teaches nothing
    chosen = generator(seed, "minibatch", generation=step).choice(useful, min(count, len(useful)), replace=False)
    index = torch.as_tensor(np.sort(chosen), device=data.inputs.device)
    return replace(data, inputs=data.inputs[index], targets=data.targets[index], counts=data.counts[index])


def forgotten(learned: Memory, renewed: Array) -> Memory:
    """What an estimator has learned of its own, without that of rows that were drawn afresh."""
    return {
        name: torch.where(torch.from_numpy(renewed).to(value.device).view(-1, *[1] * (value.dim() - 1)), 0.0, value)
        for name, value in learned.items()
    }


def influence_metric(influence: Tensor) -> dict[str, float]:
    """The median over the networks of the largest norm of an influence matrix, where one is kept."""
    kept = influence[influence.isfinite() & (influence > 0)]  # those of rows that broke say nothing
    return {"influence/norm": float(kept.median())} if len(kept) else {}


def _progress(
    rows: Rows, loop: Array, genes: Genes, losses: Array, learned: Memory, metrics: dict[str, float]
) -> Progress:
    first = ranking(losses)[:OFFERED]
    own = {name: np.array(value.cpu().numpy()) for name, value in learned.items()}

    def checkpoint() -> dict[str, Array]:
        return rows.state() | own | {"loop": loop}

    step, seconds, budget, best = loop
    return Progress(
        int(step), float(budget), float(seconds), float(best), genes[first].copy(), losses[first], checkpoint, metrics
    )
