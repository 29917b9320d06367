"""The evolution strategies do what their papers say, and CMA-ES is pycma's, stopped and resumed to the bit."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evo_rnn.cells.elman import Elman
from evo_rnn.errors import ConfigError
from evo_rnn.evaluation.evaluator import LocalEvaluator
from evo_rnn.layout import Layout, units, vector
from evo_rnn.network import network
from evo_rnn.seeds import generator
from evo_rnn.tasks.mackey_glass import mackey_glass
from populations.algorithms import ALGORITHMS, CMAES, PGPE, SNES, XNES, OpenAIES
from populations.algorithms.evolution_strategy import Adam, ClipUp, centred_ranks, shortened, utilities

STRATEGIES = {name: ALGORITHMS[name] for name in ("cma_es", "snes", "xnes", "openai_es", "pgpe")}
DISTRIBUTIONS = {name: kind for name, kind in STRATEGIES.items() if name != "cma_es"}


def layout(size: int, low: float = -1.0, high: float = 1.0) -> Layout:
    return Layout((vector("w", units("h", size), units("h", size), low, high),))


def sphere(genes: Any) -> Any:
    return ((genes.astype(np.float64) - 0.3) ** 2).sum(axis=1)


def rosenbrock(genes: Any) -> Any:
    x = genes.astype(np.float64)
    return (100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2).sum(axis=1)


def rastrigin(genes: Any) -> Any:
    x = genes.astype(np.float64)
    return (10 + x**2 - 10 * np.cos(2 * np.pi * x)).sum(axis=1)


def step(search: Any, loss: Any = sphere) -> Any:
    genes = search.ask()
    search.tell(genes, loss(genes))
    return genes


def uphill(search: Any, name: str, rows: int, size: int) -> Any:
    """Noise of generation 0 from best to worst, written down without the code under test."""
    noise = generator(3, name).standard_normal((rows, size))
    return noise[np.argsort(sphere(search.ask()))]


def worth(rows: int) -> Any:
    raw = [max(0.0, np.log(rows / 2 + 1) - np.log(k)) for k in range(1, rows + 1)]
    return [u / sum(raw) - 1 / rows for u in raw]


def test_a_generation_of_snes_is_the_update_of_the_paper() -> None:
    search: Any = SNES(population=10, step=0.4).begin(layout(6, 1.0, 5.0), 3)  # middle 3, half width 2
    noise = uphill(search, "snes", 10, 6)
    step(search)
    rate = (3 + np.log(6)) / (5 * np.sqrt(6))
    for gene in range(6):
        mean = 0.4 * sum(u * s[gene] for u, s in zip(worth(10), noise, strict=True))
        width = 0.4 * np.exp(rate / 2 * sum(u * (s[gene] ** 2 - 1) for u, s in zip(worth(10), noise, strict=True)))
        assert search.mean[gene] == pytest.approx(mean, rel=1e-12)
        assert search.deviation[gene] == pytest.approx(width, rel=1e-12)
    expected = 3 + 2 * (search.mean + search.deviation * generator(3, "snes", generation=1).standard_normal((10, 6)))
    np.testing.assert_array_equal(search.ask(), expected.astype(np.float32))


def test_generations_of_xnes_are_the_update_of_the_paper() -> None:
    search: Any = XNES(population=12, step=0.5).begin(layout(5), 3)
    rate, mean, root = (9 + 3 * np.log(5)) / (5 * 5**1.5), np.zeros(5), 0.5 * np.eye(5)
    for generation in range(4):  # scale and shape have one rate, so together they are A <- A exp(rate / 2 * G)
        noise = generator(3, "xnes", generation=generation).standard_normal((12, 5))
        noise = noise[np.argsort(sphere(search.ask()))]
        whole = sum(u * (np.outer(s, s) - np.eye(5)) for u, s in zip(worth(12), noise, strict=True))
        mean = mean + root @ sum(u * s for u, s in zip(worth(12), noise, strict=True))
        root = root @ scipy.linalg.expm(rate / 2 * whole)
        step(search)
        np.testing.assert_allclose(search.mean, mean, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(search.scale * search.shape, root, rtol=1e-9, atol=1e-12)
    assert np.linalg.det(search.shape) == pytest.approx(1)


def pairs(search: Any, name: str, rows: int, size: int) -> list[tuple[Any, float, float]]:
    """Each direction with the centred ranks of its two ends."""
    half = generator(3, name).standard_normal((rows // 2, size))
    place = np.argsort(np.argsort(sphere(search.ask())))
    rank = 0.5 - place / (rows - 1)
    return list(zip(half, rank[: rows // 2], rank[rows // 2 :], strict=True))


def test_the_gradient_of_openai_es_is_that_of_mirrored_centred_ranks() -> None:
    search: Any = OpenAIES(population=14, step=0.2, rate=0.3).begin(layout(6), 3)
    gradient = sum((plus - minus) * e for e, plus, minus in pairs(search, "openai_es", 14, 6)) / (14 * 0.2)
    step(search)
    np.testing.assert_allclose(search.memory[0], 0.1 * gradient, rtol=1e-12)
    np.testing.assert_allclose(search.mean, 0.3 * np.sign(gradient), rtol=1e-6)  # Adam's first step


def test_the_gradients_of_pgpe_are_those_of_symmetric_sampling() -> None:
    search: Any = PGPE(population=14, step=0.4, rate=0.15, width_rate=0.1).begin(layout(6), 3)
    known = pairs(search, "pgpe", 14, 6)
    mean = sum((plus - minus) / 2 * 0.4 * e for e, plus, minus in known) / 7
    width = sum((plus + minus) / 2 * ((0.4 * e) ** 2 - 0.4**2) / 0.4 for e, plus, minus in known) / 7
    step(search)
    speed = 0.15 * 0.4 * 6**0.5
    np.testing.assert_allclose(search.mean, speed / 2 * mean / np.linalg.norm(mean), rtol=1e-12)
    np.testing.assert_allclose(search.deviation, 0.4 + np.clip(0.1 * width, -0.08, 0.08), rtol=1e-12)


def test_adam_is_torchs() -> None:
    point = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    theirs = torch.optim.Adam([point], lr=0.1, maximize=True)
    ours, memory, stream = np.zeros(5), np.zeros((2, 5)), np.random.default_rng(1)
    for count in range(1, 30):
        gradient = stream.normal(size=5)
        point.grad = torch.tensor(gradient)
        theirs.step()
        move, memory = Adam(0.1).move(memory, gradient, count)
        ours = ours + move
    np.testing.assert_allclose(ours, point.detach().numpy(), rtol=1e-10)


def test_clipup_has_a_speed_limit_and_stands_where_nothing_pulls() -> None:
    rule, memory = ClipUp(0.5, 1.0), np.zeros((2, 2))
    lengths = []
    for _ in range(4):
        move, memory = rule.move(memory, np.array([300.0, 400.0]), 1)
        lengths.append(np.linalg.norm(move))
        np.testing.assert_allclose(move / lengths[-1], [0.6, 0.8])
    np.testing.assert_allclose(lengths, [0.5, 0.95, 1.0, 1.0])  # 0.5, 0.9 * 0.5 + 0.5, then the limit
    np.testing.assert_allclose(rule.move(memory, np.zeros(2), 1)[0], [0.54, 0.72])
    assert not rule.move(np.zeros((2, 2)), np.zeros(2), 1)[0].any()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, 5.0, np.inf]), max_size=12), st.randoms())
def test_equal_losses_are_worth_the_same_wherever_they_stand(losses: list[float], shuffle: Any) -> None:
    for shape in (utilities, centred_ranks):
        known = dict(zip(losses, shape(np.array(losses)), strict=True))
        shuffle.shuffle(losses)
        value = shape(np.array(losses))
        assert [known[loss] for loss in losses] == list(value)
        assert abs(value.sum()) < 1e-12
        assert all(known[a] > known[b] for a in known for b in known if a < b and shape is centred_ranks)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_where_all_losses_are_equal_nothing_is_learned(name: str) -> None:
    search: Any = DISTRIBUTIONS[name]().begin(layout(8), 3)
    before = search.state()
    for _ in range(3):
        step(search, lambda genes: np.full(len(genes), np.nan))
    after = search.state()
    assert all(np.allclose(before[key], after[key], atol=1e-14) for key in before if key != "generation")


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_good_chromosome_from_far_away_pulls_but_does_not_break_the_search(name: str) -> None:
    search = STRATEGIES[name](population=100).begin(layout(20), 4)
    genes, far = search.ask(), np.full((50, 20), 1000.0, np.float32)
    search.tell(np.concatenate([genes[:50], far]), np.concatenate([sphere(genes[:50]), np.zeros(50)]))
    assert 0.02 < search.ask().mean() < 3
    for _ in range(150):
        genes = step(search)
    assert sphere(genes).min() < 0.5


def plainly(population: int, size: int, count: int, separable: bool) -> list[Any]:
    """Pycma's own loop, fed with the numbers that our streams give."""
    import cma

    es: Any = None
    turn = iter(range(count))

    def numbers(*shape: int) -> Any:
        return generator(5, "cma_es", generation=next(turn)).standard_normal(shape)

    options = {"popsize": population, "randn": numbers, "seed": np.nan, "verbose": -9, "verb_log": 0}
    es = cma.CMAEvolutionStrategy(np.zeros(size), 0.5, options | {"CMA_diagonal": separable})
    asked = []
    for _ in range(count):
        points = es.ask()
        asked.append(np.array(points).astype(np.float32))
        es.tell(points, list(rosenbrock(asked[-1])))
    return asked


