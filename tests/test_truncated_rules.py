"""Laws of the rules that cut credit, truncated BPTT, Elman's rule and DNI; and of Pearlmutter's, exact in a limit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from evo_rnn.cells import CTRNN, LSTM, Cell, Elman
from evo_rnn.cells.cell import affine, linear
from evo_rnn.errors import ConfigError
from evo_rnn.layout import Layout, Leaf, matrix, units
from evo_rnn.shapes import Weights
from evo_rnn.threads import one_thread
from tests.rule_examples import CELLS, EXACT, STEPS, Problem, cosine, gradient, problem, relative
from trainers.gradient.bptt import BPTT
from trainers.gradient.dni import BOX, DNI, STATE, SYNTHESISER, foretell, taught
from trainers.gradient.elman_rule import ElmanRule
from trainers.gradient.estimator import Estimator
from trainers.gradient.pearlmutter import Pearlmutter
from trainers.gradient.tbptt import TBPTT

every_cell = pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
SPLITS = [(4, 7), (1,) * STEPS, (3, 3, 5), (10, 1)]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small products wait longer for a second thread than they take."""
    with one_thread():
        yield


def window_by_window(given: Problem, horizon: int, every: int) -> Tensor:
    """The reference: plain autograd, once for every block, from the detached state before its window."""
    theta, layout = given.genes.clone().requires_grad_(), Layout(given.cell.leaves())

    def run(first: int, last: int, s: Tensor) -> Tensor:
        weights, states = layout.unpack(theta), []
        for t in range(first, last):
            if len(given.reset):
                s = torch.where(given.reset[:, t, None], given.cell.start(weights, len(given.x)), s)
            s = given.cell.step(weights, given.x[:, t].expand(len(theta), -1, -1), s)
            states.append(s)
        return torch.stack(states, dim=2)

    def start() -> Tensor:
        return given.cell.start(layout.unpack(theta), len(given.x))

    whole = run(0, given.x.shape[1], start()).detach()
    for block in range(0, given.x.shape[1], every):
        first, last = block + every - horizon, min(block + every, given.x.shape[1])
        states = run(max(first, 0), last, whole[:, :, first - 1] if first > 0 else start())
        given.loss(states[:, :, block - max(first, 0) :], block).backward()
    assert theta.grad is not None
    return theta.grad


@every_cell
def test_tbptt_over_the_whole_sequence_is_bptt(cell: Cell) -> None:
    given = problem(cell, resets=True)
    truth = gradient(BPTT(), given)
    assert relative(gradient(TBPTT(STEPS, STEPS), given), truth) <= EXACT
    assert relative(gradient(TBPTT(STEPS + 3), given), truth) <= EXACT
    assert relative(gradient(TBPTT(2), given), truth) > 1e-3


@pytest.mark.parametrize("resets", [False, True])
@every_cell
def test_tbptt_is_autograd_from_the_detached_state_before_each_window(cell: Cell, resets: bool) -> None:
    given = problem(cell, resets=resets)
    for horizon, every in ((3, 1), (4, 4), (5, 2), (7, 3)):
        truth = window_by_window(given, horizon, every)
        assert relative(gradient(TBPTT(horizon, every), given), truth) <= EXACT
        assert relative(gradient(TBPTT(horizon + 1, every), given), truth) > 1e-6


@pytest.mark.parametrize("rule", [TBPTT(4), TBPTT(5, 2), TBPTT(3, 1), ElmanRule(), DNI(4, 0.0)], ids=str)
@every_cell
def test_chunks_of_any_length_continue_exactly(cell: Cell, rule: Estimator) -> None:
    given = problem(cell, resets=True)
    whole = gradient(rule, given)
    for cuts in SPLITS:
        assert relative(gradient(rule, given, cuts), whole) <= EXACT


def test_a_window_is_run_again_with_the_genes_as_they_are_now() -> None:
    given, rule = problem(Elman(2, 3)), TBPTT(4, 2)
    memory = rule.begin(given.cell, given.genes, len(given.x))
    _, memory = rule.advance(given.cell, given.genes, given.x[:, :8], memory)
    moved = given.genes + 0.1
    states, _ = rule.advance(given.cell, moved, given.x[:, 8:10], memory)
    kept, _ = BPTT().advance(given.cell, given.genes, given.x[:, :6], rule.begin(given.cell, given.genes, len(given.x)))
    again, _ = BPTT().advance(given.cell, moved, given.x[:, 6:10], {"s": kept[:, :, -1]})
    torch.testing.assert_close(states, again[:, :, -2:], rtol=EXACT, atol=EXACT)
    assert memory["x"].shape[2] == 2, "no more than the horizon needs is kept"


