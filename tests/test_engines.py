"""Engines: the fused one against float64, and the law that neither slot, neighbours nor blocks change a bit."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from evo_rnn.cells import FRNN, GRU, LSTM, Elman, IndRNN, Stack
from evo_rnn.cells.cell import Cell
from evo_rnn.errors import ConfigError
from evo_rnn.evaluation.engines import ENGINES, Fused, Plain, engine_for
from evo_rnn.evaluation.evaluator import LocalEvaluator
from evo_rnn.network import Identity, Network, network
from evo_rnn.tasks.task import Sequences


def masked(inputs: int, hidden: int) -> FRNN:
    """Every third link is absent; half of the units are outputs."""
    rows = ("".join("01"[(i + j) % 3 > 0] for j in range(inputs + hidden)) for i in range(hidden))
    return FRNN(inputs, hidden, visible=(hidden + 1) // 2, mask=tuple(rows))


CELLS: dict[str, Any] = {
    "elman": Elman,
    "frnn": FRNN,
    "frnn masked": masked,
    "lstm": LSTM,
    "lstm peepholes": lambda i, h: LSTM(i, h, peepholes=True),
    "gru after": GRU,
    "gru before": lambda i, h: GRU(i, h, reset="before"),
    "indrnn tanh": lambda i, h: IndRNN(i, h, activation="tanh"),
    "indrnn relu": IndRNN,
    "stack": lambda i, h: Stack((GRU(i, h), LSTM(h, 4), masked(4, h))),
    "stack of indrnn": lambda i, h: Stack((IndRNN(i, h, activation="tanh"), IndRNN(h, 3))),
}
every_kind = pytest.mark.parametrize("kind", CELLS)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As every evaluator runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def inputs_of(batch: int, time: int, fan: int = 2, seed: int = 1) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((batch, time, fan), dtype=np.float32))


def genes_of(net: Network, count: int, seed: int = 0, spread: float = 2.0) -> Tensor:
    return torch.from_numpy(net.layout.draw(np.random.default_rng(seed), count, spread))


# --- parity ---------------------------------------------------------------------------------------------------------


def error_of_mse(net: Network, inputs: Tensor, spread: float = 2.0, count: int = 3) -> float:
    """The largest relative error of the fused engine's MSE to random targets, against float64."""
    engine = Fused(net, inputs)
    genes = genes_of(net, engine.block, spread=spread)
    exact = net.predict(genes[:count].double(), inputs.double())
    targets = torch.from_numpy(np.random.default_rng(2).standard_normal(exact.shape[1:]))
    ours, theirs = (
        (outputs - targets).square().mean(dim=(1, 2, 3)) for outputs in (engine(genes)[:count].double(), exact)
    )
    assert exact.std() > 0, "a constant answer proves nothing"
    return float(((ours - theirs).abs() / theirs).max())


@every_kind
@pytest.mark.parametrize(
    ("hidden", "batch"), [(1, 1), (5, 1), (5, 33), (8, 7), (16, 8), (33, 2), (33, 64), (64, 1), (64, 33)]
)
def test_fused_equals_float64(kind: str, hidden: int, batch: int) -> None:
    assert error_of_mse(network(CELLS[kind](2, hidden), 3), inputs_of(batch, 9)) < 2e-6


@every_kind
@settings(max_examples=15, deadline=None)
@given(
    fan=st.integers(1, 4),
    hidden=st.integers(2, 20),
    outputs=st.integers(0, 4),
    batch=st.integers(1, 40),
    time=st.integers(1, 40),
)
def test_fused_equals_float64_for_any_shape(
    kind: str, fan: int, hidden: int, outputs: int, batch: int, time: int
) -> None:
    cell = CELLS[kind](fan, hidden)
    net = network(cell, outputs) if outputs else Network(cell, Identity(cell.outputs))
    assert error_of_mse(net, inputs_of(batch, time, fan)) < 1e-5