@pytest.mark.parametrize("covariance", ["full", "separable"])
def test_cma_es_asks_for_what_plain_pycma_asks_for(covariance: str) -> None:
    search = CMAES(population=12, covariance=covariance).begin(layout(8), 5)
    for theirs in plainly(12, 8, 120, covariance == "separable"):
        np.testing.assert_array_equal(step(search, rosenbrock), theirs)


def counts(restarts: str, seed: int, generations: int, **more: Any) -> tuple[list[Any], list[float]]:
    search: Any = CMAES(population=12, step=2.0, restarts=restarts, **more).begin(layout(4, 2.0, 4.0), seed)
    runs, best = [search.run], []
    for _ in range(generations):
        genes = step(search, rastrigin)
        assert genes.shape == (12, 4)
        best.append(rastrigin(genes).min())
        if search.run != runs[-1]:
            runs.append(search.run)
    return runs, best


def test_restarts_grow_and_find_what_the_first_run_missed() -> None:
    runs, best = counts("ipop", 0, 700)
    assert [run.count for run in runs] == [2**number for number in range(len(runs))]
    assert len(runs) > 3
    first = int(runs[1].spent_few / 12)
    assert min(best) < 1e-6 < 0.5 < min(best[:first])
    assert [run.count for run in counts("ipop", 0, 700, largest=2)[0]][:4] == [1, 2, 2, 2]
    assert {run.count for run in counts("same", 0, 400)[0]} == {1}


