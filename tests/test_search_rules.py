"""What the papers say of single steps: differential evolution, swarm, chains, CoSyNE, ESP."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from evo_rnn.cells import Elman
from evo_rnn.errors import ConfigError
from evo_rnn.layout import Layout, units, vector
from evo_rnn.network import network
from populations.algorithms import ALGORITHMS, Annealing, Cosyne, DifferentialEvolution, Esp, ParticleSwarm
from populations.algorithms.told import guests, received
from populations.operators import units_of

LAYOUT = Layout((vector("w", units("h", 20), units("h", 20), -1.0, 1.0),))
SINGLE = Layout((vector("a", ["a[0]"], ["one"], -1, 1), vector("b", ["b[0]"], ["one"], 0, 0)))
P, D = 12, 20
losses = st.sampled_from([0.0, 1.0, 2.0, 3.0, 1e308, np.inf])


def told(search: Any, loss: Any = None) -> Any:
    genes = search.ask()
    search.tell(genes, np.arange(len(genes), dtype=float) if loss is None else loss)
    return genes


# Differential evolution -----------------------------------------------------------------------------------------------


def test_a_mutant_is_a_base_and_a_weighted_difference_of_three_others() -> None:
    search = DifferentialEvolution(population=5, strategy="rand/1/bin", weight=0.7, dither=0, crossing=1).begin(
        LAYOUT, 1
    )
    x = told(search).astype(np.float64)
    for i, trial in enumerate(search.ask()):
        others = [j for j in range(5) if j != i]
        made = [x[a] + 0.7 * (x[b] - x[c]) for a in others for b in others for c in others if len({a, b, c}) == 3]
        assert min(np.abs(trial - mutant).max() for mutant in made) < 1e-6


def test_to_best_is_pulled_towards_the_best() -> None:
    how = DifferentialEvolution(
        population=4, strategy="current-to-best/1/bin", weight=0.7, dither=0, crossing=1, spread=1
    )
    search = how.begin(LAYOUT, 1)
    x = told(search, np.array([3.0, 2.0, 0.5, 1.0])).astype(np.float64)
    for i, trial in enumerate(search.ask()):
        others = [j for j in range(4) if j != i]
        made = [x[i] + 0.7 * (x[2] - x[i]) + 0.7 * (x[a] - x[b]) for a in others for b in others if a != b]
        assert min(np.abs(trial - mutant).max() for mutant in made) < 1e-6


def test_without_crossing_exactly_one_gene_comes_from_the_mutant() -> None:
    search = DifferentialEvolution(population=P, crossing=0).begin(LAYOUT, 2)
    members = told(search)
    assert ((search.ask() != members).sum(axis=1) == 1).all()


@pytest.mark.parametrize("kind", [DifferentialEvolution, Annealing, ParticleSwarm])
def test_rows_answer_their_slots_and_guests_replace_the_worst(kind: Any) -> None:
    search = kind(population=P).begin(LAYOUT, 3)
    genes = told(search, np.arange(P) + 1.0)
    guests = np.stack([np.full(D, value, np.float32) for value in (7, 8, 9)])
    asked = search.ask()
    search.tell(np.concatenate([asked, guests]), np.array([*np.full(P, 1e9), 0.5, 100.0, 3.5]))
    state = search.state()
    members = state.get("members", state.get("best"))
    expected = genes.copy()
    expected[[P - 1, P - 2]] = guests[[0, 2]]  # the best guest for the worst member; the second worse than none
    np.testing.assert_array_equal(members, expected)
    assert state["loss"].tolist() == [*range(1, P - 1), 3.5, 0.5]


# Particle swarm -------------------------------------------------------------------------------------------------------


def test_the_constriction_is_that_of_the_paper() -> None:
    assert abs(ParticleSwarm().constriction - 0.7298) < 1e-4
    with pytest.raises(ConfigError, match=r"own and social should exceed 4 together but are 2.0 and 2.0"):
        ParticleSwarm(own=2.0, social=2.0)


def test_a_particle_at_all_best_places_flies_straight_on_and_slows_by_the_constriction() -> None:
    how = ParticleSwarm(population=1, limit=1e6)
    search = how.begin(LAYOUT, 4)
    before = search.state()["velocity"]
    first = told(search)
    np.testing.assert_allclose(search.ask() - first, how.constriction * before, atol=1e-6)


def test_a_particle_hears_its_ring_alone() -> None:
    search = ParticleSwarm(population=9, neighbours=1).begin(LAYOUT, 5)
    told(search, np.array([5.0, 1, 6, 7, 8, 2, 9, 3, 4]))
    assert search._leaders().tolist() == [1, 1, 1, 2, 5, 5, 5, 7, 7]
    whole = ParticleSwarm(population=9, neighbours=0).begin(LAYOUT, 5)
    told(whole, np.array([5.0, 1, 6, 7, 8, 2, 9, 3, 4]))
    assert whole._leaders().tolist() == [1] * 9


def test_no_step_is_longer_than_the_limit() -> None:
    search = ParticleSwarm(population=P, limit=0.1, spread=50).begin(LAYOUT, 5)
    before = told(search)
    assert np.abs(search.ask() - before).max() <= 0.1 + 1e-4


# Annealing ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.0, 0.5, 2.0])
def test_a_loss_twice_as_large_is_accepted_as_often_as_metropolis_says(temperature: float) -> None:
    search = Annealing(population=20_000, temperature=temperature, cooling=1).begin(SINGLE, 6)
    first = search.ask()
    search.tell(first, np.ones(20_000))
    search.tell(first + 1, np.full(20_000, 2.0))
    accepted = (search.state()["loss"] == 2).mean()
    wanted = 2 ** (-1 / temperature) if temperature else 0.0
    assert abs(accepted - wanted) < 0.02
    np.testing.assert_array_equal(
        search.state()["members"], np.where(search.state()["loss"][:, None] == 2, first + 1, first)
    )
    assert ((search.state()["step"] > 0.3) == (search.state()["loss"] == 2)).all()  # bolder where it was accepted


def test_chains_do_not_hear_each_other_and_never_move_to_an_invalid_place() -> None:
    one, other = (Annealing(population=P).begin(LAYOUT, 7) for _ in range(2))
    for generation in range(5):
        genes, others = one.ask(), other.ask()
        np.testing.assert_array_equal(genes[0], others[0])
        loss = np.arange(P) + 1.0 / (1 + generation)
        one.tell(genes, loss)
        other.tell(others, np.where(np.arange(P) == 0, loss, np.nan if generation else 3.0))
    assert (other.state()["loss"][1:] == 3).all()


# CoSyNE ---------------------------------------------------------------------------------------------------------------


def test_the_best_are_found_wherever_they_were_told() -> None:
    search = Cosyne(population=P, children=0.5, parents=0.1, rate=0.0).begin(LAYOUT, 8)
    before = told(search, np.arange(P)[::-1] + 1.0)
    after = search.ask()
    np.testing.assert_array_equal(after[0], before[-1])
    assert all(np.isin(after[:, gene], before[P // 2 :, gene]).all() for gene in range(D))


def test_permutation_moves_weights_within_their_column_alone_and_never_those_of_the_best() -> None:
    search = Cosyne(population=30, children=0.0).begin(LAYOUT, 8)
    before = told(search)
    after = search.ask()
    np.testing.assert_array_equal(np.sort(before, axis=0), np.sort(after, axis=0))
    np.testing.assert_array_equal(after[0], before[0])
    moved = (after != before).mean(axis=1)
    assert moved[-1] > 0.3 > 3 * moved[:15].mean() > 0  # the worst is always marked, a better one seldom
    assert len(np.unique((after != before).sum(axis=0))) > 1  # every column by itself


def test_children_of_the_best_replace_the_worst() -> None:
    how = Cosyne(population=8, parents=0.25, children=0.5, rate=0.0)
    search = how.begin(LAYOUT, 9)
    before = told(search)
    columns = np.concatenate([before[:4], before[:2]])
    assert all(np.isin(search.ask()[:, gene], columns[:, gene]).all() for gene in range(D))


# ESP ------------------------------------------------------------------------------------------------------------------

ELMAN = network(Elman(1, 4), 1).layout


def test_every_neuron_takes_part_equally_often_and_a_network_is_made_of_whole_neurons() -> None:
    search = Esp(population=30, neurons=10).begin(ELMAN, 10)
    genes, neurons, belongs = search.ask(), search.state()["neurons"], units_of(ELMAN)
    for unit in range(belongs.max() + 1):
        own = belongs == unit
        same = (genes[:, None, own] == neurons[None][:, :, own]).all(axis=2)  # (P, M)
        assert (same.sum(axis=1) == 1).all()
        assert (same.sum(axis=0) == 3).all()


def test_a_neuron_is_judged_by_the_average_of_its_networks() -> None:
    search = Esp(population=30, neurons=10, children=0.5, rate=0.0).begin(ELMAN, 11)
    genes, before, belongs = search.ask(), search.state()["neurons"], units_of(ELMAN)
    good = before[:, belongs == 0][6]
    loss = np.where((genes[:, belongs == 0] == good).all(axis=1), 1.0, 2.0)
    search.tell(genes, loss)
    after = search.state()["neurons"][:, belongs == 0]
    np.testing.assert_array_equal(after[0], good)


def test_refined_neurons_are_taken_over_from_their_best_network() -> None:
    search = Esp(population=4, neurons=2, children=0.0).begin(ELMAN, 12)
    genes = search.ask()
    refined = genes + np.arange(1, 5, dtype=np.float32)[:, None]
    search.tell(refined, np.array([4.0, 1.0, 3.0, 2.0]))
    kept = search.state()["neurons"]
    assert all((kept[:, gene] == refined[1, gene]).any() for gene in range(ELMAN.size))


def test_a_guest_brings_its_neurons_in_for_the_worst() -> None:
    search = Esp(population=4, neurons=2, children=0.0).begin(ELMAN, 13)
    genes = search.ask()
    guest = np.full((1, ELMAN.size), 9, np.float32)
    search.tell(np.concatenate([genes, guest]), np.array([4.0, 2.0, 3.0, 2.5, 1.0]))
    assert ((search.state()["neurons"] == 9).sum(axis=0) == 1).all()
    again = Esp(population=4, neurons=2, children=0.0).begin(ELMAN, 13)
    again.tell(np.concatenate([genes, guest]), np.array([4.0, 2.0, 3.0, 2.5, 9.0]))
    assert not (again.state()["neurons"] == 9).any()


def test_stagnation_bursts_around_the_best_network() -> None:
    search = Esp(population=4, neurons=6, patience=2, burst=0.01).begin(ELMAN, 14)
    champion = told(search, np.array([3.0, 0.5, 2.0, 1.0]))[1]
    for _ in range(2):
        told(search, np.full(4, 7.0))
    neurons = search.state()["neurons"]
    np.testing.assert_array_equal(neurons[0], champion)
    assert np.median(np.abs(neurons[1:] - champion)) < 0.02


def test_how_long_nothing_was_gained_survives_a_save() -> None:
    how = Esp(population=4, neurons=6, patience=3)
    search, control = how.begin(ELMAN, 15), how.begin(ELMAN, 15)
    for _ in range(5):
        fresh = how.begin(ELMAN, 15)
        fresh.restore(search.state())
        search = fresh
        np.testing.assert_array_equal(told(search, np.ones(4)), told(control, np.ones(4)))


# All of them ----------------------------------------------------------------------------------------------------------


def test_what_is_received_is_a_copy_and_broken_chromosomes_are_invalid_whatever_their_loss() -> None:
    genes = np.array([[1, 2], [np.nan, 2], [1, np.inf], [3, 4], [5, 6]], np.float32)
    loss = np.array([1.0, 0.5, 0.5, np.nan, -1.0])
    copied, clean = received(genes, loss, 2)
    assert clean.tolist() == [1.0, np.inf, np.inf, np.inf, np.inf]
    assert copied.tolist() == [[1, 2], [0, 2], [1, 0], [3, 4], [5, 6]]
    assert not np.shares_memory(copied, genes)


@given(hnp.arrays(np.float64, st.integers(0, 9), elements=losses), hnp.arrays(np.float64, 5, elements=losses))
@settings(max_examples=60, deadline=None)
def test_members_and_guests_leave_the_best_of_both(members: Any, coming: Any) -> None:
    leaving, entering = guests(members, coming)
    after = members.copy()
    after[leaving] = coming[entering]
    assert sorted(after) == sorted([*members, *coming])[: len(members)]
    assert len(set(leaving)) == len(leaving) == len(set(entering))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("differential_evolution", {"population": 3}, "population should be between 4 and inf but is 3"),
        ("differential_evolution", {"strategy": "best"}, "strategy should be one of"),
        ("particle_swarm", {"limit": float("nan")}, "limit should be between 0 and"),
        ("annealing", {"cooling": 1.1}, "cooling should be between 0 and 1 but is 1.1"),
        ("cosyne", {"parents": 2}, "parents should be between 0 and 1 but is 2"),
        ("esp", {"neurons": 1}, "neurons should be between 2 and inf but is 1"),
    ],
)
def test_settings_out_of_bounds_are_refused(name: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ALGORITHMS[name](**change)