@every_kind
@pytest.mark.parametrize(("hidden", "batch", "time"), [(3, 1, 700), (4, 300, 5), (16, 530, 3)])
def test_long_sequences_and_large_batches_go_in_windows_and_chunks(
    kind: str, hidden: int, batch: int, time: int
) -> None:
    net, inputs = network(CELLS[kind](2, hidden), 1), inputs_of(batch, time)
    engine = Fused(net, inputs)
    assert len(engine.layers[0].states) < time + 1 or engine.plane.batch < batch
    assert error_of_mse(net, inputs, spread=1.0) < 1e-5


# --- the law: a chromosome's result is its own ----------------------------------------------------------------------


def broken(count: int, size: int) -> Tensor:
    """Chromosomes of NaN, of infinities, and of numbers that overflow, in turn."""
    return torch.tensor([torch.nan, torch.inf, -3e38])[torch.arange(count) % 3][:, None].repeat(1, size)


@every_kind
@pytest.mark.parametrize("hidden", [1, 5, 8, 16, 33, 64])
@pytest.mark.parametrize("batch", [1, 2, 7, 8, 33, 64])
def test_neither_the_slot_nor_the_neighbours_change_a_bit(kind: str, hidden: int, batch: int) -> None:
    net = network(CELLS[kind](2, hidden), 1)
    engine = Fused(net, inputs_of(batch, 3))
    genes = genes_of(net, engine.block)
    alone = engine(genes)[3].clone()
    assert alone.isfinite().all()
    assert alone.std() > 0
    odd = torch.arange(engine.block) % 2 == 1
    for here in (odd, ~odd):
        crowd = broken(engine.block, net.layout.size)
        crowd[here] = genes[3]
        assert (engine(crowd)[here] == alone).all()


@every_kind
@pytest.mark.parametrize(("hidden", "batch"), [(5, 1), (33, 1), (16, 4), (8, 33)])
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_losses_do_not_depend_on_order_company_or_blocks(kind: str, hidden: int, batch: int, loss: str) -> None:
    rng, net = np.random.default_rng(3), network(CELLS[kind](2, hidden), 3)
    targets = (
        rng.integers(0, 3, (batch, 12, 1)).astype(float) if loss == "cross_entropy" else rng.normal(size=(batch, 12, 3))
    )
    counts = rng.random((batch, 12)) < 0.7
    evaluator = LocalEvaluator(net, Sequences(inputs_of(batch, 12).double().numpy(), targets, counts), loss)
    genes = genes_of(net, 2 * evaluator.block + 3).numpy()
    losses = evaluator(genes)
    assert len(set(losses.tolist())) == len(losses)
    shuffled = rng.permutation(len(genes))
    np.testing.assert_array_equal(evaluator(genes[shuffled]), losses[shuffled])
    last = len(genes) - 1
    np.testing.assert_array_equal(evaluator(genes[last:]), losses[last:])
    np.testing.assert_array_equal(evaluator(genes[5 : 5 + evaluator.block]), losses[5 : 5 + evaluator.block])


@every_kind
def test_a_call_remembers_nothing_of_the_one_before(kind: str) -> None:
    cell = CELLS[kind](2, 6)
    for batch, net in product((1, 6, 20), (network(cell, 2), Network(cell, Identity(cell.outputs)))):
        engine = Fused(net, inputs_of(batch, 40))
        genes = genes_of(net, engine.block)
        first = engine(genes).clone()
        engine(broken(engine.block, net.layout.size))
        assert torch.equal(engine(genes), first)


def test_an_overflow_invalidates_that_network_alone() -> None:
    net = network(IndRNN(2, 5), 1)
    data = Sequences(inputs_of(4, 60).double().numpy(), np.zeros((4, 60, 1)), np.ones((4, 60), dtype=bool))
    genes = genes_of(net, 40, spread=1.0).numpy()
    clean = LocalEvaluator(net, data)(genes)
    genes[7] = 50.0
    losses = LocalEvaluator(net, data)(genes)
    assert losses[7] == np.inf
    assert np.isfinite(clean).all()
    np.testing.assert_array_equal(np.delete(losses, 7), np.delete(clean, 7))


def test_read_only_chromosomes_are_welcome() -> None:
    net = network(Elman(2, 3), 1)
    data = Sequences(np.ones((1, 5, 2)), np.ones((1, 5, 1)), np.ones((1, 5), dtype=bool))
    genes = genes_of(net, 2).numpy()
    genes.flags.writeable = False
    assert LocalEvaluator(net, data)(genes).shape == (2,)


