"""The evolution loop: ask, fit, score, tell, yield. It never differentiates, and knows no algorithm by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from evo_rnn.errors import ConfigError
from evo_rnn.evaluation.evaluator import Evaluator
from evo_rnn.evaluation.ray_evaluator import LOCAL, Compute
from evo_rnn.fit import Fit
from evo_rnn.fitness import ranking, reciprocal
from evo_rnn.network import Model
from evo_rnn.progress import FRESH, OFFERED, Progress, State
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
    """

    algorithm: Search = field(default_factory=GeneticAlgorithm)
    fit: Fit | Unfitted = field(default_factory=Unfitted)
    inheritance: str = "lamarckian"

    def __post_init__(self) -> None:
        if self.inheritance not in ("lamarckian", "baldwinian"):
            raise ConfigError(f"inheritance should be lamarckian or baldwinian but is {self.inheritance!r}.")

    def train(
        self, model: Model, task: Task, seed: int, resume: State = FRESH, compute: Compute = LOCAL
    ) -> Iterator[Progress]:
        """Yield one progress a generation, for ever."""
        search = self.algorithm.begin(model.layout, seed)
        step, passes, spent, best = _restore(search, resume)
        cost = 1.0 + self.fit.passes(model, task.train.inputs.shape[1])
        evaluator = compute.evaluator(model, task.train, task.loss)
        watch, last = Stopwatch(spent), _last_told(resume, model.layout.size)
        try:
            while True:
                watch.start()
                asked = search.ask()
                genes, losses = self._scored(evaluator, asked, last)
                search.tell(genes if self.inheritance == "lamarckian" else asked, losses)
                last = (genes, losses) if self._inherits() else last
                step, passes, best = step + 1, passes + cost * len(asked), min(best, losses.min())
                seconds = watch.stop() + evaluator.seconds
                yield _progress(search, last, step, passes, seconds, best, genes, losses)
        finally:
            evaluator.close()

    def _inherits(self) -> bool:
        return self.inheritance == "lamarckian" and not isinstance(self.fit, Unfitted)

    def _scored(self, evaluator: Evaluator, asked: Genes, last: Told) -> tuple[Genes, Losses]:
        """The chromosomes to tell, and their losses.

        One that was fitted before and is asked for again, as elites are, is fitted once more, but where that does not
        help it stays as it was: an elite never gets worse.
        """
        if isinstance(self.fit, Unfitted):
            return asked, evaluator(asked)
        fitted = evaluator.fit(self.fit, asked)
        losses = evaluator(fitted)
        known = {genes.tobytes(): loss for genes, loss in zip(*last, strict=True)}
        before = np.array([known.get(genes.tobytes(), np.inf) for genes in asked])
        worse = before < losses
        return np.where(worse[:, None], asked, fitted), np.where(worse, before, losses)


Told = tuple[Genes, Losses]  # a generation as it was told, fitted


def _progress(
    search: Algorithm, last: Told, step: int, passes: float, seconds: float, best: float, genes: Genes, losses: Losses
) -> Progress:
    def checkpoint() -> dict[str, Array]:
        told: dict[str, Array] = {"loop/genes": last[0], "loop/losses": last[1]}
        own = {f"search/{name}": value for name, value in search.state().items()}
        return own | told | {"loop": np.array([step, passes, seconds, best])}

    first = ranking(losses)[:OFFERED]
    return Progress(step, passes, seconds, best, genes[first].copy(), losses[first], checkpoint, metrics(genes, losses))


def _last_told(resume: State, size: int) -> Told:
    if not resume:
        return np.empty((0, size), np.float32), np.empty(0)
    return np.array(resume["loop/genes"]), np.array(resume["loop/losses"])


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
