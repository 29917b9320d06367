"""The weights of one structure, trained: K weight sets side by side, by gradients, by a search, or as Evolino.

Evolino is Schmidhuber et al. 2007 (Neural Computation 19): hidden weights are evolved, the linear readout is solved.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from evo_rnn.errors import ConfigError
from evo_rnn.evaluation.evaluator import LocalEvaluator
from evo_rnn.evaluation.ray_evaluator import Compute
from evo_rnn.evaluation.worker import WorkerCache
from evo_rnn.fit import SolvedReadout
from evo_rnn.fitness import LOSSES, batch, ranking, sanitise
from evo_rnn.network import Network
from evo_rnn.progress import State
from evo_rnn.shapes import Genes, Losses
from evo_rnn.tasks.task import Task
from populations.algorithms import ALGORITHMS
from populations.evolution import Evolution, Unfitted
from populations.stretch import Port
from trainers.gradient import ESTIMATORS, passes
from trainers.gradient.estimator import reseeded
from trainers.moving import Move
from trainers.rows import OPTIMIZERS, Rows

WORK = "trainers.inner:train_on"
LONGEST = 2.0  # seconds a call, about: a worker that is silent for long would count as hung
FOUR = 4  # times as much training a rung
NEVER = 2**31


@dataclass(frozen=True)
class Inner:
    """How the weights of a structure are trained.

    Args:
        inner: "gradient"; "evolution", a search over weights; "evolino", the same with the readout solved by ridge.
        effort: gradients or generations on the first rung; each further rung has four times as many.
        estimator: of the gradient, a name in `ESTIMATORS`.
        optimizer: a name in `OPTIMIZERS`.
        learning_rate: of the optimizer.
        clip: bound on the norm of each row's gradient; 0 means none.
        algorithm: of the search over weights, a name in `ALGORITHMS`.
        weight_population: its chromosomes.
        loss: a name in `LOSSES`.
    """

    inner: str = "gradient"
    effort: int = 10
    estimator: str = "bptt"
    optimizer: str = "adam"
    learning_rate: float = 0.03
    clip: float = 1.0
    algorithm: str = "ga"
    weight_population: int = 20
    loss: str = "mse"

    def __post_init__(self) -> None:
        known = {"inner": INNER, "estimator": ESTIMATORS, "optimizer": OPTIMIZERS, "algorithm": ALGORITHMS}
        for name, names in known.items():
            if getattr(self, name) not in names:
                raise ConfigError(f"{name} should be one of {', '.join(names)} but is {getattr(self, name)!r}.")
        if self.effort < 1 or self.weight_population < 2:
            raise ConfigError("effort should be at least 1 and weight_population at least 2 but one is less.")
        if not 0 < self.learning_rate < np.inf or not 0 <= self.clip < np.inf:
            raise ConfigError("learning_rate should be positive and clip 0 or more but one is not.")
        if self.inner == "evolino":
            SolvedReadout(loss=self.loss)  # refuses losses without a target a step

    def work(self, rung: int) -> int:
        """Gradients or generations of a rung."""
        return int(self.effort * FOUR**rung)

    def cost(self, net: Network, sets: int, steps: int, rung: int) -> float:
        """Passes that a rung costs; one more a weight set is for looking at what came of it."""
        if self.inner == "gradient":
            each = sets * passes(ESTIMATORS[self.estimator](), net, steps)
        else:
            each = self.weight_population * (1.0 + self.fit.passes(net, steps))
        return self.work(rung) * each + sets

    @property
    def fit(self) -> SolvedReadout | Unfitted:
        """What is done to each chromosome before it is scored."""
        return SolvedReadout(loss=self.loss) if self.inner == "evolino" else Unfitted()


INNER = ("gradient", "evolution", "evolino")


@dataclass(frozen=True, eq=False)
class Trained:
    """What training has made of a structure, so far.

    Args:
        genes: (K, D).
        losses: (K,) on the validation split.
        train: (K,) on the training split.
        rung: that was trained.
        seconds: of the CPU.
        left: gradients or generations still to do, when the call ended early.
        state: to go on from then.
    """

    genes: Genes
    losses: Losses
    train: Losses
    rung: int
    seconds: float
    left: int = 0
    state: State = field(default_factory=dict)


def train_on(
    cache: WorkerCache, net: Network, inner: Inner, seed: int, rung: int, genes: Genes, state: State, left: int
) -> Trained:
    """Train weight sets (K, D) of a structure further; a call that gets long ends early.

    Where it ends cannot matter: what goes on from its state does not differ by a bit from what never stopped.
    """
    clock, due = time.thread_time(), time.monotonic() + LONGEST
    task, device = cache.values["task"], cache.values["device"]
    train = _descend if inner.inner == "gradient" else _search
    genes, state, left = train(task, device, net, inner, seed, np.array(genes), state, left, due)
    if left:
        nothing = np.full(len(genes), np.inf)
        return Trained(genes[:0], nothing, nothing, rung, time.thread_time() - clock, left, state)
    validation = LocalEvaluator(net, task.validation, task.loss, device)(genes)
    return Trained(
        genes, validation, LocalEvaluator(net, task.train, task.loss, device)(genes), rung, time.thread_time() - clock
    )


Piece = tuple[Genes, State, int]  # weight sets, what to go on from, what is left


def _descend(
    task: Task, device: str, net: Network, inner: Inner, seed: int, genes: Genes, state: State, left: int, due: float
) -> Piece:
    """Each row follows its own gradient; one that breaks begins again where it began."""
    start = np.array(state["start"]) if state else genes
    rates = np.full(len(genes), inner.learning_rate)
    rows = Rows(inner.optimizer, rates, lambda row, life: np.array(start[row]), NEVER)  # noqa: ARG005
    rows.restore({name: value for name, value in state.items() if name != "start"})
    data, loss = batch(task.train, torch.float32, device), LOSSES[task.loss]
    rule = ESTIMATORS[inner.estimator]()
    while left:
        Move(rows, reseeded(rule, seed, left), net, data, loss, clip=inner.clip)({})
        left -= 1
        if left and time.monotonic() > due:
            return genes, rows.state() | {"start": start, "loop": np.zeros(4)}, left
    return rows.genes().numpy(), {}, 0


def _search(
    task: Task, device: str, net: Network, inner: Inner, seed: int, genes: Genes, state: State, left: int, due: float
) -> Piece:
    """Weights are evolved from those that came; the best as many are handed back."""
    known = genes[:0] if state else genes
    losses = LocalEvaluator(net, task.train, task.loss, device)(known)
    port = Port(replace(ALGORITHMS[inner.algorithm](), population=inner.weight_population), known, sanitise(losses))
    loop = Evolution(algorithm=port, fit=inner.fit)
    for progress in loop.train(net, task, seed, state, Compute(device=device)):
        left -= 1
        if not left:
            break
        if time.monotonic() > due:
            return genes, progress.checkpoint(), left
    found, its = port.told
    everybody, all_losses = np.concatenate([found, known]), np.concatenate([its, losses])
    return everybody[ranking(all_losses)[: len(genes)]], {}, 0
