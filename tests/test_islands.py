"""Laws of islands: the same for any number of workers, stopped or not; each an evolution; and the best really travel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evo_rnn.errors import ConfigError
from evo_rnn.evaluation import ray_pool
from evo_rnn.evaluation.evaluator import LocalEvaluator
from evo_rnn.evaluation.ray_session import join_ray
from evo_rnn.evaluation.worker import WorkerCache
from evo_rnn.fitness import ranking
from evo_rnn.seeds import generator
from populations import stretch
from populations.algorithms import ALGORITHMS, GeneticAlgorithm, RandomSearch
from populations.evolution import Evolution
from populations.islands import TOPOLOGIES, Islands, island_seed
from tests.island_examples import MODELS, TASK, kill_one, seal, seals, trained
from trainers.experiments.book import settings_of
from trainers.experiments.config import resolve
from trainers.experiments.methods import ISLANDS, METHODS
from trainers.memetic import GradientSteps

# Ray drops its own Popen objects of helper processes while these still end.
pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")

GA = GeneticAlgorithm(population=8)
MIXED = (
    Evolution(GA),
    Evolution(RandomSearch(5)),
    Evolution(GeneticAlgorithm(population=7, selection="rank"), GradientSteps(gradients=1), "baldwinian"),
)
COUNT = 4  # migrations


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def session() -> Iterator[None]:
    """One private Ray session for the module; every pool of this process joins it."""
    leave = join_ray("local", cpus=4, gpus=False, object_store_memory=100 * 2**20)
    yield
    leave()


def archipelago(**changes: Any) -> Islands:
    return Islands(**({"members": MIXED, "every": 2, "migrants": 2} | changes))


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_the_seed_decides_and_topologies_differ(topology: str) -> None:
    one, again = (seals(trained(archipelago(topology=topology), COUNT)) for _ in range(2))
    assert one == again
    assert one[-1] != seals(trained(archipelago(topology=topology), COUNT, seed=2))[-1]
    other = "full" if topology != "full" else "ring"
    assert one[-1] != seals(trained(archipelago(topology=other), COUNT))[-1]


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_resuming_at_every_barrier_changes_nothing(topology: str) -> None:
    whole = trained(archipelago(topology=topology), COUNT)
    for cut in range(1, COUNT):
        state = {name: array.copy() for name, array in whole[cut - 1].checkpoint().items()}
        assert seals(trained(archipelago(topology=topology), COUNT - cut, state=state)) == seals(whole[cut:])


def test_a_checkpoint_is_plain_arrays_of_its_own() -> None:
    last = trained(archipelago(), 2)[-1]
    state = last.checkpoint()
    assert all(array.dtype.str in ("<f4", "<f8", "<i8") for array in state.values())
    before = seal(last)
    for array in state.values():
        array[...] = 77
    assert seal(last) == before


def test_a_call_that_gets_long_comes_back_early_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = seals(trained(archipelago(every=5), 2))
    calls: list[int] = []
    inner = stretch.advance

    def counted(cache: WorkerCache, *arguments: Any) -> Any:
        calls.append(1)
        return inner(cache, *arguments)

    monkeypatch.setattr(stretch, "LONGEST", 0.0)
    monkeypatch.setattr("evo_rnn.evaluation.pool.resolve", lambda work: counted)  # noqa: ARG005
    assert seals(trained(archipelago(every=5), 2)) == whole
    assert len(calls) == 3 * 5 * 2  # every call did one generation


@pytest.mark.parametrize("index", range(3))
def test_an_island_that_hears_nobody_is_an_evolution_with_its_own_seed(index: int) -> None:
    last = trained(archipelago(migrants=0, every=3), 2)[-1]
    alone = trained(MIXED[index], 6, seed=island_seed(1, index))[-1]
    own = f"island/{index}/evolution/"
    kept = {name.removeprefix(own): array for name, array in last.checkpoint().items() if name.startswith(own)}
    wanted = alone.checkpoint()
    assert set(kept) == set(wanted)
    for name in kept:
        if name != "loop":
            np.testing.assert_array_equal(kept[name], wanted[name])
    assert last.metrics[f"island/{index}/loss"] == alone.loss


def test_one_island_is_that_evolution() -> None:
    islands = trained(Islands((Evolution(GA),), every=2, migrants=3), 3)
    alone = trained(Evolution(GA), 6, seed=island_seed(1, 0))[1::2]
    for one, other in zip(islands, alone, strict=True):
        assert (one.step, one.passes, one.loss) == (other.step, other.passes, other.loss)
        np.testing.assert_array_equal(one.candidates, other.candidates)
    assert island_seed(1, 0) != island_seed(1, 1) != island_seed(2, 1)


def test_an_island_keeps_every_setting_of_its_evolution() -> None:
    data = TASK.train
    cut = {name: array.reshape(4, 10, *array.shape[2:]) for name, array in data.arrays().items() if array.size}
    task = replace(TASK, train=replace(data, **cut))
    some = Evolution(GA, minibatch=2, check=3)
    islands = next(Islands((some,), every=4, migrants=0).train(MODELS["elman"], task, 1))
    alone = next(islice(some.train(MODELS["elman"], task, island_seed(1, 0)), 3, None))
    assert islands.passes == alone.passes
    np.testing.assert_array_equal(islands.candidates, alone.candidates)
    made = METHODS["ga"].trainer({"minibatch": 2, "check": 3}, "mse")
    assert (made.minibatch, made.check) == (2, 3)


def best_kept(state: dict[str, Any], index: int) -> tuple[Any, Any]:
    return state[f"island/{index}/best"], state[f"island/{index}/best_losses"]


def test_the_best_of_each_island_are_told_to_the_next_one() -> None:
    quiet = archipelago(members=(Evolution(GA), Evolution(GA), Evolution(GA)), every=1, migrants=3)
    first, second = trained(quiet, 2)
    before, after = first.checkpoint(), second.checkpoint()
    for target in range(3):
        source = (target - 1) % 3
        genes, losses = (before[f"island/{source}/evolution/search/{name}"] for name in ("parents", "loss"))
        best = ranking(losses)[:3]
        sent = best_kept(before, source)
        np.testing.assert_array_equal(sent[0], genes[best])
        np.testing.assert_array_equal(sent[1], losses[best])
        told, told_losses = (after[f"island/{target}/evolution/search/{name}"] for name in ("parents", "loss"))
        assert told.shape == (8 + 3, genes.shape[1])
        np.testing.assert_array_equal(told[8:], sent[0])
        np.testing.assert_array_equal(told_losses[8:], sent[1])
        own = ranking(told_losses[:8])[:3]  # guests do not travel on at once
        np.testing.assert_array_equal(best_kept(after, target)[0], told[own])


def test_by_chance_each_migration_has_a_topology_of_its_own() -> None:
    run = trained(archipelago(members=(Evolution(GA),) * 3, every=1, migrants=1, topology="random"), 6)
    heard = []
    for epoch, (one, other) in enumerate(pairwise(run), start=1):
        before, after = one.checkpoint(), other.checkpoint()
        drawn = TOPOLOGIES["random"](3, generator(1, "migration", generation=epoch))
        for target, (source,) in enumerate(drawn):
            told = after[f"island/{target}/evolution/search/parents"]
            np.testing.assert_array_equal(told[8:], best_kept(before, source)[0])
        heard.append(str(drawn))
    assert len(set(heard)) > 1


def test_a_baldwinian_island_sends_what_was_born_with_what_it_is_worth() -> None:
    state = trained(archipelago(every=1), 1)[-1].checkpoint()
    genes, losses = best_kept(state, 2)
    measured = LocalEvaluator(MODELS["elman"], TASK.train)(genes)
    assert (losses < measured).all()  # what it learned is not in it


def test_an_island_of_chance_lives_from_its_neighbour() -> None:
    """Migrants reach what a search keeps: elites that came by sea make the worse island as good as the better one."""
    fast, slow = GeneticAlgorithm(population=20), GeneticAlgorithm(population=4, step=0.0, least=0.0, mating=0.0)
    with_migrants, without = (
        trained(Islands((Evolution(fast), Evolution(slow)), every=2, migrants=count), 10)[-1] for count in (1, 0)
    )
    # a copy of the best: the slow island cannot make anything itself
    assert with_migrants.metrics["island/1/loss"] < 0.7 * without.metrics["island/1/loss"]


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 9), st.integers(0, 2**32))
def test_topologies_name_other_islands_in_order(count: int, seed: int) -> None:
    for name, rule in TOPOLOGIES.items():
        heard = rule(count, generator(seed, "migration"))
        assert len(heard) == count
        for target, sources in enumerate(heard):
            assert sources == sorted(set(sources) - {target})
            assert len(sources) == (count - 1 if name == "full" else 1)
            assert all(0 <= source < count for source in sources)
    assert TOPOLOGIES["ring"](3, generator(0)) == [[2], [0], [1]]


def test_chance_draws_another_topology_each_time_and_all_others_alike() -> None:
    drawn = [TOPOLOGIES["random"](3, generator(5, "migration", generation=epoch)) for epoch in range(300)]
    for target in range(3):
        counts = np.bincount([sources[target][0] for sources in drawn], minlength=3)
        assert counts[target] == 0
        assert (np.delete(counts, target) > 110).all()


def test_islands_where_nothing_works_stay_whole_and_send_nobody() -> None:
    huge = GeneticAlgorithm(population=6, spread=1e6)
    broken = Evolution(huge)
    model = MODELS["elman"]
    genes = np.full((2, model.layout.size), np.nan, np.float32)
    cache = WorkerCache({"model": model, "task": TASK, "device": "cpu"})
    piece = stretch.advance(cache, broken, 1, {}, genes, np.full(2, np.inf), 2, 2)
    assert np.isfinite(piece.best).all()
    told = np.full(6, np.nan)
    port = stretch.Port(huge, genes[:0], np.empty(0))
    port.begin(model.layout, 1).tell(port.ask(), told)
    assert len(stretch.best_of(*port.told, 2)[0]) == 0


def test_all_losses_and_steps_are_told_together() -> None:
    run = trained(archipelago(), COUNT)
    assert [each.step for each in run] == [2, 4, 6, 8]
    cost = 8 + 5 + 7 * (1 + MIXED[2].fit.passes(MODELS["elman"], 40))
    assert run[0].passes == pytest.approx(2 * cost)
    for each in run:
        assert each.loss == min(each.metrics[f"island/{index}/loss"] for index in range(3))
        assert (np.diff(each.losses) >= 0).all()
        assert {f"island/{index}/diversity" for index in range(3)} < set(each.metrics)
        measured = LocalEvaluator(MODELS["elman"], TASK.train)(each.candidates)
        np.testing.assert_allclose(measured, each.losses, rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"members": ()}, "islands should be one at least"),
        ({"every": 0}, "every should be at least 1 but is 0"),
        ({"migrants": -1}, "migrants should be 0 or more but is -1"),
        ({"topology": "star"}, "topology should be one of ring, full, random but is 'star'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        archipelago(**changes)


# ---- on Ray


@pytest.mark.ray
@pytest.mark.usefixtures("session")
@pytest.mark.parametrize("workers", [1, 2, pytest.param(4, marks=pytest.mark.nightly)])
def test_workers_change_nothing(workers: int) -> None:
    for islands in (archipelago(), archipelago(topology="random", members=MIXED[:1])):
        assert seals(trained(islands, 3, workers=workers)) == seals(trained(islands, 3))


@pytest.mark.ray
@pytest.mark.usefixtures("session")
def test_a_run_may_go_on_with_another_number_of_workers() -> None:
    whole = trained(archipelago(), 3, model=MODELS["gru"])
    begun = trained(archipelago(), 1, workers=2, model=MODELS["gru"])[-1]
    assert seals(trained(archipelago(), 2, state=begun.checkpoint(), model=MODELS["gru"])) == seals(whole[1:])


@pytest.mark.ray
@pytest.mark.usefixtures("session")
def test_killed_workers_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pools: list[ray_pool.RayPool] = []
    opened = ray_pool.RayPool

    def remembered(*arguments: Any, **options: Any) -> ray_pool.RayPool:
        pools.append(opened(*arguments, **options))
        return pools[-1]

    monkeypatch.setattr(ray_pool, "RayPool", remembered)
    from evo_rnn.evaluation.ray_evaluator import Compute

    steps = archipelago().train(MODELS["elman"], TASK, 1, compute=Compute(2))
    seen = []
    for _ in range(3):
        seen.append(seal(next(steps)))
        kill_one(pools[0].workers)
    steps.close()  # type: ignore[attr-defined]
    assert seen == seals(trained(archipelago(), 3))
    assert pools[0].events["replaced"] >= 1


# ---- from a config


def config(**method: Any) -> dict[str, Any]:
    return resolve({"task": {"name": "sunspots"}, "method": {"name": "islands", **method}}).method


def test_a_config_may_mix_names_and_settings_and_resolves_to_itself() -> None:
    asked = config(islands=["ga", "random", {"name": "memetic", "population": 6}, {"population": 9}], every=3)
    assert [each["name"] for each in asked["islands"]] == ["ga", "random", "memetic", "ga"]
    assert asked["islands"][3]["population"] == 9
    assert config(**{name: value for name, value in asked.items() if name != "name"}) == asked
    trainer = METHODS["islands"].trainer({name: value for name, value in asked.items() if name != "name"}, "mse")
    assert trainer.members[2].fit == GradientSteps()
    assert (trainer.every, trainer.members[3].algorithm.population) == (3, 9)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ({"islands": ["gaa"]}, r"method.islands.0.name should be one of .* but is 'gaa'. Did you mean 'ga'\?"),
        ({"islands": ["ga", {"popluation": 5}]}, r"Did you mean 'method.islands.1.population'\?"),
        ({"islands": [{"name": "ga", "population": 0}]}, r"method.islands.0.population should be between"),
        ({"islands": [{"gradients": "x"}]}, r"method.islands.0.gradients should be a whole number but is 'x'"),
        ({"islands": ["islands"]}, r"method.islands.0.name should be one of"),
        ({"islands": ["bptt"]}, r"method.islands.0.name should be one of"),
        ({"islands": []}, r"method.islands should be one at least"),
        ({"islands": 5}, r"method.islands should be a list but is 5"),
        ({"islands": [None]}, r"method.islands.0 should be"),
        ({"topology": "rong"}, r"method.topology should be one of ring, full, random but is 'rong'"),
        ({"topologie": "ring"}, r"Did you mean 'method.topology'\?"),
    ],
)
def test_a_mistake_inside_an_island_is_named_with_its_place(method: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        config(**method)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_gradients_compose_with_every_search(name: str) -> None:
    plain = METHODS[name].trainer({"population": 4} if name != "cma_es" else {}, "mse")
    assert not any("learning_rate" in key or "clip" in key for key in settings_of(plain, name))
    refined = ISLANDS[name].trainer({"gradients": 1, "inheritance": "baldwinian"}, "mse")
    assert (refined.fit, refined.inheritance) == (GradientSteps(gradients=1), "baldwinian")
    assert settings_of(refined, name)[f"{name}.fit.gradients"] == 1
    first = trained(refined, 1)[-1]
    assert first.passes > refined.algorithm.population
    assert np.isfinite(first.loss)


def test_params_of_islands_are_numbered() -> None:
    params = settings_of(archipelago(), "islands")
    assert params["islands.members.1.algorithm"] == "RandomSearch"
    assert params["islands.members.2.inheritance"] == "baldwinian"
    assert params["islands.every"] == 2


def test_negative_gradients_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"method\.gradients should be 0 or more but is -1"):
        resolve({"task": {"name": "sunspots"}, "method": {"name": "ga", "gradients": -1}})
