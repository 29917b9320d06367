"""A stretch of one island's life, as the work of a pool: a pure function of the island's state and who arrives."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np

from evo_rnn.description import build
from evo_rnn.evaluation.evaluator import Evaluator, LocalEvaluator
from evo_rnn.evaluation.ray_evaluator import Compute
from evo_rnn.evaluation.worker import WorkerCache
from evo_rnn.fitness import ranking
from evo_rnn.layout import Layout
from evo_rnn.network import Model
from evo_rnn.progress import State
from evo_rnn.shapes import Array, Genes, Losses
from evo_rnn.tasks.task import Sequences
from populations.algorithms import Algorithm, Search
from populations.evolution import Evolution

LONGEST = 2.0  # seconds a call, about: a worker that is silent for long would count as hung


@dataclass(frozen=True)
class Stretch:
    """An island after a stretch.

    Args:
        state: to go on from, a checkpoint of `Evolution`.
        best: (M, D) the best of what was told last, as told: those who travel.
        best_losses: (M,) their losses, all finite.
        passes: spent by the island so far.
        seconds: of the CPU, so far.
        loss: the best so far.
        candidates: (K, D) of the last generation, the best first.
        losses: (K,) theirs.
        metrics: of the last generation.
        left: generations still to do, when the call ended early.
    """

    state: State
    best: Genes
    best_losses: Losses
    passes: float = 0.0
    seconds: float = 0.0
    loss: float = np.inf
    candidates: Genes = field(default_factory=lambda: np.empty((0, 0), np.float32))
    losses: Losses = field(default_factory=lambda: np.empty(0))
    metrics: Mapping[str, float] = field(default_factory=dict)
    left: int = 0

    def arrays(self) -> dict[str, Array]:
        """What the next stretch depends on."""
        state = {f"evolution/{name}": array for name, array in self.state.items()}
        return state | {"best": self.best, "best_losses": self.best_losses}


def begun(size: int) -> Stretch:
    """An island before its first generation; D is `size`."""
    return Stretch({}, np.empty((0, size), np.float32), np.empty(0))


def kept_state(arrays: State) -> dict[str, Any]:
    """The fields of a `Stretch` that its `arrays` kept."""
    own = "evolution/"
    state = {name.removeprefix(own): array for name, array in arrays.items() if name.startswith(own)}
    return {"state": state, "best": arrays["best"], "best_losses": arrays["best_losses"]}


def advance(
    cache: WorkerCache,
    evolution: Evolution,
    seed: int,
    state: State,
    genes: Genes,
    losses: Losses,
    generations: int,
    migrants: int,
) -> Stretch:
    """Up to `generations` more of an island: all of them, but for a call that gets long.

    Where a call ends cannot matter, because an evolution that goes on from its state does not differ by a bit from one
    that never stopped.

    Args:
        cache: has the model, the task and the device.
        evolution: of the island.
        seed: of the island.
        state: to go on from; empty to begin.
        genes: (N, D) those who arrive; they are told with the first generation.
        losses: (N,) theirs; with minibatches, on the sequences that their own island saw last.
        generations: how many, at least 1.
        migrants: how many of the best to hand back.
    """
    values = cache.values
    model, task = build(values["model"]), values["task"]
    port = Port(evolution.algorithm, genes, losses)
    loop = replace(evolution, algorithm=port)
    steps = loop.train(model, task, seed, state, cast(Compute, _Kept(cache)))
    due, left = time.monotonic() + LONGEST, generations
    progress, left = next(steps), left - 1
    while left and time.monotonic() < due:
        progress, left = next(steps), left - 1
    return Stretch(
        progress.checkpoint(),
        *best_of(*port.told, migrants),
        progress.passes,
        progress.seconds,
        float(progress.loss),
        progress.candidates,
        progress.losses,
        progress.metrics,
        left,
    )


@dataclass
class Port:
    """A search, begun or not, where migrants go ashore: they are told with the first generation that is told to it.

    Args:
        settings: of the search behind it.
        genes: (N, D) migrants.
        losses: (N,) theirs.
    """

    settings: Search
    genes: Genes
    losses: Losses
    search: Algorithm = field(init=False)
    told: tuple[Genes, Losses] = field(init=False)  # last, without migrants

    @property
    def population(self) -> int:
        """As behind it."""
        return self.settings.population

    def begin(self, layout: Layout, seed: int) -> Port:
        """The search in progress: itself."""
        self.search = self.settings.begin(layout, seed)
        return self

    def ask(self) -> Genes:
        """As behind it."""
        return self.search.ask()

    def tell(self, genes: Genes, loss: Losses) -> None:
        """What was evaluated, and whoever has arrived."""
        self.told = np.array(genes), np.array(loss)
        self.search.tell(np.concatenate([genes, self.genes]), np.concatenate([loss, self.losses]))
        self.genes, self.losses = self.genes[:0], self.losses[:0]

    def state(self) -> dict[str, Array]:
        """As behind it."""
        return self.search.state()

    def restore(self, state: Mapping[str, Array]) -> None:
        """As behind it."""
        self.search.restore(state)


def best_of(genes: Genes, losses: Losses, count: int) -> tuple[Genes, Losses]:
    """The best `count`, without the invalid."""
    first = ranking(losses)[:count]
    first = first[np.isfinite(losses[first])]
    return genes[first], losses[first]


@dataclass(frozen=True)
class _Kept:
    """Computes in this worker."""

    cache: WorkerCache

    def evaluator(self, model: Model, data: Sequences, loss: str) -> Evaluator:  # noqa: ARG002 (those of the context)
        return evaluator_of(self.cache)


def evaluator_of(cache: WorkerCache) -> Evaluator:
    """The evaluator on the training split of the context's task, made once a worker."""
    if "evaluator" not in cache.kept:
        model, task, device = build(cache.values["model"]), cache.values["task"], cache.values["device"]
        cache.kept["evaluator"] = LocalEvaluator(model, task.train, task.loss, device)
    evaluator: Evaluator = cache.kept["evaluator"]
    return evaluator
