"""The one loop of the user, and its cost: plain PyTorch, any optimizer, weights that change; only the rule's name differs."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from evo_rnn.cells import CTRNN, GRU, LSTM, Cell, Elman, IndRNN, MemoryBlocks
from evo_rnn.errors import ConfigError
from evo_rnn.layout import Layout
from evo_rnn.network import Network, network
from evo_rnn.threads import one_thread
from trainers.gradient import BPTT, ESTIMATORS, RTRL, Estimator, Hybrid
from trainers.gradient.estimator import Memory

PEOPLE, BATCH, CHUNK, DELAY, LONG = 2, 4, 5, 2, 130
CANDIDATES: tuple[Cell, ...] = (Elman(1, 6), CTRNN(1, 6), IndRNN(1, 6, "tanh"), LSTM(1, 6), MemoryBlocks(1, 2, 2))
Optimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
OPTIMIZERS: dict[str, Optimizer] = {
    "Adam": lambda genes: torch.optim.Adam(genes, lr=0.02),
    "SGD": lambda genes: torch.optim.SGD(genes, lr=0.05, momentum=0.5),
    "RMSprop": lambda genes: torch.optim.RMSprop(genes, lr=0.01),
}
every_name = pytest.mark.parametrize("name", ESTIMATORS)


@pytest.fixture(autouse=True)
def single() -> Iterator[None]:
    with one_thread():
        yield


def served(rule: Estimator) -> Network:
    """A small network of the first cell that the rule does not refuse."""
    for cell in CANDIDATES:
        try:
            rule.check(cell)
        except ConfigError:
            continue
        return network(cell, 1)
    raise AssertionError(f"{rule} refuses every cell")


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def stream(chunks: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Inputs (B, t, 1), what was heard two steps ago, and a new episode now and then, at odd places."""
    x = normal(3, BATCH, chunks * CHUNK + DELAY, 1)
    begins = torch.rand(BATCH, chunks * CHUNK, generator=torch.Generator().manual_seed(4)) < 0.02
    for at in range(0, chunks * CHUNK, CHUNK):
        yield x[:, at + DELAY : at + DELAY + CHUNK], x[:, at : at + CHUNK], begins[:, at : at + CHUNK]


@dataclass
class Run:
    """What was seen on the way."""

    genes: nn.Parameter
    losses: list[Tensor] = field(default_factory=list)
    grads: list[Tensor] = field(default_factory=list)
    held: list[int] = field(default_factory=list)
    memory: Memory = field(default_factory=dict)


def learn(rule: Estimator, net: Network, optimizer: Optimizer, chunks: int) -> Run:
    """The loop: weights change after every chunk."""
    drawn = net.layout.draw(np.random.default_rng(0), PEOPLE)
    genes = nn.Parameter(torch.tensor(drawn, dtype=torch.float64))
    seen, steps = Run(genes), optimizer([genes])
    memory = rule.begin(net.cell, net.recurrent(genes), BATCH)
    for x, y, reset in stream(chunks):
        states, memory = rule.advance(net.cell, net.recurrent(genes), x, memory, reset)
        losses = (net.read(genes, states) - y).square().mean(dim=(1, 2, 3))
        steps.zero_grad()
        losses.sum().backward()
        steps.step()
        assert genes.grad is not None
        seen.losses.append(losses.detach())
        seen.grads.append(genes.grad.clone())
        seen.held.append(sum(each.numel() for each in memory.values()))
    seen.memory = memory
    return seen


@lru_cache
def late_loss(cell: Cell, optimizer: str) -> float:
    """The loss in the end if nothing is learned ("none"), or the readout alone, on the states of a cell that stays."""
    net = network(cell, 1)

    def readout_alone(genes: list[nn.Parameter]) -> torch.optim.Optimizer:
        links = net.recurrent(torch.arange(net.layout.size)[None])[0]
        genes[0].register_hook(lambda grad: grad.index_fill(1, links, 0.0))
        return OPTIMIZERS[optimizer](genes)

    idle = learn(
        BPTT(), net, (lambda genes: torch.optim.SGD(genes, lr=0.0)) if optimizer == "none" else readout_alone, LONG
    )
    return float(torch.stack(idle.losses[-20:]).mean())


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [
        pytest.param(
            name, optimizer, marks=[] if optimizer == "Adam" or name in ("bptt", "rtrl") else pytest.mark.nightly
        )
        for name in ESTIMATORS
        for optimizer in OPTIMIZERS
    ],
)
def test_the_loop_learns_with_any_optimizer_and_the_cell_has_its_part_in_it(name: str, optimizer: str) -> None:
    rule = ESTIMATORS[name]()
    net = served(rule)
    seen = learn(rule, net, OPTIMIZERS[optimizer], LONG)
    late = float(torch.stack(seen.losses[-20:]).mean())
    assert late < 0.95 * late_loss(net.cell, "none")
    assert late < 0.97 * late_loss(net.cell, optimizer)
    for grad in (*seen.grads[:2], seen.grads[-1]):
        assert torch.isfinite(grad).all()
        assert (net.recurrent(grad).norm(dim=1) > 1e-3).all()


