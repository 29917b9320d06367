"""Laws of every task, and of each one its own definition."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evo_rnn.cells import GRU, LSTM, Elman, IndRNN
from evo_rnn.errors import ConfigError
from evo_rnn.fitness import LOSSES, batch
from evo_rnn.network import network
from evo_rnn.tasks import TASKS
from evo_rnn.tasks.mackey_glass import integrate
from evo_rnn.tasks.strokes import CORNERS, WAYS
from evo_rnn.tasks.task import SPLITS, Sequences, Task
from evo_rnn.tasks.temporal_order import CLASSES, SYMBOLS

SMALL: dict[str, dict[str, Any]] = {
    "sunspots": {},
    "mackey_glass": {"length": 60, "sequences": 2, "transient": 50},
    "sines": {"length": 60},
    "adding": {"length": 12, "sequences": 6},
    "temporal_order": {"length": 20, "sequences": 8},
    "delayed_xor": {"length": 12, "sequences": 4, "delay": 2},
    "strokes": {"length": 3, "sequences": 8, "noise": 0.01},
    "embedded_reber": {"length": 40, "sequences": 8},  # short strings repeat, as in the paper
    "file": {"target": "y", "washout": 3},
}
DRAWN = ("mackey_glass", "adding", "temporal_order", "delayed_xor", "strokes")
SERIES = ("sunspots", "file")


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Task]:
    path = tmp_path_factory.mktemp("data") / "waves.csv"
    path.write_text("y\n" + "\n".join(str(np.sin(t) + t / 50) for t in range(60)))

    def made(name: str, **more: Any) -> Task:
        return TASKS[name](**({"path": path} if name == "file" else {}), **(SMALL[name] | more))

    return made


def test_every_task_is_tested() -> None:
    assert set(SMALL) == set(TASKS) == {*DRAWN, *SERIES, "embedded_reber", "sines"}


# --- laws -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TASKS)
def test_every_split_is_whole_and_finite(name: str, make: Callable[..., Task]) -> None:
    task = make(name)
    assert list(task.splits)[:3] == list(SPLITS)
    for data in task.splits.values():
        b, t = data.counts.shape
        assert data.inputs.shape == (b, t, task.inputs)
        assert data.targets.shape == (b, t, 1 if LOSSES[task.loss].classes else task.outputs)
        assert data.inputs.dtype == data.targets.dtype == np.float64
        assert data.counts.dtype == np.bool_
        assert np.isfinite(np.append(data.inputs, data.targets)).all()
        assert data.previous.size == 0 or data.previous.shape == data.targets.shape
        assert data.counted > 0


@pytest.mark.parametrize("name", TASKS)
def test_the_same_settings_give_the_same_data(name: str, make: Callable[..., Task]) -> None:
    assert make(name).digest() == make(name).digest()


@pytest.mark.parametrize("name", DRAWN)
def test_another_seed_gives_other_data_and_other_splits_are_other_streams(name: str, make: Callable[..., Task]) -> None:
    sequences = [x.tobytes() for seed in (0, 1) for data in make(name, seed=seed).splits.values() for x in data.inputs]
    assert len(set(sequences)) == len(sequences) == 6 * SMALL[name]["sequences"]


@pytest.mark.parametrize("name", SERIES)
def test_no_target_of_a_series_counts_in_two_splits(name: str, make: Callable[..., Task]) -> None:
    task = make(name)
    places = [set(np.flatnonzero(data.counts[0])) for data in (task.train, task.validation, task.test)]
    assert max(places[0]) < min(places[1])
    assert max(places[1]) < min(places[2])
    spans = [set(np.flatnonzero(data.counts[0])) for data in task.spans.values()]
    assert not spans or set.union(*spans) == places[2]


def answer_adding(data: Sequences) -> Any:
    return np.cumsum(data.inputs[..., :1] * data.inputs[..., 1:], axis=1)


def answer_order(data: Sequences) -> Any:
    """Remembers the last two relevant symbols, as an automaton would."""
    outputs = np.zeros((*data.counts.shape, 4))
    for b, sequence in enumerate(data.inputs):
        seen = ""
        for t, x in enumerate(sequence):
            symbol = SYMBOLS[x.argmax()] if x.any() else " "
            seen += symbol if symbol in "XY" else ""
            if symbol == "B":
                outputs[b, t, CLASSES.index(seen)] = 1000
    return outputs


def answer_xor(data: Sequences) -> Any:
    bits = data.inputs[..., 0].astype(int)
    return 1000 * np.eye(2)[bits ^ np.roll(bits, 2, axis=1)]


def answer_strokes(data: Sequences) -> Any:
    """Where the pen has stopped after moving, the corner that it has drawn; else nothing."""
    outputs = np.zeros((*data.counts.shape, 5))
    for b, sequence in enumerate(data.inputs):
        seen: list[int] = []
        for t, velocity in enumerate(sequence):
            if np.abs(velocity).max() > 0.5:
                seen.append(int((WAYS @ velocity).argmax()))
            outputs[b, t, 0] = 1000
            if seen and np.abs(velocity).max() < 0.5:
                outputs[b, t] = 1000 * np.eye(5)[CORNERS.index((seen[0], seen[-1])) + 1]
                seen = []
    return outputs


ORACLES: dict[str, Callable[[Sequences], Any]] = {
    "adding": answer_adding,
    "temporal_order": answer_order,
    "delayed_xor": answer_xor,
    "strokes": answer_strokes,
}


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_true_rule_has_no_loss(name: str, seed: int, make: Callable[..., Task]) -> None:
    task = make(name, seed=seed)
    for data in task.splits.values():
        outputs = torch.tensor(ORACLES[name](data))[None]
        loss = LOSSES[task.loss](outputs, batch(data))
        assert loss.item() < 1e-30
        assert LOSSES[task.loss](outputs.flip(1), batch(data)).item() > 0.01, "a wrong answer must have a loss"
        assert LOSSES[task.loss].share(outputs, batch(data), torch.full((task.outputs,), 1e-9)).item() == 1


@pytest.mark.parametrize(("name", "ahead"), [("sunspots", 1), ("mackey_glass", 6), ("file", 1)])
def test_the_target_of_a_forecast_is_the_input_that_comes_later(
    name: str, ahead: int, make: Callable[..., Task]
) -> None:
    for data in make(name).splits.values():
        np.testing.assert_array_equal(data.targets[:, :-ahead], data.inputs[:, ahead:])
        np.testing.assert_array_equal(data.previous, data.inputs)


@pytest.mark.parametrize("name", TASKS)
def test_the_digest_sees_every_split_and_every_array(name: str, make: Callable[..., Task]) -> None:
    task = make(name)
    digests = {task.digest(), replace(task, loss="other").digest(), replace(task, outputs=9).digest()}
    for part in SPLITS:
        data: Sequences = getattr(task, part)
        for field in ("inputs", "targets", "counts"):
            array = getattr(data, field).copy()
            array[0, 0] = ~array[0, 0] if field == "counts" else array[0, 0] + 1
            changed: Any = {part: replace(data, **{field: array})}
            digests.add(replace(task, **changed).digest())
    assert len(digests) == 3 + 3 * 3


@settings(deadline=None)
@given(steps=st.integers(0, 11), seed=st.integers(0, 50))
def test_washed_data_count_the_same_steps_but_the_first(steps: int, seed: int) -> None:
    counts = np.random.default_rng(seed).random((3, 12)) < 0.5
    counts[:, -1] = True
    data = Sequences(np.zeros((3, 12, 1)), np.zeros((3, 12, 1)), counts)
    washed = data.washed(steps)
    assert not washed.counts[:, :steps].any()
    np.testing.assert_array_equal(washed.counts[:, steps:], counts[:, steps:])
    np.testing.assert_array_equal(data.counts, counts)


@settings(deadline=None, max_examples=30)
@given(
    pad=st.integers(0, 6),
    garbage=st.sampled_from([0.0, 1.0, -1e30, np.nan]),
    cell=st.sampled_from([Elman(8, 3), LSTM(8, 2), GRU(8, 2), IndRNN(8, 3)]),
)
def test_what_follows_the_end_of_a_sequence_cannot_matter(pad: int, garbage: float, cell: Any) -> None:
    task = TASKS["temporal_order"](length=20, sequences=4)
    data = task.train
    over = np.cumsum(data.counts, axis=1) - data.counts > 0  # after the last symbol
    assert over.any(), "lengths should vary"
    inputs, targets = (np.pad(a, ((0, 0), (0, pad), (0, 0))) for a in (data.inputs, data.targets))
    inputs[np.pad(over, ((0, 0), (0, pad)), constant_values=True)] = garbage
    targets[np.pad(over, ((0, 0), (0, pad)), constant_values=True)] = garbage
    longer = Sequences(inputs, targets, np.pad(data.counts, ((0, 0), (0, pad))))
    net = network(cell, task.outputs)
    genes = torch.tensor(net.layout.draw(np.random.default_rng(0), 5), dtype=torch.float64)
    first, second = (LOSSES[task.loss](net.predict(genes, d.inputs), d) for d in (batch(data), batch(longer)))
    np.testing.assert_allclose(second, first, rtol=1e-12)


# --- definitions ----------------------------------------------------------------------------------------------------


def test_mackey_glass_equals_the_exact_solution_over_the_first_delay() -> None:
    """While the delayed value is the constant history h, x' = p - gamma x has a closed form."""
    h, t = np.array([1.1, 1.2, 1.3]), np.arange(1, 18)[:, None]
    rest = 0.2 * h / (1 + h**10) / 0.1
    np.testing.assert_allclose(integrate(h, 17), rest + (h - rest) * np.exp(-0.1 * t), atol=1e-9)


