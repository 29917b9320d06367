"""Laws of the asynchronous search: repeatable by child order and lag, whoever answers first, stopped or not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evo_rnn.errors import ConfigError
from evo_rnn.evaluation import ray_pool
from evo_rnn.evaluation.evaluator import LocalEvaluator
from evo_rnn.evaluation.pool import SerialPool
from evo_rnn.evaluation.ray_evaluator import Compute
from evo_rnn.evaluation.ray_session import join_ray
from evo_rnn.layout import Layout, units, vector
from populations import asynchronous
from populations.algorithms import GeneticAlgorithm
from populations.asynchronous import Asynchronous
from populations.steady import Steady
from tests.island_examples import MODELS, TASK, close, kill_one, seal, seals, trained
from trainers.experiments.config import resolve
from trainers.experiments.methods import METHODS
from trainers.memetic import GradientSteps

# Ray drops its own Popen objects of helper processes while these still end.
pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")

LAYOUT = Layout((vector("w", units("h", 6), units("h", 6), -1.0, 1.0),))
COUNT = 4


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def session() -> Iterator[None]:
    """One private Ray session for the module; every pool of this process joins it."""
    leave = join_ray("local", cpus=4, gpus=False, object_store_memory=100 * 2**20)
    yield
    leave()


def steady_state(population: int = 10, brood: int = 3, lag: int = 2, **changes: Any) -> Asynchronous:
    return Asynchronous(GeneticAlgorithm(population=population), brood, lag, **changes)


KINDS = {
    "plain": steady_state(),
    "one by one": steady_state(brood=1, lag=1),
    "long lag": steady_state(lag=99),
    "lamarckian": steady_state(fit=GradientSteps(gradients=1)),
    "baldwinian": steady_state(fit=GradientSteps(gradients=1), inheritance="baldwinian"),
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


@every_kind
def test_the_seed_decides(kind: Asynchronous) -> None:
    one = seals(trained(kind, COUNT))
    assert one == seals(trained(kind, COUNT))
    assert not set(one) & set(seals(trained(kind, COUNT, seed=2)))
    assert len(set(one)) == COUNT


def test_the_lag_is_part_of_what_a_run_means() -> None:
    runs = {lag: seals(trained(steady_state(lag=lag), COUNT))[-1] for lag in (1, 2, 3)}
    assert len(set(runs.values())) == 3


@every_kind
def test_resuming_after_every_round_changes_nothing(kind: Asynchronous) -> None:
    whole = trained(kind, COUNT)
    for cut in range(1, COUNT):
        state = {name: array.copy() for name, array in whole[cut - 1].checkpoint().items()}
        assert {array.dtype.str for array in state.values()} <= {"<f4", "<f8", "<i8"}
        assert seals(trained(kind, COUNT - cut, state=state)) == seals(whole[cut:])


class Shuffled:
    """A pool whose answers come in any order."""

    def __init__(self, context: Any, stream: np.random.Generator) -> None:
        self.pool, self.stream = SerialPool(context), stream
        self.early: list[Any] = []

    def submit(self, *call: Any) -> int:
        return self.pool.submit(*call)

    def next(self) -> Any:
        while self.pool._tickets.calls:
            self.early.append(self.pool.next())
        return self.early.pop(int(self.stream.integers(len(self.early))))

    def __enter__(self) -> Shuffled:
        return self

    def __exit__(self, *details: object) -> None:
        self.pool.close()


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_the_answers_changes_nothing(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = steady_state(population=12, brood=2, lag=5)
    wanted = seals(trained(kind, COUNT))
    stream = np.random.default_rng(seed)
    monkeypatch.setattr(asynchronous, "open_pool", lambda workers, context: Shuffled(context, stream))  # noqa: ARG005
    assert seals(trained(kind, COUNT)) == wanted


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 14), st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**31))
def test_a_brood_depends_on_those_that_its_lag_lets_it_see_and_on_no_other(
    population: int, brood: int, lag: int, seed: int
) -> None:
    """Two histories that differ in one brood: it is felt from brood + lag on, at the earliest, and inserted in order."""
    algorithm = GeneticAlgorithm(population=population, elites=0)
    steady = [Steady(algorithm, brood, lag, LAYOUT, seed) for _ in range(2)]
    first = steady[0]
    odd, seen = 3 * first.round, []
    for each, bonus in zip(steady, (0.0, 1.0), strict=True):
        each.restore({})
        proposed = dict(each.flight)
        for number in range(odd + first.lag + 1):
            genes = each.flight[number]
            losses = (genes.astype(np.float64) ** 2).sum(axis=1)
            each.insert(genes, genes, losses if number != odd or not bonus else np.zeros(len(genes)))
            number, genes = each.propose()
            proposed[number] = genes
        seen.append(proposed)
    same = [np.array_equal(seen[0][number], seen[1][number]) for number in range(odd + first.lag)]
    assert all(same)
    cuts = [*range(0, population, brood), population]
    for number, genes in seen[0].items():
        assert len(genes) == np.diff(cuts)[number % first.round]
    assert max(seen[0]) == odd + 2 * first.lag  # there are never more under way


def test_a_child_takes_the_place_of_the_worst_only_if_it_is_better() -> None:
    steady = Steady(GeneticAlgorithm(population=4), 2, 1, LAYOUT, 0)
    steady.restore({})
    for losses in ([3.0, 1.0], [np.inf, 2.0], [5.0, 4.0], [3.5, np.inf], [3.0, 3.0]):
        before = steady.losses.copy()
        genes = next(iter(steady.flight.values()))
        steady.insert(genes, genes, np.array(losses))
        steady.propose()
        wanted = np.sort(np.concatenate([before, losses]))[:4]
        np.testing.assert_array_equal(np.sort(steady.losses), wanted)
    assert sorted(steady.losses) == [1.0, 2.0, 3.0, 3.0]
    assert steady.children == 10


@pytest.mark.parametrize("losses", [np.full(3, np.inf), np.zeros(3), np.ones(3)])
def test_populations_without_order_go_on(losses: Any) -> None:
    steady = Steady(GeneticAlgorithm(population=6), 3, 2, LAYOUT, 0)
    steady.restore({})
    for _ in range(6):
        genes = next(iter(steady.flight.values()))
        steady.insert(genes, genes, losses)
        assert np.isfinite(steady.propose()[1]).all()


def test_huge_genes_are_survived() -> None:
    steady = Steady(GeneticAlgorithm(population=6, crossover="blend"), 3, 2, LAYOUT, 0)
    steady.restore({})
    for _ in range(8):
        genes = next(iter(steady.flight.values()))
        steady.insert(np.sign(genes) * np.float32(3e38), genes, np.arange(3.0))
        assert np.isfinite(steady.propose()[1]).all()


@every_kind
def test_what_is_shown_is_what_was_scored(kind: Asynchronous) -> None:
    run = trained(kind, COUNT)
    assert [each.step for each in run] == list(range(1, COUNT + 1))
    cost = 10 * (1 + kind.fit.passes(MODELS["elman"], 40))
    np.testing.assert_allclose([each.passes for each in run], cost * np.arange(1, COUNT + 1))
    assert (np.diff([each.loss for each in run]) <= 0).all()
    for each in run:
        assert each.loss == each.losses[0]
        measured = LocalEvaluator(MODELS["elman"], TASK.train)(each.candidates)
        np.testing.assert_allclose(measured, each.losses, rtol=1e-4)


def test_what_a_child_learned_is_inherited_or_not() -> None:
    for name, inherits in (("lamarckian", True), ("baldwinian", False)):
        state = trained(KINDS[name], 1)[-1].checkpoint()
        assert np.array_equal(state["genes"], state["fitted"]) == inherits


def test_it_learns_as_well_as_generations_do() -> None:
    run = trained(Asynchronous(GeneticAlgorithm(population=40), 8, 4), 25)
    assert run[-1].loss < 0.6 * run[0].loss


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ({"lag": 0}, r"method.lag should be at least 1 but is 0"),
        ({"brood": 0}, r"method.brood should be at least 1 but is 0"),
        ({"inheritance": "no"}, r"method.inheritance should be lamarckian or baldwinian but is 'no'"),
        ({"elites": 3}, r"method.elites is not a known key"),
        ({"lags": 3}, r"Did you mean 'method.lag'\?"),
        ({"gradients": -1}, r"method.gradients should be 0 or more"),
    ],
)
def test_a_config_says_what_is_meant(method: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        resolve({"task": {"name": "sunspots"}, "method": {"name": "asynchronous", **method}})


def test_a_config_makes_it() -> None:
    wanted = {"population": 30, "brood": 5, "lag": 3, "gradients": 2, "selection": "rank"}
    made = METHODS["asynchronous"].trainer(wanted, "mse")
    assert (made.algorithm.population, made.algorithm.selection, made.brood, made.lag) == (30, "rank", 5, 3)
    assert made.fit == GradientSteps(gradients=2)


# ---- on Ray


@pytest.mark.ray
@pytest.mark.usefixtures("session")
@pytest.mark.parametrize("workers", [1, 2, pytest.param(4, marks=pytest.mark.nightly)])
def test_workers_change_nothing(workers: int) -> None:
    kind = steady_state(population=12, brood=2, lag=5)
    assert seals(trained(kind, COUNT, workers=workers)) == seals(trained(kind, COUNT))
    begun = trained(kind, 1, workers=workers)[-1]
    assert seals(trained(kind, 2, state=begun.checkpoint())) == seals(trained(kind, 3))[1:]


@pytest.mark.ray
@pytest.mark.usefixtures("session")
def test_killed_workers_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pools: list[ray_pool.RayPool] = []
    opened = ray_pool.RayPool

    def remembered(*arguments: Any, **options: Any) -> ray_pool.RayPool:
        pools.append(opened(*arguments, **options))
        return pools[-1]

    monkeypatch.setattr(ray_pool, "RayPool", remembered)
    kind = steady_state(population=12, brood=2, lag=5)
    steps = kind.train(MODELS["elman"], TASK, 1, compute=Compute(2))
    seen = []
    for _ in range(3):
        seen.append(seal(next(steps)))
        kill_one(pools[0].workers)
    close(steps)
    assert seen == seals(trained(kind, 3))
    assert pools[0].events["replaced"] >= 1
