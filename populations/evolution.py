"""The evolution loop: ask, fit, score, tell, yield. It never differentiates, and knows no algorithm by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from evo_rnn.errors import ConfigError
from evo_rnn.evaluation.evaluator import Evaluator
from evo_rnn.evaluation.ray_evaluator import LOCAL, Compute
from evo_rnn.evaluation.wire import Bred, Expecting
from evo_rnn.fit import Fit
from evo_rnn.fitness import ranking, reciprocal
from evo_rnn.network import Model
from evo_rnn.progress import FRESH, OFFERED, Progress, State
from evo_rnn.sample import sample, share
from evo_rnn.shapes import Array, Genes, Losses
from evo_rnn.tasks.task import Task
from evo_rnn.threads import Stopwatch
from populations.algorithms import Algorithm, GeneticAlgorithm, Search


@dataclass(frozen=True)
class Unfitted:
    """No fitting: chromosomes are scored as they are."""

    def __call__(self, model: Model, genes: Genes, data: object) -> Genes:  # noqa: ARG002
        """The same chromosomes."""
        return genes

    def passes(self, model: Model, steps: int) -> float:  # noqa: ARG002
        """Nothing."""
        return 0.0


@dataclass(frozen=True)
class Evolution:
    """A trainer that evolves chromosomes.

    Args:
        algorithm: proposes chromosomes and learns from their losses.
        fit: improves every chromosome before it is scored.
        inheritance: "lamarckian": a fitted chromosome takes the place of the proposed one;
            "baldwinian": only its loss does (Whitley, Gordon and Mathias 1994).
        minibatch: sequences a generation, the same for all its chromosomes; 0 means all. Losses of two generations are
            then of different sequences: what an algorithm asks for again, as elites, is scored anew, but one that
            compares a child with the loss its parent had before compares unequal things.
        check: generations between two looks, with minibatches: the best of the generation are scored on all sequences,
            for a pass each. What is offered and reported between two looks comes from the last one.
    """

    algorithm: Search = field(default_factory=GeneticAlgorithm)
    fit: Fit | Unfitted = field(default_factory=Unfitted)
    inheritance: str = "lamarckian"
    minibatch: int = 0
    check: int = 10

    def __post_init__(self) -> None:
        if self.inheritance not in ("lamarckian", "baldwinian"):
            raise ConfigError(f"inheritance should be lamarckian or baldwinian but is {self.inheritance!r}.")
        for name, least in (("minibatch", 0), ("check", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} should be at least {least} but is {getattr(self, name)}.")

    def train(
        self, model: Model, task: Task, seed: int, resume: State = FRESH, compute: Compute = LOCAL
    ) -> Iterator[Progress]:
        """Yield one progress a generation, for ever."""
        search = self.algorithm.begin(model.layout, seed)
        step, passes, spent, best = _restore(search, resume)
        offered = _told(resume, "offered", model.layout.size)
        cost = 1.0 + self.fit.passes(model, task.train.inputs.shape[1])
        evaluator = compute.evaluator(model, task.train, task.loss)
        watch, last = Stopwatch(spent), _told(resume, "", model.layout.size)
        try:
            while True:
                watch.start()
                chosen = sample(task.train, self.minibatch, seed, step)
                asked = search.ask()
                if isinstance(self.fit, Unfitted) and isinstance(search, Bred) and isinstance(evaluator, Expecting):
                    evaluator.expect(search.litter())
                genes, losses = self._scored(evaluator, asked, chosen, last)
                search.tell(genes if self.inheritance == "lamarckian" else asked, losses)
                last = (genes, losses) if self._inherits() and not chosen else last
                step, passes = step + 1, passes + cost * len(asked) * share(task.train, chosen)
                offered, looked = self._offered(evaluator, genes, losses, chosen, step, offered)
                passes, best = passes + looked, min(best, offered[1].min())
                loop = np.array([step, passes, watch.stop() + evaluator.seconds, best])
                yield _progress(search, loop, last, offered, bool(chosen), metrics(genes, losses))
        finally:
            evaluator.close()

    def _inherits(self) -> bool:
        return self.inheritance == "lamarckian" and not isinstance(self.fit, Unfitted)

    def _scored(self, evaluator: Evaluator, asked: Genes, chosen: tuple[int, ...], last: Told) -> Told:
        """The chromosomes to tell, and their losses.

        One that was fitted before and is asked for again, as elites are, is fitted once more, but where that does not
        help it stays as it was: an elite never gets worse. With minibatches nothing is remembered: what it was worth on
        other sequences says nothing about these.
        """
        if isinstance(self.fit, Unfitted):
            return asked, evaluator(asked, chosen)
        fitted = evaluator.fit(self.fit, asked, chosen)
        losses = evaluator(fitted, chosen)
        known = {genes.tobytes(): loss for genes, loss in zip(*last, strict=True)}
        before = np.array([known.get(genes.tobytes(), np.inf) for genes in asked])
        worse = before < losses
        return np.where(worse[:, None], asked, fitted), np.where(worse, before, losses)

    def _offered(
        self, evaluator: Evaluator, genes: Genes, losses: Losses, chosen: tuple[int, ...], step: int, before: Told
    ) -> tuple[Told, int]:
        """The best, with their losses on all the data, and the passes that this has cost: without minibatches, none."""
        first = ranking(losses)[:OFFERED]
        if not chosen:
            return (genes[first].copy(), losses[first]), 0
        if len(before[0]) and step % self.check:
            return (before[0][:1], before[1][:1]), 0
        genes, losses = genes[first], evaluator(genes[first])
        order = ranking(losses)
        return (genes[order], losses[order]), len(first)


Told = tuple[Genes, Losses]  # chromosomes and their losses; of a generation, as it was told, fitted


def _progress(
    search: Algorithm, loop: Array, last: Told, offered: Told, sampled: bool, seen: dict[str, float]
) -> Progress:
    def checkpoint() -> dict[str, Array]:
        told: dict[str, Array] = {"loop/genes": last[0], "loop/losses": last[1]}
        if sampled:
            told |= {"loop/offered_genes": offered[0], "loop/offered_losses": offered[1]}
        own = {f"search/{name}": value for name, value in search.state().items()}
        return own | told | {"loop": loop}

    step, passes, seconds, best = loop.tolist()
    return Progress(int(step), passes, seconds, best, *offered, checkpoint, seen)


def _told(resume: State, which: str, size: int) -> Told:
    """What a checkpoint has under this word; nothing at first."""
    genes, losses = (f"loop/{which}{'_' if which else ''}{what}" for what in ("genes", "losses"))
    if genes not in resume:
        return np.empty((0, size), np.float32), np.empty(0)
    return np.array(resume[genes]), np.array(resume[losses])


def _restore(search: Algorithm, resume: State) -> tuple[int, float, float, float]:
    if not resume:
        return 0, 0.0, 0.0, np.inf
    own = "search/"
    search.restore({name.removeprefix(own): value for name, value in resume.items() if name.startswith(own)})
    step, passes, spent, best = resume["loop"]
    return int(step), float(passes), float(spent), float(best)


def metrics(genes: Genes, losses: Losses) -> dict[str, float]:
    """What a generation looks like: its mean loss, its diversity (mean standard deviation of a gene), broken networks."""
    sound = losses[np.isfinite(losses)]
    return {
        "fitness/best": float(reciprocal(losses).max()),
        "population/mean_loss": float(sound.mean()) if len(sound) else np.inf,
        "population/diversity": float(genes.std(axis=0).mean()),
        "population/invalid_fraction": 1.0 - len(sound) / len(losses),
    }