def test_bipop_spends_as_much_on_runs_of_few_as_on_runs_of_many() -> None:
    runs, _ = counts("bipop", 1, 1500)
    assert [run.few for run in runs[:2]] == [1, 0]
    few, many = [run for run in runs[2:] if run.few], [run for run in runs[1:] if not run.few]
    assert len(few) > 2
    assert [run.count for run in many] == [2**number for number in range(1, len(many) + 1)]
    assert all(run.count <= run.large and run.step <= 2.0 and run.patience > 0 for run in few)
    assert all(run.step == 2.0 for run in many)
    assert all(run.spent_few < run.spent_many for run in few)  # what has spent less is next


@pytest.mark.parametrize("covariance", ["full", "separable"])
@pytest.mark.parametrize("restarts", ["ipop", "bipop"])
def test_cma_es_resumed_at_any_time_goes_on_to_the_bit(restarts: str, covariance: str) -> None:
    kind = CMAES(population=10, step=1.0, restarts=restarts, covariance=covariance)
    alone, search = kind.begin(layout(4), 6), kind.begin(layout(4), 6)
    starts = 0
    for generation in range(500):
        if generation % 7 == 3:
            state = search.state()
            search = kind.begin(layout(4), 6)
            search.restore(state)
        if generation % 5 == 0:  # too few, and foreign: they wait
            migrants = alone.ask()[:3] + np.float32(0.25)
            alone.tell(migrants, rastrigin(migrants))
            search.tell(migrants, rastrigin(migrants))
        one, other = step(alone, rastrigin), step(search, rastrigin)
        assert one.tobytes() == other.tobytes(), generation
        starts = alone.run.number  # type: ignore[attr-defined]
    assert starts >= 2


