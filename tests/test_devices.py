"""Where evaluators compute: chunks of blocks, memory that runs out, shares of a GPU, and the same bits all the same."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from evo_rnn.cells import CTRNN, FRNN, GRU, LSTM, Elman, IndRNN, Stack
from evo_rnn.errors import RetryError
from evo_rnn.evaluation import devices, evaluator, shard
from evo_rnn.evaluation.engines import Engine, Fused, block_of, chosen, engine_for
from evo_rnn.evaluation.evaluator import LocalEvaluator
from evo_rnn.evaluation.ray_evaluator import RayEvaluator
from evo_rnn.network import Identity, Network, network
from evo_rnn.tasks.task import Sequences

CELLS: dict[str, Any] = {
    "elman": Elman,
    "frnn": lambda i, h: FRNN(i, h, visible=(h + 1) // 2),
    "lstm": lambda i, h: LSTM(i, h, peepholes=True),
    "gru after": GRU,
    "gru before": lambda i, h: GRU(i, h, reset="before"),
    "indrnn tanh": lambda i, h: IndRNN(i, h, activation="tanh"),
    "indrnn relu": IndRNN,
    "stack": lambda i, h: Stack((GRU(i, h), LSTM(h, 4), Elman(4, h))),
    "ctrnn": CTRNN,
}
SHAPES = [(1, 1), (5, 1), (16, 4), (33, 2), (8, 33)]  # hidden, sequences: lanes, lanes or row, row, row, column
GPU = pytest.param(
    "cuda",
    marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")],
)
every_device = pytest.mark.parametrize("device", ["cpu", GPU])


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def data(batch: int, steps: int = 9, outputs: int = 2) -> Sequences:
    rng = np.random.default_rng(1)
    counts = rng.random((batch, steps)) < 0.8
    counts[0, 0] = True
    return Sequences(rng.normal(size=(batch, steps, 2)), rng.normal(size=(batch, steps, outputs)), counts)


def case(kind: str, hidden: int, batch: int) -> tuple[Network, Sequences, Tensor]:
    net, split = network(CELLS[kind](2, hidden), 2), data(batch)
    return net, split, torch.as_tensor(split.inputs, dtype=torch.float32)


def genes_of(net: Network, count: int) -> Any:
    return net.layout.draw(np.random.default_rng(0), count, 2.0)


# --- chunks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize(("hidden", "batch"), SHAPES)
def test_how_many_blocks_a_call_takes_does_not_change_a_bit(kind: str, hidden: int, batch: int) -> None:
    net, _, inputs = case(kind, hidden, batch)
    one, four = engine_for(net, inputs), engine_for(net, inputs, blocks=4)
    assert one.block == four.block
    if four.chunk == four.block:
        assert not isinstance(four, Fused) or four.plane.order == "lanes"
        return
    assert four.chunk == 4 * four.block
    genes = torch.from_numpy(genes_of(net, four.chunk))
    alone = torch.cat([one(part).clone() for part in genes.split(one.block)])
    assert alone.std() > 0
    assert torch.equal(four(genes), alone)


def test_rows_and_columns_take_several_blocks() -> None:
    orders = set()
    for kind, (hidden, batch) in product(("elman", "lstm"), SHAPES):
        net, _, inputs = case(kind, hidden, batch)
        engine = Fused(net, inputs, 4)
        orders.add((engine.plane.order, engine.chunk // engine.block))
    assert orders == {("lanes", 1), ("row", 4), ("column", 4)}


@pytest.mark.parametrize(("hidden", "batch"), [(16, 4), (8, 33)])
def test_every_product_is_of_one_block_whatever_the_chunk(hidden: int, batch: int) -> None:
    net, _, inputs = case("lstm", hidden, batch)
    for blocks in (1, 4):
        engine = Fused(net, inputs, blocks)
        layer = engine.layers[0]
        products = engine.plane.product(layer.weights[0], layer.states[0], layer.results[0][0])
        assert len(products) == blocks
        for call in products:
            assert isinstance(call, partial)
            assert {len(each) for each in (*call.args, call.keywords["out"])} == {engine.block}


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize(("hidden", "batch"), SHAPES)
def test_the_block_is_known_without_an_engine(kind: str, hidden: int, batch: int) -> None:
    net, _, inputs = case(kind, hidden, batch)
    assert block_of(net, batch, chosen(net, inputs), "cpu") == engine_for(net, inputs).block
    assert block_of(net, batch, chosen(net, inputs), "cuda") % block_of(net, batch, chosen(net, inputs), "cpu") == 0


# --- memory that runs out -----------------------------------------------------------------------------------------------


class Short:
    """Engines that have room for so many blocks, and say what they were asked for."""

    def __init__(self, room: int, when: str) -> None:
        self.room, self.when, self.log = room, when, list[int]()

    def make(self, model: Network, inputs: Tensor, name: str, blocks: int = 1) -> Engine:
        inner = engine_for(model, inputs, name, blocks)
        self.refuse("making", blocks)
        short = self

        class Seen:
            block, chunk = inner.block, inner.chunk

            def __call__(self, genes: Tensor) -> Tensor:
                short.log.append(len(genes) // inner.block)
                short.refuse("running", len(genes) // inner.block)
                return inner(genes)

        return Seen()

    def refuse(self, when: str, blocks: int) -> None:
        if self.when == when and blocks > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. (not really)")


@pytest.mark.parametrize("when", ["making", "running"])
@pytest.mark.parametrize(
    ("blocks", "room", "left"), [(1, 1, 1), (2, 1, 1), (8, 8, 8), (8, 3, 2), (64, 1, 1), (64, 4, 4), (5, 2, 2)]
)
@pytest.mark.parametrize("kind", ["elman", "stack"])
def test_halving_when_memory_runs_out_changes_no_loss(
    kind: str, blocks: int, room: int, left: int, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, split, _ = case(kind, 8, 33)
    block = LocalEvaluator(net, split).block
    genes = genes_of(net, 5 * block + 3)
    expected = LocalEvaluator(net, split)(genes)
    assert len(set(expected.tolist())) > len(genes) - 3
    short = Short(room, when)
    monkeypatch.setattr(evaluator, "engine_for", short.make)
    scorer = LocalEvaluator(net, split, blocks=blocks)
    np.testing.assert_array_equal(scorer(genes), expected)
    assert max(short.log) <= blocks
    assert scorer.blocks == left, "halved, and no more often than needed"
    tried, short.log = short.log, []
    np.testing.assert_array_equal(scorer(genes, (1, 2, 3)), LocalEvaluator(net, split)(genes, (1, 2, 3)))
    assert max(short.log) <= room, "what was learned about the memory is kept"
    assert len(tried) >= 6 / min(blocks, room, 8)


def test_one_block_that_does_not_fit_is_an_error_with_a_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    net, split, _ = case("elman", 8, 33)
    monkeypatch.setattr(evaluator, "engine_for", Short(0, "running").make)
    with pytest.raises(RetryError, match=r"one block of \d+ networks.*minibatch.*gpus_per_worker"):
        LocalEvaluator(net, split, blocks=8)(genes_of(net, 700))


def test_an_error_of_another_kind_is_not_taken_for_one_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    net, split, _ = case("elman", 8, 33)
    scorer = LocalEvaluator(net, split, blocks=8)
    monkeypatch.setattr(evaluator, "_scored", lambda *_: (_ for _ in ()).throw(RuntimeError("broken")))
    with pytest.raises(RuntimeError, match="broken"):
        scorer(genes_of(net, 5))


def test_on_a_processor_one_block_is_scored_at_once() -> None:
    net, split, _ = case("elman", 8, 33)
    assert LocalEvaluator(net, split).blocks == 1


# --- which device -------------------------------------------------------------------------------------------------------


def test_auto_is_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices.found("cuda:1") == "cuda:1"
    for there, expected in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert devices.found("auto") == expected


def test_where_no_worker_sees_a_gpu_all_compute_on_cpus_and_say_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    net, split, _ = case("elman", 8, 33)
    genes, spread = genes_of(net, 300), RayEvaluator(net, split, workers=0, device="auto")
    with pytest.warns(RuntimeWarning, match=r"no worker sees a GPU.*gpus_per_worker"):
        losses = spread(genes)
    np.testing.assert_array_equal(losses, LocalEvaluator(net, split)(genes))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(spread(genes), losses)


def test_workers_of_two_kinds_all_go_to_cpus_so_that_luck_decides_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    net, split, _ = case("elman", 8, 33)
    genes, spread = genes_of(net, 3000), RayEvaluator(net, split, workers=0, device="auto")
    spread.workers, real = 2, shard.score

    def mixed(cache: Any, genes: Any, start: int, stop: int, device: str, sequences: tuple[int, ...]) -> Any:
        losses, seconds, kind = real(cache, genes, start, stop, "cpu", sequences)
        return (losses + 1e-6, seconds, "cuda") if device == "auto" and start == 0 else (losses, seconds, kind)

    mixed.__module__ = shard.__name__
    monkeypatch.setattr(shard, "score", mixed)
    spread.pool._cache.kept.clear()  # type: ignore[attr-defined]
    from evo_rnn.evaluation.worker import resolve

    resolve.cache_clear()
    with pytest.warns(RuntimeWarning, match="a worker sees no GPU"):
        losses = spread(genes)
    resolve.cache_clear()
    np.testing.assert_array_equal(losses, LocalEvaluator(net, split)(genes))


def test_products_are_in_full_precision_inside_and_as_before_outside() -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with devices.full_precision():
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cuda.matmul.allow_tf32
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize(
    ("device", "share", "bounds"),
    [("cuda", 0.5, [(0.5, "cuda:0")]), ("cuda:1", 0.25, [(0.25, "cuda:1")]), ("cuda", 1, []), ("cpu", 0.5, [])],
)
def test_a_worker_keeps_to_its_share_of_the_memory(
    device: str, share: float, bounds: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda *bound: seen.append(bound))
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    devices.take_share(device, share)
    assert seen == bounds


# --- the laws, on every device there is -----------------------------------------------------------------------------------


@every_device
@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize(("hidden", "batch"), SHAPES)
def test_losses_are_those_of_the_cpu(device: str, kind: str, hidden: int, batch: int) -> None:
    net, split, _ = case(kind, hidden, batch)
    genes = net.layout.draw(np.random.default_rng(0), 40)
    np.testing.assert_allclose(
        LocalEvaluator(net, split, device=device)(genes), LocalEvaluator(net, split)(genes), 1e-5
    )


@every_device
@pytest.mark.parametrize("kind", CELLS)
def test_neither_chunks_nor_company_nor_cuts_change_a_bit(device: str, kind: str) -> None:
    net, split, _ = case(kind, 16, 10)
    scorer = LocalEvaluator(net, split, device=device)
    genes = genes_of(net, 3 * scorer.block + 5)
    losses = scorer(genes)
    for blocks in (1, 2):
        np.testing.assert_array_equal(LocalEvaluator(net, split, device=device, blocks=blocks)(genes), losses)
    order = np.random.default_rng(2).permutation(len(genes))
    np.testing.assert_array_equal(scorer(genes[order]), losses[order])
    np.testing.assert_array_equal(scorer(genes[-1:]), losses[-1:])
    for workers in (1, 2):
        spread = RayEvaluator(net, split, workers=0, device=device)
        spread.workers = workers
        np.testing.assert_array_equal(spread(genes), losses)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_losses_do_not_depend_on_tf32_being_allowed() -> None:
    net, split, _ = case("elman", 64, 33)
    genes = genes_of(net, 200)
    losses = LocalEvaluator(net, split, device="cuda")(genes)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        np.testing.assert_array_equal(LocalEvaluator(net, split, device="cuda")(genes), losses)
    finally:
        torch.set_float32_matmul_precision(before)


def test_an_identity_readout_takes_chunks_too() -> None:
    net, inputs = Network(Elman(2, 16), Identity(16)), torch.randn(4, 9, 2)
    four = Fused(net, inputs, 4)
    genes = torch.from_numpy(genes_of(net, four.chunk))
    one = Fused(net, inputs)
    assert torch.equal(four(genes), torch.cat([one(part).clone() for part in genes.split(one.block)]))
