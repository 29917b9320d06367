"""The exactness matrix: every exact rule equals a plain autograd loop on every cell, however the stream is cut.

The reference knows nothing of the estimators: it unrolls `cell.step` over the whole history and asks autograd. The rules see
a warm-up without loss first, and then a window whose credit reaches back through it. Wherever two gradients must agree, the
reference is alive and a gradient that lacks credit is seen to differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import pytest
import torch
from torch import Tensor

from evo_rnn.cells import CTRNN, FRNN, GRU, LSTM, Cell, Elman, IndRNN, MemoryBlocks, SecondOrder, Stack
from evo_rnn.cells.cell import affine, linear, row, zeros
from evo_rnn.layout import Layout, Leaf, matrix, units, vector
from evo_rnn.shapes import Weights
from evo_rnn.threads import one_thread
from trainers.gradient import BPTT, RTRL, Estimator, Hybrid

EXACT, APART = 1e-12, 1e-3
PEOPLE, BATCH, WARM, STEPS = 2, 3, 5, 17  # the last 12 of 17 steps have a loss; neither 7 nor 2 S divides them
CHUNKS = {"all at once": (STEPS,), "one by one": (1,) * STEPS, "3+1+7+...": (3, 1, 7, 1, 5)}
HORIZONS: dict[str, Callable[[Cell], Estimator]] = {
    "rtrl": lambda _: RTRL(),
    "hybrid 1": lambda _: Hybrid(1),
    "hybrid 7": lambda _: Hybrid(7),
    "hybrid S": lambda cell: Hybrid(cell.state),
    "hybrid T": lambda _: Hybrid(STEPS),
    "hybrid T+3": lambda _: Hybrid(STEPS + 3),
}


@dataclass(frozen=True)
class Own:
    """What the cells below share: sizes."""

    inputs: int = 2
    hidden: int = 3

    @property
    def outputs(self) -> int:
        return self.hidden

    @property
    def state(self) -> int:
        return self.hidden

    def leaves(self) -> tuple[Leaf, ...]:
        h, x = units("h", self.hidden), units("x", self.inputs)
        named = (vector(name, h, ["one"], -0.5, 0.5) for name in ("b", "start", "gain"))
        return (matrix("input", h, x), matrix("recurrent", [*h, *h], h), matrix("mix", h, h), *named)


@dataclass(frozen=True)
class Words(Own):
    """A user's cell in the vocabulary: slices of rows, and a link that hears what was computed within the step."""

    def start(self, weights: Weights, batch: int) -> Tensor:
        return zeros(weights, batch, self.state)

    def step(self, weights: Weights, x: Tensor, s: Tensor) -> Tensor:
        lower = torch.tanh(affine(weights["recurrent"][:, : self.hidden], s, row(weights["b"])))
        upper = linear(weights["recurrent"][:, self.hidden :], s * row(weights["gain"]))
        return torch.tanh(affine(weights["input"], x, linear(weights["mix"], lower)) + upper) - 0.3 * s.roll(1, dims=2)


@dataclass(frozen=True)
class Raw(Own):
    """A user's cell that knows no vocabulary."""

    def start(self, weights: Weights, batch: int) -> Tensor:
        return zeros(weights, batch, self.state)

    def step(self, weights: Weights, x: Tensor, s: Tensor) -> Tensor:
        driven = torch.bmm(x, weights["input"].mT) + weights["b"][:, None]
        upper, lower = (s @ weights["recurrent"].transpose(1, 2)).chunk(2, dim=2)
        mixed = torch.einsum("pbj,pij->pbi", s, weights["mix"])
        return torch.tanh(driven + upper * torch.sigmoid(lower)) + (1 - weights["gain"].unsqueeze(1) ** 2) * mixed / 3


@dataclass(frozen=True)
class Started(Own):
    """A learned start, which every reset owes to, and a state of which half is hidden; some of it in the vocabulary."""

    @property
    def state(self) -> int:
        return 2 * self.hidden

    def start(self, weights: Weights, batch: int) -> Tensor:
        first = weights["start"][:, None].expand(-1, batch, -1)
        return torch.cat([torch.tanh(first), first * weights["gain"][:, None]], dim=2)

    def step(self, weights: Weights, x: Tensor, s: Tensor) -> Tensor:
        seen, kept = s.chunk(2, dim=2)
        drive, gate = affine(weights["recurrent"], seen, torch.cat([row(weights["b"])] * 2, dim=2)).chunk(2, dim=2)
        kept = torch.sigmoid(gate) * kept + linear(weights["input"], x)
        return torch.cat([torch.tanh(drive + kept @ weights["mix"].mT), kept], dim=2)


