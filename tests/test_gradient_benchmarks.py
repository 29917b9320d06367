"""What the gradient benchmarks compare: contenders that agree, and a task whose floors are true."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from evo_rnn.cells import GRU, LSTM, Elman
from evo_rnn.cells.cell import Cell
from trainers.gradient import BPTT, SnAp
from trainers.gradient.estimator import layout_of


def loaded(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent.parent / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)  # dataclasses look there
    monkeypatch.setenv("KINETO_LOG_LEVEL", "99")  # set at import: taken back at the end
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("cell", [Elman(8, 5), LSTM(8, 3), GRU(8, 4)], ids=["elman", "lstm", "gru"])
def test_the_naive_contender_is_rtrl(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = loaded("bench_gradient", monkeypatch)
    genes, x = torch.randn(1, layout_of(cell).size, dtype=torch.float64) / 2, torch.randn(1, 9, 8, dtype=torch.float64)
    expected = bench.gradient(BPTT(), cell, genes, x)
    assert expected.norm() > 1e-3
    torch.testing.assert_close(bench.naive(cell, genes, x), expected, rtol=1e-12, atol=1e-12)


def test_contenders_that_differ_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = loaded("bench_gradient", monkeypatch)
    monkeypatch.setitem(bench.RULES, "rtrl", SnAp())
    with pytest.raises(SystemExit, match="rtrl differs from bptt"):
        bench.contenders(Elman(8, 8), 1)


def test_the_floors_of_the_add_task_are_those_of_its_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    task = loaded("add_task", monkeypatch)
    known = [(False, False), (True, False), (False, True), (True, True)]
    assert [round(task.floor(each), 4) for each in known] == [0.6616, 0.5192, 0.6277, 0.4545]
    pieces = list(task.stream(2, 40_000))
    coins, y = (torch.cat(each, dim=2)[:, 0, :, 0].double() for each in zip(*pieces, strict=True))
    assert len(pieces) > 1
    torch.testing.assert_close(y[:, 9:], 0.5 + 0.5 * coins[:, 4:-5] - 0.25 * coins[:, :-9])
    assert not torch.equal(*coins)  # each seed has its own
    later, earlier, y = (part.flatten() for part in (coins[:, 4:-5], coins[:, :-9], y[:, 9:]))
    for each, floor in zip(known, map(task.floor, known), strict=True):
        seen = sum(
            (2**k * coin for k, (coin, there) in enumerate(zip((later, earlier), each, strict=True)) if there), 0 * y
        )
        best = torch.stack([y[seen == value].mean() for value in range(4) if (seen == value).any()])
        answer = best[torch.unique(seen, return_inverse=True)[1]]
        surprise = -(torch.xlogy(y, answer) + torch.xlogy(1 - y, 1 - answer)).mean()
        assert abs(float(surprise) - floor) < 0.005


def test_the_add_task_is_learned_a_little_in_a_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    task = loaded("add_task", monkeypatch)
    monkeypatch.setattr(task, "LAST", 100)
    before, after = (task.learned("rtrl", *task.rules(1)["rtrl"], 1, steps, 4) for steps in (100, 1000))
    assert after.loss[0] < before.loss[0] - 0.02
    assert 0.3 < after.own[0] < 0.6