@pytest.mark.parametrize("resets", [False, True])
@every_cell
def test_elmans_rule_is_autograd_that_never_leaves_the_step(cell: Cell, resets: bool) -> None:
    given = problem(cell, resets=resets)
    found = gradient(ElmanRule(), given)
    assert relative(found, window_by_window(given, 1, 1)) <= EXACT
    assert relative(found, gradient(BPTT(), given)) > 1e-3


@every_cell
def test_dni_that_foretells_nothing_is_truncated_bptt(cell: Cell) -> None:
    given = problem(cell, resets=True)
    truth = gradient(TBPTT(3), given)
    assert relative(gradient(DNI(3, 0.0), given), truth) <= EXACT
    assert relative(gradient(DNI(3, 0.5), given, (3, 3, 3, 2)), truth) > 1e-3


def test_the_guess_of_dni_is_sent_back_at_the_end_of_its_block_once() -> None:
    """The guess is a loss of its own at the last state, however the chunk is split and however often losses go back."""
    given, rule = problem(LSTM(2, 2)), DNI(STEPS, 0.0)
    guess = torch.randn(2, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))

    def found(twice: bool, guess: Tensor, cuts: tuple[int, ...] = (STEPS,)) -> Tensor:
        theta, at = given.genes.clone().requires_grad_(), 0
        memory = {**rule.begin(given.cell, theta, len(given.x)), SYNTHESISER: guess}
        for steps in cuts:
            states, memory = rule.advance(given.cell, theta, given.x[:, at : at + steps], memory)
            for _ in range(1 + twice):
                (given.loss(states, at) / (1 + twice)).backward(retain_graph=True)
            at += steps
        assert theta.grad is not None
        return theta.grad

    theta = given.genes.clone().requires_grad_()
    states, _ = BPTT().advance(given.cell, theta, given.x, BPTT().begin(given.cell, theta, len(given.x)))
    sent = foretell(guess, states[:, :, -1]).detach()
    (given.loss(states, 0) + (sent * states[:, :, -1]).sum()).backward()
    assert theta.grad is not None
    for twice in (False, True):
        assert relative(found(twice, guess), theta.grad) <= EXACT
    assert relative(found(False, guess, (4, 7)), theta.grad) <= EXACT
    assert relative(found(False, 0 * guess), theta.grad) > 1e-3


def test_the_box_of_dni_holds_the_credit_that_arrived_at_the_start_of_the_block() -> None:
    given, rule = problem(LSTM(2, 2), steps=8), DNI(4, 1.0)
    theta = given.genes.clone().requires_grad_()
    memory = rule.begin(given.cell, theta, len(given.x))
    for at, steps in ((0, 4), (4, 1), (5, 3)):
        states, memory = rule.advance(given.cell, theta, given.x[:, at : at + steps], memory)
        given.loss(states, at).backward()
    assert not memory[SYNTHESISER].any(), "nothing has come yet that it could have learned from"
    start = memory[STATE + "0"].clone().requires_grad_()
    states, _ = BPTT().advance(given.cell, given.genes, given.x[:, 4:], {"s": start})
    (truth,) = torch.autograd.grad(given.loss(states, 4), start)
    assert relative(memory[BOX + "0"][..., :-1], truth) <= EXACT
    after = taught(memory, 1.0, under_way=False)
    assert list(after) == [SYNTHESISER], "what has been learned from is gone"
    alone = {**memory, STATE + "0": start[:, :1].detach(), BOX + "0": memory[BOX + "0"][:, :1]}
    told = foretell(taught(alone, 1.0, under_way=False)[SYNTHESISER], start[:, :1])
    assert relative(told.detach(), truth[:, :1]) <= EXACT, "of one sequence, a whole step mends the whole error"


@dataclass(frozen=True)
class Delays:
    """s' = U s + W x: linear, and with a chain of delays for U."""

    inputs: int
    hidden: int

    @property
    def outputs(self) -> int:
        return self.hidden

    @property
    def state(self) -> int:
        return self.hidden

    def leaves(self) -> tuple[Leaf, ...]:
        h = units("h", self.hidden)
        return (matrix("recurrent", h, h), matrix("input", h, units("x", self.inputs)))

    def start(self, weights: Weights, batch: int) -> Tensor:
        return weights["input"].new_zeros(len(weights["input"]), batch, self.hidden)

    def step(self, weights: Weights, x: Tensor, s: Tensor) -> Tensor:
        return affine(weights["recurrent"], s, linear(weights["input"], x))