CELLS: dict[str, Cell] = {
    "elman": Elman(2, 4),
    "gru after": GRU(2, 3),
    "gru before": GRU(2, 3, reset="before"),
    "lstm": LSTM(2, 3),
    "lstm peepholes": LSTM(2, 3, peepholes=True),
    "indrnn tanh": IndRNN(2, 4, "tanh"),
    "indrnn relu": IndRNN(2, 4),
    "ctrnn": CTRNN(2, 4),
    "second order": SecondOrder(2, 3),
    "memory blocks": MemoryBlocks(2, 2, 2),
    "memory blocks forget": MemoryBlocks(2, 2, 1, forget=True, biases="all"),
    "frnn masked": FRNN(2, 3, visible=2, mask=("11011", "01101", "10110")),
    "stack": Stack((Elman(2, 3), LSTM(3, 2), GRU(2, 2))),
    "own in the vocabulary": Words(),
    "own in raw torch": Raw(),
    "own with a learned start": Started(),
}
every_cell = pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS.keys())
every_rule = pytest.mark.parametrize("rule", HORIZONS.values(), ids=HORIZONS.keys())
quiet = torch.zeros(BATCH, STEPS, dtype=torch.bool)


def resets() -> Tensor:
    """First and last step, two in a row, where blocks of 7 end and begin, in the warm-up; one sequence has none."""
    odd = quiet.clone()
    odd[0, [0, 6, 7, STEPS - 1]] = True
    odd[1, [3, WARM, 13, 14]] = True
    return odd


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def single() -> Iterator[None]:
    with one_thread():
        yield


def genes_of(cell: Cell) -> Tensor:
    return 0.8 * normal(1, PEOPLE, Layout(cell.leaves()).size)


def stream(cell: Cell) -> Tensor:
    return normal(2, BATCH, STEPS, cell.inputs)


Heads = Callable[[Tensor, slice], tuple[Tensor, ...]]


def heads(states: Tensor, steps: slice) -> tuple[Tensor, ...]:
    """Losses (P, B, t) of three heads at steps of the window: one hears all columns, one is masked, one mixes sequences."""
    width = states.shape[3]
    wide, masked = normal(3, width, 2), normal(4, width)
    heard = torch.rand(BATCH, STEPS, generator=torch.Generator().manual_seed(5)) > 0.4
    squares = (states @ wide - normal(6, BATCH, STEPS, 2)[:, steps]).square().sum(dim=3)
    sines = torch.where(heard[:, steps], torch.sin(states @ masked), 0.0)
    return squares, sines, states.mean(dim=1, keepdim=True).pow(3).sum(dim=3)


def seen(steps: slice) -> Tensor:
    """(t,) how much each of the steps counts: the warm-up has no loss."""
    return (torch.arange(STEPS) >= WARM)[steps].double()


def total(states: Tensor, steps: slice) -> Tensor:
    """The window's loss on these steps, a scalar."""
    return sum(((head * seen(steps)).sum() for head in heads(states, steps)), states.new_zeros(()))


def alone(states: Tensor, t: int) -> Tensor:
    """The loss of one step, a scalar."""
    return torch.stack([head.sum() for head in heads(states, slice(t, t + 1))]).sum()


def unroll(cell: Cell, genes: Tensor, reset: Tensor, x: Tensor, forget: Sequence[int] = ()) -> Tensor:
    """States (P, B, T, S) by the plainest loop there is; credit is dropped before the steps `forget`."""
    weights = Layout(cell.leaves()).unpack(genes)
    s, states = cell.start(weights, BATCH), []
    for t in range(STEPS):
        s = s.detach() if t in forget else s
        s = torch.where(reset[:, t, None], cell.start(weights, BATCH), s)
        s = cell.step(weights, x[..., t, :].expand(PEOPLE, -1, -1), s)
        states.append(s)
    return torch.stack(states, dim=2)


@lru_cache(maxsize=64)
def truth(cell: Cell, odd: bool = True, forget: tuple[int, ...] = ()) -> Tensor:
    """Autograd's gradient (P, D) of the window's loss, over the whole history."""
    genes = genes_of(cell).requires_grad_()
    states = unroll(cell, genes, resets() if odd else quiet, stream(cell), forget)
    return torch.autograd.grad(total(states, slice(None)), genes)[0]


