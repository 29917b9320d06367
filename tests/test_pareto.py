"""Laws of the searches that keep many kinds of networks: fronts without the dominated, maps with the best of each cell."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evo_rnn.cells import GRU, LSTM, Elman, Stack
from evo_rnn.errors import ConfigError
from evo_rnn.layout import Layout, units, vector
from evo_rnn.network import Network, network
from populations.algorithms import NSGA2, MapElites
from populations.algorithms.nsga2 import selected
from populations.evolution import Evolution
from populations.sizes import SIZES
from tests.island_examples import trained

LAYOUT = Layout((vector("w", units("h", 12), units("h", 12), -1.0, 1.0),))
NETWORKS = {
    "elman": network(Elman(2, 3), 2),
    "lstm": network(LSTM(1, 2), 1),
    "stack": network(Stack((GRU(1, 2), GRU(2, 2))), 1),
}


def dominates(one: Any, other: Any) -> bool:
    return bool((one <= other).all() and (one < other).any())


def sphere(genes: Any) -> Any:
    return ((genes.astype(np.float64) - 0.3) ** 2).sum(axis=1)


losses = st.one_of(st.floats(0, 10), st.just(np.inf), st.sampled_from([0.0, 1.0, 2.0]))


@settings(deadline=None, max_examples=100)
@given(st.data(), st.integers(1, 25), st.integers(1, 25))
def test_who_survives_is_dominated_by_nobody_who_does_not(data: st.DataObject, count: int, most: int) -> None:
    loss = data.draw(arrays(np.float64, count, elements=losses))
    size = data.draw(arrays(np.int64, count, elements=st.integers(0, 6)))
    stay = selected(loss, size, most)
    assert len(set(stay.tolist())) == len(stay) == min(count, most)
    points = np.stack([loss, size], axis=1)
    for lost in set(range(count)) - set(stay.tolist()):
        assert not any(dominates(points[lost], points[kept]) for kept in stay)
    for later, row in enumerate(stay):  # and the order is that of the fronts
        assert not any(dominates(points[row], points[before]) for before in stay[:later])


def test_the_ends_of_a_front_come_first_and_the_crowded_last() -> None:
    """Ten points on a line of ranks, two of them close in size: by hand, the close ones have the least room."""
    size = np.array([0, 10, 20, 21, 22, 40, 50])
    stay = selected(np.arange(7.0)[::-1], size, 7)
    assert set(stay[:2].tolist()) == {0, 6}
    assert stay[-1] == 3


@pytest.mark.parametrize("against", SIZES)
def test_a_front_is_of_those_that_nothing_dominates(against: str) -> None:
    search = NSGA2(population=30, against=against).begin(LAYOUT, 1)
    seen = []
    for _ in range(40):
        genes = search.ask()
        loss = sphere(genes)
        loss[::7] = np.nan
        search.tell(genes, loss)
        seen.append(np.stack([loss, search.size(genes)], axis=1)[np.isfinite(loss)])
    loss, size, genes = search.front()
    np.testing.assert_array_equal(sphere(genes), loss)
    np.testing.assert_array_equal(SIZES[against](LAYOUT, genes), size)
    assert (np.diff(size) > 0).all()
    assert (np.diff(loss) < 0).all()
    ever = np.concatenate(seen)
    for point in np.stack([loss, size], axis=1):
        assert not any(dominates(other, point) for other in ever)
    assert size[0] <= 3  # small ones are found
    assert loss[-1] < 0.5  # and good ones: the empty network has 1.08
    assert len(size) >= 6


def test_links_that_were_cut_grow_again() -> None:
    search = NSGA2(population=20, cut=0.0, grow=0.3).begin(LAYOUT, 1)
    bare = np.zeros((20, LAYOUT.size), np.float32)
    search.tell(bare, np.ones(20))
    grown = (search.ask() != 0).mean()
    assert 0.2 < grown < 0.4
    search = NSGA2(population=20, cut=0.0, grow=0.0).begin(LAYOUT, 1)
    search.tell(bare, np.ones(20))
    assert not search.ask().any()


@pytest.mark.parametrize("name", NETWORKS)
def test_what_costs_nothing_changes_no_output(name: str) -> None:
    """Genes whose removal leaves the cost as it was are heard by nobody: the outputs stay, bit for bit."""
    model: Network = NETWORKS[name]
    stream = np.random.default_rng(3)
    inputs = torch.from_numpy(stream.normal(size=(2, 9, 1 if name != "elman" else 2)).astype(np.float32))
    unheard = 0
    for _ in range(25):
        genes = stream.normal(size=(1, model.layout.size)).astype(np.float32)
        genes[stream.random(genes.shape) < 0.6] = 0
        whole = model.predict(torch.from_numpy(genes), inputs)
        alone = np.repeat(genes, model.layout.size, axis=0)
        np.fill_diagonal(alone, 0)
        free = (SIZES["cost"](model.layout, alone) == SIZES["cost"](model.layout, genes)) & (genes[0] != 0)
        unheard += free.sum()
        for row in np.flatnonzero(free):
            assert torch.equal(model.predict(torch.from_numpy(alone[row : row + 1]), inputs), whole)
    assert unheard >= 10
    full = np.ones((1, model.layout.size), np.float32)
    assert SIZES["cost"](model.layout, full) == SIZES["links"](model.layout, full) == model.layout.size


@pytest.mark.parametrize("unit", range(3))
def test_a_unit_that_no_output_hears_costs_nothing(unit: int) -> None:
    model, name = NETWORKS["elman"], f"cell.h[{unit}]"
    names = [(link.source, link.target) for link in model.layout.links()]
    genes = np.ones((1, len(names)), np.float32)
    genes[0, [source == name for source, _ in names]] = 0  # nobody hears it
    into = sum(target == name for source, target in names if source != name)
    links, cost = (SIZES[kind](model.layout, genes)[0] for kind in ("links", "cost"))
    assert links - cost == into == 2 + 2 + 1


def test_a_map_keeps_the_best_of_every_cell() -> None:
    search = MapElites(population=30, cells=5).begin(LAYOUT, 2)
    best: dict[int, float] = {}
    for _ in range(30):
        genes = search.ask()
        loss = sphere(genes)
        loss[::9] = np.inf
        search.tell(genes, loss)
        for cell, value in zip(search.cell(genes).tolist(), loss.tolist(), strict=True):
            best[cell] = min(best.get(cell, np.inf), value)
    assert dict(zip(search.cell(search.elites).tolist(), search.loss.tolist(), strict=True)) == best
    assert len(best) >= 8
    assert search.cell(np.zeros((1, 12), np.float32)) == [20]
    assert search.cell(np.full((1, 12), 9, np.float32)) == [4]


@pytest.mark.parametrize(
    "search", [NSGA2(population=20), NSGA2(population=20, against="cost"), MapElites(population=20)]
)
def test_they_learn_and_resume(search: Any) -> None:
    evolution = Evolution(search)
    whole = trained(evolution, 12)
    assert whole[-1].loss < whole[0].loss
    resumed = trained(evolution, 6, state=trained(evolution, 6)[-1].checkpoint())
    np.testing.assert_array_equal(resumed[-1].candidates, whole[-1].candidates)


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        (NSGA2, {"against": "size"}, "against should be one of links, cost but is 'size'"),
        (NSGA2, {"population": 0}, "population should be at least 1 but is 0"),
        (NSGA2, {"cut": 2.0}, "cut should be between 0 and 1 but is 2.0"),
        (NSGA2, {"step": np.nan}, "step should be between 0 and"),
        (MapElites, {"cells": 0}, "cells should be between 1 and 1000 but is 0"),
        (MapElites, {"strongest": 0.0}, "strongest should be between 1e-06 and"),
    ],
)
def test_settings_that_mean_nothing_are_refused(kind: Any, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        kind(**changes)
