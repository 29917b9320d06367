"""The laws that every search over chromosomes keeps. A new row in ALGORITHMS brings its tests with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from evo_rnn.layout import Layout, units, vector
from populations.algorithms import ALGORITHMS, Algorithm, GeneticAlgorithm, Search
from populations.operators import CROSSOVERS, MUTATIONS, SELECTIONS

LAYOUT = Layout((vector("w", units("h", 20), units("h", 20), -1.0, 1.0),))
P, D = 12, 20

CASES: dict[str, Search] = {name: kind(population=P) for name, kind in ALGORITHMS.items()}
VARIANTS: dict[str, Search] = {
    f"{selection}-{crossover}-{mutation}": GeneticAlgorithm(
        population=P, selection=selection, crossover=crossover, mutation=mutation, step=step
    )
    for selection in SELECTIONS
    for crossover in CROSSOVERS
    for mutation, step in zip(MUTATIONS, (0.15, 0.5), strict=True)  # what moves every gene moves each less
}
every = pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
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


@every
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


@every
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
    "worst invalid": lambda loss: np.where(loss == loss.max(), np.inf, loss),
}


@pytest.mark.parametrize("name", MAPS)
@every_variant
def test_only_the_order_of_the_losses_matters(settings: Search, name: str) -> None:
    plain = generations(settings.begin(LAYOUT, 5), 3)
    mapped = generations(settings.begin(LAYOUT, 5), 3, lambda genes: MAPS[name](sphere(genes)))
    if getattr(settings, "selection", "") == "roulette":  # the documented exception sees values
        assert name in ("affine", "worst invalid") or not same(plain, mapped)
    else:
        assert same(plain, mapped)


@every_variant
@pytest.mark.parametrize("loss", HOSTILE.values(), ids=HOSTILE)
def test_hostile_losses_leave_a_whole_population(settings: Search, loss: Any) -> None:
    search = settings.begin(LAYOUT, 6)
    for genes in generations(search, 3, lambda _: loss):
        assert genes.shape == (P, D)
        assert genes.dtype == np.float32
        assert np.isfinite(genes).all()


@every
def test_hostile_chromosomes_are_survived(settings: Search) -> None:
    search = settings.begin(LAYOUT, 6)
    genes = search.ask()
    genes[::2] = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38] * 4, dtype=np.float32)
    search.tell(genes, np.where(np.arange(P) % 2 == 0, np.nan, 1.0))
    assert search.ask().shape == (P, D)


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


def best(settings: Search, seed: int, count: int = 40) -> float:
    return float(min(sphere(genes).min() for genes in generations(settings.begin(LAYOUT, seed), count)))


@pytest.mark.parametrize("settings", [s for name, s in (CASES | VARIANTS).items() if name != "random"])
def test_it_beats_random_search_at_equal_evaluations(settings: Search) -> None:
    chance = [best(ALGORITHMS["random"](population=P, spread=1.0), seed) for seed in range(3)]
    assert np.median([best(settings, seed) for seed in range(3)]) < 0.7 * min(chance)


@every
def test_settings_are_plain_fields(settings: Any) -> None:
    fields = asdict(settings)
    assert all(isinstance(value, int | float | str) for value in fields.values())
    assert type(settings)(**fields) == replace(settings) == settings