def swept(rule: Estimator, cell: Cell, chunks: Sequence[int], reset: Tensor) -> Tensor:
    """The gradient (P, D) by an estimator that is handed the stream in chunks, and never sees a loss in the warm-up."""
    genes, x = genes_of(cell).requires_grad_(), stream(cell)
    memory = rule.begin(cell, genes, BATCH)
    for k, length in enumerate(chunks):
        steps = slice(sum(chunks[:k]), sum(chunks[:k]) + length)
        states, memory = rule.advance(cell, genes, x[:, steps], memory, reset[:, steps])
        if steps.stop > WARM:
            total(states, steps).backward()
    assert genes.grad is not None
    return genes.grad


def worst(found: Tensor, true: Tensor) -> float:
    """The largest distance of a row over the norm of its truth, which must be alive."""
    found, true = found.reshape(len(found), -1), true.reshape(len(true), -1)
    norms = true.norm(dim=1)
    assert norms.min() > APART, "a dead reference proves nothing"
    return float(((found - true).norm(dim=1) / norms).max())


@every_rule
@every_cell
def test_a_window_with_carried_state_has_autograds_gradient(cell: Cell, rule: Callable[[Cell], Estimator]) -> None:
    for chunks in CHUNKS.values():
        assert worst(swept(rule(cell), cell, chunks, resets()), truth(cell)) <= EXACT
    assert worst(swept(rule(cell), cell, CHUNKS["3+1+7+..."], quiet), truth(cell, odd=False)) <= EXACT


@every_cell
def test_dropped_credit_would_be_seen(cell: Cell) -> None:
    """The negative controls of the matrix: each thing that the tests above vary has an effect on the truth."""
    for odd in (True, False):
        assert worst(truth(cell, odd, forget=(WARM,)), truth(cell, odd)) > APART, "what the warm-up owes"
        assert worst(truth(cell, odd, forget=(7, 14)), truth(cell, odd)) > APART, "what crosses blocks of 7"
    assert worst(truth(cell, odd=False), truth(cell, odd=True)) > APART, "that episodes begin"


@every_cell
def test_bptt_by_chunks_is_autograd_cut_at_their_ends(cell: Cell) -> None:
    assert worst(swept(BPTT(), cell, (STEPS,), resets()), truth(cell)) <= EXACT
    cut = swept(BPTT(), cell, CHUNKS["3+1+7+..."], resets())
    assert worst(cut, truth(cell, forget=(3, 4, 11, 12))) <= EXACT
    assert worst(cut, truth(cell)) > APART


def stepwise(rule: Estimator, cell: Cell) -> tuple[Tensor, dict[int, Tensor]]:
    """Each step's own gradient (P, T, D), one step at a time, and the influence wherever memory holds it alone."""
    genes, x = genes_of(cell).requires_grad_(), stream(cell)
    grads: list[Tensor] = []
    influences: dict[int, Tensor] = {}
    memory = rule.begin(cell, genes, BATCH)
    for t in range(STEPS):
        here = slice(t, t + 1)
        states, memory = rule.advance(cell, genes, x[:, here], memory, resets()[:, here])
        grads += torch.autograd.grad(alone(states, t), genes)
        if set(memory) == {"s", "J"}:
            influences[t + 1] = memory["J"]
    return torch.stack(grads, dim=1), influences


@every_cell
def test_every_step_inside_a_block_has_its_exact_gradient_and_blocks_end_with_rtrls_influence(cell: Cell) -> None:
    genes = genes_of(cell).requires_grad_()
    states = unroll(cell, genes, resets(), stream(cell))
    losses = [alone(states[:, :, t : t + 1], t) for t in range(STEPS)]
    true = torch.stack([torch.autograd.grad(each, genes, retain_graph=True)[0] for each in losses], dim=1)
    rtrl, every = stepwise(RTRL(), cell)
    hybrid, ends = stepwise(Hybrid(7), cell)
    assert list(every) == list(range(1, STEPS + 1))
    assert list(ends) == [7, 14]
    for t in range(STEPS):
        assert worst(rtrl[:, t], true[:, t]) <= EXACT
        assert worst(hybrid[:, t], rtrl[:, t]) <= EXACT
    for t, influence in ends.items():
        assert worst(influence[None], every[t][None]) <= EXACT
        assert worst(every[t - 1][None], every[t][None]) > APART


