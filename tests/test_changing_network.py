"""A trainer may change its network: whoever judges, keeps and saves a champion takes the one that it is the weights of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from evo_rnn.cells import Elman
from evo_rnn.champion import load
from evo_rnn.evaluation.evaluator import LocalEvaluator
from evo_rnn.evaluation.ray_evaluator import LOCAL, Compute
from evo_rnn.network import Model, network
from evo_rnn.progress import FRESH, Progress, State
from evo_rnn.tasks import TASKS
from evo_rnn.tasks.task import Task
from evo_rnn.tracking import MemoryTracker
from trainers.experiments.desk import run
from trainers.experiments.journal import begin
from trainers.experiments.referee import Referee
from trainers.experiments.stopping import Generations
from trainers.experiments.trial import Rules, slices

TASK = TASKS["sunspots"]()
MODEL = network(Elman(1, 2), 1)
WIDTHS = (2, 3, 2, 5, 3)


@dataclass(frozen=True)
class Changing:
    """Draws three chromosomes a step, of a network of another width each time."""

    def train(
        self,
        model: Model,  # noqa: ARG002
        task: Task,
        seed: int,
        resume: State = FRESH,
        compute: Compute = LOCAL,  # noqa: ARG002
    ) -> Iterator[Progress]:
        """Yield one progress a draw."""
        first = int(resume["step"][0]) if resume else 0
        for step in range(first, 10**6):
            width = WIDTHS[step % len(WIDTHS)]
            net = network(Elman(1, width), 1)
            genes = net.layout.draw(np.random.default_rng([seed, step]), 3)
            losses = LocalEvaluator(net, task.train, task.loss)(genes)
            order = losses.argsort()
            kept = {"step": np.array([step + 1])}
            yield Progress(
                step + 1, 3.0 * step + 3, 0.0, float(losses.min()), genes[order], losses[order], kept.copy, model=net
            )


def best(steps: int, seed: int = 0) -> tuple[Model, np.ndarray, float]:
    """The truth: every chromosome of every width, on the validation split."""
    found = []
    for progress in Changing().train(MODEL, TASK, seed):
        net = progress.model
        assert net is not None
        losses = LocalEvaluator(net, TASK.validation, TASK.loss)(progress.candidates)
        found.append((net, progress.candidates[losses.argmin()], float(losses.min())))
        if len(found) == steps:
            return min(found, key=lambda each: each[2])
    raise AssertionError


@pytest.mark.parametrize("grid", [0.0, 7.0])
def test_the_referee_finds_the_best_of_all_networks_also_after_a_pause(grid: float) -> None:
    net, genes, loss = best(12)
    for cut in (1, 4, 11):
        referee = Referee(MODEL, TASK, (), grid)
        for place, progress in enumerate(Changing().train(MODEL, TASK, 0), start=1):
            referee.watch(progress)
            if place == cut:
                kept = {name: value.copy() for name, value in referee.state().items()}
                referee = Referee(MODEL, TASK, (), grid)
                referee.restore(kept)
            if place == 12:
                break
        rows = referee.settle()
        assert referee.model == net
        np.testing.assert_array_equal(referee.champion[0], genes)
        assert not rows or rows[-1].metrics["validation/loss"] == pytest.approx(loss)


def test_a_run_saves_the_champions_own_network(tmp_path: Path) -> None:
    tracker = MemoryTracker()
    result = run(Changing(), MODEL, TASK, passes=36, tracker=tracker)
    net, genes, loss = best(result["steps"])
    assert net != MODEL
    assert result["validation_loss"] == pytest.approx(loss)
    kept = next(iter(tracker.runs.values())).artifacts
    for name in ("champion.json", "champion.safetensors"):
        (tmp_path / name).write_bytes(kept[f"champion/{name}"])
    champion = load(tmp_path)
    assert champion.model == net
    np.testing.assert_array_equal(champion.genes[0], genes)
    test = LocalEvaluator(net, TASK.test, TASK.loss)(champion.genes)[0]
    assert result["test_loss"] == pytest.approx(test)


def test_a_journal_keeps_the_champions_network(tmp_path: Path) -> None:
    (whole,) = slices(Changing(), MODEL, TASK, Rules((Generations(12),)), 0, seconds=1e9)
    with_pause = iter(slices(Changing(), MODEL, TASK, Rules((Generations(12),)), 0, seconds=0.0))
    journal = begin("r", {}, "", tmp_path)
    for piece in list(islice(with_pause, 4)):
        journal.keep("t", piece, piece.rows)
    again = journal.last("t")
    *_, end = slices(Changing(), MODEL, TASK, Rules((Generations(12),)), 0, state=again.state, seconds=1e9)
    assert end.model == whole.model != {}
    assert {k: v for k, v in end.result.items() if k != "seconds"} == {
        k: v for k, v in whole.result.items() if k != "seconds"
    }
    np.testing.assert_array_equal(end.champion, whole.champion)
    journal.keep("t", end, end.rows)
    assert journal.last("t").model == whole.model
    assert journal.last("t").champions(MODEL) == end.champions(MODEL)
    journal.close()
