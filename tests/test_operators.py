"""Selection, crossover and mutation: what each may do to a matrix of chromosomes, and what it may not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from deap import tools
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from evo_rnn.cells import FRNN, GRU, LSTM, Elman, IndRNN, Stack
from evo_rnn.network import network
from populations.operators import (
    CROSSOVERS,
    MUTATIONS,
    SELECTIONS,
    arithmetic,
    blend,
    classic,
    gaussian,
    log_normal,
    one_point,
    rank,
    roulette,
    simulated_binary,
    sparse,
    tournament,
    two_point,
    uniform,
    unit,
    units_of,
)

any_float = st.floats(width=32)
some = settings(max_examples=40, deadline=None)
modest = st.floats(-100, 100, width=32)
seeds = st.integers(0, 2**32)
hostile = hnp.arrays(
    np.float64, st.integers(1, 30), elements=st.sampled_from([0.0, 0.0, 1e12, 1.0, 5e-309, 1e-12, 0.5, 2.0])
)


def stream(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def parents(elements: st.SearchStrategy[float] = modest) -> st.SearchStrategy[tuple[Any, Any]]:
    def pair(shape: tuple[int, int]) -> st.SearchStrategy[tuple[Any, Any]]:
        matrix = hnp.arrays(np.float32, shape, elements=elements)
        return st.tuples(matrix, matrix)

    return st.tuples(st.integers(1, 8), st.integers(1, 20)).flatmap(pair)


def bits(genes: Any) -> Any:
    return np.ascontiguousarray(genes).view(np.uint32)


def crossover(name: str, genes: int) -> Callable[..., Any]:
    return partial(unit, units=np.arange(genes) // 3) if name == "unit" else CROSSOVERS[name]


# Selection ------------------------------------------------------------------------------------------------------------

LIFTED = {
    "selTournament": classic(tools.selTournament, tournsize=3),
    "selRoulette": classic(tools.selRoulette),
    "selStochasticUniversalSampling": classic(tools.selStochasticUniversalSampling),
}


@pytest.mark.parametrize("select", [*SELECTIONS.values(), *LIFTED.values()], ids=[*SELECTIONS, *LIFTED])
@given(fitness=hostile, count=st.integers(1, 50), seed=seeds)
@some
def test_selection_gives_as_many_valid_indices_as_asked_for_whatever_the_fitness(
    select: Callable[..., Any], fitness: Any, count: int, seed: int
) -> None:
    before = fitness.copy()
    chosen = select(fitness, count, stream(seed))
    assert chosen.shape == (count,)
    assert chosen.dtype == np.int64
    assert ((chosen >= 0) & (chosen < len(fitness))).all()
    np.testing.assert_array_equal(fitness, before)


@pytest.mark.parametrize("select", [*SELECTIONS.values(), *LIFTED.values()], ids=[*SELECTIONS, *LIFTED])
@pytest.mark.parametrize("value", [0.0, 3.0])
def test_selection_among_equals_is_uniform(select: Callable[..., Any], value: float) -> None:
    counts = np.bincount(select(np.full(10, value), 10_000, stream(1)), minlength=10)
    assert np.abs(counts - 1000).max() < 5 * 30  # five standard deviations of a binomial count


@given(fitness=hostile, size=st.integers(1, 5), seed=seeds)
@some
def test_a_tournament_never_prefers_an_invalid_to_a_valid_it_was_drawn_with(fitness: Any, size: int, seed: int) -> None:
    drawn = stream(seed).integers(len(fitness), size=(20, size))
    chosen = tournament(fitness, 20, stream(seed), size=size)
    np.testing.assert_array_equal(fitness[chosen], fitness[drawn].max(axis=1))


def test_tournament_and_rank_select_as_often_as_theory_says() -> None:
    fitness = np.array([1e12, 1e-300, 3.0, 0.0])  # order: 3, 1, 2, 0 from the worst; only the order counts
    place = np.array([3, 1, 2, 0])
    for select, chance in (
        (partial(tournament, size=3), ((place + 1) ** 3 - place**3) / 64),
        (partial(rank, pressure=1.8), (0.2 + 1.6 * place / 3) / 4),
        (partial(rank, pressure=1.0), np.full(4, 0.25)),
    ):
        counts = np.bincount(select(fitness, 40_000, stream(2)), minlength=4)
        assert np.abs(counts / 40_000 - chance).max() < 0.0125
    counts = np.bincount(rank(np.array([0.0, 7.0, 0.0, 0.0, 7.0]), 40_000, stream(2), pressure=2.0), minlength=5)
    np.testing.assert_allclose(
        counts / 40_000, [0.1, 0.35, 0.1, 0.1, 0.35], atol=0.0125
    )  # places 0, 1, 2 and 3, 4 shared


def test_roulette_selects_in_proportion_and_never_an_invalid() -> None:
    counts = np.bincount(roulette(np.array([0.0, 1.0, 0.0, 3.0, 0.0]), 40_000, stream(3)), minlength=5)
    assert counts[[0, 2, 4]].sum() == 0
    assert abs(counts[1] / 40_000 - 0.25) < 0.0125


@pytest.mark.parametrize("spin", [0.0, np.nextafter(1.0, 0.0)])
def test_roulette_meets_no_invalid_at_the_very_ends_of_the_wheel(spin: float) -> None:
    always = SimpleNamespace(random=lambda count: np.full(count, spin))
    fitness = np.array([0.0, *[0.1] * 10, 0.0])
    assert roulette(fitness, 3, cast(Any, always)).tolist() == [1 if spin == 0 else 10] * 3


# Crossover ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["uniform", "unit", "one_point", "two_point"])
@given(pair=parents(any_float), seed=seeds)
@some
def test_children_are_made_of_their_parents_genes_at_the_same_locus(name: str, pair: Any, seed: int) -> None:
    mothers, fathers = pair
    before = mothers.copy(), fathers.copy()
    children = crossover(name, mothers.shape[1])(mothers, fathers, stream(seed))
    assert children.dtype == np.float32
    assert children.shape == mothers.shape
    assert ((bits(children) == bits(mothers)) | (bits(children) == bits(fathers))).all()
    np.testing.assert_array_equal(bits(mothers), bits(before[0]))
    np.testing.assert_array_equal(bits(fathers), bits(before[1]))


@pytest.mark.parametrize("name", CROSSOVERS)
@given(pair=parents(), seed=seeds)
@some
def test_a_chromosome_that_mates_with_itself_stays_as_it_is(name: str, pair: Any, seed: int) -> None:
    mothers = pair[0]
    children = crossover(name, mothers.shape[1])(mothers, mothers, stream(seed))
    np.testing.assert_array_equal(children, mothers)
    assert not np.shares_memory(children, mothers)


@given(pair=parents(), alpha=st.floats(0, 1), seed=seeds)
@some
def test_blend_stays_within_the_widened_interval(pair: Any, alpha: float, seed: int) -> None:
    mothers, fathers = pair
    children = blend(mothers, fathers, stream(seed), alpha=alpha)
    low, high = np.minimum(mothers, fathers), np.maximum(mothers, fathers)
    reach = alpha * (high - low) + 1e-4  # rounding in float32 of values up to 100
    assert ((children >= low - reach) & (children <= high + reach)).all()
    between = arithmetic(mothers, fathers, stream(seed))
    assert ((between >= low - 1e-4) & (between <= high + 1e-4)).all()


ZEROS, ONES = np.zeros((4000, 12), np.float32), np.ones((4000, 12), np.float32)


def test_uniform_crossover_throws_a_fair_coin_for_every_gene() -> None:
    children = uniform(ZEROS, ONES, stream(4))
    assert abs(children.mean() - 0.5) < 0.012
    assert np.abs(np.corrcoef(children.T) - np.eye(12)).max() < 0.08


def test_unit_crossover_moves_whole_units_each_by_a_fair_coin() -> None:
    units = np.array([0, 0, 1, 1, 1, 0, 2, 2, 3, 3, 3, 1])
    children = unit(ZEROS, ONES, stream(5), units=units)
    for k in range(4):
        assert (children[:, units == k] == children[:, units == k][:, :1]).all()
        assert abs(children[:, units == k].mean() - 0.5) < 0.04
    assert len(np.unique(children, axis=0)) == 16


def test_points_cut_into_one_stretch_of_the_father() -> None:
    for mate, changes in ((one_point, 1), (two_point, 2)):
        padded = np.pad(mate(ZEROS, ONES, stream(6)), ((0, 0), (1, 0)))
        assert np.abs(np.diff(padded, axis=1)).sum(axis=1).max() == changes
        locus = np.arange(12)
        chance = (locus + 1) / 13 if mate is one_point else 2 * (locus + 1) * (12 - locus) / 13**2
        np.testing.assert_allclose(padded.mean(axis=0)[1:], chance, atol=0.04)


def test_blend_and_arithmetic_are_uniform_on_their_interval() -> None:
    wide, line = blend(ZEROS, ONES, stream(7), alpha=0.3), arithmetic(ZEROS, ONES, stream(7))
    np.testing.assert_allclose([wide.mean(), wide.var()], [0.5, 1.6**2 / 12], rtol=0.03)
    np.testing.assert_allclose([line.mean(), line.var()], [0.5, 1 / 12], rtol=0.06)
    assert (line == line[:, :1]).all()


@pytest.mark.parametrize("eta", [0.0, 2.0, 20.0])
def test_simulated_binary_crossover_spreads_as_that_of_deap(eta: float) -> None:
    children = simulated_binary(ZEROS, ONES, stream(8), eta=eta)
    theirs = classic(tools.cxSimulatedBinary, eta=eta)(ZEROS, ONES, stream(9))
    quantiles = np.linspace(0.02, 0.98, 25)
    np.testing.assert_allclose(np.quantile(children, quantiles), np.quantile(theirs, quantiles), atol=0.02, rtol=0.1)
    assert np.abs(np.corrcoef(np.clip(children, -1, 2).T) - np.eye(12)).max() < 0.08


@pytest.mark.parametrize(
    "cell",
    [Elman(2, 3), FRNN(2, 3), LSTM(2, 3, peepholes=True), GRU(2, 3), IndRNN(2, 3), Stack((Elman(2, 3), LSTM(3, 3)))],
    ids=lambda cell: type(cell).__name__,
)
def test_a_unit_is_its_gates_its_bias_and_its_readout(cell: Any) -> None:
    layout = network(cell, 2).layout
    belongs: dict[int, list[Any]] = {}
    for link, number in zip(layout.links(), units_of(layout), strict=True):
        belongs.setdefault(int(number), []).append(link)
    layers = len(cell.cells) if isinstance(cell, Stack) else 1
    assert len(belongs) == 3 * layers + 2  # hidden units, and two outputs that keep their biases
    for links in belongs.values():
        inner = [link for link in links if not link.target.startswith("readout")]
        outer = [link for link in links if link.target.startswith("readout")]
        indices = {link.target.split("[")[1] for link in inner}
        assert len(indices) <= 1
        assert {link.source.split("[")[1] for link in outer if link.source != "one"} <= indices
    assert [len(links) for links in belongs.values()][-2:] == [1, 1]
    if isinstance(cell, Stack):  # the readout belongs to the top layer
        feeding = [links for links in belongs.values() if any(link.leaf == "readout.weight" for link in links)]
        assert {link.target.split(".")[1] for links in feeding for link in links if "layer" in link.target} == {
            "layer2"
        }


# Mutation -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MUTATIONS)
@given(pair=parents(any_float), seed=seeds)
@some
def test_a_mutation_without_step_or_rate_changes_nothing(name: str, pair: Any, seed: int) -> None:
    genes = np.nan_to_num(pair[0])
    before = genes.copy()
    still = MUTATIONS[name](genes, np.zeros(genes.shape[1]), stream(seed))
    np.testing.assert_array_equal(still, before)
    assert still.dtype == np.float32
    assert not np.shares_memory(still, genes)
    np.testing.assert_array_equal(sparse(genes, np.ones(genes.shape[1]), stream(seed), rate=0.0), before)


def test_gaussian_mutation_has_the_step_it_is_given_for_each_gene() -> None:
    step = np.linspace(0.0, 2.0, 12)
    moved = gaussian(ONES, step, stream(8)) - 1
    np.testing.assert_allclose(moved.std(axis=0), step, rtol=0.05)
    np.testing.assert_allclose(moved.mean(axis=0), 0, atol=0.15)


@pytest.mark.parametrize("rate", [1e-4, 0.05, 0.3, 0.9, 1.0])
def test_sparse_mutation_moves_each_gene_with_its_rate_independently(rate: float) -> None:
    shape = (4000, 50)
    moved = sparse(np.zeros(shape, np.float32), np.full(50, 2.0), stream(9), rate=rate)
    hit = moved != 0
    spread = (shape[0] * rate * (1 - rate)) ** 0.5
    assert np.abs(hit.sum(axis=0) - shape[0] * rate).max() <= 5 * spread + 1
    assert abs(moved[hit].std() - 2) < (0.1 if rate > 0.01 else 1.5)
    together = (hit[:, 1:] & hit[:, :-1]).mean()  # neighbours: a process with memory would show here
    assert abs(together - rate**2) < 0.01


@given(shape=st.tuples(st.integers(0, 5), st.integers(1, 7)), rate=st.floats(0, 1), seed=seeds)
@some
def test_sparse_mutation_works_for_every_shape_and_rate(shape: tuple[int, int], rate: float, seed: int) -> None:
    moved = sparse(np.zeros(shape, np.float32), np.ones(shape[1]), stream(seed), rate=rate)
    assert moved.shape == shape
    assert rate < 1 or (moved != 0).all()


def test_sparse_mutation_reaches_the_end_however_close_the_hits_fall() -> None:
    crowded = SimpleNamespace(
        geometric=lambda _, size: np.ones(size, np.int64), standard_normal=stream().standard_normal
    )
    assert (sparse(np.zeros((10, 50), np.float32), np.ones(50), cast(Any, crowded), rate=0.01) != 0).all()


def test_sparse_and_gaussian_mutation_take_a_step_for_every_chromosome() -> None:
    step = np.repeat([0.0, 1.0, 5.0], 2000)[:, None] * np.ones(12)
    for name, rate in (("gaussian", 1.0), ("sparse", 0.2)):
        mutate = partial(sparse, rate=rate) if name == "sparse" else gaussian
        moved = mutate(np.zeros((6000, 12), np.float32), step, stream(10)).reshape(3, -1)
        np.testing.assert_allclose((moved.astype(float) ** 2).mean(axis=1), rate * np.array([0, 1, 25]), rtol=0.07)


def test_steps_move_log_normally_from_the_geometric_mean_of_the_parents() -> None:
    steps = log_normal(np.full(20_000, 0.1), np.full(20_000, 0.4), 25, stream(11))
    np.testing.assert_allclose([np.log(steps).mean(), np.log(steps).std()], [np.log(0.2), 0.2], rtol=0.02)