@every_rule
def test_networks_may_hear_streams_of_their_own_and_heads_may_go_back_one_by_one(
    rule: Callable[[Cell], Estimator],
) -> None:
    cell = CELLS["own with a learned start"]
    x = torch.stack([stream(cell), stream(cell).flip(1)])

    def gradient(states: Callable[[Tensor], Tensor]) -> Tensor:
        genes = genes_of(cell).requires_grad_()
        for head in heads(states(genes), slice(None)):
            head.sum().backward(retain_graph=True)
        assert genes.grad is not None
        return genes.grad

    def estimated(genes: Tensor) -> Tensor:
        return rule(cell).advance(cell, genes, x, rule(cell).begin(cell, genes, BATCH))[0]

    true = gradient(lambda genes: unroll(cell, genes, quiet, x))
    assert worst(gradient(estimated), true) <= EXACT
    alike = gradient(lambda genes: unroll(cell, genes, quiet, stream(cell)))
    assert worst(alike, true) > APART, "the streams differ"


Use = Callable[[Weights, Tensor], Tensor]
USES: dict[str, Use] = {
    "a leaf's opposite": lambda w, s: (-w["gain"])[:, None] * s,
    "a number beside a leaf": lambda w, s: (1 - 2 * w["gain"] ** 2)[:, None] * s,
    "a number over a leaf": lambda w, s: (0.1 / w["gain"])[:, None] * s,
    "two leaves together": lambda w, s: (w["gain"] + w["start"])[:, None] * s,
    "a product of matrices": lambda w, s: s @ (w["mix"] @ w["mix"]).mT,
    "a word on what is no leaf": lambda w, s: linear(w["mix"] * 2, s),
    "a comparison": lambda w, s: (w["gain"] > 0)[:, None] * s + row(w["gain"]),
    "its length": lambda w, s: s.new_full((len(w["gain"]), 1, 1), 0.5) * s + row(w["gain"]),
    "leaves in a list": lambda w, s: torch.stack([w["gain"], w["start"]]).sum(dim=0)[:, None] * s,
    "a vmap": lambda w, s: torch.func.vmap(torch.nn.functional.linear)(s, w["mix"]),
    "rows with a stride": lambda w, s: linear(w["recurrent"][:, ::2], s),
    "some columns": lambda w, s: linear(w["mix"][:, :, 1:], s[..., 1:]),
    "the same rows twice": lambda w, s: linear(w["recurrent"][:, :3], s) + linear(w["recurrent"][:, 2:5], s),
    "the last rows": lambda w, s: linear(w["recurrent"][:, -3:], s),
    "in place": lambda w, s: linear(w["mix"], s).mul_(row(w["gain"])).tanh_(),
    "a sorted state": lambda w, s: linear(w["mix"], s.sort(dim=2).values),
}


@dataclass(frozen=True)
class Free(Words):
    """A user's cell that uses its leaves in a way of its own; if `flagged`, only where the first input is one."""

    use: Use = USES["in place"]
    flagged: bool = False

    def step(self, weights: Weights, x: Tensor, s: Tensor) -> Tensor:
        used = self.use(weights, s)
        used = torch.where(x[..., :1] == 1, used, 0.8 * s) if self.flagged else used
        return torch.tanh(affine(weights["input"], x, row(weights["b"])) + used)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
def test_a_users_cell_may_do_with_its_leaves_what_it_likes(use: Use) -> None:
    cell = Free(use=use)
    assert worst(truth(cell, forget=(WARM,)), truth(cell)) > APART
    for rule in (RTRL(), Hybrid(7)):
        assert worst(swept(rule, cell, CHUNKS["3+1+7+..."], resets()), truth(cell)) <= EXACT


FLAGGED: dict[str, Use] = {
    "a link that is heard then": lambda w, s: linear(w["mix"], s),
    "a column that is heard then": lambda w, s: s.flip(2) * row(w["gain"]),
    "an episode that begins then": lambda w, s: row(w["start"]).expand_as(s),
}


@pytest.mark.parametrize("use", FLAGGED.values(), ids=FLAGGED.keys())
def test_a_step_may_branch_on_a_flag_in_its_input(use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    """What inputs drawn at random never show: a flag that equals one."""
    flags = normal(2, BATCH, STEPS, 2).where(torch.tensor([False, True]), (normal(7, BATCH, STEPS, 2) > 0.8).double())
    monkeypatch.setitem(globals(), "stream", lambda _: flags)
    cell = Free(use=use, flagged=True)
    assert worst(truth(cell, forget=(WARM,)), truth(cell)) > APART
    for rule in (RTRL(), Hybrid(7)):
        assert worst(swept(rule, cell, CHUNKS["3+1+7+..."], resets()), truth(cell)) <= EXACT
