"""Minibatches: the driver chooses them, all chromosomes of a generation see the same, and the books stay honest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

from evo_rnn.cells import CTRNN, LSTM, Elman
from evo_rnn.errors import ConfigError
from evo_rnn.evaluation.evaluator import LocalEvaluator
from evo_rnn.evaluation.pool import SerialPool
from evo_rnn.evaluation.ray_evaluator import RayEvaluator
from evo_rnn.fit import SolvedReadout
from evo_rnn.network import Network, network
from evo_rnn.progress import OFFERED, Progress
from evo_rnn.sample import EVERY, pick, sample, share
from evo_rnn.tasks.task import Sequences, Task
from populations.algorithms import GeneticAlgorithm
from populations.evolution import Evolution

MODEL = network(Elman(2, 3), 1)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def data(count: int = 30, steps: int = 12, seed: int = 0) -> Sequences:
    """Ragged sequences; what is not counted is not known."""
    rng = np.random.default_rng(seed)
    counts = np.arange(steps) < rng.integers(3, steps + 1, count)[:, None]
    inputs = rng.normal(size=(count, steps, 2))
    return Sequences(inputs, inputs[..., :1] * inputs[..., 1:], counts)


TASK = Task("product", data(), data(seed=1), data(seed=2), outputs=1)


def evolution(**settings: Any) -> Evolution:
    return Evolution(GeneticAlgorithm(population=40, elites=3), **({"minibatch": 4, "check": 3} | settings))


def steps(trainer: Evolution, count: int, seed: int = 1, **more: Any) -> list[Progress]:
    return list(islice(trainer.train(MODEL, TASK, seed, **more), count))


def same(a: Progress, b: Progress) -> None:
    assert (a.step, a.passes, a.loss) == (b.step, b.passes, b.loss)
    np.testing.assert_array_equal(a.candidates, b.candidates)
    np.testing.assert_array_equal(a.losses, b.losses)
    assert a.metrics == b.metrics


@dataclass
class Spy:
    """Compute that writes down what was asked of its evaluator."""

    asked: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)

    def evaluator(self, model: Network, split: Sequences, loss: str) -> Any:
        inner, asked = LocalEvaluator(model, split, loss), self.asked

        class Seen:
            seconds = 0.0

            def __call__(self, genes: Any, sequences: tuple[int, ...] = EVERY) -> Any:
                asked.append((len(genes), sequences))
                return inner(genes, sequences)

            def fit(self, fit: Any, genes: Any, sequences: tuple[int, ...] = EVERY) -> Any:
                asked.append((-len(genes), sequences))
                return inner.fit(fit, genes, sequences)

            def close(self) -> None: ...

        return Seen()


# --- the choice -----------------------------------------------------------------------------------------------------


def test_a_sample_is_a_function_of_seed_and_step_and_draws_only_what_counts() -> None:
    split = replace(data(), counts=data().counts & (np.arange(30) % 3 > 0)[:, None])
    drawn = [sample(split, 5, seed, step) for seed in (1, 2) for step in range(40)]
    assert drawn[:40] == [sample(split, 5, 1, step) for step in range(40)]
    assert len(set(drawn)) > 75
    assert all(list(each) == sorted(set(each)) and len(each) == 5 for each in drawn)
    assert set().union(*drawn) == {k for k in range(30) if k % 3}


@pytest.mark.parametrize("count", [0, 30, 31, 1000])
def test_all_sequences_need_no_sample(count: int) -> None:
    assert sample(data(), count, 1, 1) == EVERY
    assert share(data(), EVERY) == 1.0


def test_shares_of_a_partition_add_up_to_a_pass() -> None:
    parts = [tuple(range(start, start + 10)) for start in (0, 10, 20)]
    assert sum(share(data(), part) for part in parts) == pytest.approx(1, abs=1e-12)


# --- scores on chosen sequences ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", [Elman(2, 3), LSTM(2, 9), CTRNN(2, 3)], ids=["lanes", "row or column", "plain"])
@pytest.mark.parametrize("chosen", [(7,), (3, 4, 9, 11), tuple(range(1, 24))])
def test_a_score_on_chosen_sequences_is_the_score_on_a_split_of_them(cell: Any, chosen: tuple[int, ...]) -> None:
    model, split = network(cell, 1), data()
    genes = model.layout.draw(np.random.default_rng(0), 70)
    evaluator = LocalEvaluator(model, split)
    whole = evaluator(genes)
    alone = LocalEvaluator(model, pick(split, chosen))(genes)
    np.testing.assert_array_equal(evaluator(genes, chosen), alone)
    np.testing.assert_array_equal(evaluator(genes), whole)
    assert not np.array_equal(alone, whole)
    for workers in (1, 2, 4):
        spread = RayEvaluator(model, split, workers=0)
        spread.workers = workers  # the cuts of so many workers
        np.testing.assert_array_equal(spread(genes, chosen), alone)


def test_the_engine_is_that_of_all_the_data() -> None:
    split = data()
    split.inputs[3, :, 0] = np.nan  # the fused engine takes finite inputs alone
    chosen, genes = (0, 1, 2), MODEL.layout.draw(np.random.default_rng(0), 9)
    expected = LocalEvaluator(MODEL, pick(split, chosen), engine="plain")(genes)
    np.testing.assert_array_equal(LocalEvaluator(MODEL, split)(genes, chosen), expected)
    np.testing.assert_array_equal(RayEvaluator(MODEL, split, workers=0)(genes, chosen), expected)


def test_fitting_sees_the_chosen_sequences_alone() -> None:
    genes, chosen, fit = MODEL.layout.draw(np.random.default_rng(0), 5), (1, 5, 6), SolvedReadout()
    fitted = LocalEvaluator(MODEL, data()).fit(fit, genes, chosen)
    np.testing.assert_array_equal(fitted, LocalEvaluator(MODEL, pick(data(), chosen)).fit(fit, genes))
    np.testing.assert_array_equal(fitted, RayEvaluator(MODEL, data(), workers=0).fit(fit, genes, chosen))
    assert not np.array_equal(fitted, LocalEvaluator(MODEL, data()).fit(fit, genes))


# --- the loop -----------------------------------------------------------------------------------------------------------


def test_all_of_a_generation_see_the_same_sequences_and_each_generation_others() -> None:
    spy = Spy()
    steps(evolution(), 6, compute=spy)
    scored = [sequences for count, sequences in spy.asked if sequences]
    assert [count for count, sequences in spy.asked if sequences] == [40] * 6
    assert scored == [sample(TASK.train, 4, 1, step) for step in range(6)]
    assert [count for count, sequences in spy.asked if not sequences] == [OFFERED] * 3  # generations 1, 3 and 6


def test_fit_and_score_of_a_generation_are_about_the_same_sequences() -> None:
    spy = Spy()
    steps(evolution(fit=SolvedReadout()), 3, compute=spy)
    assert [sequences for count, sequences in spy.asked if count == -40] == [
        sequences for count, sequences in spy.asked if count == 40
    ]


@pytest.mark.parametrize("fit", [False, True])
def test_passes_are_charged_pro_rata_and_looks_in_full(fit: bool) -> None:
    trainer = evolution(fit=SolvedReadout()) if fit else evolution()
    cost = 1 + trainer.fit.passes(MODEL, 12)
    shares = [share(TASK.train, sample(TASK.train, 4, 1, step)) for step in range(7)]
    assert len(set(shares)) > 1
    expected = np.cumsum([40 * cost * each for each in shares]) + OFFERED * np.array([1, 1, 2, 2, 2, 3, 3])
    np.testing.assert_allclose([each.passes for each in steps(trainer, 7)], expected, rtol=1e-12)


def test_losses_that_are_reported_are_of_all_the_data_at_every_step() -> None:
    best = np.inf
    for progress in steps(evolution(), 10):
        np.testing.assert_array_equal(LocalEvaluator(MODEL, TASK.train)(progress.candidates), progress.losses)
        assert (np.diff(progress.losses) >= 0).all()
        best = min(best, progress.losses.min())
        assert progress.loss == best


@pytest.mark.parametrize("fit", [False, True])
def test_resuming_anywhere_changes_nothing(fit: bool) -> None:
    trainer = evolution(fit=SolvedReadout()) if fit else evolution()
    whole = steps(trainer, 8)
    for cut in range(1, 8):
        state = next(islice(trainer.train(MODEL, TASK, 1), cut - 1, None)).checkpoint()
        for a, b in zip(whole[cut:], steps(trainer, 8 - cut, resume=state), strict=True):
            same(a, b)


def test_elites_are_scored_on_what_the_others_see() -> None:
    trainer, search = evolution(), evolution().algorithm.begin(MODEL.layout, 1)
    for step in range(4):
        genes = search.ask()
        search.tell(genes, LocalEvaluator(MODEL, TASK.train)(genes, sample(TASK.train, 4, 1, step)))
    state = steps(trainer, 4)[-1].checkpoint()
    np.testing.assert_array_equal(state["search/parents"], search.state()["parents"])
    np.testing.assert_array_equal(state["search/loss"], search.state()["loss"])


def test_what_a_fitted_chromosome_was_worth_on_other_sequences_is_not_remembered() -> None:
    scorer = LocalEvaluator(MODEL, TASK.train)
    run = evolution(fit=SolvedReadout(), minibatch=2).train(MODEL, TASK, 1)
    for step, progress in enumerate(islice(run, 6)):
        state, chosen = progress.checkpoint(), sample(TASK.train, 2, 1, step)
        np.testing.assert_array_equal(scorer(state["search/parents"], chosen), state["search/loss"])


def test_a_minibatch_of_everything_is_no_minibatch() -> None:
    for a, b in zip(steps(evolution(minibatch=0), 4), steps(evolution(minibatch=30), 4), strict=True):
        same(a, b)


def test_it_learns_for_less() -> None:
    seen = steps(evolution(), 60)
    assert seen[-1].passes < 60 * 40 / 3
    assert seen[-1].loss < 0.9 * seen[0].loss


@pytest.mark.parametrize("settings", [{"minibatch": -1}, {"check": 0}])
def test_settings_out_of_range_are_refused_by_name(settings: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(settings))} should be at least"):
        evolution(**settings)


def test_a_pool_in_this_process_is_no_ray() -> None:
    assert isinstance(RayEvaluator(MODEL, data(), workers=0).pool, SerialPool)