def test_on_a_plateau_a_resumed_run_starts_afresh_when_an_uninterrupted_one_does() -> None:
    kind = CMAES(population=10, restarts="same")
    alone: Any = kind.begin(layout(4), 6)
    search: Any = kind.begin(layout(4), 6)
    for _ in range(12):
        state, search = search.state(), kind.begin(layout(4), 6)
        search.restore(state)
        one, other = (step(each, lambda genes: np.ones(len(genes))) for each in (alone, search))
        assert one.tobytes() == other.tobytes()
    assert search.run.number == alone.run.number > 2


def leaves(value: Any, name: str = "es", seen: tuple[int, ...] = ()) -> dict[str, Any]:
    """Every number in an object, by its path: found by looking, not by a list of names."""
    idle = ("timer", "logger", "opts", "inopts", "_tell2_args", "inputargs", "more_to_write", "sp", "sp0", "gp")
    if isinstance(value, np.ndarray | list | tuple | float | int | np.generic):
        try:
            return {name: np.asarray(value, dtype=np.float64)}
        except (TypeError, ValueError):
            return {}
    if not hasattr(value, "__dict__") or id(value) in seen or not type(value).__module__.startswith("cma"):
        return {}
    found: dict[str, Any] = {}
    for key, inner in vars(value).items():
        if key not in idle:
            found |= leaves(inner, f"{name}.{key}", (*seen, id(value)))
    return found


@pytest.mark.parametrize("covariance", ["full", "separable"])
def test_a_restored_strategy_holds_every_number_that_pycma_has_changed(covariance: str) -> None:
    kind = CMAES(population=10, covariance=covariance)
    search: Any = kind.begin(layout(6), 7)
    for _ in range(30):
        step(search, rosenbrock)
    fresh: Any = kind.begin(layout(6), 7)
    fresh.restore(search.state())
    for one in (search, fresh):  # what the last generation left behind is renewed by the next
        step(one, rosenbrock)
    mine, theirs = leaves(search.es), leaves(fresh.es)
    transient = ("number_of_injections_delivered", "mean_old_old", "_inverse_root_C", "best.x", "best.x_geno")
    gone = {key for key in mine if not key.removeprefix("es.").startswith((*transient, "best.", "_stopdict"))}
    different = {key for key in gone if not np.array_equal(mine[key], theirs.get(key, np.nan), equal_nan=True)}
    assert not different
    assert len(gone) > 40


def test_the_state_of_cma_es_does_not_grow_with_its_age() -> None:
    search = CMAES(population=10).begin(layout(10), 8)

    def size(count: int) -> int:
        for _ in range(count):
            step(search, lambda genes: 1 + generator(1, generation=int(abs(genes[0, 0]) * 1e6)).random(len(genes)))
        return sum(array.nbytes for name, array in search.state().items() if "histbest" not in name)

    assert size(400) <= 1.3 * size(100)


def test_numpys_global_numbers_are_left_alone() -> None:
    np.random.seed(11)  # noqa: NPY002 (what is tested)
    before = np.random.get_state()[1].copy()  # type: ignore[index,union-attr] # noqa: NPY002
    search = CMAES(population=8).begin(layout(5), 1)
    for _ in range(20):
        step(search)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # type: ignore[index] # noqa: NPY002


