"""Laws of every trainer: deterministic, resumable bit for bit, honest about what it spends, and getting better."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import islice

import numpy as np
import pytest
import torch

from evo_rnn.cells import CTRNN, FRNN, GRU, LSTM, Cell, Elman, IndRNN
from evo_rnn.errors import ConfigError
from evo_rnn.evaluation.evaluator import LocalEvaluator
from evo_rnn.evaluation.ray_evaluator import RayEvaluator, shards
from evo_rnn.fit import SolvedReadout
from evo_rnn.fitness import LOSSES, batch
from evo_rnn.layout import Layout
from evo_rnn.network import Identity, Network, network
from evo_rnn.progress import Progress, Trainer
from evo_rnn.seeds import generator
from evo_rnn.tasks import TASKS
from evo_rnn.tasks.sunspots import sunspots
from evo_rnn.tasks.task import Task
from populations.algorithms import ALGORITHMS, GeneticAlgorithm
from populations.evolution import Evolution
from trainers.control import TorchControl
from trainers.descent import Descent, influence_metric
from trainers.experiments.methods import METHODS
from trainers.gradient import ESTIMATORS, passes
from trainers.gradient.slope import handed_over
from trainers.memetic import GradientSteps
from trainers.moving import Move, clipped
from trainers.rows import OPTIMIZERS, Rows

SMALL = {
    "ga": {"population": 12},
    "random": {"population": 12},
    "bptt": {"learning_rates": (0.03, 0.01), "restarts": 2, "check": 2, "patience": 2},
    "rtrl": {"learning_rates": (0.03,), "restarts": 2},
    "hybrid": {"learning_rates": (0.03,), "restarts": 2},
    "memetic": {"population": 6, "gradients": 2},
    "baldwinian": {"population": 6, "gradients": 2},
    "evolino": {"population": 6},
    "torch": {},
}
SMALL |= {
    "islands": {"islands": ({"name": "ga", "population": 12}, {"name": "random", "population": 12}), "every": 1},
    "asynchronous": {"population": 12, "brood": 4},
    "steady_state": {"population": 12},
    "topology": {"population": 4, "weight_sets": 2, "effort": 1, "hurdles": 2, "lag": 2},
    "topology_random": {"population": 4, "weight_sets": 2, "effort": 1, "hurdles": 2, "lag": 2},
}
SMALL |= {name: {"population": 12} for name in ALGORITHMS if name not in SMALL}
SMALL |= {name: {"learning_rates": (0.03,), "restarts": 2} for name in ESTIMATORS if name not in SMALL}
STEPS = 6
MANY = 30


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def task() -> Task:
    whole = sunspots()
    short = {name: _cut(getattr(whole, name)) for name in ("train", "validation", "test")}
    return replace(whole, **short)


def _cut(data):  # type: ignore[no-untyped-def]
    """The last 40 years of a split: trainers' laws need no more."""
    return replace(data, **{name: value[:, -40:] for name, value in data.arrays().items()})


MODEL = network(Elman(1, 3), 1)
PICKY = {
    "diagonal": network(IndRNN(1, 3), 1),
    "lstm1997": network(LSTM(1, 2), 1),
    "pearlmutter": network(CTRNN(1, 3), 1),
}  # rules that do not take every cell


def model_for(name: str) -> Network:
    return PICKY.get(name, MODEL)


def trainer(name: str) -> Trainer:
    return METHODS[name].trainer(SMALL[name], "mse")


Trained = Callable[[str], list[Progress]]


@pytest.fixture(scope="module")
def trained(task: Task) -> Trained:
    """Many steps of a method with seed 1, trained once for all tests."""

    @cache
    def made(name: str) -> list[Progress]:
        return list(islice(trainer(name).train(model_for(name), task, 1), MANY))

    return made


def same(a: Progress, b: Progress) -> None:
    """Equal bit for bit, but for seconds."""
    assert (a.step, a.passes, a.loss) == (b.step, b.passes, b.loss)
    np.testing.assert_array_equal(a.candidates, b.candidates)
    np.testing.assert_array_equal(a.losses, b.losses)
    assert a.metrics == b.metrics


