"""Cells against torch.nn and against plain numpy; what masks, stacks and populations must keep."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evo_rnn.cells import CELLS, FRNN, GRU, LSTM, Elman, IndRNN, Stack
from evo_rnn.cells.cell import Cell
from evo_rnn.layout import under
from evo_rnn.network import Identity, Network, network
from tests.cell_examples import EXAMPLES, assert_close, every_cell, genes_of, inputs_of, sigmoid, sizes, weights_of


def test_every_cell_has_an_example() -> None:
    assert {type(cell) for cell in EXAMPLES.values()} >= {*CELLS.values(), Stack}


# --- torch.nn is the oracle -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "oracle"), [(Elman, torch.nn.RNN), (FRNN, torch.nn.RNN), (LSTM, torch.nn.LSTM), (GRU, torch.nn.GRU)]
)
@settings(max_examples=15, deadline=None)
@given(size=sizes, seed=st.integers(0, 2**16))
def test_a_cell_equals_its_twin_in_torch_nn(kind: Any, oracle: Any, size: tuple[int, int], seed: int) -> None:
    cell = kind(*size)
    net = network(cell, 1)
    genes = genes_of(net, 1, seed)
    own = under("cell", net.layout.unpack(genes))
    twin = oracle(*size, batch_first=True, dtype=torch.float64)
    inner = torch.zeros_like(own["bias"][0])
    if kind is GRU:
        inner[-cell.hidden :] = own["reset_bias"][0]
    theirs = {"weight_ih": own["input"], "weight_hh": own["recurrent"], "bias_ih": own["bias"], "bias_hh": inner[None]}
    twin.load_state_dict({f"{name}_l0": value[0] for name, value in theirs.items()})
    x = inputs_of(cell, seed=seed)
    with torch.no_grad():
        assert_close(net.states(genes, x)[0, ..., : cell.hidden], twin(x)[0])


# --- plain numpy, straight from the papers --------------------------------------------------------------------------


def test_gru_with_the_reset_before_the_product_equals_the_equations_of_cho_2014() -> None:
    cell = GRU(2, 3, reset="before")
    net = network(cell, 1)
    genes, x = genes_of(net, 1), inputs_of(cell, batch=1)
    w = weights_of(net, genes)
    (wr, wz, wn), (ur, uz, un), (br, bz, bn) = (np.split(w[name], 3) for name in ("input", "recurrent", "bias"))
    h, expected = np.zeros(3), []
    for v in x[0].numpy():
        r, z = sigmoid(wr @ v + ur @ h + br), sigmoid(wz @ v + uz @ h + bz)
        h = z * h + (1 - z) * np.tanh(wn @ v + un @ (r * h) + bn)
        expected.append(h)
    assert_close(net.states(genes, x)[0, 0], expected)


def test_the_two_forms_of_gru_differ_on_the_same_weights() -> None:
    after, before = (network(GRU(2, 3, reset=form), 1) for form in ("after", "before"))
    genes, x = genes_of(after, 1), inputs_of(after.cell)
    weights = {**under("cell", after.layout.unpack(genes)), "reset_bias": torch.zeros(1, 3, dtype=torch.float64)}
    s = x.new_full((1, 3, 3), 0.5)
    gap = after.cell.step(weights, x[None, :, 0], s) - before.cell.step(weights, x[None, :, 0], s)
    assert gap.abs().max() > 1e-3


def test_lstm_with_peepholes_equals_the_equations_of_gers_2002() -> None:
    cell = LSTM(2, 3, peepholes=True)
    net = network(cell, 1)
    genes, x = genes_of(net, 1), inputs_of(cell, batch=1)
    w = weights_of(net, genes)
    (wi, wf, wg, wo), (ui, uf, ug, uo), (bi, bf, bg, bo) = (
        np.split(w[name], 4) for name in ("input", "recurrent", "bias")
    )
    h, c, expected = np.zeros(3), np.zeros(3), []
    for v in x[0].numpy():
        i = sigmoid(wi @ v + ui @ h + bi + w["peephole_i"] * c)
        f = sigmoid(wf @ v + uf @ h + bf + w["peephole_f"] * c)
        c = f * c + i * np.tanh(wg @ v + ug @ h + bg)
        h = sigmoid(wo @ v + uo @ h + bo + w["peephole_o"] * c) * np.tanh(c)
        expected.append(np.concatenate([h, c]))
    assert_close(net.states(genes, x)[0, 0], expected)


@pytest.mark.parametrize(("name", "f"), [("relu", lambda x: np.maximum(x, 0)), ("tanh", np.tanh)])
def test_indrnn_equals_equation_2_of_li_2018(name: str, f: Any) -> None:
    cell = IndRNN(2, 3, activation=name)
    net = network(cell, 1)
    genes, x = genes_of(net, 1), inputs_of(cell, batch=1)
    w = weights_of(net, genes)
    h, expected = np.zeros(3), []
    for v in x[0].numpy():
        h = f(w["input"] @ v + w["recurrent"] * h + w["bias"])
        expected.append(h)
    assert_close(net.states(genes, x)[0, 0], expected)


# --- what an FRNN's mask can say ------------------------------------------------------------------------------------


def test_an_elman_network_inside_an_frnn_gives_its_output_one_step_later() -> None:
    """Units [y | h]: y hears h of the step before, h hears the inputs and itself; every link takes one tick."""
    elman = network(Elman(2, 3), 1)
    frnn = Network(FRNN(2, 4, visible=1, mask=("000111", *["110111"] * 3)), Identity(1))
    genes, x = genes_of(elman, 5), inputs_of(elman.cell)
    w = elman.layout.unpack(genes)
    wide = {
        "cell.input": torch.cat([w["cell.input"].new_zeros(5, 1, 2), w["cell.input"]], dim=1),
        "cell.recurrent": torch.nn.functional.pad(torch.cat([w["readout.weight"], w["cell.recurrent"]], 1), (1, 0)),
        "cell.bias": torch.cat([w["readout.bias"], w["cell.bias"]], dim=1),
    }
    assert frnn.layout.size == elman.layout.size, "a link that does not exist is not a gene"
    outputs = frnn.predict(frnn.layout.pack(wide), x)
    assert_close(outputs[:, :, 1:], torch.tanh(elman.predict(genes, x)[:, :, :-1]))


def test_an_frnn_with_only_self_links_is_an_indrnn() -> None:
    ind, full = network(IndRNN(2, 3, "tanh"), 1), network(FRNN(2, 3, mask=("11100", "11010", "11001")), 1)
    genes, x = genes_of(ind, 4), inputs_of(ind.cell)
    assert full.layout.size == ind.layout.size
    assert_close(full.predict(genes, x), ind.predict(genes, x))


@pytest.mark.parametrize("mask", [("11", "11"), ("1111",), ("1x11", "1111"), ("0011", "0011"), ("1100", "1100")])
def test_a_mask_that_is_no_topology_is_refused(mask: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="mask should"):
        FRNN(2, 2, mask=mask)


# --- laws of every cell ---------------------------------------------------------------------------------------------


@every_cell
def test_a_row_of_a_population_equals_that_network_alone(cell: Cell) -> None:
    net = network(cell, 2)
    genes, x = genes_of(net, 6), inputs_of(cell)
    together = net.predict(genes, x)
    assert (together[0] - together[1]).abs().max() > 1e-6
    for row in range(6):
        assert_close(together[row : row + 1], net.predict(genes[row : row + 1], x))


@every_cell
def test_a_sequence_of_a_batch_equals_that_sequence_alone(cell: Cell) -> None:
    net = network(cell, 2)
    genes, x = genes_of(net, 2), inputs_of(cell)
    for b in range(len(x)):
        assert_close(net.predict(genes, x)[:, b : b + 1], net.predict(genes, x[b : b + 1]))


@every_cell
def test_a_run_in_two_parts_equals_the_run_in_one(cell: Cell) -> None:
    net = network(cell, 2)
    genes, x = genes_of(net, 3), inputs_of(cell)
    first, state = net.run(genes, x[:, :4])
    second, last = net.run(genes, x[:, 4:], state)
    whole, end = net.run(genes, x)
    assert_close(torch.cat([first, second], dim=2), whole)
    assert_close(last, end)


@every_cell
def test_the_slope_of_a_network_is_the_finite_difference(cell: Cell) -> None:
    net = network(cell, 1)
    genes = genes_of(net, 2).requires_grad_()
    x = inputs_of(cell, batch=2, time=3).requires_grad_()
    assert torch.autograd.gradcheck(net.predict, (genes, x))


@every_cell
def test_a_step_changes_neither_weights_nor_state(cell: Cell) -> None:
    net = network(cell, 1)
    weights = under("cell", net.layout.unpack(genes_of(net, 2)))
    s, x = cell.start(weights, 3), inputs_of(cell, time=1)[:, 0].expand(2, -1, -1)
    before, copies = s.clone(), {name: value.clone() for name, value in weights.items()}
    after = cell.step(weights, x, s)
    assert after.shape == s.shape == (2, 3, cell.state)
    assert torch.equal(s, before)
    assert not torch.equal(after, before)
    assert all(torch.equal(weights[name], copies[name]) for name in weights)


def test_a_stack_is_its_cells_one_after_the_other() -> None:
    cells: tuple[Cell, ...] = (Elman(2, 3), LSTM(3, 2), GRU(2, 4))
    net = network(Stack(cells), 1)
    genes, x = genes_of(net, 1), inputs_of(net.cell)
    weights = under("cell", net.layout.unpack(genes))
    outputs = x[None]
    for k, cell in enumerate(cells, start=1):
        own = under(f"layer{k}", weights)
        s, steps = cell.start(own, len(x)), []
        for t in range(x.shape[1]):
            s = cell.step(own, outputs[:, :, t], s)
            steps.append(s[..., : cell.outputs])
        outputs = torch.stack(steps, dim=2)
    assert_close(net.states(genes, x)[..., :4], outputs)


def test_cells_that_do_not_fit_on_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="should have 3 inputs"):
        Stack((Elman(2, 3), GRU(4, 2)))
    with pytest.raises(ValueError, match="readout should have 3 inputs"):
        Network(Elman(2, 3), Identity(2))