@every_name
def test_memory_does_not_grow_with_the_stream(name: str) -> None:
    rule = ESTIMATORS[name]()
    held = learn(rule, served(rule), OPTIMIZERS["SGD"], 100).held
    assert max(held[:10]) == max(held[10:])
    assert held[0] >= PEOPLE * BATCH


@every_name
def test_what_is_carried_on_holds_no_tape(name: str) -> None:
    rule = ESTIMATORS[name]()
    memory = learn(rule, served(rule), OPTIMIZERS["Adam"], 7).memory
    assert not [key for key, each in memory.items() if each.requires_grad]


@every_name
def test_a_nan_in_the_stream_is_in_the_loss_and_stays_in_its_sequence(name: str) -> None:
    rule = ESTIMATORS[name]()
    net = served(rule)
    genes = nn.Parameter(0.5 * normal(1, PEOPLE, net.layout.size))
    memory = rule.begin(net.cell, net.recurrent(genes), BATCH)
    for number, (x, y, _) in enumerate(stream(6)):
        x = x.index_fill(0, torch.tensor([1]), torch.nan) if number == 1 else x
        states, memory = rule.advance(net.cell, net.recurrent(genes), x, memory)
        losses = (net.read(genes, states) - y).square().mean(dim=(2, 3))  # (P, B)
        losses.sum().backward()
        assert losses.isnan()[:, 1].all() == (number >= 1)
        assert not losses[:, [0, 2, 3]].isnan().any()
    assert genes.grad is not None
    assert genes.grad.isnan().any()


@pytest.mark.parametrize("rule", [RTRL(), Hybrid(4), Hybrid(7)], ids=str)
def test_influence_of_weights_that_changed_is_stale_by_the_learning_rate(rule: Estimator) -> None:
    """The gradient at the end of the stream, against autograd over all of it at the genes of the end: O(rate), 0 at 0."""
    net, chunks = network(Elman(1, 6), 1), 12

    inputs, _, begins = (torch.cat(each, dim=1) for each in zip(*stream(chunks), strict=True))
    more = inputs[:, -CHUNK:], begins[:, -CHUNK:]  # one more chunk, like the last

    def off(rate: float) -> float:
        seen = learn(rule, net, lambda genes: torch.optim.SGD(genes, lr=rate), chunks)
        genes = seen.genes.detach().requires_grad_()
        x, reset = (torch.cat(each, dim=1) for each in zip((inputs, begins), more, strict=True))
        fresh, given = BPTT().begin(net.cell, net.recurrent(genes), BATCH), net.recurrent(genes)
        whole, _ = BPTT().advance(net.cell, given, x, fresh, reset)
        end, _ = rule.advance(net.cell, given, more[0], seen.memory, more[1])
        weight = normal(5, net.cell.state)
        true, found = (torch.autograd.grad((each[:, :, -CHUNK:] @ weight).sum(), genes)[0] for each in (whole, end))
        assert true.norm() > 1e-3
        return float((found - true).norm() / true.norm())

    rates = [1e-4, 1e-3, 1e-2]
    errors = [off(rate) for rate in rates]
    assert off(0.0) <= 1e-12
    assert errors[-1] > 1e-4
    assert np.polyfit(np.log(rates), np.log(errors), 1)[0] == pytest.approx(1, abs=0.25)


SIZES = (16, 32, 64, 128)
LENGTHS: dict[str, tuple[Estimator, Callable[[int], int]]] = {
    "bptt": (BPTT(), lambda _: 8),
    "rtrl": (RTRL(), lambda _: 2),
    "hybrid": (Hybrid(), lambda n: n),
}


def run(rule: Estimator, cell: Cell, steps: int) -> tuple[Tensor, Memory]:
    """States and memory of one network on one sequence, credit not yet asked for."""
    genes = (0.3 * normal(1, 1, Layout(cell.leaves()).size)).float().requires_grad_()
    x, block, parts = normal(2, 1, steps, cell.inputs).float(), rule.block(cell, steps), []
    memory = rule.begin(cell, genes, 1)
    for at in range(0, steps, block):
        states, memory = rule.advance(cell, genes, x[:, at : at + block], memory)
        parts.append(states)
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2), memory


