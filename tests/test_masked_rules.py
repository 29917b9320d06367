"""Laws of the rules with a masked influence: exact where they say so, elsewhere autograd with the dropped paths detached."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from evo_rnn.cells import FRNN, GRU, LSTM, Cell, Elman, IndRNN, Stack
from evo_rnn.cells.cell import affine, linear, row
from evo_rnn.cells.ctrnn import CTRNN
from evo_rnn.cells.memory_blocks import MemoryBlocks
from evo_rnn.errors import ConfigError
from evo_rnn.layout import Layout, Leaf, matrix, units, vector
from evo_rnn.shapes import Weights
from trainers.gradient.anatomy import anatomy
from trainers.gradient.bptt import BPTT
from trainers.gradient.diagonal import Diagonal
from trainers.gradient.eprop import EProp
from trainers.gradient.estimator import Estimator
from trainers.gradient.lstm1997 import LSTM1997
from trainers.gradient.mask import mask_of
from trainers.gradient.rflo import RFLO
from trainers.gradient.rtrl import RTRL
from trainers.gradient.snap import SnAp

EXACT, DIFFERENT = 1e-12, 1e-3
PEOPLE, BATCH, STEPS = 2, 3, 11
RESETS = torch.tensor([[t in some for t in range(STEPS)] for some in ((), (0, 5), (3, 4, 10))])
WHOLE = (STEPS,)
CHUNKS = [WHOLE, (4, 7), (1,) * STEPS]


@dataclass(frozen=True)
class Slow:
    """Leaky rate units with a learned start: a leaf of its own and, unless they are `apart`, the neighbour's bias."""

    inputs: int
    hidden: int
    apart: bool = False

    @property
    def outputs(self) -> int:
        return self.hidden

    @property
    def state(self) -> int:
        return self.hidden

    def leaves(self) -> tuple[Leaf, ...]:
        h, x = units("h", self.hidden), units("x", self.inputs)
        return (matrix("mix", h, [*x, *h]), vector("bias", h, ["one"], -1, 1), vector("start", h, ["one"], -1, 1))

    def start(self, weights: Weights, batch: int) -> Tensor:
        begun = weights["start"] + (0 if self.apart else weights["bias"].roll(1, dims=1))
        return begun[:, None].expand(-1, batch, -1)

    def step(self, weights: Weights, x: Tensor, s: Tensor) -> Tensor:
        return 0.7 * s + 0.3 * torch.tanh(affine(weights["mix"], torch.cat([x, s], dim=2), row(weights["bias"])))


@dataclass(frozen=True)
class Quasi:
    """An element-wise LSTM: units of two state columns that hear only themselves; an output gate is reached by way of h."""

    inputs: int
    hidden: int

    @property
    def outputs(self) -> int:
        return self.hidden

    @property
    def state(self) -> int:
        return 2 * self.hidden

    def leaves(self) -> tuple[Leaf, ...]:
        h, x = units("h", self.hidden), units("x", self.inputs)
        gates = [name for gate in "fgo" for name in units(gate, self.hidden)]
        echoes = [vector(f"echo_{gate}", units(gate, self.hidden), h, -1, 1) for gate in "fgo"]
        return (matrix("input", gates, x), *echoes)

    def start(self, weights: Weights, batch: int) -> Tensor:
        return weights["input"].new_zeros(len(weights["input"]), batch, self.state)

    def step(self, weights: Weights, x: Tensor, s: Tensor) -> Tensor:
        h, c = s.split(self.hidden, dim=2)
        driven = linear(weights["input"], x).split(self.hidden, dim=2)
        f, g, o = (net + row(weights[f"echo_{k}"]) * h for k, net in zip("fgo", driven, strict=True))
        c = torch.sigmoid(f) * c + (1 - torch.sigmoid(f)) * torch.tanh(g)
        return torch.cat([torch.sigmoid(o) * torch.tanh(c), c], dim=2)


RING = tuple("10" + "".join("1" if source == (unit - 1) % 5 else "0" for source in range(5)) for unit in range(5))
TWO = {
    0: (0, 2),
    1: (0,),
    2: (1,),
    3: (6,),
    4: (3,),
    5: (4,),
    6: (5,),
}  # who hears whom: a ring of three and one of four
RINGS = tuple("11" + "".join("01"[source in TWO[unit]] for source in range(7)) for unit in range(7))
ALONE = tuple("11" + "".join("1" if source == unit else "0" for source in range(3)) for unit in range(3))