# --- which engine ---------------------------------------------------------------------------------------------------


@every_kind
@settings(max_examples=10, deadline=None)
@given(hidden=st.integers(2, 300), batch=st.integers(1, 600), time=st.integers(1, 12))
def test_the_block_is_a_function_of_the_network_and_the_shape_of_the_data(
    kind: str, hidden: int, batch: int, time: int
) -> None:
    net = network(CELLS[kind](2, hidden), 1)
    blocks = {Fused(net, inputs_of(batch, time, seed=seed)).block for seed in (1, 2)}
    assert len(blocks) == 1
    assert blocks <= {16, 32, 64, 128}


def test_auto_takes_the_fused_engine_where_it_knows_the_network() -> None:
    stack: Cell = Stack((Elman(2, 3), GRU(3, 3)))
    nested: Cell = Stack((stack, Elman(3, 3)))
    assert isinstance(engine_for(network(Elman(2, 3), 1), inputs_of(2, 3)), Fused)
    assert isinstance(engine_for(network(stack, 1), inputs_of(2, 3)), Fused)
    assert isinstance(engine_for(network(nested, 1), inputs_of(2, 3)), Plain)
    assert isinstance(engine_for(network(Elman(2, 3), 1), inputs_of(2, 3), "plain"), Plain)


def test_unknown_inputs_at_steps_that_do_not_count_cannot_matter() -> None:
    rng, net = np.random.default_rng(0), network(Elman(2, 3), 1)
    inputs, targets, counts = rng.normal(size=(2, 6, 2)), rng.normal(size=(2, 6, 1)), np.ones((2, 6), dtype=bool)
    counts[0, 4:] = False
    losses = []
    for unknown in (0.0, np.nan):
        inputs[0, 4:] = unknown
        losses.append(LocalEvaluator(net, Sequences(inputs, targets, counts))(genes_of(net, 3).numpy()))
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)


@pytest.mark.parametrize("name", ["fast", "", "Fused"])
def test_an_unknown_engine_is_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigError, match=f"fused.*plain.*{name!r}"):
        engine_for(network(Elman(2, 3), 1), inputs_of(2, 3), name)


def test_the_fused_engine_refuses_what_it_cannot_run() -> None:
    stack: Cell = Stack((Stack((Elman(2, 3), GRU(3, 3))), Elman(3, 3)))
    for net, inputs in ((network(stack, 1), inputs_of(2, 3)), (network(Elman(2, 3), 1), inputs_of(2, 3) / 0)):
        with pytest.raises(ConfigError, match="auto"):
            ENGINES["fused"](net, inputs)


def test_the_plain_engine_is_the_exact_one_for_tiny_signals() -> None:
    net, inputs = network(Elman(2, 8), 1), inputs_of(3, 9)
    genes = {name: genes_of(net, engine_for(net, inputs, name).block, spread=1.0) * 1e-5 for name in ENGINES}
    exact = net.predict(genes["plain"][:4].double(), inputs.double())
    errors = {name: (engine_for(net, inputs, name)(genes[name])[:4] - exact).abs().max() for name in ENGINES}
    assert errors["plain"] < 1e-6 * exact.abs().max()
    assert errors["fused"] < 1e-6


# --- the benchmark --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Elman", "LSTM", "GRU"])
def test_the_benchmark_compares_equals(name: str) -> None:
    path = Path(__file__).parent.parent / "benchmarks" / "bench_evaluation.py"
    spec = importlib.util.spec_from_file_location("bench_evaluation", path)
    assert spec is not None
    assert spec.loader is not None
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    net, inputs = network(bench.LAYERS[name][0](4, 5), 1), inputs_of(3, 7, fan=4)
    genes = genes_of(net, 2)
    ours = net.predict(genes, inputs)
    theirs = bench.bmm(name, net, genes, inputs).unflatten(1, (7, 3)).transpose(1, 2)
    assert ours.std() > 0
    torch.testing.assert_close(theirs, ours)