def test_every_method_is_under_these_laws() -> None:
    assert set(SMALL) == set(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_the_same_seed_gives_the_same_training_and_another_another(name: str, task: Task, trained: Trained) -> None:
    first = trained(name)[:STEPS]
    again = list(islice(trainer(name).train(model_for(name), task, 1), STEPS))
    other = list(islice(trainer(name).train(model_for(name), task, 2), STEPS))
    for a, b in zip(first, again, strict=True):
        same(a, b)
    assert not np.array_equal(first[-1].candidates, other[-1].candidates)


@pytest.mark.parametrize("name", METHODS)
def test_resuming_anywhere_changes_nothing(name: str, task: Task, trained: Trained) -> None:
    whole = trained(name)[:STEPS]
    states = [progress.checkpoint() for progress in islice(trainer(name).train(model_for(name), task, 1), STEPS - 1)]
    for cut, state in enumerate(states, start=1):
        assert all(isinstance(value, np.ndarray) and value.dtype != object for value in state.values())
        resumed = list(islice(trainer(name).train(model_for(name), task, 1, state), STEPS - cut))
        for a, b in zip(whole[cut:], resumed, strict=True):
            same(a, b)


@pytest.mark.parametrize("name", METHODS)
def test_steps_and_passes_rise_and_the_loss_never_does(name: str, trained: Trained) -> None:
    seen = trained(name)
    assert [progress.step for progress in seen] == list(range(1, MANY + 1))
    assert (np.diff([progress.passes for progress in seen]) > 0).all()
    assert (np.diff([progress.loss for progress in seen]) <= 0).all()
    assert (np.diff([progress.seconds for progress in seen]) >= 0).all()


@pytest.mark.parametrize("name", METHODS)
def test_candidates_are_offered_best_first_with_their_own_losses(name: str, task: Task) -> None:
    for progress in islice(trainer(name).train(model_for(name), task, 3), STEPS):
        assert (np.diff(progress.losses) >= 0).all()
        measured = LocalEvaluator(progress.model or model_for(name), task.train)(progress.candidates)
        np.testing.assert_allclose(measured, progress.losses, rtol=1e-4)
        assert progress.loss <= progress.losses[0] * (1 + 1e-12)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_gets_better(name: str, trained: Trained) -> None:
    seen = trained(name)
    assert seen[-1].loss < 0.95 * seen[0].loss


def test_lamarckian_genes_are_written_back_and_baldwinian_are_not(task: Task) -> None:
    kinds = {}
    for kind in ("lamarckian", "baldwinian"):
        evolution = Evolution(GeneticAlgorithm(population=6, elites=1), GradientSteps(gradients=3), kind)
        state = next(evolution.train(MODEL, task, 1)).checkpoint()
        search = evolution.algorithm.begin(MODEL.layout, 1)
        kinds[kind] = search.ask(), next(value for value in state.values() if value.shape == (6, MODEL.layout.size))
    np.testing.assert_array_equal(np.sort(kinds["baldwinian"][0], 0), np.sort(kinds["baldwinian"][1], 0))
    assert not np.array_equal(np.sort(kinds["lamarckian"][0], 0), np.sort(kinds["lamarckian"][1], 0))


def test_a_solved_readout_is_the_least_squares_solution(task: Task) -> None:
    genes = MODEL.layout.draw(generator(0, "test"), 4)
    data = batch(task.train)
    solved = SolvedReadout(ridge=0.0)(MODEL, torch.from_numpy(genes).double(), data)
    states = MODEL.states(solved, data.inputs)[:, 0].numpy()
    counted = task.train.counts[0]
    for row in range(4):
        design = np.column_stack([states[row][counted], np.ones(counted.sum())])
        best = np.linalg.lstsq(design, task.train.targets[0][counted], rcond=None)[0][:, 0]
        np.testing.assert_allclose(solved[row, -4:].numpy(), best, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(solved[:, :-4].numpy(), genes[:, :-4])


def test_a_broken_row_is_left_alone_by_every_fit(task: Task) -> None:
    genes = torch.from_numpy(MODEL.layout.draw(generator(0, "test"), 3))
    genes[1, 0] = torch.nan
    for fit in (SolvedReadout(), GradientSteps(gradients=2)):
        fitted = fit(MODEL, genes, batch(task.train, torch.float32))
        torch.testing.assert_close(fitted[1], genes[1], equal_nan=True)
        assert torch.isfinite(fitted[[0, 2]]).all()
        assert not torch.equal(fitted[0], genes[0])


def test_an_elite_of_a_memetic_method_never_gets_worse(task: Task) -> None:
    evolution = Evolution(GeneticAlgorithm(population=6, elites=2), GradientSteps(gradients=2, learning_rate=0.5))
    best = [progress.losses[0] for progress in islice(evolution.train(MODEL, task, 1), 15)]
    assert (np.diff(best) <= 0).all()


def test_what_the_reader_of_the_loop_does_is_not_charged(task: Task) -> None:
    for name in ("ga", "bptt", "torch"):
        steps = trainer(name).train(MODEL, task, 0)
        first = next(steps).seconds
        end = time.process_time() + 0.3
        while time.process_time() < end:
            pass
        assert next(steps).seconds - first < 0.25, name


def test_a_solved_readout_knows_classes() -> None:
    task = TASKS["delayed_xor"](length=20, sequences=4)
    net = network(Elman(1, 6), 2)
    genes = net.layout.draw(generator(0, "test"), 16)
    before = LocalEvaluator(net, task.train, task.loss)
    solved = before.fit(SolvedReadout(loss=task.loss), genes)
    assert np.median(before(solved)) < np.median(before(genes))
    assert before.learned(solved, np.zeros(1)).mean() > before.learned(genes, np.zeros(1)).mean()


def test_the_number_of_threads_changes_nothing(task: Task) -> None:
    net = network(LSTM(1, 37), 1)
    many = replace(task.train, **{n: np.repeat(v, 257, axis=0)[:, -6:] for n, v in task.train.arrays().items()})
    genes = net.layout.draw(generator(0, "test"), 130)
    found = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        found.append(LocalEvaluator(net, many)(genes))
    torch.set_num_threads(1)
    np.testing.assert_array_equal(*found)


def test_a_minibatch_loss_is_not_taken_for_the_training_loss() -> None:
    adding = TASKS["adding"](length=10, sequences=20)
    net = network(GRU(2, 3), 1)
    descent = Descent(minibatch=1, restarts=1, learning_rates=(0.01,), check=3)
    seen = list(islice(descent.train(net, adding, 0), 6))
    assert [bool(np.isfinite(p.loss)) for p in seen] == [False, False, True, True, True, True]
    assert seen[2].loss == LocalEvaluator(net, adding.train)(seen[2].candidates)[0]


def test_minibatches_are_charged_pro_rata() -> None:
    adding = TASKS["adding"](length=10, sequences=20)
    net = network(GRU(2, 3), 1)
    full, part = (next(Descent(minibatch=n, restarts=1).train(net, adding, 0)).passes for n in (0, 5))
    assert part == pytest.approx(full / 4)


def test_a_row_that_overflows_is_drawn_afresh(task: Task) -> None:
    descent = Descent(learning_rates=(1e30, 0.01), restarts=1, clip=0)
    seen = list(islice(descent.train(MODEL, task, 0), 12))
    assert np.isfinite(seen[-1].losses).any()
    assert seen[-1].checkpoint()["lives"][0] >= 1
    assert seen[-1].checkpoint()["lives"][1] == 0


def test_early_stopping_restarts_rows_that_no_longer_validate(task: Task) -> None:
    descent = Descent(learning_rates=(1e-12,), restarts=2, check=1, patience=3)
    seen = list(islice(descent.train(MODEL, task, 0), 20))
    assert (seen[-1].checkpoint()["lives"] >= 1).all()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_trains_and_resumes(name: str, task: Task) -> None:
    descent = Descent(optimizer=name, learning_rates=(0.01,), restarts=2)
    whole = list(islice(descent.train(MODEL, task, 0), 8))
    state = next(islice(descent.train(MODEL, task, 0), 3, None)).checkpoint()
    same(whole[-1], list(islice(descent.train(MODEL, task, 0, state), 4))[-1])
    assert whole[-1].loss < whole[0].loss


def test_clipping_bounds_each_row_by_itself() -> None:
    gradient = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
    torch.testing.assert_close(clipped(gradient, 1.0), torch.tensor([[0.6, 0.8], [0.3, 0.4]]))
    torch.testing.assert_close(clipped(gradient, 0.0), gradient)


@pytest.mark.parametrize("cell", [Elman(1, 4), LSTM(1, 4), GRU(1, 4)], ids=str)
def test_the_control_scores_what_torch_scores(cell: Cell, task: Task) -> None:
    net = network(cell, 1)
    for progress in islice(TorchControl().train(net, task, 0), 3):
        np.testing.assert_allclose(LocalEvaluator(net, task.train)(progress.candidates), progress.losses, rtol=1e-5)


def test_the_control_refuses_what_torch_has_not(task: Task) -> None:
    for cell in (FRNN(1, 3), LSTM(1, 3, peepholes=True), GRU(1, 3, "before")):
        with pytest.raises(ConfigError, match=r"torch\.nn has no twin"):
            next(TorchControl().train(network(cell, 1), task, 0))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"optimizer": "adm"}, "optimizer should be one of"),
        ({"learning_rates": ()}, "learning_rates should be positive"),
        ({"restarts": 0}, "restarts should be at least 1"),
    ],
)
def test_descent_refuses_bad_settings(settings: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Descent(**settings)


@pytest.mark.parametrize("count", [1, 15, 16, 17, 33, 100])
@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_shards_are_cut_between_blocks_only(count: int, workers: int) -> None:
    cuts = shards(count, 16, workers)
    assert [row for start, stop in cuts for row in range(start, stop)] == list(range(count))
    assert all(start % 16 == 0 for start, _ in cuts)
    assert len(cuts) <= workers


def test_sharded_scores_and_fits_have_the_bits_of_whole_ones(task: Task) -> None:
    local = LocalEvaluator(MODEL, task.train)
    spread = RayEvaluator(MODEL, task.train, workers=0)
    spread.workers = 3  # as many shards as for three workers, in this process
    for count in (1, 31, 70):
        genes = MODEL.layout.draw(generator(0, "test", count), count)
        np.testing.assert_array_equal(local(genes), spread(genes))
        np.testing.assert_array_equal(local.fit(SolvedReadout(), genes), spread.fit(SolvedReadout(), genes))
    assert spread.seconds > 0


def test_evolution_needs_no_network_of_ours(task: Task) -> None:
    """Anything with a layout and a prediction can be evolved."""

    class Halved:
        layout = MODEL.layout

        def predict(self, genes, inputs):  # type: ignore[no-untyped-def]
            return MODEL.predict(genes / 2, inputs)

    seen = list(islice(Evolution(GeneticAlgorithm(population=10)).train(Halved(), task, 0), 20))  # type: ignore[arg-type]
    assert seen[-1].loss < seen[0].loss


def test_gradient_methods_say_what_they_need(task: Task) -> None:
    class Strange:
        layout = MODEL.layout

    with pytest.raises(ConfigError, match="model should be a Network"):
        next(Descent().train(Strange(), task, 0))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="linear readout"):
        SolvedReadout().passes(Network(Elman(1, 1), Identity(1)), 10)
    assert LOSSES["mse"].causal