def test_mackey_glass_equals_an_adaptive_solver_over_the_second_delay() -> None:
    from scipy.integrate import solve_ivp

    h, rest = 1.2, 2 * 1.2 / (1 + 1.2**10)

    def slope(t: float, x: Any) -> Any:
        delayed = rest + (h - rest) * np.exp(-0.1 * (t - 17))
        return 0.2 * delayed / (1 + delayed**10) - 0.1 * x

    start = rest + (h - rest) * np.exp(-1.7)
    exact = solve_ivp(slope, (17, 34), [start], t_eval=np.arange(18, 35), rtol=1e-11, atol=1e-12).y[0]
    np.testing.assert_allclose(integrate(np.array([h]), 34)[17:, 0], exact, atol=1e-8)


def test_the_mackey_glass_integration_is_of_fourth_order() -> None:
    finest = integrate(np.array([1.2]), 100, substeps=40)
    coarse, fine = (np.abs(integrate(np.array([1.2]), 100, substeps=n) - finest).max() for n in (5, 10))
    assert coarse / fine > 12
    assert fine < 1e-7


def test_mackey_glass_is_on_its_attractor_and_scaled_by_the_training_part(make: Callable[..., Task]) -> None:
    task = make("mackey_glass", length=500, transient=300)
    raw = task.test.inputs * task.scaling["x"]["scale"] + task.scaling["x"]["shift"]
    assert 0.2 < raw.min() < raw.max() < 1.4
    assert raw.mean() == pytest.approx(0.93, abs=0.03)
    assert raw.std() == pytest.approx(0.226, abs=0.02)
    assert task.train.inputs.mean() == pytest.approx(0, abs=1e-12)
    assert task.train.inputs.std() == pytest.approx(1)
    assert not task.train.counts[:, :18].any()
    assert task.train.counts[:, 18:].all()


