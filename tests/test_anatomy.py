# ruff: noqa: ARG005 (all uses have one signature)
"""What is found by looking at a cell's step: equal to brute force, whatever a step does with its weights and conditions."""

from __future__ import annotations

import doctest
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd.functional import jacobian

from evo_rnn.cells import CTRNN, LSTM, Cell, IndRNN, SecondOrder, Stack
from evo_rnn.cells.cell import affine, linear, row, zeros
from evo_rnn.errors import ConfigError
from evo_rnn.layout import Leaf, matrix, units, vector
from evo_rnn.shapes import Weights
from tests.cell_examples import EXAMPLES, every_cell
from trainers import gradient as gradient_rules
from trainers.gradient import BPTT, ESTIMATORS, RTRL, Diagonal, Estimator, Hybrid
from trainers.gradient.anatomy import anatomy
from trainers.gradient.audit import uneven
from trainers.gradient.estimator import layout_of
from trainers.gradient.look import FEW, POINTS, _place

EXACT, ALIVE = 1e-12, 1e-3
Use = Callable[[Weights, Tensor, Tensor], Tensor]


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def dense(cell: Cell) -> tuple[Tensor, Tensor]:
    """∂s'/∂s (S, S) and ∂s'/∂w (S, F), where they are not zero at some of many points, by plain autograd."""
    layout, moves, touches = layout_of(cell), [], []
    sizes = [leaf.full for leaf in layout.leaves]

    def step(flat: Tensor, x: Tensor, s: Tensor) -> Tensor:
        leaves = flat.split(sizes, dim=1)
        named = {leaf.name: w.view(1, *leaf.shape) for leaf, w in zip(layout.leaves, leaves, strict=True)}
        return cell.step(named, x, s)[0, 0]

    for seed in range(12):
        genes, s = 0.7 * normal(seed, 1, layout.size), normal(50 + seed, 1, 1, cell.state)
        flat = torch.cat([w.flatten(1) for w in layout.unpack(genes).values()], dim=1)
        by_w, _, by_s = jacobian(step, (flat, normal(99 + seed, 1, 1, cell.inputs), s))
        moves.append(by_s.view(cell.state, -1) != 0)
        touches.append(by_w.view(cell.state, -1) != 0)
    return torch.stack(moves).any(dim=0), torch.stack(touches).any(dim=0)


@every_cell
def test_what_is_found_by_looking_is_what_dense_jacobians_show(cell: Cell) -> None:
    parts, (moves, touches) = anatomy(cell), dense(cell)
    assert torch.equal(parts.dynamics, moves)
    found = torch.zeros(parts.entries, cell.state, dtype=torch.bool)
    for sums in parts.sums:
        entries = parts.order[sums.columns]
        found.index_put_((entries,), found[entries] | sums.touches.repeat_interleave(sums.fan, dim=0))
    there = torch.cat(
        [
            torch.ones(leaf.full, dtype=torch.bool)
            if not leaf.free
            else torch.zeros(leaf.full, dtype=torch.bool).index_fill(0, torch.tensor(leaf.free), True)
            for leaf in layout_of(cell).leaves
        ]
    )
    assert touches.any()
    assert torch.equal(found[there], touches.T[there])
    assert parts.direct == ()
    assert parts.certain
    for sums in parts.sums:  # no two columns of one colour are touched by one sum
        assert (sums.touches[:, None] & parts.colours).sum(dim=2).max() <= 1