INSIDE = {"rtrl": 1, "hybrid": 7, "bptt": 7, "uoro": 5}


@pytest.mark.parametrize(("name", "every"), INSIDE.items())
def test_weights_that_move_inside_the_sequences_are_under_the_same_laws(name: str, every: int, task: Task) -> None:
    made = METHODS[name].trainer(SMALL[name] | {"update_every": every, "check": 2}, "mse")
    longer = list(islice(made.train(MODEL, task, 1), 20))
    whole = longer[:STEPS]
    states = [progress.checkpoint() for progress in islice(made.train(MODEL, task, 1), 5)]
    for cut in (1, 2, 5):
        for a, b in zip(whole[cut:], islice(made.train(MODEL, task, 1, states[cut - 1]), STEPS - cut), strict=True):
            same(a, b)
    assert [bool(np.isfinite(progress.loss)) for progress in whole] == [False] + [True] * (STEPS - 1)
    checked = whole[1::2]
    for progress in checked:
        measured = LocalEvaluator(MODEL, task.train)(progress.candidates)
        np.testing.assert_allclose(measured, progress.losses, rtol=1e-6)
    assert [progress.loss for progress in checked] == list(np.minimum.accumulate([p.losses[0] for p in checked]))
    rows = len(whole[0].candidates)
    plain = rows * passes(made.estimator, MODEL, task.train.inputs.shape[1], every)  # type: ignore[attr-defined]
    np.testing.assert_allclose(np.diff([p.passes for p in whole]), [plain + rows * (n % 2) for n in range(1, STEPS)])
    assert longer[-1].loss < 0.95 * whole[1].loss


