"""Small cells of every kind, and random weights and inputs for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from evo_rnn.cells import CTRNN, FRNN, GRU, LSTM, Elman, IndRNN, MemoryBlocks, SecondOrder, Stack
from evo_rnn.cells.cell import Cell
from evo_rnn.layout import under
from evo_rnn.network import Network

MASK = ("1101", "0110")  # two units over two inputs and themselves
EXAMPLES: dict[str, Cell] = {
    "elman": Elman(2, 3),
    "frnn": FRNN(2, 3, visible=2),
    "frnn masked": FRNN(2, 2, visible=1, mask=MASK),
    "lstm": LSTM(2, 3),
    "lstm peepholes": LSTM(2, 3, peepholes=True),
    "gru after": GRU(2, 3),
    "gru before": GRU(2, 3, reset="before"),
    "indrnn relu": IndRNN(2, 3),
    "indrnn tanh": IndRNN(2, 3, activation="tanh"),
    "second order": SecondOrder(2, 3),
    "second order tanh": SecondOrder(2, 3, activation="tanh"),
    "ctrnn": CTRNN(2, 3, dt=0.1, tau=(0.2, 1.0)),
    "ctrnn logistic": CTRNN(2, 3, activation="logistic"),
    "memory blocks": MemoryBlocks(2, 2, 2),
    "memory blocks forget": MemoryBlocks(2, 1, 3, forget=True, biases="all", gates_heard=False),
    "stack": Stack((GRU(2, 3), LSTM(3, 2, peepholes=True), FRNN(2, 3, visible=2))),
    "stack of all sorts": Stack((SecondOrder(2, 3), MemoryBlocks(3, 2, forget=True), CTRNN(2, 3))),
}
every_cell = pytest.mark.parametrize("cell", EXAMPLES.values(), ids=EXAMPLES.keys())
sizes = st.tuples(st.integers(1, 4), st.integers(1, 5))  # I, H


def genes_of(net: Network, count: int, seed: int = 0) -> Tensor:
    return torch.tensor(net.layout.draw(np.random.default_rng(seed), count, spread=2.0), dtype=torch.float64)


def weights_of(net: Network, genes: Tensor) -> dict[str, Any]:
    """Leaves of the cell of the one network in `genes (1, D)`, as numpy arrays."""
    return {name: value[0].numpy() for name, value in under("cell", net.layout.unpack(genes)).items()}


def inputs_of(cell: Cell, batch: int = 3, time: int = 7, seed: int = 1) -> Tensor:
    return torch.tensor(np.random.default_rng(seed).normal(size=(batch, time, cell.inputs)))


def assert_close(ours: Any, theirs: Any) -> None:
    assert np.abs(np.asarray(theirs)).max() > 0, "a reference of zeros proves nothing"
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=0, atol=1e-12)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))
