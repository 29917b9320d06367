"""Laws of the gradient estimators: exact ones equal BPTT, rows stay apart, declared costs are counted costs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from evo_rnn.cells import FRNN, GRU, LSTM, Cell, Elman, IndRNN, Stack
from evo_rnn.cells.cell import affine, zeros
from evo_rnn.errors import ConfigError
from evo_rnn.fitness import LOSSES, Batch, Loss
from evo_rnn.layout import Leaf, matrix, units, vector
from evo_rnn.network import Identity, Network, network
from evo_rnn.shapes import Weights
from tests.counting import Counted
from trainers.gradient import BPTT, DNI, ESTIMATORS, RTRL, TBPTT, Estimator, Hybrid, passes, slope
from trainers.gradient.slope import heard

EXACT = 1e-12
STEPS = 11


@dataclass(frozen=True)
class Leaky:
    """A user's own cell, with a learned start and a reset carried in an input column."""

    inputs: int
    hidden: int

    @property
    def outputs(self) -> int:
        return self.hidden

    @property
    def state(self) -> int:
        return self.hidden

    def leaves(self) -> tuple[Leaf, ...]:
        h, x = units("h", self.hidden), units("x", self.inputs)
        return (
            matrix("mix", h, [*x, *h]),
            vector("bias", h, ["one"], -0.5, 0.5),
            vector("start", h, ["one"], -0.5, 0.5),
        )

    def start(self, weights: Weights, batch: int) -> Tensor:
        return weights["start"][:, None].expand(-1, batch, -1)

    def step(self, weights: Weights, x: Tensor, s: Tensor) -> Tensor:
        reset = (x[..., :1] > 1.2).to(s.dtype)  # an input beyond 1.2 begins a new episode
        s = reset * self.start(weights, s.shape[1]) + (1 - reset) * s
        mixed = affine(weights["mix"], torch.cat([x, s], dim=2), weights["bias"][:, None])
        return 0.7 * s + 0.3 * torch.tanh(mixed)


@dataclass(frozen=True)
class Begun(Leaky):
    """A cell whose start is learned and is used at the start alone."""

    def step(self, weights: Weights, x: Tensor, s: Tensor) -> Tensor:
        return torch.tanh(affine(weights["mix"], torch.cat([x, s], dim=2), weights["bias"][:, None]))


CELLS: dict[str, Cell] = {
    "elman": Elman(2, 3),
    "frnn": FRNN(2, 3, mask=("11011", "01101", "10111")),
    "lstm": LSTM(2, 3),
    "lstm peepholes": LSTM(2, 3, peepholes=True),
    "gru after": GRU(2, 3),
    "gru before": GRU(2, 3, "before"),
    "indrnn": IndRNN(2, 3, "tanh"),
    "stack": Stack((Elman(2, 3), LSTM(3, 2))),
    "own": Leaky(2, 3),
    "learned start": Begun(2, 3),
}
RULES = [RTRL(), Hybrid(1), Hybrid(4), Hybrid(7), Hybrid(STEPS), Hybrid(STEPS + 3)]


def problem(net: Network, people: int = 3, batch: int = 4) -> tuple[Tensor, Batch]:
    """Random genes and sequences; some steps do not count."""
    random = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=random)

    counts = torch.rand(batch, STEPS, generator=random) > 0.3
    data = Batch(normal(batch, STEPS, net.cell.inputs), normal(batch, STEPS, net.readout.outputs), counts)
    return 0.7 * normal(people, net.layout.size), data


def serves(rule: Estimator, cell: Cell) -> None:
    """Skip what a rule refuses; that it does so loudly is a law of its own."""
    try:
        rule.check(cell)
    except ConfigError as refusal:
        pytest.skip(str(refusal))


def relative(found: Tensor, true: Tensor) -> float:
    """Distance over the norm of the truth, which must be alive."""
    norm = float(true.norm())
    assert norm > 1e-3, "a dead reference proves nothing"
    return float((found - true).norm()) / norm


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_exact_rules_equal_bptt_on_every_cell(cell: Cell, rule: RTRL | Hybrid) -> None:
    net = network(cell, 2)
    genes, data = problem(net)
    loss, truth = slope(BPTT(), net, genes, data, LOSSES["mse"])
    found_loss, found = slope(rule, net, genes, data, LOSSES["mse"])
    torch.testing.assert_close(found_loss, loss, rtol=EXACT, atol=EXACT)
    for row in range(len(genes)):
        assert relative(found[row], truth[row]) <= EXACT


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_bptt_is_the_derivative_of_the_loss(cell: Cell) -> None:
    net = network(cell, 1)
    genes, data = problem(net, people=1, batch=2)
    _, found = slope(BPTT(), net, genes, data, LOSSES["mse"])
    width = 1e-6
    nudges = width * torch.eye(net.layout.size, dtype=torch.float64)
    up, down = (LOSSES["mse"](net.predict(genes + sign * nudges, data.inputs), data) for sign in (1, -1))
    assert relative(found[0], (up - down) / (2 * width)) < 1e-7


