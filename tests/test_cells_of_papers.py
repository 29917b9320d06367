"""Second-order, continuous-time and memory-block networks against plain numpy, and what their papers say of them."""

from __future__ import annotations

from math import exp
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from evo_rnn.cells import CTRNN, Elman, MemoryBlocks, SecondOrder
from evo_rnn.cells.ctrnn import leak
from evo_rnn.layout import Layout, under
from evo_rnn.network import Identity, Linear, Logistic, Network, network
from tests.cell_examples import assert_close, genes_of, inputs_of, sigmoid, weights_of

SQUASHING = pytest.mark.parametrize(("name", "f"), [("logistic", sigmoid), ("tanh", np.tanh)])


def named(cell: Any) -> set[tuple[str, str, str]]:
    return {(link.leaf, link.source, link.target) for link in Layout(cell.leaves()).links()}


# --- second order ---------------------------------------------------------------------------------------------------


@SQUASHING
def test_second_order_equals_the_equation_of_giles_1992(name: str, f: Any) -> None:
    cell = SecondOrder(2, 3, activation=name)
    net = network(cell, 1)
    genes, x = genes_of(net, 1), inputs_of(cell, batch=1)
    w = weights_of(net, genes)
    s, expected = [1.0, 0.0, 0.0], []
    for v in x[0].numpy():
        s = [
            f(sum(w["recurrent"][i][2 * j + k] * s[j] * v[k] for j in range(3) for k in range(2)) + w["bias"][i])
            for i in range(3)
        ]
        expected.append(s)
    assert_close(net.states(genes, x)[0, 0], expected)


def test_a_second_order_link_is_named_after_the_pair_that_it_hears() -> None:
    links = Layout(SecondOrder(2, 3).leaves()).links()
    assert len(links) == 3 * 3 * 2 + 3
    names = {(link.index, link.source, link.target) for link in links if link.leaf == "recurrent"}
    assert names == {
        ((i, 2 * j + k), f"h[{j}]*x[{k}]", f"h[{i}]") for i in range(3) for j in range(3) for k in range(2)
    }


# Tomita's grammar 5, an even number of 0s and of 1s: state 2 a + b, where a and b are the parities.
MOVES = {(state, symbol): state ^ (2, 1)[symbol] for state in range(4) for symbol in range(2)}


def programmed(strength: float) -> Tensor:
    """Genes (1, D) that make an automaton's transitions the strong links (Omlin and Giles 1996)."""
    weight = torch.zeros(1, 4, 4, 2)
    for (state, symbol), after in MOVES.items():
        weight[0, after, state, symbol] = strength
        weight[0, state, state, symbol] = -strength
    cell = SecondOrder(2, 4)
    bias = torch.full((1, 4), -strength / 2)
    return Layout(cell.leaves()).pack({"recurrent": weight.flatten(2), "bias": bias}).double()


@pytest.mark.parametrize(("strength", "wrong"), [(8.0, False), (2.0, True)])
def test_a_programmed_second_order_network_is_its_automaton(strength: float, wrong: bool) -> None:
    symbols = np.random.default_rng(0).integers(0, 2, (20, 300))
    net = Network(SecondOrder(2, 4), Identity(4))
    answers = net.predict(programmed(strength), torch.eye(2, dtype=torch.float64)[symbols])[0, :, :, 0] > 0.5
    even = (np.cumsum(symbols, axis=1) % 2 == 0) & (np.cumsum(1 - symbols, axis=1) % 2 == 0)
    assert 0.1 < even.mean() < 0.5
    assert (answers.numpy() != even).any() == wrong


# --- continuous time ------------------------------------------------------------------------------------------------


@SQUASHING
def test_ctrnn_equals_the_euler_step_of_its_equation(name: str, f: Any) -> None:
    cell = CTRNN(2, 3, dt=0.1, tau=(0.2, 2.0), activation=name)
    net = network(cell, 1)
    genes, x = genes_of(net, 1), inputs_of(cell, batch=1)
    w = weights_of(net, genes)
    tau = cell.dt * (1 + np.exp(w["log_tau"]))
    y, expected = np.zeros(3), []
    for v in x[0].numpy():
        y = y + cell.dt / tau * (-y + f(w["recurrent"] @ y + w["input"] @ v + w["bias"]))
        expected.append(y)
    assert_close(net.states(genes, x)[0, 0], expected)
    own = under("cell", net.layout.unpack(genes))
    assert_close(cell.time_constants(own)[0, 0], tau)
    assert_close(leak(own)[0, 0], cell.dt / tau)
    s, now = inputs_of(CTRNN(3, 1), time=1, seed=5).mT[None, ..., 0], x[None, :, 0].expand(1, 3, 2)
    assert_close(cell.rate(own, now, s), (cell.step(own, now, s) - s) / cell.dt)


