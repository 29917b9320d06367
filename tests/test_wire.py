"""The wire of seeds: what is rebuilt is what was meant, bit for bit, whoever kept what; and few bytes travel."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evo_rnn.cells import Elman
from evo_rnn.errors import ConfigError
from evo_rnn.evaluation.evaluator import LocalEvaluator
from evo_rnn.evaluation.ray_evaluator import Compute, RayEvaluator, shards
from evo_rnn.evaluation.ray_session import join_ray
from evo_rnn.evaluation.wire import ITSELF, NOBODY, Bred, Expecting, Litter, digest, parents_of, unpacked
from evo_rnn.network import network
from evo_rnn.progress import Progress
from evo_rnn.tasks.sunspots import sunspots
from evo_rnn.tasks.task import Sequences, Task
from populations.algorithms import DeepGA, GeneticAlgorithm
from populations.evolution import Evolution

MODEL = network(Elman(1, 16), 1)
TASK = sunspots()
SEARCH = DeepGA(population=150, elites=2, parents=7)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def told(generations: int, seed: int = 1) -> Any:
    """A search that has been told so many generations."""
    search = SEARCH.begin(MODEL.layout, seed)
    for _ in range(generations):
        genes = search.ask()
        search.tell(genes, np.square(genes).sum(axis=1))
    return search


def same(a: Progress, b: Progress) -> None:
    assert (a.step, a.passes, a.loss) == (b.step, b.passes, b.loss)
    np.testing.assert_array_equal(a.candidates, b.candidates)
    np.testing.assert_array_equal(a.losses, b.losses)


def here(**options: Any) -> RayEvaluator:
    return RayEvaluator(MODEL, TASK.train, workers=0, **options)


class Given(Compute):
    """Compute that hands out this evaluator."""

    def __init__(self, evaluator: RayEvaluator) -> None:
        object.__setattr__(self, "given", evaluator)

    def evaluator(self, *_: Any) -> Any:
        return self.given  # type: ignore[attr-defined]


def watched(evaluator: RayEvaluator) -> list[tuple[str, int]]:
    """A list that grows with every call: the work, and the bytes of its arguments as they would travel."""
    log: list[tuple[str, int]] = []
    inner = evaluator.pool.map

    def seen(work: str, items: Any) -> Any:
        items = list(items)
        log.append((work.partition(":")[2], len(pickle.dumps(items, protocol=5))))
        return inner(work, items)

    evaluator.pool.map = seen  # type: ignore[method-assign]
    return log


# --- the search -----------------------------------------------------------------------------------------------------


def test_children_differ_from_a_parent_by_noise_alone_and_elites_by_nothing() -> None:
    search = told(2)
    litter, genes = search.litter(), search.ask()
    np.testing.assert_array_equal(genes[:2], search.parents[:2])
    half = MODEL.layout.ranges()[1]
    noise = (genes - search.parents[litter.parent])[2:] / (SEARCH.power * np.where(half > 0, half, 1))
    assert abs(noise.mean()) < 0.02
    assert abs(noise.std() - 1) < 0.02
    assert set(litter.parent.tolist()) == set(range(7))
    assert len(set(litter.seeds.tolist())) == 149


def test_the_parents_are_the_best_of_what_was_told() -> None:
    search = told(1)
    genes, loss = search.ask(), np.random.default_rng(0).random(150)
    loss[:3] = np.nan, np.inf, -1
    search.tell(genes, loss)
    np.testing.assert_array_equal(search.parents, genes[np.argsort(np.where(loss >= 0, loss, 9))[:7]])


def test_a_generation_of_broken_networks_leaves_the_parents() -> None:
    search = told(2)
    before = search.parents.copy()
    search.tell(search.ask(), np.full(150, np.nan))
    np.testing.assert_array_equal(search.parents, before)


@pytest.mark.parametrize("wrong", [{"parents": 0}, {"elites": 8}, {"power": -1.0}, {"population": 0}])
def test_settings_out_of_range_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))} should be"):
        replace(SEARCH, **wrong)


# --- what travels ---------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["serve", "forget", "skip", "spoil"]), min_size=1, max_size=7))
def test_a_receiver_rebuilds_the_generation_or_names_what_it_lacks(fates: list[str]) -> None:
    search, kept = told(1), dict[bytes, Any]()
    for fate in fates:
        litter, genes = search.litter(), search.ask()
        if fate == "forget":
            kept.clear()
        if fate == "spoil" and kept:
            name = next(iter(kept))
            kept[name] = kept[name] + 1
        if fate != "skip":
            [parcel] = litter.parcels([(0, 150)])
            lacking = parents_of(kept, MODEL.layout, parcel, {})
            whole = {digest(row): row for row in litter.parents}
            assert set(lacking) <= set(whole)
            assert not parents_of(kept, MODEL.layout, parcel, {name: whole[name] for name in lacking})
            assert set(kept) == set(whole)
            np.testing.assert_array_equal(unpacked(kept, MODEL.layout, parcel), genes)
        search.tell(genes, np.square(genes).sum(axis=1))


def test_one_who_saw_the_last_generation_lacks_nothing_and_one_who_did_not_lacks_all() -> None:
    search, kept = told(1), dict[bytes, Any]()
    for generation in range(4):
        [parcel] = search.litter().parcels([(3, 5)])
        lacking = parents_of(
            kept, MODEL.layout, parcel, {digest(row): row for row in search.parents} if not kept else {}
        )
        assert not lacking, generation
        genes = search.ask()
        search.tell(genes, np.square(genes).sum(axis=1))
    [parcel] = search.litter().parcels([(3, 5)])
    assert len(parents_of({}, MODEL.layout, parcel, {})) == 7


def test_origins_that_are_wrong_are_found_out() -> None:
    search, kept = told(1), dict[bytes, Any]()
    parents_of(kept, MODEL.layout, search.litter().parcels([(0, 150)])[0], {digest(r): r for r in search.parents})
    genes = search.ask()
    refined = genes + np.float32(1e-3)
    search.tell(refined, np.square(genes).sum(axis=1))  # as many as were asked for, but others
    [parcel] = search.litter().parcels([(0, 150)])
    assert len(parents_of(kept, MODEL.layout, parcel, {})) == 7


def test_a_generation_travels_in_few_bytes() -> None:
    net = network(Elman(1, 100), 1)
    search = DeepGA(population=1000, parents=20).begin(net.layout, 0)
    for _ in range(2):
        genes = search.ask()
        search.tell(genes, np.abs(genes).sum(axis=1))
    litter = search.litter()
    assert isinstance(litter, Litter)
    sent = sum(len(pickle.dumps(parcel, protocol=5)) for parcel in litter.parcels(shards(1000, 128, 4)))
    assert sent < 10 * 1000 + 4 * (60 * 20 + 1000)
    assert search.ask().nbytes > 1000 * sent // 1000 * 2


# --- the evaluator --------------------------------------------------------------------------------------------------


def test_the_wire_changes_no_bit_of_a_run_and_carries_less() -> None:
    matrix = list(islice(Evolution(SEARCH).train(MODEL, TASK, 1), 6))
    spread = here(wire="seeds")
    log = watched(spread)

    again = Evolution(SEARCH).train(MODEL, TASK, 1, compute=Given(spread))
    for a, b in zip(matrix, islice(again, 6), strict=True):
        same(a, b)
    assert [work for work, _ in log] == ["score", *["score_bred"] * 6]  # once again, with the parents whole
    assert log[-1][1] < log[0][1] / 15


@pytest.mark.parametrize("lost", [False, True])
def test_a_worker_that_lost_its_parents_asks_for_them(lost: bool) -> None:
    search, spread, local = told(1), here(wire="seeds"), LocalEvaluator(MODEL, TASK.train)
    log = watched(spread)
    for _ in range(3):
        if lost:
            spread.pool._cache.kept.clear()  # type: ignore[attr-defined]
        genes = search.ask()
        spread.expect(search.litter())
        losses = spread(genes)
        np.testing.assert_array_equal(losses, local(genes))
        search.tell(genes, losses)
    assert len(log) == (6 if lost else 4)


def test_only_the_call_that_was_announced_goes_by_seeds() -> None:
    search, spread = told(1), here(wire="seeds")
    log = watched(spread)
    genes = search.ask()
    spread.expect(search.litter())
    spread(genes[:40])
    spread(genes)
    spread.expect(())
    spread(genes)
    assert {work for work, _ in log} == {"score"}


def test_who_can_do_it() -> None:
    assert isinstance(told(0), Bred)
    assert told(0).litter() == ()
    assert isinstance(here(), Expecting)
    assert not isinstance(GeneticAlgorithm().begin(MODEL.layout, 0), Bred)
    assert not isinstance(LocalEvaluator(MODEL, TASK.train), Expecting)
    with pytest.raises(ConfigError, match="matrix or seeds"):
        here(wire="pigeon")


def test_a_search_that_goes_on_from_a_state_knows_no_origins() -> None:
    search, other = told(3), SEARCH.begin(MODEL.layout, 1)
    other.restore(search.state())
    litter = other.litter()
    assert isinstance(litter, Litter)
    assert set(litter.origins) == {(NOBODY, ITSELF)}
    np.testing.assert_array_equal(other.ask(), search.ask())


# --- real workers ---------------------------------------------------------------------------------------------------


@pytest.mark.nightly
@pytest.mark.ray
@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_neither_wire_nor_workers_nor_minibatches_nor_a_death_change_a_bit() -> None:
    leave = join_ray("local", cpus=4, gpus=False, object_store_memory=100 * 2**20)
    rng = np.random.default_rng(0)
    parts = [
        Sequences(rng.normal(size=(12, 15, 1)), rng.normal(size=(12, 15, 1)), rng.random((12, 15)) < 0.8)
        for _ in range(3)
    ]
    task, evolution = Task("noise", *parts, outputs=1), Evolution(SEARCH, minibatch=4, check=2)
    try:
        alone = list(islice(evolution.train(MODEL, task, 1), 4))
        for workers, wire in ((1, "seeds"), (2, "seeds"), (2, "matrix")):
            spread = RayEvaluator(MODEL, task.train, workers=workers, wire=wire)
            run = evolution.train(MODEL, task, 1, compute=Given(spread))
            for number, a in enumerate(alone):
                same(a, next(run))
                if number == 1 and wire == "seeds":
                    spread.pool.workers[0].processes[0].kill()  # type: ignore[attr-defined]
            run.close()  # type: ignore[attr-defined]
    finally:
        leave()
