"""The 1997 benchmark: grammar and generators against independent words, the hand-written rule against the estimator."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from evo_rnn.errors import ConfigError
from evo_rnn.network import Network
from evo_rnn.tasks.reber import SYMBOLS, coded, embedded_reber, embedded_string, predicted, successors
from trainers.gradient.estimator import Memory
from trainers.gradient.lstm1997 import LSTM1997
from trainers.gradient.rtrl import RTRL

BENCHMARKS = str(Path(__file__).parents[1] / "benchmarks")
# Written down from the paper's figure 3, as paths, not as a table: what lies between the two B and E of the inner part.
INNER = re.compile(r"B(T(S*)XX(T*)(VPX(T*))*(VV|VPS)|TS*XS|PT*(VPX(T*))*(VV|VPS))E")


@pytest.fixture(scope="module")
def bench() -> Iterator[dict[str, ModuleType]]:
    names = ("lstm1997", "lstm1997_rule", "lstm1997_tasks", "lstm1997_long_lag", "lstm1997_report")
    sys.path.insert(0, BENCHMARKS)
    import importlib

    yield {name: importlib.import_module(name) for name in names}
    sys.path.remove(BENCHMARKS)
    for name in names:
        del sys.modules[name]


def strings(count: int, seed: int = 0) -> list[str]:
    random = np.random.default_rng(seed)
    return [embedded_string(random) for _ in range(count)]


# --- the grammar ------------------------------------------------------------------------------------------------------


def test_every_string_is_of_the_grammar_and_keeps_its_outer_symbol() -> None:
    for string in strings(1000):
        assert string[0] + string[-1] == "BE"
        assert string[1] == string[-2]
        assert string[1] in "TP"
        assert INNER.fullmatch(string[2:-2])


def test_strings_are_as_frequent_as_even_odds_at_every_fork_make_them() -> None:
    drawn = strings(8000)
    assert np.mean([string.startswith("BTBTXSE") for string in drawn]) == pytest.approx(1 / 16, abs=0.015)
    assert np.mean([string[2:-2] == "BPVVE" for string in drawn]) == pytest.approx(1 / 8, abs=0.015)
    assert min(map(len, drawn)) == 9


def test_the_allowed_symbols_are_those_that_follow_the_same_beginning_in_some_string() -> None:
    drawn = strings(8000)
    seen: dict[str, set[str]] = {}
    for string in drawn:
        for end in range(1, len(string)):
            seen.setdefault(string[:end], set()).add(string[end])
    for string in drawn[:200]:
        allowed = [set(each) for each in successors(string)]
        assert len(allowed) == len(string) - 1
        assert allowed[-2:] == [{string[1]}, {"E"}]
        assert all(symbol in each for symbol, each in zip(string[1:], allowed, strict=True))
        assert all(seen[string[:end]] == allowed[end - 1] for end in range(1, min(len(string), 6)))


def test_the_task_predicts_the_next_symbol_and_keeps_training_strings_out_of_the_other_splits() -> None:
    task = embedded_reber(sequences=40, seed=3)
    read = {name: [spelt(*row) for row in zip(*arrays(data), strict=True)] for name, data in task.splits.items()}
    assert all(INNER.fullmatch(string[2:-2]) for each in read.values() for string in each)
    assert not set(read["train"]) & {*read["validation"], *read["test"]}
    assert len(set(read["train"])) < 40  # strings may repeat, as in the paper
    assert task.digest() == embedded_reber(sequences=40, seed=3).digest() != embedded_reber(sequences=40).digest()


def arrays(data: Any) -> tuple[Any, Any, Any]:
    return data.inputs, data.targets, data.counts


def spelt(inputs: Any, targets: Any, counts: Any) -> str:
    first = [SYMBOLS[k] for k in inputs[counts].argmax(axis=1)]
    following = [SYMBOLS[int(k)] for k in targets[counts, 0]]
    assert first[1:] == following[:-1]
    assert not inputs[~counts].any()
    return "".join(first) + following[-1]


def test_too_few_strings_are_refused_with_the_cure() -> None:
    with pytest.raises(ConfigError, match="Give a larger length or fewer sequences"):
        embedded_reber(length=9)


@pytest.mark.parametrize(
    ("outputs", "right"),
    [
        ([0.1, 0.6, 0.5, 0.2, 0.2, 0.2, 0.2], True),
        ([0.1, 0.6, 0.2, 0.2, 0.2, 0.2, 0.2], False),  # a tie with what is not allowed
        ([0.7, 0.6, 0.5, 0.2, 0.2, 0.2, 0.2], False),
        ([0.1, np.nan, 0.5, 0.2, 0.2, 0.2, 0.2], False),
    ],
)
def test_a_step_is_right_if_the_allowed_symbols_are_above_all_others(outputs: list[float], right: bool) -> None:
    assert bool(predicted(np.array(outputs), coded(["TP"])[0])) is right


# --- what the trials are shown ----------------------------------------------------------------------------------------


def test_every_trial_reads_whole_strings_of_its_own_set(bench: dict[str, ModuleType]) -> None:
    sets = [strings(5, seed) for seed in (1, 2)]
    stream = bench["lstm1997_tasks"].Strings(sets, 0)
    now, following, first = np.concatenate([stream.take(70, np.arange(2)) for _ in range(3)], axis=1)
    for row, known in enumerate(sets):
        begins = np.flatnonzero(first[:, row])
        for start, stop in pairwise(begins):
            symbols = [*now[start:stop, row], following[stop - 1, row]]
            assert "".join(SYMBOLS[k] for k in symbols) in known


def test_the_answer_of_the_adding_problem_is_the_scaled_sum_of_two_marked_numbers(bench: dict[str, ModuleType]) -> None:
    x, last, target = bench["lstm1997_tasks"].adding_block(np.random.default_rng(0), 200, 2)
    assert last.min() == 99
    assert last.max() == 109
    for k, row in np.ndindex(200, 2):
        numbers, marks = x[k, : last[k, row] + 1, row].T
        places = np.flatnonzero(marks == 1)
        assert len(places) == 2
        assert places[0] < 10 < 50 > places[1]
        assert marks[-1] == -1
        assert marks[0] == (1 if places[0] == 0 else -1)
        assert places[0] > 0 or numbers[0] == 0
        assert target[k, row, 0] == pytest.approx(0.5 + numbers[places].sum() / 4)


def test_the_class_of_temporal_order_is_which_came_first_and_second(bench: dict[str, ModuleType]) -> None:
    x, last, target = bench["lstm1997_tasks"].order_block(np.random.default_rng(0), 100, 2)
    for k, row in np.ndindex(100, 2):
        symbols = "".join("EBabcdXY"[s] for s in x[k, : last[k, row] + 1, row].argmax(axis=1))
        (first, one), (second, two) = [(found.start(), found.group()) for found in re.finditer("[XY]", symbols)]
        assert 10 <= first <= 20
        assert 50 <= second <= 60
        assert symbols[0] + symbols[-1] == "EB"
        assert ("XX", "XY", "YX", "YY")[target[k, row].argmax()] == one + two


# --- the rule ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "weights"),
    [
        ((7, 7, 4, 1, "gates"), 264),
        ((7, 7, 3, 2, "gates"), 276),
        ((2, 1, 2, 2, "all"), 93),
        ((8, 4, 2, 2, "all"), 156),
    ],
)
def test_networks_have_the_papers_numbers_of_weights(bench: dict[str, ModuleType], shape: Any, weights: int) -> None:
    assert bench["lstm1997_rule"].blocks(*shape).layout.size == weights


def test_the_network_of_experiment_2a_has_the_papers_number_of_weights(bench: dict[str, ModuleType]) -> None:
    assert bench["lstm1997_long_lag"].long_lag(101).layout.size == 10_504


def estimated(
    rule: Any, network: Network, genes: Any, steps: Any, rate: float
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The package's estimator and torch's SGD over (x, target, where new) of single symbols: last genes, all outputs."""
    theta = torch.tensor(genes, requires_grad=True)
    optimizer, outputs = torch.optim.SGD([theta], lr=rate), []
    memory: Memory = rule.begin(network.cell, network.recurrent(theta), 1)
    for x, target, new in steps:
        blank = rule.begin(network.cell, network.recurrent(theta), 1)
        flags = torch.tensor(new)
        memory = {k: torch.where(flags.view(-1, *[1] * (v.ndim - 1)), blank[k], v) for k, v in memory.items()}
        inputs = torch.tensor(x)[:, None, None]
        states, memory = rule.advance(network.cell, network.recurrent(theta), inputs, memory)
        output = network.read(theta, states)[:, 0, 0]
        optimizer.zero_grad()
        (0.5 * (output - torch.tensor(target)).square().sum()).backward()
        optimizer.step()
        outputs.append(output.detach().numpy())
    return theta.detach().numpy(), np.array(outputs)