@settings(max_examples=30, deadline=None)
@given(gene=st.floats(-30, 80), dt=st.floats(1e-3, 1e3))
def test_every_gene_is_a_time_constant_that_euler_can_step(gene: float, dt: float) -> None:
    cell = CTRNN(1, 1, dt=dt)
    weights = {"log_tau": torch.tensor([[gene]], dtype=torch.float64)}
    tau = float(cell.time_constants(weights))
    assert dt <= tau < float("inf")
    assert tau == pytest.approx(dt * (1 + exp(gene)))


def test_initial_time_constants_fill_the_wanted_range() -> None:
    for cell, ends in ((CTRNN(1, 4, dt=0.1, tau=(0.5, 5.0)), (0.5, 5.0)), (CTRNN(1, 4, dt=2.0), (3.0, 40.0))):
        layout = Layout(cell.leaves())
        tau = cell.time_constants(layout.unpack(torch.tensor(layout.draw(np.random.default_rng(0), 400))))
        assert ends[0] * 0.999 < tau.min() < ends[0] * 1.1
        assert ends[1] * 0.9 < tau.max() < ends[1] * 1.001


def test_half_the_step_is_half_the_error() -> None:
    """Euler's rule is of first order: the same network, stepped ever finer up to one time."""
    time, tau = 1.0, torch.tensor([[0.5, 0.8, 2.0]], dtype=torch.float64)
    base = under("cell", network(Elman(2, 3), 1).layout.unpack(genes_of(network(Elman(2, 3), 1), 1)))
    x = torch.tensor([[[1.0, -0.5]]], dtype=torch.float64)
    ends = {}
    for count in (16, 32, 64, 4096):
        cell = CTRNN(2, 3, dt=time / count)
        weights = {**base, "log_tau": torch.log(tau / cell.dt - 1)}
        s = cell.start(weights, 1)
        for _ in range(count):
            s = cell.step(weights, x, s)
        ends[count] = s
    errors = [float((ends[count] - ends[4096]).norm()) for count in (16, 32, 64)]
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.15)
    assert errors[1] / errors[2] == pytest.approx(2, abs=0.15)


def test_a_ctrnn_without_memory_is_an_elman_network() -> None:
    elman, rate = network(Elman(2, 3), 1), network(CTRNN(2, 3), 1)
    genes, x = genes_of(elman, 2), inputs_of(elman.cell)
    weights = {**elman.layout.unpack(genes), "cell.log_tau": genes.new_full((2, 3), -100.0)}
    assert_close(rate.predict(rate.layout.pack(weights), x), elman.predict(genes, x))


# --- memory blocks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("biases", ["gates", "all", "none"])
@pytest.mark.parametrize("heard", [False, True])
@pytest.mark.parametrize("forget", [False, True])
def test_memory_blocks_equal_the_equations_of_the_papers(forget: bool, heard: bool, biases: str) -> None:
    cell = MemoryBlocks(2, 2, 3, forget=forget, biases=biases, gates_heard=heard)
    net = network(cell, 1)
    genes, x = genes_of(net, 1), inputs_of(cell, batch=1)
    w = weights_of(net, genes)
    kinds = "iof" if forget else "io"
    assert {name[-1] for name in w if name.startswith("bias_")} == {"gates": {*kinds}, "all": {*kinds, "g"}}.get(
        biases, set()
    )
    y, s, gates, expected = np.zeros(6), np.zeros(6), np.zeros(2 * len(kinds)), []
    for v in x[0].numpy():
        net_input = w["input"] @ v + w["recurrent"] @ np.concatenate([y, gates if heard else []])
        rows = iter(net_input)
        own = {(k, j): next(rows) + (w[f"bias_{k}"][j] if f"bias_{k}" in w else 0) for k in kinds for j in range(2)}
        gates = np.array([sigmoid(each) for each in own.values()])
        y, s = y.copy(), s.copy()
        for j in range(2):
            for c in range(3 * j, 3 * j + 3):
                net_c = next(rows) + (w["bias_g"][c] if biases == "all" else 0)
                kept = sigmoid(own["f", j]) if forget else 1
                s[c] = kept * s[c] + sigmoid(own["i", j]) * (4 / (1 + np.exp(-net_c)) - 2)
                y[c] = sigmoid(own["o", j]) * (2 / (1 + np.exp(-s[c])) - 1)
        expected.append(np.concatenate([y, s, gates if heard else []]))
    assert_close(net.states(genes, x)[0, 0], expected)


def genes(cell: MemoryBlocks, outputs: int, *, bias: bool) -> int:
    return Network(cell, Logistic(cell.outputs, outputs, bias=bias)).layout.size