def test_the_number_of_cores_changes_no_bit() -> None:
    code = """if True:
        import hashlib, numpy as np
        from populations.algorithms import ALGORITHMS
        from evo_rnn.layout import Layout, units, vector
        where = Layout((vector("w", units("h", 150), units("h", 150), -1, 1),))
        for name in ("cma_es", "snes", "xnes", "openai_es", "pgpe"):
            search = ALGORITHMS[name]().begin(where, 0)
            for _ in range(25):
                genes = search.ask()
                search.tell(genes, (genes.astype(float) ** 2).sum(axis=1))
            print(name, hashlib.md5(search.ask().tobytes()).hexdigest())"""
    told = [
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"OPENBLAS_NUM_THREADS": count, "MKL_NUM_THREADS": count},
            cwd=Path(__file__).parents[1],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for count in ("1", "3")
    ]
    assert told[0] == told[1] != ""


def test_pycma_is_not_imported_before_it_is_needed_and_leaves_no_files(tmp_path: Path) -> None:
    code = """if True:
        import sys, numpy as np
        from populations.algorithms import ALGORITHMS
        from evo_rnn.layout import Layout, units, vector
        settings = ALGORITHMS["cma_es"](population=8)
        assert not {"cma", "matplotlib"} & set(sys.modules)
        search = settings.begin(Layout((vector("w", units("h", 3), units("h", 3), -1, 1),)), 0)
        for _ in range(3):
            genes = search.ask()
            search.tell(genes, (genes**2).sum(axis=1))
        assert "cma" in sys.modules"""
    root = Path(__file__).parents[1]
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(root)}, check=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CMAES(population=3), "population should be between 4 and inf but is 3"),
        (lambda: CMAES(covariance="round"), "covariance should be one of"),
        (lambda: CMAES(restarts="never"), "restarts should be one of"),
        (lambda: CMAES().begin(layout(1), 0), "cma_es needs at least 2 genes"),
        (lambda: CMAES().begin(layout(4001), 0), "covariance=full is for at most 4000 genes .* covariance=separable"),
        (lambda: XNES().begin(layout(2001), 0), "xnes is for at most 2000 genes .* snes"),
        (lambda: SNES(step=0.0), "step should be between"),
        (lambda: PGPE(optimizer="sgd"), "optimizer should be one of"),
        (lambda: OpenAIES(rate=float("nan")), "rate should be between"),
    ],
)
def test_bad_settings_are_refused_by_name(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_no_noise_is_longer_than_hansens_limit_and_short_noise_stays() -> None:
    noise = np.array([[3.0, 4.0], [30.0, 40.0], [0.0, 0.0]])
    np.testing.assert_allclose(shortened(noise)[1], np.array([0.6, 0.8]) * (2**0.5 + 1))
    np.testing.assert_array_equal(shortened(noise / 10)[[0, 2]], noise[[0, 2]] / 10)


def best(kind: Any, seed: int, loss: Any, count: int, where: Layout) -> float:
    search, least = kind.begin(where, seed), np.inf
    for _ in range(count // kind.population):
        genes = search.ask()
        losses = loss(genes)
        search.tell(genes, losses)
        least = min(least, losses.min())
    return float(least)


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("loss", [sphere, rosenbrock], ids=["sphere", "rosenbrock"])
def test_it_beats_random_search_with_its_defaults_on_ten_seeds(name: str, loss: Any) -> None:
    chance = [best(ALGORITHMS["random"](), seed, loss, 2000, layout(20)) for seed in range(10)]
    assert max(best(STRATEGIES[name](), seed, loss, 2000, layout(20)) for seed in range(10)) < 0.5 * min(chance)


@pytest.mark.nightly
@pytest.mark.parametrize("name", STRATEGIES)
def test_it_beats_random_search_on_a_small_network_on_ten_seeds(name: str) -> None:
    model, task = network(Elman(1, 4), 1), mackey_glass(length=200)
    evaluator = LocalEvaluator(model, task.train, task.loss)
    chance = [best(ALGORITHMS["random"](), seed, evaluator, 2000, model.layout) for seed in range(10)]
    found = [best(replace(STRATEGIES[name]()), seed, evaluator, 2000, model.layout) for seed in range(10)]
    assert np.median(found) < 0.8 * np.median(chance)
    assert sum(a < b for a, b in zip(found, chance, strict=True)) >= 9
