"""CTC against the sum over all paths, its decoding against hand examples, and the task that needs it."""

from __future__ import annotations

from itertools import groupby, pairwise, product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from evo_rnn import ctc
from evo_rnn.baselines import baselines
from evo_rnn.cells import GRU
from evo_rnn.errors import ConfigError, DataError
from evo_rnn.evaluation.evaluator import LocalEvaluator
from evo_rnn.fit import SolvedReadout
from evo_rnn.fitness import LOSSES, batch
from evo_rnn.network import network
from evo_rnn.tasks import TASKS
from evo_rnn.tasks.task import Sequences, Task
from trainers.experiments.methods import METHODS
from trainers.experiments.stopping import Passes
from trainers.experiments.trial import Rules, slices

CTC = LOSSES["ctc"]
STRINGS: tuple[list[int], ...] = ([], [1], [2], [1, 1], [1, 2], [2, 1], [2, 2])
labels = st.lists(st.integers(1, 3), max_size=7)


def spell(path: Any) -> list[int]:
    """What a path says: repeats merged, then blanks dropped."""
    return [label for label, _ in groupby(path) if label]


def least(string: list[int]) -> int:
    """The fewest steps that a string needs."""
    return len(string) + sum(a == b for a, b in pairwise(string))


def by_all_paths(outputs: Tensor, string: list[int]) -> Tensor:
    """-log p(string) of outputs (T, O), summed over all paths that spell it."""
    steps, classes = outputs.shape
    paths = torch.tensor([path for path in product(range(classes), repeat=steps) if spell(path) == string])
    chances = outputs.log_softmax(dim=1)[torch.arange(steps), paths.view(-1, steps)]
    return -chances.sum(dim=1).logsumexp(dim=0)


def asked(strings: list[list[int]], steps: list[int], time: int = 0) -> Sequences:
    """Data in which sequence b counts its first `steps[b]` steps and asks for `strings[b]`."""
    time = time or max(steps)
    targets = np.zeros((len(strings), time, 1))
    for b, string in enumerate(strings):
        targets[b, : len(string), 0] = string
    return Sequences(np.zeros((len(strings), time, 1)), targets, np.arange(time) < np.array(steps)[:, None])


def nats(outputs: Tensor, data: Sequences) -> Tensor:
    """-log p(string), (P, B)."""
    part = batch(data, outputs.dtype)
    return ctc.surprise(outputs, part.targets, part.counts)