@dataclass(frozen=True)
class Problem:
    """Random genes, inputs and targets of all state columns, for a cell."""

    cell: Cell
    genes: Tensor
    x: Tensor
    targets: Tensor

    def loss(self, states: Tensor, at: slice) -> Tensor:
        """Squared error of states (P, B, t, S) at steps `at`, summed: its slope differs at every step."""
        return (0.5 * (states - self.targets[:, at]) ** 2).sum()


def problem(cell: Cell) -> Problem:
    random = torch.Generator().manual_seed(7)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=random)

    genes = 0.8 * normal(PEOPLE, Layout(cell.leaves()).size)
    return Problem(cell, genes, normal(BATCH, STEPS, cell.inputs), normal(BATCH, STEPS, cell.state))


def gradient(
    rule: Estimator, given: Problem, reset: Tensor, chunks: Sequence[int] = WHOLE, *, late: bool = False
) -> Tensor:
    """(P, D), summed over chunks; `late`: all chunks are run before any is gone back through."""
    genes = given.genes.clone().requires_grad_()
    memory, at, owing = rule.begin(given.cell, genes, BATCH), 0, []
    for steps in chunks:
        here = slice(at, at + steps)
        states, memory = rule.advance(given.cell, genes, given.x[:, here], memory, reset[:, here])
        owing.append(given.loss(states, here))
        if not late:
            owing.pop().backward()
        at = here.stop
    for loss in owing:
        loss.backward()
    assert genes.grad is not None
    return genes.grad


Step = Callable[[Weights, Tensor, Tensor], Tensor]


def taped(step: Step, given: Problem, reset: Tensor) -> Tensor:
    """(P, D) by autograd through a plain loop over `step`."""
    genes, layout = given.genes.clone().requires_grad_(), Layout(given.cell.leaves())
    weights = layout.unpack(genes)
    s, states = given.cell.start(weights, BATCH), []
    for t in range(STEPS):
        s = torch.where(reset[None, :, t, None], given.cell.start(weights, BATCH), s)
        s = step(weights, given.x[None, :, t], s)
        states.append(s)
    given.loss(torch.stack(states, dim=2), slice(0, STEPS)).backward()
    assert genes.grad is not None
    return genes.grad


def relative(found: Tensor, true: Tensor) -> float:
    """The largest distance of a row, over the norm of the truth, which must be alive."""
    norms = true.norm(dim=1)
    assert norms.min() > 1e-2, "a dead reference proves nothing"
    return float(((found - true).norm(dim=1) / norms).max())


# References with the dropped paths detached, each written out; einsum letters: p network, b sequence, i unit, j heard.


def heard(w: Tensor, values: Tensor) -> Tensor:
    return torch.einsum("pij,pbj->pbi", w, values.expand(len(w), -1, -1))


def lstm_cut(w: Weights, x: Tensor, s: Tensor) -> Tensor:
    h, c = s.chunk(2, dim=2)
    nets = heard(w["input"], x) + heard(w["recurrent"], h.detach()) + w["bias"][:, None]
    i, f, g, o = nets.chunk(4, dim=2)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return torch.cat([o.sigmoid() * c.tanh(), c], dim=2)


def gru_cut(w: Weights, x: Tensor, s: Tensor) -> Tensor:
    a, e = heard(w["input"], x) + w["bias"][:, None], heard(w["recurrent"], s.detach())
    (ar, az, an), (er, ez, en) = a.chunk(3, dim=2), e.chunk(3, dim=2)
    n = (an + (ar + er).sigmoid() * (en + w["reset_bias"][:, None])).tanh()
    z = (az + ez).sigmoid()
    return (1 - z) * n + z * s


def elman_cut(w: Weights, x: Tensor, s: Tensor) -> Tensor:
    return (heard(w["input"], x) + heard(w["recurrent"], s.detach()) + w["bias"][:, None]).tanh()


def leaky_cut(w: Weights, x: Tensor, s: Tensor) -> Tensor:
    rate = 1 / (1 + w["log_tau"].exp())[:, None]
    return (1 - rate) * s + rate * elman_cut(w, x, s)


def slow_cut(w: Weights, x: Tensor, s: Tensor) -> Tensor:
    net = heard(w["mix"], torch.cat([x.expand(len(s), -1, -1), s.detach()], dim=2)) + w["bias"][:, None]
    return 0.7 * s + 0.3 * net.tanh()