@every_cell
def test_local_dynamics_are_those_with_every_link_cut(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, cut = anatomy(cell), anatomy(cell, True)
    bmm, baddbmm = torch.bmm, torch.baddbmm
    monkeypatch.setattr(torch, "bmm", lambda x, w: bmm(x.detach(), w))
    monkeypatch.setattr(torch, "baddbmm", lambda base, x, w: baddbmm(base, x.detach(), w))
    if isinstance(cell, SecondOrder) or (isinstance(cell, Stack) and isinstance(cell.cells[0], SecondOrder)):
        return  # its products are no links
    moves, _ = dense(cell)
    assert torch.equal(parts.local, moves)
    assert torch.equal(cut.dynamics, moves)


NESTED = {"gru before", "second order", "second order tanh", "stack", "stack of all sorts"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_links_are_plain_unless_they_hear_what_the_step_has_made(name: str) -> None:
    parts = anatomy(EXAMPLES[name])
    assert parts.plain == (name not in NESTED)
    assert any(bool((columns >= 0).any()) for columns in parts.heard) == any(sums.links for sums in parts.sums)


@dataclass(frozen=True)
class Free:
    """A user's cell: its `use` of the weights is driven by its inputs, and damped."""

    use: Use
    inputs: int = 2
    hidden: int = 3
    share: float = 0.8

    @property
    def outputs(self) -> int:
        return self.hidden

    @property
    def state(self) -> int:
        return self.hidden

    def leaves(self) -> tuple[Leaf, ...]:
        h, x = units("h", self.hidden), units("x", self.inputs)
        named = (vector(name, h, ["one"], -0.5, 0.5) for name in ("b", "gain"))
        return (matrix("input", h, x), matrix("pair", [*h, *h], h), matrix("mix", h, h), *named)

    def start(self, weights: Weights, batch: int) -> Tensor:
        return zeros(weights, batch, self.state)

    def step(self, weights: Weights, x: Tensor, s: Tensor) -> Tensor:
        driven = affine(weights["input"], torch.sin(x), row(weights["b"]))
        return torch.tanh(driven + self.share * self.use(weights, x, s)) + 0.2 * s


def gradient(rule: Estimator, cell: Cell, x: Tensor, cuts: tuple[int, ...]) -> Tensor:
    genes = (0.8 * normal(1, 2, layout_of(cell).size)).requires_grad_()
    memory, push, at = rule.begin(cell, genes, len(x)), normal(2, *x.shape[:2], cell.state), 0
    for steps in cuts:
        here = slice(at, at + steps)
        states, memory = rule.advance(cell, genes, x[:, here], memory)
        (states * push[:, here]).sum().backward()
        at += steps
    assert genes.grad is not None
    return genes.grad


def assert_exact(cell: Cell, x: Tensor) -> None:
    true = gradient(BPTT(), cell, x, (x.shape[1],))
    assert true.norm() > ALIVE, "a dead reference proves nothing"
    assert (gradient(BPTT(), cell, x, (4, 4, 1)) - true).norm() / true.norm() > ALIVE, "credit crosses the cuts"
    for rule in (RTRL(), Hybrid(3)):
        assert (gradient(rule, cell, x, (4, 4, 1)) - true).norm() / true.norm() <= EXACT


TERMS: dict[str, Use] = {
    "linear": lambda w, x, s: linear(w["mix"], s),
    "sliced rows": lambda w, x, s: linear(w["pair"][:, 3:], s) * torch.sigmoid(linear(w["pair"][:, :3], s)),
    "a column": lambda w, x, s: w["mix"][:, :, 0][:, None] * s,
    "transposed": lambda w, x, s: torch.bmm(s, w["mix"].mT),
    "mT": lambda w, x, s: s @ w["mix"].mT,
    "from the left": lambda w, x, s: (2 * w["gain"])[:, None] * s,
    "from the right": lambda w, x, s: (w["gain"] * 2)[:, None] * s,
    "less one": lambda w, x, s: (1 - w["gain"])[:, None] * s,
    "einsum": lambda w, x, s: torch.einsum("pij,pbj->pbi", w["mix"], s),
    "shape": lambda w, x, s: s / w["gain"].shape[1] + row(w["gain"]),
    "stacked": lambda w, x, s: torch.stack([w["b"], w["gain"]], dim=1).mean(dim=1)[:, None] * s,
    "iterated": lambda w, x, s: torch.stack([each @ m.T for each, m in zip(s, w["mix"], strict=True)]),
    "peephole": lambda w, x, s: row(w["gain"]) * s,
    "clamped": lambda w, x, s: row(w["gain"]).clamp(min=0.0) * s,
    "clamped leaf": lambda w, x, s: w["gain"].clamp(min=0.0)[:, None] * s,
    "a norm": lambda w, x, s: linear(w["mix"], s) / (1 + s.square().sum(dim=2, keepdim=True)),
    "in place": lambda w, x, s: linear(w["mix"], s).mul_(row(w["gain"])),
    "a mask": lambda w, x, s: linear(w["mix"] * (torch.arange(3) < 2), s),
    "sorted": lambda w, x, s: linear(w["mix"], s.sort(dim=2).values),
    "the largest": lambda w, x, s: linear(w["mix"], s.amax(dim=2, keepdim=True) - s),
}


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(sorted(TERMS)), min_size=1, max_size=3), st.booleans())
def test_rules_are_exact_whatever_a_step_does_with_its_leaves(names: list[str], nested: bool) -> None:
    def use(w: Weights, x: Tensor, s: Tensor) -> Tensor:
        if not nested:
            return torch.stack([TERMS[name](w, x, s) for name in names]).sum(dim=0)
        for name in names:
            s = torch.tanh(TERMS[name](w, x, s))
        return s

    assert_exact(Free(use), normal(3, 2, 9, 2))