def test_weights_are_as_many_as_the_papers_count() -> None:
    assert genes(MemoryBlocks(7, 4, 1), 7, bias=False) == 264  # 1997, experiment 1
    assert genes(MemoryBlocks(7, 3, 2), 7, bias=False) == 276
    assert genes(MemoryBlocks(1, 3, 1, biases="all"), 1, bias=False) == 102  # experiment 3
    assert genes(MemoryBlocks(2, 2, 2, biases="all"), 1, bias=True) == 93  # experiment 4
    assert genes(MemoryBlocks(8, 2, 2, biases="all"), 4, bias=True) == 156  # experiment 6a
    assert genes(MemoryBlocks(8, 3, 2, biases="all"), 8, bias=True) == 308  # experiment 6b
    gers = Layout(MemoryBlocks(7, 4, 2, forget=True, gates_heard=False).leaves()).size
    assert gers == 312
    assert gers + 7 * (8 + 7 + 1) == 424  # outputs of the 2000 paper hear cells, inputs and a bias


def test_genes_of_memory_blocks_say_which_gate_of_which_block() -> None:
    names = named(MemoryBlocks(2, 2, 2))
    assert ("input", "x[1]", "i[0]") in names
    assert ("recurrent", "o[1]", "g[3]") in names  # a cell hears an output gate
    assert ("recurrent", "h[3]", "o[1]") in names
    assert ("bias_o", "one", "o[1]") in names
    deaf = {source for leaf, source, _ in named(MemoryBlocks(2, 2, 2, gates_heard=False)) if leaf == "recurrent"}
    assert deaf == {"h[0]", "h[1]", "h[2]", "h[3]"}


def test_an_open_forget_gate_is_none_at_all() -> None:
    with_gate, without = (network(MemoryBlocks(2, 2, 2, forget=f, gates_heard=False), 1) for f in (True, False))
    wide = with_gate.layout.unpack(genes_of(with_gate, 2))
    x, gates = inputs_of(without.cell), [0, 1, 2, 3, 6, 7, 8, 9]  # rows of the forget gates left out
    narrow = {name: value for name, value in wide.items() if name != "cell.bias_f"}
    narrow |= {name: wide[name][:, gates] for name in ("cell.input", "cell.recurrent")}
    wide["cell.bias_f"][:] = 1000.0
    outputs = with_gate.predict(with_gate.layout.pack(wide), x)
    assert_close(outputs, without.predict(without.layout.pack(narrow), x))


def test_gates_can_start_from_the_biases_of_the_paper() -> None:
    cell = MemoryBlocks(7, 3, 2)
    net = Network(cell, Logistic(cell.outputs, 7, bias=False))
    chromosomes = np.random.default_rng(0).uniform(-0.2, 0.2, (5, net.layout.size)).astype(np.float32)
    net.layout.unpack(torch.from_numpy(chromosomes))["cell.bias_o"][:] = torch.tensor([-1.0, -2.0, -3.0])
    changed = [link.target for link, gene in zip(net.layout.links(), chromosomes[0], strict=True) if abs(gene) > 0.2]
    assert changed == ["cell.o[0]", "cell.o[1]", "cell.o[2]"]


# --- readout and refusals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [False, True])
def test_a_logistic_readout_squashes_the_linear_one(bias: bool) -> None:
    cell = MemoryBlocks(2, 2)
    linear, logistic = Network(cell, Linear(2, 3)), Network(cell, Logistic(2, 3, bias=bias))
    wide = dict(linear.layout.unpack(genes_of(linear, 2)))
    if not bias:
        wide["readout.bias"] = torch.zeros_like(wide["readout.bias"])
    assert logistic.layout.size == linear.layout.size - (0 if bias else 3)
    x = inputs_of(cell)
    ours = logistic.predict(logistic.layout.pack(wide), x)
    assert_close(ours, sigmoid(linear.predict(linear.layout.pack(wide), x).numpy()))
    assert torch.autograd.gradcheck(logistic.predict, (genes_of(logistic, 1).requires_grad_(), x[:, :3]))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SecondOrder(2, 3, activation="relu"), "activation should be one of .*logistic.*'relu'"),
        (lambda: CTRNN(2, 3, activation="relu"), "activation should be one of"),
        (lambda: CTRNN(2, 3, dt=0.0), "dt should be a positive time but is 0"),
        (lambda: CTRNN(2, 3, dt=float("nan")), "dt should be a positive time"),
        (lambda: CTRNN(2, 3, dt=0.5, tau=(0.5, 2.0)), "tau should be two times above dt = 0.5"),
        (lambda: CTRNN(2, 3, tau=(5.0, 2.0)), "the shorter first"),
        (lambda: CTRNN(2, 3, tau=(5.0,)), "tau should be two times"),
        (lambda: MemoryBlocks(2, 3, biases="some"), "biases should be one of .*'all', 'gates', 'none'.* but is 'some'"),
        (lambda: MemoryBlocks(2, 0), "blocks and block_size should be at least 1 but are 0 and 1"),
    ],
)
def test_cells_that_make_no_sense_are_refused(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()