@pytest.mark.parametrize("shape", [(7, 7, 3, 2, "gates"), (3, 2, 4, 1, "gates"), (2, 1, 2, 2, "all")])
def test_changes_after_every_symbol_are_those_of_the_estimator(bench: dict[str, ModuleType], shape: Any) -> None:
    rule, random = bench["lstm1997_rule"], np.random.default_rng(1)
    network = rule.blocks(*shape)
    genes = random.uniform(-1, 1, (3, network.layout.size))
    steps = [
        (random.normal(size=(3, shape[0])), random.random((3, shape[1])), random.random(3) < 0.2) for _ in range(25)
    ]
    theta, outputs = estimated(LSTM1997(), network, genes, steps, 0.5)
    net, ours = rule.Online(network, genes), []
    for x, target, new in steps:
        net.step(x, new)
        ours.append(net.outputs())
        net.learn(target, ours[-1], 0.5)
    assert np.abs(theta - genes).max() > 0.05  # alive
    np.testing.assert_allclose(np.array(ours), outputs, rtol=0, atol=1e-12)
    np.testing.assert_allclose(rule.packed(network, net.w), theta, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(8, 4, 2, 2, "all"), (3, 2, 3, 1, "gates")])
def test_changes_after_every_sequence_are_those_of_the_estimator(bench: dict[str, ModuleType], shape: Any) -> None:
    rule, random, by = bench["lstm1997_rule"], np.random.default_rng(2), LSTM1997()
    network = rule.blocks(*shape)
    genes = random.uniform(-1, 1, (3, network.layout.size))
    net, theta = rule.AtEnd(network, genes), torch.tensor(genes, requires_grad=True)
    optimizer = torch.optim.SGD([theta], lr=0.5)
    for _ in range(4):
        x, last, target = random.normal(size=(11, 3, shape[0])), random.integers(5, 11, 3), random.random((3, shape[1]))
        ours = net.sweep(x, last, target, 0.5)
        inputs = torch.tensor(x.transpose(1, 0, 2))[:, None]
        memory = by.begin(network.cell, network.recurrent(theta), 1)
        states, _ = by.advance(network.cell, network.recurrent(theta), inputs, memory)
        output = network.read(theta, states)[torch.arange(3), 0, torch.tensor(last)]
        np.testing.assert_allclose(ours, output.detach().numpy(), rtol=0, atol=1e-12)
        optimizer.zero_grad()
        (0.5 * (output - torch.tensor(target)).square().sum()).backward()
        optimizer.step()
    assert np.abs(theta.detach().numpy() - genes).max() > 0.02
    np.testing.assert_allclose(rule.packed(network, net.w), theta.detach().numpy(), rtol=0, atol=1e-12)