@pytest.mark.parametrize("name", TERMS)
def test_rules_are_exact_for_each_way_to_use_a_leaf(name: str) -> None:
    assert_exact(Free(TERMS[name]), normal(3, 2, 9, 2))


DIRECT = {"mix": ("einsum", "mT", "transposed", "a column", "iterated", "a mask")}
DIRECT |= {"gain": ("from the left", "from the right", "less one", "shape", "clamped leaf")}
DIRECT |= {"": ("linear", "sliced rows", "peephole", "in place", "clamped", "sorted")}


@pytest.mark.parametrize(("leaf", "name"), [(leaf, name) for leaf, names in DIRECT.items() for name in names])
def test_a_leaf_that_is_used_outside_the_three_words_is_direct(leaf: str, name: str) -> None:
    found = anatomy(Free(TERMS[name])).direct
    assert found == ((leaf,) if leaf else ())


def test_a_mistake_in_a_users_step_is_shown_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        anatomy(Free(lambda w, x, s: s * (1 // 0)))
    with pytest.raises(RuntimeError, match="size"):
        anatomy(Free(lambda w, x, s: linear(w["mix"], s[..., 1:])))


RARE: dict[str, Use] = {
    "a reset": lambda w, x, s: torch.where(x[..., :1] > 40, row(w["gain"]), linear(w["mix"], s)),
    "a link": lambda w, x, s: torch.where(x[..., :1] == 50, linear(w["mix"], s), 0.5 * s),
    "a hearing": lambda w, x, s: linear(w["mix"], torch.where(x[..., :1] == 50, s.flip(2), s)),
    "a factor": lambda w, x, s: (x[..., :1] > 40).to(s.dtype) * s.roll(1, dims=2) * row(w["gain"]),
    "two at once": lambda w, x, s: (x[..., :1] > 40) * (x[..., 1:] < 0) * row(w["gain"]) * s,
    "three apart": lambda w, x, s: torch.where(
        x[..., :1] > 40, s, torch.where(x[..., :1] > 0, s.roll(1, 2), s.roll(2, 2))
    ),
    "far out": lambda w, x, s: torch.relu(x[..., :1] - 49) * row(w["gain"]) * s.roll(1, dims=2),
    "a chain": lambda w, x, s: torch.relu(torch.relu(torch.relu(x[..., :1] - 45) - 2) - 2) * linear(w["mix"], s),
    "of a weight": lambda w, x, s: torch.where(row(w["gain"]) > 1.5, row(w["b"]), 0.5) * s.roll(1, dims=2),
}


def flagged() -> Tensor:
    x = normal(3, 2, 9, 2)
    x[:, [3, 6], 0] = 50
    return x


@pytest.mark.parametrize("name", RARE)
def test_what_a_step_does_at_rare_values_is_seen(name: str) -> None:
    cell = Free(RARE[name])
    assert_exact(cell, flagged())
    assert anatomy(cell).certain


HIDDEN: dict[str, Use] = {
    "a clamp far out": lambda w, x, s: (x[..., :1] - 490).clamp(min=0) * row(w["gain"]) * s.roll(1, dims=2),
    "a link far out": lambda w, x, s: (x[..., :1] - 490).clamp(min=0) * linear(w["mix"], s),
    "a hearing far out": lambda w, x, s: linear(w["mix"], s + (x[..., :1] - 490).clamp(min=0) * s.flip(2)),
    "a branch of Python": lambda w, x, s: s * row(w["gain"]) if x.max().item() < 490 else linear(w["mix"], s),
    "a branch that mixes": lambda w, x, s: s * row(w["gain"] if x.max().item() < 490 else w["b"] * 2),
    "a factor of Python": lambda w, x, s: linear(w["mix"], s) * float(x.max().item() > 490),
}


@pytest.mark.parametrize("name", HIDDEN)
@pytest.mark.parametrize("rule", [RTRL(), Hybrid(3)], ids=str)
def test_a_gradient_that_would_be_wrong_is_an_error(name: str, rule: Estimator) -> None:
    cell, x = Free(HIDDEN[name]), flagged()
    assert torch.isfinite(gradient(rule, cell, x, (9,))).all(), "what was seen is served"
    x[1, 6, 0] = 500
    with pytest.raises(ConfigError, match=r"Free should take the same step .* use bptt"):
        gradient(rule, cell, x, (4, 5))
    assert torch.isfinite(gradient(BPTT(), cell, x, (9,))).all()


def test_the_audit_lets_pass_what_is_right_in_single_precision() -> None:
    """A clamp that is often met is compared at every chunk, and never refused."""
    cell = Free(lambda w, x, s: linear(w["mix"], s).clamp(-0.5, 0.5) + 3 * linear(w["pair"][:, :3], s))
    assert not anatomy(cell).certain
    genes = normal(1, 20, layout_of(cell).size).float().requires_grad_()
    memory = RTRL().begin(cell, genes, 4)
    for chunk in range(5):
        states, memory = RTRL().advance(cell, genes, 3 * normal(chunk, 4, 16, 2).float(), memory)
        states.sum().backward()


@pytest.mark.parametrize("cell", [IndRNN(2, 3), Stack((IndRNN(2, 3), IndRNN(3, 3)))], ids=["one", "two"])
def test_units_that_are_off_nearly_everywhere_are_seen(cell: Cell) -> None:
    parts = anatomy(cell)
    assert parts.certain
    assert torch.equal(parts.dynamics, dense_with_units_on(cell))
    if isinstance(cell, IndRNN):
        Diagonal().check(cell)


def dense_with_units_on(cell: Cell) -> Tensor:
    cells = cell.cells if isinstance(cell, Stack) else (cell,)
    smooth = tuple(replace(each, activation="tanh") for each in cells)
    return dense(Stack(smooth) if isinstance(cell, Stack) else smooth[0])[0]


def test_looking_draws_no_random_numbers_of_the_users_and_finds_the_same_again() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = anatomy.__wrapped__(Free(TERMS["clamped"]))
    second = anatomy.__wrapped__(Free(TERMS["clamped"]))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first.order, second.order)
    assert first.direct == second.direct
    v = uneven(5, torch.float64, torch.device("cpu"))
    assert len(v.unique()) == 5


def loop(name: str, cell: str) -> str:
    """The loop of the package's documentation with another estimator."""
    text = gradient_rules.__doc__ or ""
    assert text.count('ESTIMATORS["rtrl"]') == text.count("network(IndRNN(inputs=1, hidden=4)") == 1
    imported = text.replace("import IndRNN", f"import {cell}").replace("IndRNN(", f"{cell}(")
    return imported.replace('"rtrl"', f'"{name}"')


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_documented_loop_runs_with_every_estimators_name(name: str) -> None:
    for cell in (IndRNN, LSTM, CTRNN):
        try:
            ESTIMATORS[name]().check(cell(1, 4))
        except ConfigError:
            continue
        known: dict[str, Any] = {}
        said: list[str] = []
        test = doctest.DocTestParser().get_doctest(loop(name, cell.__name__), known, name, None, 0)
        assert len(test.examples) == 11
        runner = doctest.DocTestRunner()
        assert runner.run(test, out=said.append, clear_globs=False).failed == 0, said
        last = test.globs
        assert type(last["estimator"]) is ESTIMATORS[name]
        assert last["loss"] < 0.1, "inputs are between 0 and 1: a guess at their mean has 1/12"
        return
    raise AssertionError(f"{name} refuses every cell")


@every_cell
def test_every_weight_is_tried_with_both_signs(cell: Cell) -> None:
    weights, x, s = _place(cell, torch.arange(POINTS).view(-1, FEW))
    assert (len(x), x.shape[1], len(s)) == (POINTS // FEW, FEW, POINTS // FEW)
    for value in weights.values():
        assert torch.equal(value[::2], -value[1::2])
        assert not torch.equal(value[0], value[2])
