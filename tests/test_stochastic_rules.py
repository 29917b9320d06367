"""Laws of the unbiased rules: their mean over all signs is the gradient; and influence balancing, which tells rules apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from evo_rnn.cells import CTRNN, GRU, LSTM, Cell, Elman, Stack
from evo_rnn.cells.cell import row
from evo_rnn.errors import ConfigError
from evo_rnn.layout import Leaf, units, vector
from evo_rnn.shapes import Weights
from evo_rnn.threads import one_thread
from tests.rule_examples import CELLS, EXACT, STEPS, Begun, Problem, gradient, problem, relative
from trainers.gradient.bptt import BPTT
from trainers.gradient.estimator import Estimator
from trainers.gradient.hybrid import Hybrid
from trainers.gradient.kf_rtrl import KFRTRL
from trainers.gradient.rtrl import RTRL
from trainers.gradient.tbptt import TBPTT
from trainers.gradient.uoro import UORO, drawn

Signs = Callable[[int, str, int, int, int], Tensor]
SERVED = ["elman", "frnn", "lstm"]  # whose sums all hear the same values


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small products wait longer for a second thread than they take."""
    with one_thread():
        yield


def enumerated(draws: int, places: dict[tuple[str, int], int], flip: float = 1.0) -> Signs:
    """Row p of the population gets the signs that are the digits of p: all rows together, every draw once.

    `places` says where the digits of a word's step begin; `flip` shortens the positive ones, which biases them.
    """
    every = torch.arange(2**draws)

    def signs(seed: int, word: str, step: int, batch: int, count: int) -> Tensor:  # noqa: ARG001
        first = places[word, step]
        bits = torch.stack([every >> (first + i) & 1 for i in range(count)], dim=1)
        return torch.where(bits == 1, flip, -1.0)[:, None].expand(-1, batch, -1)

    return signs


