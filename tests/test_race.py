"""Laws of trials and races: cut anywhere, run anywhere, workers dead or hung: the same champion, bit for bit."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
import torch

from evo_rnn.cells import Elman
from evo_rnn.evaluation.ray_evaluator import Compute, RayEvaluator
from evo_rnn.evaluation.ray_pool import RayPool
from evo_rnn.network import network
from evo_rnn.progress import FRESH, Trainer
from evo_rnn.tasks.sunspots import sunspots
from populations.algorithms import GeneticAlgorithm
from populations.evolution import Evolution
from trainers.descent import Descent
from trainers.experiments.race import Event, race
from trainers.experiments.stopping import Generations, Learned, MinimumLoss, Passes, Stagnation, WallClock
from trainers.experiments.trial import EXHAUSTED, Rules, Slice, slices
from trainers.gradient import Hybrid
from trainers.memetic import GradientSteps

TASK = sunspots()
MODEL = network(Elman(1, 3), 1)
TRAINERS: dict[str, Trainer] = {
    "ga": Evolution(GeneticAlgorithm(population=40)),
    "hybrid": Descent(Hybrid(), learning_rates=(0.03,), restarts=2),
    "memetic": Evolution(GeneticAlgorithm(population=6), GradientSteps(gradients=2)),
}
RULES = Rules((Passes(600),), grid=60)
nightly = pytest.mark.nightly

# Ray drops its own Popen objects of helper processes while these still end.
pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def whole(trainer: Trainer, rules: Rules = RULES, seed: int = 0) -> tuple[list[tuple[int, float, float]], Slice]:
    """All points of a trial (passes, training loss, validation loss), and its last slice."""
    pieces = list(slices(trainer, MODEL, TASK, rules, seed, seconds=1e9))
    return points(pieces), pieces[-1]


@cache
def uncut(name: str) -> tuple[list[tuple[int, float, float]], Slice]:
    """The whole trial of a trainer, run once for all tests."""
    return whole(TRAINERS[name])


def points(pieces: list[Slice]) -> list[tuple[int, float, float]]:
    return [(r.passes, r.metrics["train/loss"], r.metrics["validation/loss"]) for p in pieces for r in p.rows]


@pytest.mark.parametrize("name", TRAINERS)
def test_a_trial_can_be_cut_after_every_step(name: str) -> None:
    rows, last = uncut(name)
    state, pieces = FRESH, []
    while not pieces or not pieces[-1].reason:
        pieces.append(next(slices(TRAINERS[name], MODEL, TASK, RULES, 0, state=state, seconds=0.0)))
        state = pieces[-1].state
    assert len(pieces) > 5
    assert points(pieces) == rows
    assert pieces[-1].result["champion_sha256"] == last.result["champion_sha256"]
    assert pieces[-1].reason == last.reason == "budget of 600 passes spent"


def test_the_grid_has_every_point_once_for_every_method() -> None:
    for name in TRAINERS:
        rows, _ = uncut(name)
        assert [passes for passes, _, _ in rows[:10]] == [60 * k for k in range(1, 11)]
        assert rows[-1][0] - 600 < 200, "a budget is overshot by at most one step"
        assert len({passes for passes, _, _ in rows}) == len(rows), "no point twice"


def test_the_champion_is_chosen_on_the_validation_split() -> None:
    _, last = uncut("ga")
    offered = [p.candidates for p, _ in zip(TRAINERS["ga"].train(MODEL, TASK, 0), range(15), strict=False)]
    from evo_rnn.evaluation.evaluator import LocalEvaluator

    genes = np.concatenate(offered)
    losses = LocalEvaluator(MODEL, TASK.validation)(genes)
    np.testing.assert_array_equal(last.champion[0], genes[losses.argmin()])
    assert last.result["validation_loss"] == losses.min()


@pytest.mark.parametrize(
    ("criterion", "words"),
    [
        (Generations(4), "maximum of 4 generations reached"),
        (MinimumLoss(0.6), "train loss 0.* reached the goal 0.6"),
        (MinimumLoss(0.6, "validation"), "validation loss 0.* reached the goal 0.6"),
        (Learned(5.0), r"learned .* % of the train data \(wanted 5 %\)"),
        (Learned(5.0, "validation"), "learned .* % of the validation data"),
        (Stagnation(2), "no better train loss for 2 generations"),
        (WallClock(0.0), "0 seconds on the clock are over"),
    ],
)
def test_each_criterion_stops_and_says_why(criterion: object, words: str) -> None:
    _, last = whole(TRAINERS["ga"], Rules((criterion, Passes(20_000)), grid=1000))  # type: ignore[arg-type]
    assert re.search(words, last.reason)
    assert last.result["stop_reason"] == last.reason


def test_criteria_are_judged_at_the_step_that_meets_them() -> None:
    """A goal on the validation split is seen at once, not at the next point of the curves."""
    fine, coarse = (whole(TRAINERS["ga"], Rules((MinimumLoss(0.5, "validation"),), grid=g))[1] for g in (1, 100_000))
    assert fine.result["steps"] == coarse.result["steps"]
    assert fine.result["champion_sha256"] == coarse.result["champion_sha256"]


@pytest.mark.parametrize("criterion", [MinimumLoss(0.4), Learned(8.0)], ids=str)
def test_the_champion_is_the_network_that_met_the_goal(criterion: object) -> None:
    _, last = whole(TRAINERS["ga"], Rules((criterion, Passes(20_000)), grid=1000))  # type: ignore[arg-type]
    if isinstance(criterion, MinimumLoss):
        assert last.result["train_loss"] <= criterion.value
    else:
        assert last.result["learned"] >= 8.0


def test_a_budget_smaller_than_the_grid_has_points_of_its_own() -> None:
    rows, _ = whole(TRAINERS["ga"], Rules((Passes(10),), grid=10 / 60))
    assert len({passes for passes, _, _ in rows}) == len(rows)


def test_a_trainer_that_ends_is_an_orderly_end() -> None:
    class Short:
        def train(self, *arguments):  # type: ignore[no-untyped-def]
            yield from (p for p, _ in zip(TRAINERS["ga"].train(*arguments), range(3), strict=False))

    rows, last = whole(Short())  # type: ignore[arg-type]
    assert last.reason == EXHAUSTED
    assert last.result["passes"] == 120
    assert rows[-1][0] == 120


def hashes(events: Iterator[Event]) -> dict[tuple[str, int], tuple[str, int]]:
    """The champion of every trial, and how many points its curves have."""
    found: dict[tuple[str, int], str] = {}
    counts: dict[tuple[str, int], int] = {}
    for event in events:
        key = event.method, event.seed
        counts[key] = counts.get(key, 0) + len(event.slice.rows)
        if event.slice.reason:
            found[key] = event.slice.result["champion_sha256"]
    return {key: (found[key], counts[key]) for key in found}


@pytest.fixture(scope="module")
def serial() -> dict[tuple[str, int], tuple[str, int]]:
    return hashes(race(TRAINERS, MODEL, TASK, RULES, [0, 1]))


def test_a_race_has_every_trial(serial: dict[tuple[str, int], tuple[str, int]]) -> None:
    assert set(serial) == {(name, seed) for name in TRAINERS for seed in (0, 1)}
    assert len({value for value, _ in serial.values()}) == 6


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=nightly), pytest.param(4, marks=nightly)])
def test_any_number_of_workers_gives_the_same_champions(
    workers: int, serial: dict[tuple[str, int], tuple[str, int]]
) -> None:
    compute = Compute(workers, options={"cpus_per_worker": 0.25})
    assert hashes(race(TRAINERS, MODEL, TASK, RULES, [0, 1], compute=compute, seconds=0.2)) == serial


@pytest.mark.nightly
@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_a_killed_and_a_hung_worker_change_nothing(
    monkeypatch: pytest.MonkeyPatch, serial: dict[tuple[str, int], tuple[str, int]]
) -> None:
    pools: list[RayPool] = []
    ready = RayPool.__init__

    def remember(self: RayPool, *arguments: object, **options: object) -> None:
        ready(self, *arguments, **options)  # type: ignore[arg-type]
        pools.append(self)

    monkeypatch.setattr(RayPool, "__init__", remember)
    monkeypatch.setattr("evo_rnn.evaluation.ray_pool._PATIENCE", 0)  # the deadline alone decides what is hung
    compute = Compute(2, options={"cpus_per_worker": 0.25, "deadline": 4.0})
    found: dict[tuple[str, int], tuple[str, int]] = {}
    events: list[Event] = []

    def busy() -> int:
        return next(worker.pid for worker in pools[0].workers if worker.state != "starting")

    for event in race(TRAINERS, MODEL, TASK, RULES, [0, 1], compute=compute, seconds=0.05):
        events.append(event)
        if len(events) == 3:
            os.kill(busy(), signal.SIGKILL)
        if len(events) == 6:
            os.kill(busy(), signal.SIGSTOP)
    found = hashes(iter(events))
    assert found == serial
    assert pools[0].events["replaced"] >= 2
    assert pools[0].events["timeouts"] >= 1


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("workers", [pytest.param(1, marks=nightly), 2, pytest.param(4, marks=nightly)])
def test_a_population_on_workers_has_the_bits_of_one_process_also_when_one_dies(workers: int) -> None:
    genes = MODEL.layout.draw(np.random.default_rng(0), 200)
    truth = Compute().evaluator(MODEL, TASK.train, "mse")(genes)
    spread = RayEvaluator(MODEL, TASK.train, workers=workers, cpus_per_worker=0.25)
    np.testing.assert_array_equal(spread(genes), truth)
    assert isinstance(spread.pool, RayPool)
    threading.Timer(0.05, os.kill, (spread.pool.workers[0].pid, signal.SIGKILL)).start()
    for _ in range(5):
        np.testing.assert_array_equal(spread(genes), truth)
        time.sleep(0.05)
    assert spread.pool.events["replaced"] == 1
    spread.close()