def test_cutting_the_influence_between_blocks_is_another_rule() -> None:
    """The negative control: without the edge, blocks are truncated BPTT, which must differ from the exact gradient."""

    @dataclass(frozen=True)
    class Truncated(Hybrid):
        def advance(self, cell: Cell, genes: Tensor, x: Tensor, memory, *rest):  # type: ignore[no-untyped-def]
            return super().advance(cell, genes, x, {**memory, "J": torch.zeros_like(memory["J"])}, *rest)

    net = network(LSTM(2, 3), 1)
    genes, data = problem(net)
    _, truth = slope(BPTT(), net, genes, data, LOSSES["mse"])
    _, cut = slope(Truncated(4), net, genes, data, LOSSES["mse"])
    assert relative(cut, truth) > 1e-3


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("cell", [GRU(2, 3), LSTM(2, 3), IndRNN(2, 3)], ids=str)
def test_rows_do_not_feel_each_other(cell: Cell, name: str) -> None:
    serves(ESTIMATORS[name](), cell)
    net = network(cell, 1)
    genes, data = problem(net)
    genes[1] = torch.inf
    _, together = slope(ESTIMATORS[name](), net, genes, data, LOSSES["mse"])
    _, alone = slope(ESTIMATORS[name](), net, genes[2:], data, LOSSES["mse"])
    torch.testing.assert_close(together[2:], alone, rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize(
    "name", [name for name, rule in ESTIMATORS.items() if rule().traits.exact and name != "diagonal"]
)
def test_a_readout_that_is_no_layer_and_classes_work_too(name: str) -> None:
    net = Network(Elman(2, 3), Identity(3))
    genes, data = problem(net)
    classes = torch.randint(0, 3, (4, STEPS, 1), generator=torch.Generator().manual_seed(2)).double()
    data = Batch(data.inputs, classes, data.counts)
    _, truth = slope(BPTT(), net, genes, data, LOSSES["cross_entropy"])
    _, found = slope(ESTIMATORS[name](), net, genes, data, LOSSES["cross_entropy"])
    assert relative(found, truth) <= EXACT


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("cell", [Elman(1, 6), Elman(3, 16), LSTM(2, 8), GRU(2, 8), IndRNN(16, 16)], ids=str)
def test_the_declared_cost_is_the_counted_cost_within_a_fifth(cell: Cell, name: str) -> None:
    rule, net = ESTIMATORS[name](), network(cell, 1)
    serves(rule, cell)
    genes = torch.randn(2, net.layout.size, generator=torch.Generator().manual_seed(0))
    inputs = torch.zeros(1, 64, cell.inputs)
    data = Batch(inputs, torch.ones(1, 64, 1), torch.ones(1, 64, dtype=torch.bool))
    slope(rule, net, genes, data, LOSSES["mse"])  # what is found once a cell is not counted
    with Counted() as forward, torch.no_grad():
        net.predict(genes, inputs)
    with Counted() as whole:
        slope(rule, net, genes, data, LOSSES["mse"])
    assert passes(rule, net, 64) == pytest.approx(whole.total / forward.total, rel=0.2)


def test_a_loss_that_needs_the_whole_sequence_is_refused_by_short_blocks() -> None:
    mse = LOSSES["mse"]
    late = Loss("late", mse.terms, mse.learned, causal=False)
    net = network(Elman(2, 3), 1)
    genes, data = problem(net)
    with pytest.raises(
        ConfigError, match=r"late needs whole sequences of 11 steps but Hybrid sees 4 at once\. Use bptt"
    ):
        slope(Hybrid(4), net, genes, data, late)
    slope(BPTT(), net, genes, data, late)
    slope(Hybrid(STEPS), net, genes, data, late)


def test_chromosomes_of_another_network_are_refused() -> None:
    net = network(Elman(2, 3), 1)
    genes, data = problem(net)
    with pytest.raises(ValueError, match=r"genes should have shape \(P, 22\)"):
        slope(BPTT(), net, genes[:, 1:], data, LOSSES["mse"])


@pytest.mark.parametrize("horizon", [0, -1, "none"])
def test_hybrid_refuses_a_block_without_steps(horizon: int | str) -> None:
    with pytest.raises(ConfigError, match=f"horizon should be at least 1 but is {horizon!r}"):
        Hybrid(horizon)


def test_zeros_beside_the_weights_have_their_dtype() -> None:
    assert zeros({"w": torch.ones(2, 3, dtype=torch.float64)}, 4, 5).dtype is torch.float64
    assert np.prod(zeros({"w": torch.ones(2, 3)}, 4, 5).shape) == 40


@pytest.mark.parametrize("rule", [TBPTT(8), TBPTT(8, 4), DNI(8), Hybrid(8), RTRL()], ids=str)
@pytest.mark.parametrize("every", [1, 3, 8])
def test_what_small_pieces_cost_more_is_declared(rule: Estimator, every: int) -> None:
    net, loss = network(Elman(3, 24), 1), LOSSES["mse"]
    genes = torch.randn(1, net.layout.size).requires_grad_()
    data = Batch(torch.zeros(1, 48, 3), torch.ones(1, 48, 1), torch.ones(1, 48, dtype=torch.bool))
    slope(rule, net, genes, data, loss)
    with Counted() as whole:
        memory = rule.begin(net.cell, net.recurrent(genes), 1)
        for start in range(0, 48, every):
            part = Batch(*(t[:, start : start + every] for t in (data.inputs, data.targets, data.counts)))
            _, memory = heard(rule, net, genes, part, loss, memory)
    with Counted() as forward, torch.no_grad():
        net.predict(genes, data.inputs)
    assert passes(rule, net, 48, every) == pytest.approx(whole.total / forward.total, rel=0.25)


@pytest.mark.parametrize("steps", [5, 16, 40, 64])
@pytest.mark.parametrize("cell", [Elman(2, 24), GRU(2, 16, "before"), Stack((LSTM(2, 8), LSTM(8, 8)))], ids=str)
def test_the_cost_of_the_hybrid_is_declared_for_blocks_that_end_and_blocks_that_do_not(cell: Cell, steps: int) -> None:
    net, rule = network(cell, 1), Hybrid()
    genes = torch.randn(1, net.layout.size)
    data = Batch(torch.zeros(1, steps, 2), torch.ones(1, steps, 1), torch.ones(1, steps, dtype=torch.bool))
    slope(rule, net, genes, data, LOSSES["mse"])
    with Counted() as whole:
        slope(rule, net, genes, data, LOSSES["mse"])
    with Counted() as forward, torch.no_grad():
        net.predict(genes, data.inputs)
    assert passes(rule, net, steps) == pytest.approx(whole.total / forward.total, rel=0.3)


def test_what_an_edge_cannot_give_is_refused() -> None:
    cell = Elman(2, 3)
    genes = torch.randn(1, 18).requires_grad_()
    rule = RTRL()
    memory = rule.begin(cell, genes, 2)
    x = torch.randn(2, 4, 2)
    with pytest.raises(ConfigError, match=r"x should not require grad.*bptt"):
        rule.advance(cell, genes, x.clone().requires_grad_(), memory)
    for wrong, words in {x[:1]: r"shape \(2, t, 2\)", x[:, :0]: "at least one step", x.double(): "one dtype"}.items():
        with pytest.raises(ValueError, match=words):
            rule.advance(cell, genes, wrong, memory)
    with pytest.raises(ValueError, match="reset should be bool"):
        rule.advance(cell, genes, x, memory, torch.zeros(2, 4))
    states, _ = rule.advance(cell, genes, x, memory)
    (first,) = torch.autograd.grad(states.square().sum(), genes, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


@dataclass(frozen=True)
class Wilful(Begun):
    """A step that looks at all its rows, and draws at random: it is not a function of its own row."""

    random: bool = False

    def step(self, weights: Weights, x: Tensor, s: Tensor) -> Tensor:
        after = super().step(weights, x, s)
        if self.random:
            return torch.nn.functional.dropout(after, 0.5)
        return after * 0 if x.abs().max() > 1.5 else after


@pytest.mark.parametrize("random", [False, True])
def test_a_step_that_is_no_function_of_its_row_is_refused(random: bool) -> None:
    net = network(Wilful(2, 3, random), 1)
    genes, data = problem(net)
    with pytest.raises(ConfigError, match="bptt"):
        slope(RTRL(), net, genes, data, LOSSES["mse"])