def drawn(data: Sequences, networks: int = 2, classes: int = 3, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(networks, *data.counts.shape, classes, generator=generator, dtype=torch.float64)


# --- the loss -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [2, 3, 4, 5, 6])
def test_it_and_its_slope_equal_the_sum_over_all_paths(steps: int) -> None:
    strings = [string for string in STRINGS if least(string) <= steps]
    data = asked(strings, [steps] * len(strings))
    outputs = drawn(data).requires_grad_()
    mine = nats(outputs, data)
    its = torch.stack([torch.stack([by_all_paths(y, s) for y, s in zip(n, strings, strict=True)]) for n in outputs])
    torch.testing.assert_close(mine, its, rtol=1e-12, atol=1e-12)
    pull = torch.arange(1.0, its.numel() + 1).view_as(its)  # each sequence another one
    (slope,), (reference,) = (torch.autograd.grad((x * pull).sum(), outputs) for x in (mine, its))
    assert reference.norm() > 1
    torch.testing.assert_close(slope, reference, rtol=0, atol=1e-10)
    assert (nats(outputs.roll(1, dims=2), data) - its).abs().max() > 0.1, "when something is said should matter"


def test_sequences_of_different_lengths_do_not_feel_each_other() -> None:
    strings, steps = [[1, 2], [2, 2], [], [1], []], [6, 3, 4, 1, 0]
    data = asked(strings, steps, time=7)
    outputs = drawn(data, networks=3).requires_grad_()
    pairs = list(zip(strings, steps, strict=True))[:4]
    its = torch.stack([torch.stack([by_all_paths(n[b, :t], s) for b, (s, t) in enumerate(pairs)]) for n in outputs])
    mine = nats(outputs, data)
    torch.testing.assert_close(mine[:, :4], its, rtol=1e-12, atol=1e-12)
    assert not mine[:, 4].any(), "nothing to say and no time to say it costs nothing"
    loss, reference = CTC(outputs, batch(data)), its.sum(dim=1) / sum(steps)
    torch.testing.assert_close(loss, reference)
    (slope,), (expected,) = (torch.autograd.grad(x.sum(), outputs) for x in (loss, reference))
    torch.testing.assert_close(slope, expected, rtol=0, atol=1e-10)
    assert expected.norm() > 0.1


def test_the_probabilities_of_all_strings_add_up_to_one() -> None:
    strings = [list(s) for n in range(5) for s in product((1, 2), repeat=n) if least(list(s)) <= 4]
    outputs = drawn(asked([[]], [4]), networks=3)
    chances = [nats(outputs, asked([string], [4])).neg().exp() for string in strings]
    torch.testing.assert_close(torch.stack(chances).sum(dim=0), torch.ones(3, 1, dtype=torch.float64))


def test_where_the_labels_stand_among_the_counted_steps_does_not_matter() -> None:
    packed = asked([[2, 1]], [6])
    spread = Sequences(packed.inputs, np.array([[[0.0], [2], [0], [0], [1], [0]]]), packed.counts)
    outputs = drawn(packed)
    assert torch.equal(CTC(outputs, batch(packed)), CTC(outputs, batch(spread)))


def test_it_has_the_precision_of_the_outputs() -> None:
    data = asked([[1, 2, 1], [2]], [6, 4])
    outputs = drawn(data)
    single = CTC(outputs.float(), batch(data, torch.float32))
    assert single.dtype == torch.float32
    assert CTC(outputs, batch(data)).dtype == torch.float64
    torch.testing.assert_close(single.double(), CTC(outputs, batch(data)), rtol=1e-5, atol=0)


def test_it_is_never_negative_when_rounding_makes_a_string_more_than_certain() -> None:
    data = asked([[1]] * 200, [2] * 200)  # surely 1 at first; then it matters little what
    outputs = drawn(data, networks=1, classes=2).float()
    outputs[:, :, 0] = torch.tensor([-1000.0, 1000.0])
    single = batch(data, torch.float32)
    unbounded = -torch.log_softmax(outputs, dim=3)[:, :, 1].logsumexp(dim=2)
    assert unbounded.min() < 0, "the example should be one where rounding goes wrong"
    loss = ctc.surprise(outputs, single.targets, single.counts)
    assert 0 <= loss.min() <= loss.max() < 1e-6


def test_outputs_after_the_last_counted_step_have_no_slope_not_even_as_nan() -> None:
    data = asked([[1, 2], [2]], [6, 3])
    outputs = drawn(data)
    outputs[:, 1, 3:] = torch.nan
    outputs.requires_grad_()
    (slope,) = torch.autograd.grad(CTC(outputs, batch(data)).sum(), outputs)
    assert slope.isfinite().all()
    assert slope[:, 1, :3].all()
    assert not slope[:, 1, 3:].any()


def test_a_sequence_adds_its_loss_at_the_last_step_that_counts() -> None:
    data = asked([[1, 2], [2]], [6, 3])
    outputs = drawn(data)
    terms = CTC.terms(outputs, batch(data))
    assert torch.equal(terms[:, [0, 1], [5, 2]], nats(outputs, data))
    assert terms.count_nonzero() == 4
    assert not CTC.causal


@pytest.mark.parametrize(
    ("string", "steps", "fits"), [([1, 2], 2, True), ([1, 1], 3, True), ([1, 1], 2, False), ([2, 2, 2], 4, False)]
)
def test_a_string_that_does_not_fit_is_refused(string: list[int], steps: int, fits: bool) -> None:
    data = asked([[1], string], [1, steps], time=6)
    outputs = drawn(data)
    if fits:
        assert CTC(outputs, batch(data)).isfinite().all()
        return
    wanted = f"sequence 1: its {len(string)} labels .* need {least(string)}, .* but {steps} count. Give it more steps"
    with pytest.raises(DataError, match=wanted):
        CTC(outputs, batch(data))
    with pytest.raises(DataError, match=wanted):
        CTC.share(outputs, batch(data), torch.zeros(1))


@pytest.mark.parametrize("wrong", [3.0, -1.0, 0.5, np.nan])
def test_what_is_no_label_is_refused(wrong: float) -> None:
    data = asked([[1], [2]], [4, 4])
    data.targets[1, 2] = wrong
    with pytest.raises(DataError, match=r"sequence 1: targets should be 0 or a label from 1 to 2 but one is"):
        CTC(drawn(data), batch(data))


def test_a_washout_is_refused() -> None:
    data = asked([[1], [2]], [4, 4]).washed(1)
    with pytest.raises(DataError, match="sequence 0: the steps that count should come before all others but step 1"):
        CTC(drawn(data), batch(data))


# --- what was said --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ([0, 0, 0], []),
        ([1, 1, 1], [1]),
        ([1, 0, 1], [1, 1]),
        ([0, 2, 2, 0, 0, 2, 1, 1, 0], [2, 2, 1]),
        ([1, 2, 1], [1, 2, 1]),
    ],
)
def test_a_path_is_read_by_merging_repeats_and_dropping_blanks(path: list[int], said: list[int]) -> None:
    assert ctc.greedy(np.eye(3)[[path]], np.ones((1, len(path)), dtype=bool)) == [said]


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 9999), time=st.integers(1, 9))
def test_greedy_reads_the_likeliest_path_up_to_the_last_counted_step(seed: int, time: int) -> None:
    random = np.random.default_rng(seed)
    outputs, steps = random.normal(size=(4, time, 3)), random.integers(0, time, size=4, endpoint=True)
    counts = np.arange(time) < steps[:, None]
    said = [spell(y.argmax(axis=1)[:t].tolist()) for y, t in zip(outputs, steps, strict=True)]
    assert ctc.greedy(outputs, counts) == said
    assert ctc.greedy(torch.tensor(outputs), torch.tensor(counts)) == said


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 9999))
def test_the_learned_share_is_the_share_of_steps_in_sequences_without_an_error(seed: int) -> None:
    data = asked([[1], [2, 1], [], [1, 2]], [1, 3, 2, 4])
    outputs = drawn(data, seed=seed)
    meant = ctc.label_strings(data.targets, data.counts)
    assert meant == [[1], [2, 1], [], [1, 2]]
    right = np.array([[a == b for a, b in zip(ctc.greedy(y, data.counts), meant, strict=True)] for y in outputs])
    share = CTC.share(outputs, batch(data), torch.zeros(1))
    np.testing.assert_allclose(share, right @ np.array([1, 3, 2, 4]) / 10)