def test_changes_of_the_long_lag_network_are_exact(bench: dict[str, ModuleType]) -> None:
    lag, random = bench["lstm1997_long_lag"], np.random.default_rng(3)
    network, both = lag.long_lag(5), lag.two_sequences(4)
    genes = random.uniform(-1, 1, (3, network.layout.size))
    net, steps = lag.Long(genes, 5), []
    for _ in range(6):
        chosen = both[random.integers(2, size=3)]
        net.begin()
        for k in range(4):
            net.step(chosen[:, k], chosen[:, k + 1], 1.0)
            steps.append((np.eye(5)[chosen[:, k]], np.eye(5)[chosen[:, k + 1]], np.full(3, k == 0)))
    theta, _ = estimated(RTRL(), network, genes, steps, 1.0)
    out = np.concatenate([net.out[:, :, None], net.links.transpose(0, 2, 1)], axis=2).reshape(3, -1)
    assert np.abs(theta - genes).max() > 0.5
    np.testing.assert_allclose(np.concatenate([net.cell, net.gate, out], axis=1), theta, rtol=0, atol=1e-12)
    answers = network.predict(torch.tensor(theta), torch.tensor(np.eye(5)[both[:, :-1]])).numpy()
    worst = np.abs(answers - np.eye(5)[both[:, 1:]]).max(axis=(1, 2, 3))
    np.testing.assert_allclose(net.worst(both), worst, rtol=0, atol=1e-12)


