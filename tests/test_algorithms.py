"""The laws that every search over chromosomes keeps. A new row in ALGORITHMS brings its tests with it.

Exceptions are listed in `SEES_VALUES` alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as sampling
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from evo_rnn.cells import Elman
from evo_rnn.evaluation.evaluator import LocalEvaluator
from evo_rnn.fitness import ranking, sanitise
from evo_rnn.layout import Layout, units, vector
from evo_rnn.network import network
from evo_rnn.tasks.sunspots import sunspots
from populations.algorithms import (
    ALGORITHMS,
    Algorithm,
    DifferentialEvolution,
    Esp,
    GeneticAlgorithm,
    ParticleSwarm,
    Search,
)
from populations.algorithms.ga import REPLACEMENTS
from populations.operators import CROSSOVERS, MUTATIONS, SELECTIONS

LAYOUT = Layout((vector("w", units("h", 20), units("h", 20), -1.0, 1.0),))
P, D = 12, 20

CASES: dict[str, Search] = {name: kind(population=P) for name, kind in ALGORITHMS.items()}
OPERATORS: dict[str, Search] = {
    f"{selection}-{crossover}-{mutation}": GeneticAlgorithm(
        population=P, selection=selection, crossover=crossover, mutation=mutation, step=step
    )
    for selection in SELECTIONS
    for crossover in CROSSOVERS
    for mutation, step in zip(MUTATIONS, (0.15, 0.5), strict=True)  # what moves every gene moves each less
}
SELF_ADAPTIVE: dict[str, Search] = {
    f"{replacement}-{mutation}-self-adaptive": GeneticAlgorithm(
        population=P, replacement=replacement, members=15, mutation=mutation, step_control="self_adaptive"
    )
    for replacement in REPLACEMENTS
    for mutation in MUTATIONS
}
OWN: dict[str, Search] = {  # settings of an algorithm that take another way through its code
    "steady-state": GeneticAlgorithm(population=P, replacement="steady_state", members=15),
    "steady-state-roulette": GeneticAlgorithm(
        population=P, replacement="steady_state", members=15, selection="roulette"
    ),
    "rand-1-bin": DifferentialEvolution(population=P, strategy="rand/1/bin", dither=0.0),
    "whole-swarm": ParticleSwarm(population=P, neighbours=0),
    "esp-bursts": Esp(population=P, neurons=5, patience=1),
    **SELF_ADAPTIVE,
}
VARIANTS = OWN | OPERATORS
SEES_VALUES = ("roulette", "annealing")  # selects in proportion to fitness; accepts by the difference of log losses
every = pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
every_way = pytest.mark.parametrize("settings", (CASES | OWN).values(), ids=CASES | OWN)
every_variant = pytest.mark.parametrize("settings", (CASES | VARIANTS).values(), ids=CASES | VARIANTS)

HOSTILE = {
    "ties": np.ones(P),
    "zeros": np.zeros(P),
    "some NaN": np.where(np.arange(P) % 3 == 0, np.nan, np.arange(P)),
    "one valid": np.where(np.arange(P) == 7, 1.0, np.inf),
    "all NaN": np.full(P, np.nan),
    "all infinite": np.full(P, np.inf),
    "negative": np.full(P, -1.0),
    "huge and tiny": np.where(np.arange(P) % 2 == 0, 1e308, 5e-324),
}


def sphere(genes: Any) -> Any:
    return ((genes.astype(np.float64) - 0.3) ** 2).sum(axis=1)


def generations(search: Algorithm, count: int, loss: Callable[[Any], Any] = sphere) -> list[Any]:
    asked = []
    for _ in range(count):
        asked.append(search.ask())
        search.tell(asked[-1], loss(asked[-1]))
    return [*asked, search.ask()]


def same(one: list[Any], other: list[Any]) -> bool:
    return all(a.tobytes() == b.tobytes() for a, b in zip(one, other, strict=True))


@every_variant
def test_the_seed_decides_the_search(settings: Search) -> None:
    one = generations(settings.begin(LAYOUT, 1), 4)
    assert same(one, generations(settings.begin(LAYOUT, 1), 4))
    other = generations(settings.begin(LAYOUT, 2), 4)
    assert not any(a.tobytes() == b.tobytes() for a, b in zip(one, other, strict=True))
    assert len({genes.tobytes() for genes in one}) == 5  # and it moves


@every_way
def test_asking_twice_gives_the_same_and_changes_nothing(settings: Search) -> None:
    often, once = settings.begin(LAYOUT, 3), settings.begin(LAYOUT, 3)
    for _ in range(3):
        asked = often.ask()
        asked[:] = np.nan  # what was given belongs to the caller
        assert often.ask().tobytes() == often.ask().tobytes()
        genes = once.ask()
        assert often.ask().tobytes() == genes.tobytes()
        once.tell(genes, sphere(genes))
        often.tell(genes, sphere(genes))


@every_way
def test_saving_and_restoring_between_any_two_calls_changes_nothing(settings: Search) -> None:
    def moved(search: Algorithm) -> Algorithm:
        state = search.state()
        assert {array.dtype.str for array in state.values()} <= {"<f4", "<f8", "<i8"}
        copied = {name: array.copy() for name, array in state.items()}
        fresh = settings.begin(LAYOUT, 4)
        fresh.restore(copied)
        for array in (*state.values(), *copied.values()):
            array[...] = 77  # neither side lives on in the arrays
        assert [a.tobytes() for a in search.state().values()] == [a.tobytes() for a in fresh.state().values()]
        return fresh

    search = settings.begin(LAYOUT, 4)
    asked = []
    for _ in range(4):
        search = moved(search)
        asked.append(search.ask())
        search = moved(search)
        search.tell(asked[-1], sphere(asked[-1]))
    assert same([*asked, moved(search).ask()], generations(settings.begin(LAYOUT, 4), 4))


MAPS: dict[str, Callable[[Any], Any]] = {
    "affine": lambda loss: 3 * loss + 1,
    "square": np.square,
    "log": np.log1p,
    "exp": np.exp,
}


def sees_values(settings: Search) -> bool:
    return any(f"{name!r}" in repr(settings) or name in type(settings).__name__.lower() for name in SEES_VALUES)


@every_variant
def test_only_the_order_of_the_losses_matters(settings: Search) -> None:
    plain = generations(settings.begin(LAYOUT, 5), 3)
    worst = max(sphere(genes).max() for genes in plain[:-1])
    never = {"worst invalid": lambda loss: np.where(loss == worst, np.inf, loss)}
    mapped = {
        name: generations(settings.begin(LAYOUT, 5), 3, lambda genes, to=to: to(sphere(genes)))
        for name, to in (MAPS | never).items()
    }
    if sees_values(settings):
        assert not all(same(plain, other) for other in mapped.values())
    else:
        assert [name for name, other in mapped.items() if not same(plain, other)] == []


def test_the_exceptions_to_the_law_of_order_are_as_listed() -> None:
    names = [name for name, settings in CASES.items() if sees_values(settings)]
    assert names == ["annealing"]
    assert {name for name, settings in VARIANTS.items() if sees_values(settings)} == {
        name for name in VARIANTS if "roulette" in name
    }


@every_variant
@pytest.mark.parametrize("loss", HOSTILE.values(), ids=HOSTILE)
def test_hostile_losses_leave_a_whole_population(settings: Search, loss: Any) -> None:
    search = settings.begin(LAYOUT, 6)
    for genes in generations(search, 3, lambda _: loss):
        assert genes.shape == (P, D)
        assert genes.dtype == np.float32
        assert np.isfinite(genes).all()


@every_variant
def test_hostile_chromosomes_are_survived(settings: Search) -> None:
    search = settings.begin(LAYOUT, 6)
    genes = search.ask()
    genes[::2] = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38] * 4, dtype=np.float32)
    search.tell(genes, np.where(np.arange(P) % 2 == 0, np.nan, 1.0))
    for asked in generations(search, 3, lambda told: np.full(len(told), 2.0)):
        assert asked.shape == (P, D)
    huge = np.tile(np.array([3.3e38, -3.3e38], np.float32), (P, D // 2)) * (-1) ** np.arange(P, dtype=np.int8)[:, None]
    search.tell(huge, np.arange(P, dtype=float))
    for asked in generations(search, 3):
        assert np.isfinite(asked).all()


losses = st.sampled_from([0.0, 1.0, 2.0, 5e-324, 1e308, np.inf, np.nan, -1.0, -np.inf])
genes_ = st.sampled_from([0.0, 1.0, -1.0, 1e-45, 3e38, -3e38, np.inf, np.nan])


@st.composite
def tales(draw: st.DrawFn) -> list[Any]:
    """What may be told: any number of any chromosomes with any losses, several times."""
    counts = draw(st.lists(st.integers(0, 2 * P), min_size=1, max_size=4))
    return [
        (
            draw(hnp.arrays(np.float32, (count, D), elements=genes_, fill=st.just(0.5))),
            draw(hnp.arrays(np.float64, count, elements=losses)),
        )
        for count in counts
    ]


@every_way
@given(told=tales(), seed=st.integers(0, 9))
@sampling(max_examples=8, deadline=None)
def test_whatever_is_told_the_next_population_is_whole_and_finite(settings: Search, told: Any, seed: int) -> None:
    search = settings.begin(LAYOUT, seed)
    for genes, loss in told:
        search.tell(genes, loss)
        asked = search.ask()
        assert asked.shape == (P, D)
        assert asked.dtype == np.float32
        assert np.isfinite(asked).all()
        restored = settings.begin(LAYOUT, seed)
        restored.restore(search.state())
        assert restored.ask().tobytes() == asked.tobytes()


def champion(search: Algorithm) -> Any:
    """The chromosome of the smallest loss that a search remembers; empty where it remembers none."""
    state = search.state()
    loss = sanitise(state.get("loss", np.empty(0)))
    owners = [array for array in state.values() if array.shape == (len(loss), D)]
    return owners[-1][ranking(loss)[0]] if len(loss) and owners else np.empty(0)


@every_way
@given(loss=hnp.arrays(np.float64, 2 * P, elements=losses), seed=st.integers(0, 9))
@sampling(max_examples=10, deadline=None)
def test_an_invalid_champion_never_is_while_a_valid_one_exists(settings: Search, loss: Any, seed: int) -> None:
    search = settings.begin(LAYOUT, seed)
    asked = search.ask()
    told = np.concatenate([asked, asked + 2])  # guests follow what was asked for
    search.tell(told, loss)
    kept = champion(search)
    clean = sanitise(loss)
    if len(kept) and np.isfinite(clean).any():
        assert (told[clean == clean.min()] == kept).all(axis=1).any()


@every
@pytest.mark.parametrize("count", [0, 1, 5, 40])
def test_it_takes_what_was_evaluated_refined_and_in_any_number(settings: Search, count: int) -> None:
    search = settings.begin(LAYOUT, 7)
    migrants = np.linspace(-1, 1, count * D, dtype=np.float32).reshape(count, D)
    search.tell(migrants, sphere(migrants))
    for genes in generations(search, 2):
        assert genes.shape == (P, D)
        assert genes.dtype == np.float32


@every
def test_arguments_are_neither_changed_nor_kept(settings: Search) -> None:
    search, control = settings.begin(LAYOUT, 8), settings.begin(LAYOUT, 8)
    genes = search.ask()
    loss = sphere(genes)
    loss[3] = np.nan
    before = genes.copy(), loss.copy()
    search.tell(genes, loss)
    control.tell(*before)
    np.testing.assert_array_equal(genes, before[0])
    np.testing.assert_array_equal(loss, before[1])
    genes[:], loss[:] = 0.5, 1.0
    assert search.ask().tobytes() == control.ask().tobytes()


@every
def test_wrong_shapes_are_refused_by_name(settings: Search) -> None:
    search = settings.begin(LAYOUT, 9)
    with pytest.raises(ValueError, match=r"genes should have shape \(N, 20\) but has shape \(12, 19\)"):
        search.tell(np.zeros((P, 19), np.float32), np.zeros(P))
    with pytest.raises(ValueError, match=r"loss should have shape \(12,\) but has shape \(11,\)"):
        search.tell(np.zeros((P, D), np.float32), np.zeros(P - 1))


ROSENBROCK = Layout((vector("w", units("h", 8), units("h", 8), -1.0, 1.0),))


def rosenbrock(genes: Any) -> Any:
    x = genes.astype(np.float64)
    return (100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2).sum(axis=1)


def forecast() -> tuple[Layout, Callable[[Any], Any]]:
    """A small recurrent network that forecasts the first hundred years of the sunspots."""
    model, data = network(Elman(1, 3), 1), sunspots().train
    years = replace(data, inputs=data.inputs[:, :100], targets=data.targets[:, :100], counts=data.counts[:, :100])
    return model.layout, LocalEvaluator(model, years)


PROBLEMS: dict[str, Callable[[], tuple[Layout, Callable[[Any], Any]]]] = {
    "sphere": lambda: (LAYOUT, sphere),
    "rosenbrock": lambda: (ROSENBROCK, rosenbrock),
    "network": cache(forecast),
}


def best(settings: Search, problem: str, seed: int, evaluations: int) -> float:
    layout, loss = PROBLEMS[problem]()
    search = settings.begin(layout, seed)
    found = np.inf
    for _ in range(evaluations // settings.population):
        genes = search.ask()
        losses = loss(genes)
        search.tell(genes, losses)
        found = min(found, losses.min())
    return float(found)


@cache
def chance(problem: str, seeds: int, evaluations: int) -> Any:
    """What random search finds with each seed, at the better of two spreads."""
    found = [
        [best(ALGORITHMS["random"](spread=spread), problem, seed, evaluations) for seed in range(seeds)]
        for spread in (1.0, 2.0)
    ]
    return min(found, key=np.median)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name != "random"])
def test_it_beats_random_search_at_equal_evaluations(name: str, problem: str) -> None:
    seeds, evaluations = (2, 2400) if problem == "network" else (3, 1200)
    found = [best(ALGORITHMS[name](), problem, seed, evaluations) for seed in range(seeds)]
    assert np.median(found) < min(chance(problem, seeds, evaluations))


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_beats_random_search_at_equal_evaluations(name: str) -> None:
    evaluations = P * (40 if name in OPERATORS else 100)
    found = [best(VARIANTS[name], "sphere", seed, evaluations) for seed in range(3)]
    assert np.median(found) < 0.8 * min(chance("sphere", 3, evaluations))


@pytest.mark.nightly
@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name != "random"])
def test_nine_of_ten_meetings_with_random_search_are_won(name: str, problem: str) -> None:
    found = np.array([best(ALGORITHMS[name](), problem, seed, 4000) for seed in range(10)])
    assert (found[:, None] < np.array(chance(problem, 10, 4000))).mean() >= 0.9


@every
def test_settings_are_plain_fields(settings: Any) -> None:
    fields = asdict(settings)
    assert all(isinstance(value, int | float | str) for value in fields.values())
    assert type(settings)(**fields) == replace(settings) == settings