def test_a_perfect_path_is_learned_and_has_no_errors() -> None:
    data = asked([[1, 1], [2]], [4, 3])
    outputs = 50 * torch.eye(3)[torch.tensor([[1, 0, 1, 1], [0, 2, 2, 1]])][None].double()
    assert CTC.share(outputs, batch(data), torch.zeros(1)).item() == 1
    assert ctc.label_error_rate(ctc.greedy(outputs[0], data.counts), [[1, 1], [2]]) == 0
    outputs[0, 0, 2] = torch.nan
    assert CTC.share(outputs, batch(data), torch.zeros(1)).item() == pytest.approx(3 / 7)


@pytest.mark.parametrize(
    ("said", "meant", "edits"),
    [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3), ("", "", 0), ("ab", "ba", 2), ("abc", "xabc", 1)],
)
def test_edit_distances_by_hand(said: str, meant: str, edits: int) -> None:
    assert ctc.edit_distance([*map(ord, said)], [*map(ord, meant)]) == edits


def by_definition(a: list[int], b: list[int]) -> int:
    if not a or not b:
        return len(a) + len(b)
    return min(by_definition(a[1:], b) + 1, by_definition(a, b[1:]) + 1, by_definition(a[1:], b[1:]) + (a[0] != b[0]))


@settings(deadline=None, max_examples=40)
@given(labels.map(lambda x: x[:5]), labels.map(lambda x: x[:5]))
def test_the_edit_distance_is_what_the_recursion_says(a: list[int], b: list[int]) -> None:
    assert ctc.edit_distance(a, b) == by_definition(a, b)