@cache
def delayed() -> Problem:
    """The last of four delays is to be silent; noise enters at the first, so credit needs three steps to reach it."""
    cell, random = Delays(1, 4), torch.Generator().manual_seed(4)
    recurrent = 0.9 * torch.diag(torch.ones(3), -1) + 0.3 * torch.eye(4)
    genes = torch.cat([recurrent.flatten(), torch.tensor([1.0, 0, 0, 0])])[None].double()
    x = torch.randn(32, 400, 1, dtype=torch.float64, generator=random)
    last = torch.tensor([0.0, 0, 0, 1], dtype=torch.float64)
    return Problem(cell, genes, x, torch.zeros(32, 400, 4, dtype=torch.float64), last)


def test_a_converged_dni_points_along_bptt_on_a_linear_task_where_its_truncation_does_not() -> None:
    given, rule = delayed(), DNI(2, 0.3)
    theta = given.genes.clone().requires_grad_()
    memory = rule.begin(given.cell, theta, len(given.x))
    for at in range(0, 400, 2):
        states, memory = rule.advance(given.cell, theta, given.x[:, at : at + 2], memory)
        if at == 200:  # learned by now
            theta.grad = None
        given.loss(states, at).backward()
    whole = given.genes.clone().requires_grad_()
    states, _ = BPTT().advance(given.cell, whole, given.x, BPTT().begin(given.cell, whole, len(given.x)))
    given.loss(states[:, :, 200:], 200).backward()
    late = replace(given, x=given.x[:, 200:], push=given.push[:, 200:])
    assert theta.grad is not None
    assert whole.grad is not None
    assert cosine(theta.grad, whole.grad) >= 0.9
    assert cosine(gradient(TBPTT(2), late), whole.grad) < 0.7


def flow(dt: float, activation: str) -> Problem:
    """Networks, inputs and errors in continuous time, sampled every dt over four units of time."""
    cell, random = CTRNN(2, 4, dt=dt, activation=activation), torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=random)

    size = Layout(cell.leaves()).size
    genes, tau = normal(2, size), 0.5 + 1.5 * torch.rand(2, 4, dtype=torch.float64, generator=random)
    genes[:, -4:] = torch.log(tau / dt - 1)
    time = dt * torch.arange(1, round(4 / dt) + 1, dtype=torch.float64)[None] + torch.arange(3)[:, None]
    x = torch.stack([time.sin(), (2 * time).cos()], dim=2)
    push = dt * normal(3, 1, 4) * (3 * time).cos()[:, :, None]
    return Problem(cell, genes, x, push, dt**0.5 * normal(4))


@pytest.mark.parametrize("activation", ["tanh", "logistic"])
def test_pearlmutters_gradient_of_the_flow_is_that_of_the_steps_up_to_an_error_of_order_dt(activation: str) -> None:
    errors = []
    for dt in (0.02, 0.01, 0.005):
        given = flow(dt, activation)
        found, truth = (gradient(rule, given) for rule in (Pearlmutter(), BPTT()))
        ends = [0, *(end for _, _, end in Layout(given.cell.leaves()).spans())]
        parts = [slice(*each) for each in pairwise(ends)]
        errors.append([relative(found[:, part], truth[:, part]) for part in parts])  # leaf by leaf, time constants too
    for wide, middle, narrow in zip(*errors, strict=True):
        assert 1e-4 < narrow < 0.02
        assert 1.8 < wide / middle < 2.2
        assert 1.8 < middle / narrow < 2.2


def test_pearlmutters_credit_does_not_cross_a_reset() -> None:
    given, cut = flow(0.02, "tanh"), 70
    reset = torch.zeros(given.x.shape[:2], dtype=torch.bool)
    reset[:, cut] = True
    whole = gradient(Pearlmutter(), replace(given, reset=reset))
    apart = [replace(given, x=given.x[:, part], push=given.push[:, part]) for part in (slice(cut), slice(cut, None))]
    assert relative(sum(gradient(Pearlmutter(), each) for each in apart), whole) <= EXACT  # type: ignore[arg-type]
    assert relative(gradient(Pearlmutter(), given), whole) > 1e-3


def test_pearlmutter_refuses_cells_without_continuous_time() -> None:
    with pytest.raises(
        ConfigError, match=r"pearlmutter needs a cell in continuous time, ctrnn, but got Elman\. Use ctrnn"
    ):
        Pearlmutter().check(Elman(2, 3))
    Pearlmutter().check(CTRNN(2, 3))


def test_fields_that_mean_nothing_are_refused() -> None:
    for wrong in (lambda: TBPTT(0), lambda: DNI(0), lambda: TBPTT(3, 0), lambda: TBPTT(3, "always")):
        with pytest.raises(ConfigError, match="should be at least 1 but is"):
            wrong()
    with pytest.raises(ConfigError, match="every should be at most the horizon, 3, but is 4"):
        TBPTT(3, 4)
    for rate in (-0.1, 2.0, float("nan")):
        with pytest.raises(ConfigError, match="rate should be from 0 to below 2 but is"):
            DNI(3, rate)