# --- the table --------------------------------------------------------------------------------------------------------


def test_the_interval_of_a_share_is_wilsons(bench: dict[str, ModuleType]) -> None:
    assert bench["lstm1997_report"].wilson(9, 30) == pytest.approx((0.1666, 0.4788), abs=1e-4)
    assert bench["lstm1997_report"].wilson(30, 30) == pytest.approx((0.8865, 1.0), abs=1e-4)


def test_a_bounded_run_ends_by_itself_and_prints_the_table(
    bench: dict[str, ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        bench["lstm1997"].main(["all", "--trials", "2", "--sequences", "12", "--jobs", "1", "--out", str(tmp_path)])
        == 0
    )
    text = capsys.readouterr().out
    found = json.loads((tmp_path / "lstm1997.json").read_text())
    assert [each["weights"] for each in found] == [276, 264, 10_504, 10_504, 93, 156]
    assert all(each["trials"] == 2 and each["presented"] >= 12 and not each["counts"] for each in found)
    assert text.count("none solved") == 12
    assert "by the bound on sequences" in text
    assert (tmp_path / "lstm1997.md").read_text().startswith("| experiment")


def test_solved_trials_leave_and_the_others_go_on(bench: dict[str, ModuleType], monkeypatch: Any) -> None:
    module = bench["lstm1997"]
    answers = iter([np.array([True, False]), np.array([True])])
    monkeypatch.setattr(module, "_all_predicted", lambda *_: next(answers))
    outcome = module.EXPERIMENTS["reber"][0](module.Bounds(2, 60.0, 0, 0))
    assert len(outcome.counts) == 2
    assert outcome.counts[0] < outcome.counts[1]
    assert outcome.presented == 0


def test_a_goal_is_reached_after_enough_right_sequences_and_then_tested(
    bench: dict[str, ModuleType], monkeypatch: Any
) -> None:
    module = bench["lstm1997"]
    monkeypatch.setattr(module, "RECENT", 3)
    easy = replace(module.ADDING, within=1.0, error=1.0)  # whatever is answered is right
    outcome = module.at_end(module.Bounds(2, 60.0, 0, 0), easy, 0.5)
    assert outcome.counts == (3, 3)
    assert outcome.wrong == (0, 0)
    assert "fewer" not in bench["lstm1997_report"].gap(outcome)


def test_a_run_ends_by_the_clock(bench: dict[str, ModuleType]) -> None:
    module = bench["lstm1997"]
    outcome = module.EXPERIMENTS["adding"][0](module.Bounds(2, 0.2, 0, 0))
    assert outcome.stopped == "seconds"
    assert not outcome.counts
    assert "bound on seconds" in bench["lstm1997_report"].gap(outcome)