@settings(deadline=None)
@given(labels, labels, labels)
def test_the_edit_distance_is_a_metric(a: list[int], b: list[int], c: list[int]) -> None:
    there = ctc.edit_distance(a, b)
    assert there == ctc.edit_distance(b, a)
    assert (there == 0) == (a == b)
    assert abs(len(a) - len(b)) <= there <= max(len(a), len(b))
    assert ctc.edit_distance(a, c) <= there + ctc.edit_distance(b, c)


def test_the_label_error_rate_is_in_labels_that_were_meant() -> None:
    assert ctc.label_error_rate([[1], []], [[1, 2, 3], [2]]) == 3 / 4
    assert ctc.label_error_rate([[1, 2, 3]], [[2]]) == 2
    with pytest.raises(ValueError, match="said should have 2 strings"):
        ctc.label_error_rate([[1]], [[1], [2]])
    with pytest.raises(ValueError, match="at least one label"):
        ctc.label_error_rate([[1]], [[]])


# --- the task and the methods ---------------------------------------------------------------------------------------


def tiny() -> Task:
    return TASKS["strokes"](length=2, sequences=6)


def test_strokes_have_the_lengths_they_should() -> None:
    data = TASKS["strokes"](length=4, sequences=300, labels=12).train
    strings, steps = ctc.label_strings(data.targets, data.counts), data.counts.sum(axis=1)
    sizes = np.array([*map(len, strings)])
    assert set(sizes.tolist()) == {1, 2, 3, 4}
    assert {label for string in strings for label in string} == set(range(1, 13))
    assert (steps >= 5 * sizes + 1).all()  # two legs of 2 and a pause for each, and a pause before
    assert (steps <= 9 * sizes + 3).all()
    assert data.counts.shape[1] == 39
    assert not data.inputs[~data.counts].any()


def test_a_small_network_learns_strokes_by_backpropagation() -> None:
    task = TASKS["strokes"](length=2, sequences=40, labels=3)
    model = network(GRU(task.inputs, 8), task.outputs)
    trainer = METHODS["bptt"].trainer({"learning_rates": (0.05,), "restarts": 2}, task.loss)
    seen = LocalEvaluator(model, task.test, task.loss)
    meant = ctc.label_strings(task.test.targets, task.test.counts)

    def errors(genes: Any) -> float:
        return ctc.label_error_rate(ctc.greedy(seen.predict(genes)[0], task.test.counts), meant)

    for progress in trainer.train(model, task, 0):
        if progress.step == 1:
            assert errors(progress.candidates[:1]) > 0.5
        if progress.step == 80:
            break
    assert errors(progress.candidates[:1]) < 0.1


METHOD_SETTINGS: dict[str, dict[str, Any]] = {
    "ga": {"population": 10, "elites": 2},
    "bptt": {},
    "hybrid": {"horizon": 64},
    "memetic": {"population": 4, "elites": 1},
    "torch": {},
}


@pytest.mark.parametrize("name", METHOD_SETTINGS)
def test_a_trial_can_learn_by_it(name: str) -> None:
    task = tiny()
    trainer = METHODS[name].trainer(METHOD_SETTINGS[name], task.loss)
    model = network(GRU(task.inputs, 3), task.outputs)
    *_, last = slices(trainer, model, task, Rules([Passes(40)]), 0)
    assert 0 < last.result["test_loss"] < 2
    assert 0 <= last.result["learned"] <= 100


def test_a_rule_that_works_step_by_step_refuses_it() -> None:
    task = tiny()
    trainer = METHODS["rtrl"].trainer({}, task.loss)
    with pytest.raises(ConfigError, match="ctc"):
        next(iter(trainer.train(network(GRU(task.inputs, 3), task.outputs), task, 0)))


def test_a_solved_readout_refuses_it() -> None:
    with pytest.raises(ConfigError, match=r"ctc asks for a whole sequence\. Leave evolino out"):
        SolvedReadout(loss="ctc")


def test_of_the_baselines_only_the_one_that_needs_no_places_is_shown() -> None:
    task = tiny()
    (name,) = found = baselines(task)
    assert name == "persistence"
    share = np.bincount(task.train.targets[task.train.counts][:, 0].astype(int), minlength=5) / task.train.counted
    constant = torch.tensor(np.log(np.clip(share, 1e-3, 1))).expand(1, *task.test.counts.shape, 5)
    assert found[name]["test"] == pytest.approx(CTC(constant, batch(task.test)).item(), rel=1e-12)