def blocks_cut(w: Weights, x: Tensor, s: Tensor) -> Tensor:
    """Two blocks of two cells with forget gates, cell by cell: h (4), c (4), then gates i, o, f (2 each)."""
    old_h, old_c, old_gates = s[..., :4], s[..., 4:8], s[..., 8:]
    nets = heard(w["input"], x) + heard(w["recurrent"], torch.cat([old_h, old_gates], dim=2).detach())
    gates = {k: (nets[..., 2 * at : 2 * at + 2] + w[f"bias_{k}"][:, None]).sigmoid() for at, k in enumerate("iof")}
    cells = []
    for v in range(4):
        block = v // 2
        g = 4 / (1 + (-nets[..., 6 + v]).exp()) - 2
        cells.append(gates["f"][..., block] * old_c[..., v] + gates["i"][..., block] * g)
    outputs = [gates["o"][..., v // 2] * (2 / (1 + (-c).exp()) - 1) for v, c in enumerate(cells)]
    return torch.cat([torch.stack(outputs + cells, dim=2), *gates.values()], dim=2)


BLOCKS = MemoryBlocks(2, 2, 2, forget=True)
NONE = torch.zeros_like(RESETS)
resets = pytest.mark.parametrize("reset", [NONE, RESETS], ids=["one episode", "resets"])
chunked = pytest.mark.parametrize("chunks", CHUNKS, ids=lambda chunks: f"{len(chunks)} chunks")

EXACTLY: dict[str, tuple[Estimator, Cell]] = {
    "snap 2 elman": (SnAp(2), Elman(2, 4)),
    "snap 2 lstm": (SnAp(2), LSTM(2, 3)),
    "snap 2 gru before": (SnAp(2), GRU(2, 3, "before")),
    "snap 2 learned start": (SnAp(2), Slow(2, 3)),
    "snap 5 ring": (SnAp(5), FRNN(2, 5, mask=RING)),
    "snap 4 rings of two sizes": (SnAp(4), FRNN(2, 7, mask=RINGS)),
    "snap 1 indrnn": (SnAp(1), IndRNN(2, 3, "tanh")),
    "snap 1 units alone": (SnAp(1), FRNN(2, 3, mask=ALONE)),
    "snap 1 layers of units alone": (SnAp(1), Stack((IndRNN(2, 3, "tanh"), IndRNN(3, 2, "tanh")))),
    "diagonal tanh": (Diagonal(), IndRNN(2, 3, "tanh")),
    "diagonal relu": (Diagonal(), IndRNN(2, 3, "relu")),
    "diagonal units alone": (Diagonal(), FRNN(2, 3, mask=ALONE)),
    "diagonal element-wise lstm": (Diagonal(), Quasi(2, 3)),
}
DETACHED: dict[str, tuple[Estimator, Cell, Step]] = {
    "lstm1997 lstm": (LSTM1997(), LSTM(2, 3), lstm_cut),
    "lstm1997 blocks": (LSTM1997(), BLOCKS, blocks_cut),
    "eprop lstm": (EProp(), LSTM(2, 3), lstm_cut),
    "eprop gru": (EProp(), GRU(2, 3), gru_cut),
    "eprop ctrnn": (EProp(), CTRNN(2, 3), leaky_cut),
    "eprop learned start": (EProp(), Slow(2, 3), slow_cut),
    "rflo ctrnn": (RFLO(), CTRNN(2, 3), leaky_cut),
    "rflo learned start": (RFLO(), Slow(2, 3), slow_cut),
    "rflo elman": (RFLO(), Elman(2, 3), elman_cut),
}


@chunked
@resets
@pytest.mark.parametrize(("rule", "cell"), EXACTLY.values(), ids=EXACTLY)
def test_where_the_mask_is_closed_the_gradient_is_exact(
    rule: Estimator, cell: Cell, reset: Tensor, chunks: Sequence[int]
) -> None:
    given = problem(cell)
    rule.check(cell)
    assert relative(gradient(rule, given, reset, chunks), gradient(BPTT(), given, reset)) <= EXACT


@chunked
@resets
@pytest.mark.parametrize(("rule", "cell", "step"), DETACHED.values(), ids=DETACHED)
def test_local_rules_are_autograd_with_the_dropped_paths_detached(
    rule: Estimator, cell: Cell, step: Step, reset: Tensor, chunks: Sequence[int]
) -> None:
    given = problem(cell)
    rule.check(cell)
    truth = taped(step, given, reset)
    assert relative(gradient(rule, given, reset, chunks), truth) <= EXACT
    assert relative(gradient(BPTT(), given, reset), truth) > DIFFERENT


@pytest.mark.parametrize("cell", [LSTM(2, 3), BLOCKS], ids=["lstm", "blocks"])
def test_the_rule_of_1997_is_far_from_bptt(cell: Cell) -> None:
    given = problem(cell)
    found, true = gradient(LSTM1997(), given, NONE), gradient(BPTT(), given, NONE)
    assert torch.cosine_similarity(found, true).max() < 0.99


@pytest.mark.parametrize(
    ("order", "cell"),
    [(1, Elman(2, 4)), (1, LSTM(2, 3)), (1, Stack((Elman(2, 3), IndRNN(3, 2)))), (4, FRNN(2, 5, mask=RING))],
)
def test_an_open_mask_is_another_rule_than_rtrl(order: int, cell: Cell) -> None:
    given = problem(cell)
    assert relative(gradient(SnAp(order), given, NONE), gradient(RTRL(), given, NONE)) > DIFFERENT


def test_higher_orders_come_closer_to_rtrl() -> None:
    given = problem(FRNN(2, 5, mask=RING))
    true = gradient(RTRL(), given, NONE)
    assert torch.equal(mask_of(given.cell, 5, False).parts[0].rows, mask_of(given.cell, 9, False).parts[0].rows)
    far = [relative(gradient(SnAp(order), given, NONE), true) for order in (1, 3, 5)]
    assert far[0] > far[1] > far[2]


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize(
    "cell",
    [
        FRNN(2, 5, mask=RING),
        FRNN(2, 7, mask=RINGS),
        LSTM(2, 3, peepholes=True),
        GRU(2, 3, "before"),
        Quasi(2, 2),
        BLOCKS,
        Slow(2, 3, apart=True),
        Stack((FRNN(2, 3, mask=ALONE), IndRNN(3, 2, "tanh"))),
    ],
    ids=str,
)
def test_the_mask_is_what_a_change_of_a_link_at_one_step_can_change_within_k_steps(cell: Cell, order: int) -> None:
    layout, random = Layout(cell.leaves()), torch.Generator().manual_seed(3)
    found = torch.zeros(cell.state, layout.size, dtype=torch.bool)
    for _ in range(4):
        genes = 0.7 * torch.randn(layout.size, dtype=torch.float64, generator=random)
        x = torch.randn(order, 1, 1, cell.inputs, dtype=torch.float64, generator=random)
        before = torch.randn(1, 1, cell.state, dtype=torch.float64, generator=random)
        for steps in range(1, order + 1):  # the change is made at the first of so many steps, or at a learned start

            def last(
                changed: Tensor, steps: int = steps, genes: Tensor = genes, x: Tensor = x, s: Tensor = before
            ) -> Tensor:
                s = s + cell.start(layout.unpack(changed[None]), 1) if steps < order else s
                for t in range(steps):
                    s = cell.step(layout.unpack((changed if t == 0 else genes)[None]), x[t], s)
                return s.flatten()

            found |= torch.autograd.functional.jacobian(last, genes) != 0
        begun = torch.autograd.functional.jacobian(
            lambda g: cell.start(layout.unpack(g[None]), 1).flatten() + 0 * g.sum(), genes
        )
        found |= begun != 0
    masked = torch.zeros(cell.state + 1, len(anatomy(cell).order), dtype=torch.bool)
    for part in mask_of(cell, order, False).parts:
        rows, columns = torch.broadcast_tensors(part.rows[:, :, None], part.columns[:, None])
        masked[rows, columns] = True
    ours = torch.zeros(cell.state, anatomy(cell).entries, dtype=torch.bool)
    ours[:, anatomy(cell).order] = masked[:-1]
    places = layout.unpack(torch.arange(1.0, layout.size + 1)[None])  # absent links hold a zero
    there = torch.cat([leaf.flatten() for leaf in places.values()]) > 0
    assert found.any()
    assert torch.equal(ours[:, there], found)


KAPPA = 0.6


@chunked
@resets
def test_a_leaky_readout_hears_low_passed_eligibilities(reset: Tensor, chunks: Sequence[int]) -> None:
    given = problem(LSTM(2, 3))
    true = _leaky_readout(given, reset)
    assert relative(_eprop_leaky(given, reset, chunks, KAPPA), true) <= EXACT
    assert relative(_eprop_leaky(given, reset, chunks, 0.0), true) > DIFFERENT


def _leaky_readout(given: Problem, reset: Tensor) -> Tensor:
    genes = given.genes.clone().requires_grad_()
    weights = Layout(given.cell.leaves()).unpack(genes)
    s = y = torch.zeros(PEOPLE, BATCH, given.cell.state, dtype=torch.float64)
    loss = torch.zeros((), dtype=torch.float64)
    for t in range(STEPS):
        new = reset[None, :, t, None]
        s, y = torch.where(new, 0, s), torch.where(new, 0, y)
        s = lstm_cut(weights, given.x[None, :, t], s)
        y = KAPPA * y + s
        loss = loss + given.loss(y[:, :, None], slice(t, t + 1))
    return torch.autograd.grad(loss, genes)[0]


def _eprop_leaky(given: Problem, reset: Tensor, chunks: Sequence[int], decay: float) -> Tensor:
    rule, genes, at = EProp(decay=decay), given.genes.clone().requires_grad_(), 0
    memory = rule.begin(given.cell, genes, BATCH)
    y = torch.zeros(PEOPLE, BATCH, given.cell.state, dtype=torch.float64)
    for steps in chunks:
        here = slice(at, at + steps)
        states, memory = rule.advance(given.cell, genes, given.x[:, here], memory, reset[:, here])
        outputs = []
        for t in range(steps):
            y = KAPPA * torch.where(reset[None, :, at + t, None], 0, y).detach() + states[:, :, t]
            outputs.append(y)
        given.loss(torch.stack(outputs, dim=2), here).backward()
        at = here.stop
    assert genes.grad is not None
    return genes.grad


RULES: dict[str, tuple[Estimator, Cell]] = {
    "snap": (SnAp(1), LSTM(2, 3)),
    "diagonal": (Diagonal(), Quasi(2, 3)),
    "rflo": (RFLO(), CTRNN(2, 3)),
    "eprop": (EProp(), GRU(2, 3)),
    "eprop low-passed": (EProp(decay=0.5), LSTM(2, 3)),
    "lstm1997": (LSTM1997(), BLOCKS),
}
every_rule = pytest.mark.parametrize(("rule", "cell"), RULES.values(), ids=RULES)


@every_rule
def test_a_chunk_can_be_gone_back_through_after_the_next_has_run(rule: Estimator, cell: Cell) -> None:
    given = problem(cell)
    true = gradient(rule, given, RESETS)
    for chunks in CHUNKS:
        assert relative(gradient(rule, given, RESETS, chunks, late=True), true) <= EXACT


@every_rule
def test_the_memory_does_not_grow_with_the_chunk(rule: Estimator, cell: Cell) -> None:
    given = problem(cell)
    memory = rule.begin(cell, given.genes, BATCH)
    _, after = rule.advance(cell, given.genes, given.x, memory)
    carried = [name for name in memory if name != "s"]
    assert sum(memory[name].numel() for name in carried) > 0
    for name in carried:
        assert after[name].untyped_storage().nbytes() == memory[name].numel() * memory[name].element_size()


@every_rule
def test_rows_do_not_feel_each_other(rule: Estimator, cell: Cell) -> None:
    given = problem(cell)
    sick = Problem(
        cell, torch.stack([torch.full_like(given.genes[0], torch.inf), given.genes[1]]), given.x, given.targets
    )
    alone = Problem(cell, given.genes[1:], given.x, given.targets)
    assert relative(gradient(rule, sick, RESETS, (4, 7))[1:], gradient(rule, alone, RESETS, (4, 7))) <= EXACT


@every_rule
def test_a_reset_cuts_credit(rule: Estimator, cell: Cell) -> None:
    given = problem(cell)
    begun = torch.zeros_like(RESETS)
    begun[:, 6] = True
    two = gradient(rule, given, begun)
    halves = [
        Problem(cell, given.genes, given.x[:, :6], given.targets[:, :6]),
        Problem(cell, given.genes, given.x[:, 6:], given.targets[:, 6:]),
    ]
    apart = [gradient(rule, half, NONE[:, : half.x.shape[1]], (half.x.shape[1],)) for half in halves]
    assert relative(two, apart[0] + apart[1]) <= EXACT
    assert relative(two, gradient(rule, given, NONE)) > DIFFERENT


@pytest.mark.parametrize(
    ("rule", "cell", "wider"),
    [
        (SnAp(1), LSTM(4, 8), LSTM(4, 16)),
        (Diagonal(), IndRNN(4, 8), IndRNN(4, 16)),
        (RFLO(), CTRNN(4, 8), CTRNN(4, 16)),
        (EProp(), LSTM(4, 8), LSTM(4, 16)),
        (LSTM1997(), MemoryBlocks(4, 3, 2), MemoryBlocks(4, 6, 2)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_storage_and_cost_grow_as_the_weights(rule: Estimator, cell: Cell, wider: Cell) -> None:
    genes = [Layout(each.leaves()).size for each in (cell, wider)]
    assert rule.flops(wider, 64) / rule.flops(cell, 64) == pytest.approx(genes[1] / genes[0], rel=0.2)
    assert (
        rule.storage(wider, 1) / rule.storage(cell, 1) < 1.4 * genes[1] / genes[0]
    )  # D (S, S) is kept beside the traces


@pytest.mark.parametrize(
    ("rule", "cell"),
    [
        (SnAp(1), Elman(4, 16)),
        (SnAp(2), Elman(4, 16)),
        (SnAp(1), LSTM(4, 16)),
        (Diagonal(), IndRNN(16, 16)),
        (RFLO(), CTRNN(4, 16)),
        (EProp(), LSTM(4, 16)),
        (EProp(decay=0.5), LSTM(4, 16)),
        (LSTM1997(), LSTM(4, 16)),
        (LSTM1997(), MemoryBlocks(4, 5, 2, forget=True)),
    ],
    ids=str,
)
def test_the_declared_cost_is_the_counted_cost_within_a_fifth(rule: Estimator, cell: Cell) -> None:
    def entries(*_: Any, out_val: Tensor, **__: Any) -> int:
        return 2 * out_val.numel()  # the counter counts a multiply-add as two

    vars(entries)["_get_raw"] = True  # torch asks for it, to hand over tensors and not shapes
    ops = torch.ops.aten
    mapping = {ops.addcmul_: entries, ops.add_: entries, ops.mul: entries}
    steps, genes = 32, torch.randn(1, Layout(cell.leaves()).size, requires_grad=True)
    memory, x = rule.begin(cell, genes, 1), torch.randn(1, steps, cell.inputs)
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        states, _ = rule.advance(cell, genes, x, memory)
        states.sum().backward()
    assert rule.flops(cell, steps) * steps == pytest.approx(counter.get_total_flops() / 2, rel=0.2)


def test_more_than_the_limit_is_refused() -> None:
    given = problem(Elman(2, 4))
    with pytest.raises(ConfigError, match=r"SnAp would keep .* GiB .* limit is 1e-09 GiB"):
        SnAp(2, limit=1e-9).begin(given.cell, given.genes, BATCH)


REFUSALS: list[tuple[Estimator, Cell, str]] = [
    (Diagonal(), Elman(2, 3), r"units hear each other: one link reaches 3 state columns\. Use hybrid or rtrl"),
    (Diagonal(), LSTM(2, 3), r"units hear each other.*Use hybrid or rtrl"),
    (
        Diagonal(),
        Stack((IndRNN(2, 3), IndRNN(3, 2))),
        r"every layer above \(cross-layer influence\).*Use hybrid or rtrl",
    ),
    (RFLO(), LSTM(2, 3), r"one state column each, but a link of .* reaches 2\. Use eprop"),
    (RFLO(), GRU(2, 3, "before"), r"passes sums on within a step\. Use snap"),
    (EProp(), GRU(2, 3, "before"), r"touch other units within the same step\. Use snap"),
    (EProp(), Stack((Elman(2, 3), Elman(3, 2))), r"touch other units within the same step\. Use snap"),
    (EProp(), BLOCKS, r"touch several units at once\. Use lstm1997"),
    (LSTM1997(), GRU(2, 3), r"needs memory cells \(an LSTM or MemoryBlocks\).*Use eprop"),
    (LSTM1997(), LSTM(2, 3, peepholes=True), r"without peepholes.*Set peepholes to false, or use snap"),
]


@pytest.mark.parametrize(("rule", "cell", "words"), REFUSALS, ids=lambda value: str(value)[:40])
def test_a_cell_without_what_is_needed_is_refused_with_a_cure(rule: Estimator, cell: Cell, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        rule.check(cell)
    with pytest.raises(ConfigError, match=words):
        rule.begin(cell, torch.zeros(1, Layout(cell.leaves()).size), 1)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SnAp(0), "order should be at least 1 but is 0"),
        (lambda: RFLO(feedback="fixed"), "feedback should be 'true' or 'random' but is 'fixed'"),
        (lambda: EProp(feedback=""), "feedback should be 'true' or 'random' but is ''"),
        (lambda: EProp(decay=1.0), r"decay should be at least 0 and below 1 but is 1\.0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make: Callable[[], Estimator], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()