def counted(rule: Estimator, cell: Cell, length: int) -> float:
    """Multiply-adds of one step, forward and credit, once the first `length` steps are over."""
    run(rule, cell, 1)  # what is found out once for a cell is not charged
    flops = []
    for steps in (length, 2 * length):
        with FlopCounterMode(display=False) as counter:
            run(rule, cell, steps)[0].sum().backward()
        flops.append(counter.get_total_flops())
    return float(flops[1] - flops[0]) / length / 2


Older = list[weakref.ref[Tensor]]


@pytest.fixture(scope="module")
def older() -> Iterator[Older]:
    """The tensors that others made. What they made is kept out of the collector's sight: a search takes 0.5 s less."""
    gc.collect()
    found = [weakref.ref(each) for each in gc.get_objects() if type(each) is Tensor]
    gc.freeze()
    yield found
    gc.unfreeze()


def kept(rule: Estimator, cell: Cell, steps: int, older: Older) -> int:
    """Numbers that live once the steps are handed over, which did not before, in memory, edge or tape."""

    def alive(more: Sequence[Tensor] = ()) -> dict[int, int]:
        tensors = [each for each in gc.get_objects() if type(each) is Tensor] + list(more)
        tensors += [each for old in older if (each := old()) is not None]
        stores = [(each.untyped_storage(), each) for each in tensors if each.is_floating_point()]
        return {store.data_ptr(): store.nbytes() // each.element_size() for store, each in stores}

    run(rule, cell, 1)
    gc.collect()
    before: dict[int, int] = alive()
    taped: list[weakref.ref[Tensor]] = []  # the tape of a tangent is gone once that is found

    def tape(saved: Tensor) -> Tensor:
        saved = saved.detach()  # an output that its own node holds would never be let go
        taped.append(weakref.ref(saved))
        return saved

    with torch.autograd.graph.saved_tensors_hooks(tape, lambda saved: saved):
        states, memory = run(rule, cell, steps)
    gc.collect()
    still = [each for saved in taped if (each := saved()) is not None]
    after = alive([*still, states, *memory.values()])
    given = Layout(cell.leaves()).size + steps * cell.inputs
    return sum(size for place, size in after.items() if place not in before) - given


def power(measured: Sequence[float], against: np.ndarray[Any, Any]) -> float:
    """The slope on log-log paper."""
    return float(np.polyfit(np.log(against), np.log(measured), 1)[0])


@pytest.mark.parametrize("name", LENGTHS)
def test_operations_and_storage_grow_as_the_survey_says(name: str, older: Older) -> None:
    """BPTT: weights. RTRL: hidden x weights kept, hidden^2 x weights = n^4 done. Hybrid: hidden x weights = n^3, both."""
    rule, length = LENGTHS[name]
    cells = [Elman(1, n) for n in SIZES]
    weights = np.array([Layout(cell.leaves()).size for cell in cells], dtype=float)
    done = [counted(rule, cell, length(cell.hidden)) for cell in cells]
    steps = [16 if name == "bptt" else rule.block(cell, length(cell.hidden)) for cell in cells]
    held = [kept(rule, cell, each, older) for cell, each in zip(cells, steps, strict=True)]
    for cell, count in zip(cells, done, strict=True):
        assert rule.flops(cell, 2 * length(cell.hidden)) == pytest.approx(count, rel=0.2)
    units = np.array(SIZES, dtype=float)
    order = {"bptt": 2, "rtrl": 4, "hybrid": 3}[name]
    assert power(done, units) == pytest.approx(order, abs=0.15)
    assert power(done, weights * units ** (order - 2)) == pytest.approx(1, abs=0.15)
    assert power(held, units if name == "bptt" else units * weights) == pytest.approx(1, abs=0.15)


@every_name
@pytest.mark.parametrize(
    "cell", [Elman(1, 32), LSTM(2, 16), GRU(2, 24), CTRNN(1, 32), IndRNN(1, 64), MemoryBlocks(1, 8, 2)], ids=str
)
def test_declared_storage_is_what_is_kept_within_a_fifth(cell: Cell, name: str, older: Older) -> None:
    rule = ESTIMATORS[name]()
    try:
        rule.check(cell)
    except ConfigError:
        pytest.skip("refused")
    length = LENGTHS[name][1](cell.state) if name in LENGTHS else 16
    steps = rule.block(cell, length)
    assert rule.storage(cell, steps) == pytest.approx(kept(rule, cell, steps, older), rel=0.2)
