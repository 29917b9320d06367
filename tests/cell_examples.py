"""Small cells of every kind, and random weights and inputs for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from evo_rnn.cells import FRNN, GRU, LSTM, Elman, IndRNN, Stack
from evo_rnn.cells.cell import Cell
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
    "stack": Stack((GRU(2, 3), LSTM(3, 2, peepholes=True), FRNN(2, 3, visible=2))),
}
every_cell = pytest.mark.parametrize("cell", EXAMPLES.values(), ids=EXAMPLES.keys())
sizes = st.tuples(st.integers(1, 4), st.integers(1, 5))  # I, H


def genes_of(net: Network, count: int, seed: int = 0) -> Tensor:
    return torch.tensor(net.layout.draw(np.random.default_rng(seed), count, spread=2.0), dtype=torch.float64)


def inputs_of(cell: Cell, batch: int = 3, time: int = 7, seed: int = 1) -> Tensor:
    return torch.tensor(np.random.default_rng(seed).normal(size=(batch, time, cell.inputs)))


def assert_close(ours: Any, theirs: Any) -> None:
    assert np.abs(np.asarray(theirs)).max() > 0, "a reference of zeros proves nothing"
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=0, atol=1e-12)
