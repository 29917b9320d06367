"""Regulation of independent recurrent weights: a projection after each step, of them alone."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

from evo_rnn.cells import CTRNN, LSTM, Elman, IndRNN, Stack
from evo_rnn.errors import ConfigError
from evo_rnn.fitness import LOSSES, batch
from evo_rnn.network import Network, network
from evo_rnn.tasks import TASKS
from evo_rnn.tasks.task import Task
from trainers.descent import Descent
from trainers.experiments.methods import METHODS
from trainers.gradient import BPTT
from trainers.gradient.regulation import regulated, self_links
from trainers.moving import Move
from trainers.rows import Rows

NETS = {"one layer": network(IndRNN(2, 4), 1), "two": network(Stack((IndRNN(2, 3, "tanh"), IndRNN(3, 2))), 1)}
every_net = pytest.mark.parametrize("net", NETS.values(), ids=NETS)


@pytest.fixture(scope="module")
def task() -> Task:
    return TASKS["adding"](length=12, sequences=8)


def bound(steps: int, most: float = 2.0) -> float:
    return most ** (1 / steps) + 1e-6  # a float32 is rounded


def links(net: Network) -> np.ndarray[Any, Any]:
    return np.array([link.leaf.endswith("recurrent") for link in net.layout.links()])


@every_net
@pytest.mark.parametrize("settings", [{}, {"update_every": 5}, {"minibatch": 3}], ids=["whole", "inside", "minibatch"])
def test_in_a_training_every_such_weight_stays_in_its_bound(net: Network, settings: dict[str, int], task: Task) -> None:
    steps, own = task.train.inputs.shape[1], links(net)
    descent = Descent(regulation=2.0, learning_rates=(0.5,), restarts=2, spread=3.0, check=2, patience=1, **settings)
    free = replace(descent, regulation=0.0)
    seen = [[each.checkpoint()["genes"][:, own] for each in islice(d.train(net, task, 0), 8)] for d in (descent, free)]
    assert all((np.abs(genes) <= bound(steps)).all() for genes in seen[0])
    assert max(np.abs(genes).max() for genes in seen[0]) > bound(steps) - 1e-4, "the bound is met"
    assert any((np.abs(genes) > bound(steps)).any() for genes in seen[1]), "without it, it would be passed"


@every_net
def test_one_step_is_the_free_step_projected(net: Network, task: Task) -> None:
    """No gradient is changed, and no other gene."""
    data, own = batch(task.train, torch.float32), torch.from_numpy(links(net))
    genes = {}
    for regulation in (0.0, 1.0):
        rows = Rows("sgd", np.array([5.0, 0.5]), lambda row, _: net.layout.draw(np.random.default_rng(row), 1)[0], 9)
        Move(rows, BPTT(), net, data, LOSSES["mse"], regulation=regulation)({})
        genes[regulation] = rows.genes()
    moved = (genes[0.0] - genes[1.0]).abs() > 0
    assert moved[:, own].any()
    assert not moved[:, ~own].any()
    torch.testing.assert_close(genes[1.0][:, own], genes[0.0][:, own].clamp(-1, 1))


def test_both_bounds_keep_the_sign() -> None:
    net = NETS["one layer"]
    genes = torch.zeros(1, net.layout.size)
    genes[:, links(net)] = torch.tensor([-3.0, -0.1, 0.2, 0.99])
    found = regulated(net.layout, genes, 10, 2.0, 0.5)[:, links(net)]
    low, high = 0.5**0.1, 2**0.1
    torch.testing.assert_close(found, torch.tensor([[-high, -low, low, 0.99]]))
    assert torch.equal(regulated(net.layout, genes, 10, 1e9)[:, links(net)], genes[:, links(net)])


@every_net
def test_what_is_bounded_are_the_recurrent_weights(net: Network) -> None:
    assert self_links(net.layout).tolist() == links(net).tolist()
    assert links(net).any()


@pytest.mark.parametrize("cell", [Elman(2, 3), LSTM(2, 3, peepholes=True), CTRNN(2, 3)], ids=str)
def test_cells_whose_units_hear_each_other_are_refused_with_the_cure(cell: Any, task: Task) -> None:
    """A time constant is a unit's own too, but no recurrent weight."""
    for descent in (Descent(regulation=2.0), METHODS["bptt"].trainer({"regulation": 2.0}, "mse")):
        with pytest.raises(ConfigError, match=r"regulation needs units that hear only themselves.*indrnn.*Use clip"):
            next(descent.train(network(cell, 1), task, 0))


def test_bounds_that_cannot_be_are_refused() -> None:
    net = NETS["one layer"]
    with pytest.raises(ConfigError, match="0 <= least <= most"):
        regulated(net.layout, torch.zeros(1, net.layout.size), 5, 1.0, 2.0)
    for wrong in (-1.0, float("nan")):
        with pytest.raises(ConfigError, match="regulation should be"):
            Descent(regulation=wrong)