def means(
    rule: Callable[..., Estimator], word: str, given: Problem, each: int, flip: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Mean and relative deviation over all draws of `each` signs a step."""
    steps, starts = given.x.shape[1], [0, *range(1, given.x.shape[1])] if given.reset.any() else [0]
    places = {(word, t): each * t for t in range(steps)}
    draws = each * steps
    if isinstance(given.cell, Begun):
        starts = [t for t in range(steps) if t == 0 or (len(given.reset) and given.reset[:, t].any())]
        places |= {("uoro start", t): draws + each * k for k, t in enumerate(starts)}
        draws += each * len(starts)
    else:
        places |= {("uoro start", t): 0 for t in starts}
    many = replace(given, genes=given.genes[:1].expand(2**draws, -1).contiguous())
    found = gradient(rule(signs=enumerated(draws, places, flip)), many)
    spread = (found - found.mean(dim=0)).norm(dim=1).square().mean().sqrt()
    return found.mean(dim=0), spread / found.mean(dim=0).norm()


TINY: dict[str, Problem] = {
    "elman": problem(Elman(1, 2), batch=1, steps=5),
    "elman with resets": replace(problem(Elman(1, 2), batch=2, steps=5), reset=torch.eye(5)[[2, 3]].bool()),
    "gru": problem(GRU(1, 2), batch=1, steps=5),
    "lstm": problem(LSTM(1, 1), batch=1, steps=5),
    "stack": problem(Stack((Elman(1, 1), Elman(1, 1))), batch=1, steps=5),
    "learned start": problem(Begun(1, 2), batch=1, steps=4),
    "learned start with resets": replace(problem(Begun(1, 2), batch=2, steps=3), reset=torch.eye(3)[[1, 1]].bool()),
}


@pytest.mark.parametrize("given", TINY.values(), ids=TINY)
def test_the_mean_of_uoro_over_all_signs_is_the_gradient(given: Problem) -> None:
    truth = gradient(BPTT(), given.rows(slice(1)))[0]
    mean, deviation = means(UORO, "uoro", given, 2)
    assert relative(mean, truth) <= EXACT
    assert deviation > 0.1, "signs that do not matter prove nothing"
    biased, _ = means(UORO, "uoro", given, 2, flip=0.7)
    assert relative(biased, truth) > 1e-3


@pytest.mark.parametrize("name", ["elman", "elman with resets", "lstm"])
def test_the_mean_of_kf_rtrl_over_all_signs_is_the_gradient(name: str) -> None:
    given = TINY[name]
    truth = gradient(BPTT(), given.rows(slice(1)))[0]
    mean, deviation = means(KFRTRL, "kf_rtrl", given, 2)
    assert relative(mean, truth) <= EXACT
    assert deviation > 0.1
    assert deviation < means(UORO, "uoro", given, 2)[1], "KF-RTRL is the less noisy one"
    biased, _ = means(KFRTRL, "kf_rtrl", given, 2, flip=0.7)
    assert relative(biased, truth) > 1e-3


RULES = [(UORO(), name) for name in CELLS] + [(KFRTRL(), name) for name in SERVED]


@pytest.mark.parametrize(
    ("rule", "name"), RULES, ids=lambda each: each if isinstance(each, str) else type(each).__name__
)
def test_chunks_of_any_length_continue_exactly(rule: UORO | KFRTRL, name: str) -> None:
    given = problem(CELLS[name], resets=True)
    whole = gradient(rule, given)
    for cuts in ((4, 7), (1,) * STEPS):
        assert relative(gradient(rule, given, cuts), whole) <= EXACT
    assert relative(gradient(replace(rule, seed=1), given), whole) > 1e-3

    def stuck(seed: int, word: str, step: int, batch: int, count: int) -> Tensor:  # noqa: ARG001
        return drawn(seed, word, 0, batch, count)

    assert relative(gradient(replace(rule, signs=stuck), given), whole) > 1e-3


@pytest.mark.parametrize("rule", [UORO(3), KFRTRL(3)], ids=["uoro", "kf_rtrl"])
def test_signs_belong_to_a_step_and_a_sequence_but_not_to_a_network(rule: UORO | KFRTRL) -> None:
    given = problem(Elman(2, 3), people=3)
    whole = gradient(rule, given)
    assert relative(gradient(rule, given.rows(slice(1, 2))), whole[1:2]) <= EXACT
    twins = replace(given, genes=given.genes[:1].expand(2, -1), x=given.x[:1].expand(2, -1, -1), along=0 * given.along)
    pushed = [gradient(rule, replace(twins, push=given.push[:1] * mask)) for mask in torch.eye(2)[:, :, None, None]]
    for each in pushed:
        assert relative(each[1], each[0]) <= EXACT, "equal networks"
    assert relative(pushed[1], pushed[0]) > 1e-3, "errors of equal sequences"
    assert not torch.equal(drawn(0, "a", 0, 4, 9)[0], drawn(0, "a", 0, 4, 9)[1])
    assert torch.equal(drawn(0, "a", 0, 4, 9)[:2], drawn(0, "a", 0, 2, 9))


@pytest.mark.parametrize("cell", [GRU(2, 3), LSTM(2, 3, peepholes=True), CTRNN(2, 3)], ids=lambda c: type(c).__name__)
def test_kf_rtrl_refuses_cells_whose_sums_hear_different_values(cell: Cell) -> None:
    with pytest.raises(ConfigError, match=rf"{type(cell).__name__} has \d kinds of sums\. Use uoro.*or hybrid"):
        KFRTRL().check(cell)
    KFRTRL().check(Elman(2, 3))
    KFRTRL().check(LSTM(2, 3))
    with pytest.raises(ConfigError, match=r"Begun also learns others, such as its start\. Use uoro.*or hybrid"):
        KFRTRL().begin(Begun(2, 3), torch.zeros(1, 21), 1)


@dataclass(frozen=True)
class Balance:
    """Influence balancing (Tallec and Ollivier 2018, section 5.1): s' = A s + θ v, 10 units pushed up and 13 down.

    A = 1/2 (identity + next unit), so a push at one unit reaches the first after as many steps: soon up, and later down.
    """

    units: int = 23
    up: int = 10
    inputs: int = 0

    @property
    def outputs(self) -> int:
        return self.units

    @property
    def state(self) -> int:
        return self.units

    def leaves(self) -> tuple[Leaf, ...]:
        return (vector("theta", units("theta", 1), ["one"], 0.5, 0.5),)

    def start(self, weights: Weights, batch: int) -> Tensor:
        return torch.ones_like(weights["theta"])[:, None].expand(-1, batch, self.units)

    def step(self, weights: Weights, x: Tensor, s: Tensor) -> Tensor:  # noqa: ARG002
        after = torch.cat([s[..., 1:], torch.zeros_like(s[..., :1])], dim=2)
        sign = torch.ones(self.units, dtype=s.dtype)
        sign[self.up :] = -1
        return (s + after) / 2 + row(weights["theta"]) * sign


def balanced(rule: Estimator, rate: float, steps: int, people: int = 1, chunk: int = 1) -> Tensor:
    """The losses (P,), half the square of what the first unit is off one, after learning at every step or every chunk."""
    cell, x = Balance(), torch.zeros(1, chunk, 0, dtype=torch.float64)
    theta = torch.full((people, 1), 0.5, dtype=torch.float64, requires_grad=True)
    memory, loss = rule.begin(cell, theta, 1), torch.zeros(people)
    for _ in range(0, steps, chunk):
        states, memory = rule.advance(cell, theta, x, memory)
        loss = (states[:, 0, :, 0] - 1).square() / 2
        (slope,) = torch.autograd.grad(loss.sum(), theta)
        theta = (theta - rate * slope).detach().requires_grad_()
    return loss.detach()[:, -1]


@pytest.mark.parametrize(("rule", "chunk"), [(RTRL(), 1), (Hybrid(5), 5)], ids=["rtrl", "hybrid"])
def test_exact_rules_balance_influence(rule: Estimator, chunk: int) -> None:
    assert float(balanced(rule, 1e-4, 3000, chunk=chunk)) < 1e-12


def test_uoro_balances_influence_whatever_the_signs() -> None:
    """Three networks, each with signs of its own; the weight is moved every 50 steps, by the sum of their gradients."""

    def signs(seed: int, word: str, step: int, batch: int, count: int) -> Tensor:
        return drawn(seed, word, step, 3 * batch, count).view(3, batch, count)

    loss = balanced(UORO(signs=signs), 1e-5, 30000, people=3, chunk=50)
    assert float(loss.max()) < 1e-6


def test_truncated_bptt_is_driven_away_from_balance() -> None:
    assert float(balanced(TBPTT(10), 1e-4, 3000, chunk=10)) > 1e3