def test_adding_marks_two_different_places_and_counts_the_last_step_alone(make: Callable[..., Task]) -> None:
    data = make("adding", sequences=500).train
    numbers, marks = data.inputs[..., 0], data.inputs[..., 1]
    assert ((marks == 0) | (marks == 1)).all()
    assert (marks.sum(axis=1) == 2).all()
    assert marks.any(axis=0).all(), "any place can be marked"
    assert 0 <= numbers.min() < 0.01 < 0.99 < numbers.max() < 1
    assert np.flatnonzero(data.counts.any(axis=0)).tolist() == [11]
    assert data.counted == 500
    constant = LOSSES["mse"](torch.ones(1, 500, 12, 1), batch(data))
    assert constant.item() == pytest.approx(1 / 6, rel=0.15)


def test_temporal_order_has_the_ranges_of_the_paper() -> None:
    data = TASKS["temporal_order"](sequences=2000).train
    symbols = np.where(data.inputs.any(axis=2), data.inputs.argmax(axis=2), len(SYMBOLS))
    lengths = data.counts.argmax(axis=1) + 1
    assert set(lengths) == set(range(100, 111))
    assert data.counted == 2000
    assert set(data.targets[data.counts][:, 0]) == {0, 1, 2, 3}
    places = np.nonzero((symbols == SYMBOLS.index("X")) | (symbols == SYMBOLS.index("Y")))[1].reshape(2000, 2)
    assert set(places[:, 0]) == set(range(10, 21))
    assert set(places[:, 1]) == set(range(50, 61))
    for row, length in zip(symbols, lengths, strict=True):
        assert row[0] == SYMBOLS.index("E")
        assert (row == SYMBOLS.index("E")).sum() == (row == SYMBOLS.index("B")).sum() == 1
        assert row[length - 1] == SYMBOLS.index("B")
        assert (row[length:] == len(SYMBOLS)).all()
        assert (row[:length] < len(SYMBOLS)).all()