def moved(every: int, task: Task, estimator: str = "bptt", **settings: float) -> torch.Tensor:
    rows = Rows("sgd", np.array([1.0, 0.3]), lambda row, _: MODEL.layout.draw(generator(row, "test"), 1)[0], 9)
    Move(rows, ESTIMATORS[estimator](), MODEL, batch(task.train, torch.float32), LOSSES["mse"], every, **settings)({})
    return rows.genes()


@pytest.mark.parametrize("estimator", ["bptt", "rtrl", "hybrid"])
def test_one_move_after_all_steps_is_the_move_at_the_end(estimator: str, task: Task) -> None:
    steps = task.train.inputs.shape[1]
    end = moved(0, task, estimator)
    for every in (steps, steps + 5):
        torch.testing.assert_close(moved(every, task, estimator), end, rtol=0, atol=1e-6)
    assert (moved(steps // 2, task, estimator) - end).norm() > 1e-3


def test_a_row_that_breaks_inside_the_sequences_is_drawn_afresh_and_the_others_do_not_feel_it(task: Task) -> None:
    seen = {}
    for rates in ((1e30, 0.01), (0.01,)):
        descent = Descent(learning_rates=rates, restarts=1, clip=0, update_every=5, patience=99)
        last = list(islice(descent.train(MODEL, task, 0), 4))[-1].checkpoint()
        seen[rates] = last
    assert seen[1e30, 0.01]["lives"].tolist() == [4, 0]
    assert np.isfinite(seen[1e30, 0.01]["genes"]).all()


def test_a_loss_that_needs_whole_sequences_moves_nothing_inside_them(task: Task) -> None:
    classes = replace(task, loss="ctc")
    for every in (1, task.train.inputs.shape[1] - 1):
        with pytest.raises(ConfigError, match=r"update_every should be 0 for ctc.*Leave it out"):
            next(Descent(update_every=every).train(MODEL, classes, 0))
    Descent(update_every=task.train.inputs.shape[1]).fits(MODEL, classes)


def test_the_influence_that_is_shown_is_the_norm_of_all_that_the_genes_did_to_the_state(task: Task) -> None:
    steps, cell = task.train.inputs.shape[1], MODEL.cell
    descent = Descent(estimator=ESTIMATORS["rtrl"](), learning_rates=(0.03,), restarts=3)
    genes = torch.stack([torch.from_numpy(descent._draw(MODEL, 0, steps)(row, 0)) for row in range(3)])
    (progress,) = islice(descent.train(MODEL, task, 0), 1)
    x, norms = batch(task.train, torch.float32).inputs, []
    block = handed_over(descent.estimator, cell, steps, 3 * len(x))
    for row in MODEL.recurrent(genes):

        def states(theta: torch.Tensor) -> torch.Tensor:
            weights, s, every = Layout(cell.leaves()).unpack(theta[None]), torch.zeros(1, len(x), cell.state), []
            for t in range(steps):
                s = cell.step(weights, x[None, :, t], s)
                every.append(s[0, 0])
            return torch.stack(every)

        by_hand = torch.autograd.functional.jacobian(states, row)  # (T, S, D)
        ends = {*range(block, steps, block), steps}  # of the chunks
        norms.append(max(float(by_hand[t - 1].norm()) for t in ends))
    assert progress.metrics["influence/norm"] == pytest.approx(float(np.median(norms)), rel=1e-4)
    (plain,) = islice(Descent(learning_rates=(0.03,), restarts=3).train(MODEL, task, 0), 1)
    assert set(plain.metrics) == {"gradient/norm"}


def test_the_influence_of_broken_rows_is_left_out() -> None:
    assert influence_metric(torch.tensor([torch.nan, torch.inf, 2.0])) == {"influence/norm": 2.0}
    assert influence_metric(torch.tensor([torch.nan])) == influence_metric(torch.zeros(2)) == {}


def test_a_row_of_dni_that_breaks_forgets_what_it_has_learned(task: Task) -> None:
    """Its synthesiser has met infinite credit; kept, it would break every new life of the row at once."""
    wild = Descent(ESTIMATORS["dni"](), "sgd", learning_rates=(1e4,), restarts=2, clip=0)
    lives = [next(iter([p.checkpoint()["lives"]])) for p in islice(wild.train(MODEL, task, 0), 24)]
    assert lives[-1].max() > 0, "nothing broke"
    (calm,) = [p.checkpoint() for p in islice(wild.train(MODEL, task, 0), 24)][-1:]
    assert all(np.isfinite(value).all() for name, value in calm.items() if name.startswith("learned/"))


def test_a_start_that_is_learned_moves_also_when_weights_move_inside_the_sequences(task: Task) -> None:
    from tests.test_gradient import Begun

    model = network(Begun(1, 3), 1)
    first, second = islice(
        Descent(learning_rates=(0.03,), restarts=1, update_every=8, check=1).train(model, task, 0), 2
    )
    start = [link.leaf == "cell.start" for link in model.layout.links()]
    assert (first.candidates[0, start] != second.candidates[0, start]).all()