@pytest.mark.parametrize("delay", [1, 2, 5])
def test_delayed_xor_counts_from_the_first_step_that_has_an_answer(delay: int, make: Callable[..., Task]) -> None:
    data = make("delayed_xor", delay=delay).train
    bits, answers = data.inputs[..., 0], data.targets[..., 0]
    assert set(bits.ravel()) == {0, 1}
    np.testing.assert_array_equal(data.counts.all(axis=0), np.arange(12) >= delay)
    np.testing.assert_array_equal(answers[:, delay:], bits[:, delay:] != bits[:, :-delay])


# --- the public door ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("mackey_glass", {"length": 19}, "length should be at least 20"),
        ("mackey_glass", {"horizon": 0}, "horizon should be at least 1"),
        ("mackey_glass", {"transient": -1}, "transient should be at least 0"),
        ("adding", {"length": 1}, "length should be at least 2"),
        ("adding", {"sequences": 0}, "sequences should be at least 1"),
        ("temporal_order", {"length": 9}, "length should be at least 10"),
        ("delayed_xor", {"delay": 12}, "length should be at least 13"),
        ("strokes", {"length": 0}, "length should be at least 1"),
        ("strokes", {"labels": 1}, "labels should be from 2 to 12 but is 1"),
        ("strokes", {"labels": 13}, "labels should be from 2 to 12 but is 13"),
        ("strokes", {"noise": -0.1}, "noise should be at least 0"),
        ("sunspots", {"years": 3}, "sunspots takes no settings"),
        ("adding", {"lenght": 100}, "length, sequences, seed"),
        ("file", {"targets": "y"}, "path, target, inputs"),
    ],
)
def test_a_wrong_setting_is_refused_by_its_name(
    name: str, wrong: dict[str, Any], message: str, make: Callable[..., Task]
) -> None:
    with pytest.raises(ConfigError, match=message):
        make(name, **wrong)


def test_naming_the_tasks_imports_nothing_heavy() -> None:
    code = "import sys, evo_rnn.tasks; sys.exit(bool({'torch', 'numpy', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, check=False).returncode == 0
