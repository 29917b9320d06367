"""Random feedback against hand computation: outputs and readout slopes as ever, errors by other weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from evo_rnn.cells import GRU, Elman
from evo_rnn.errors import ConfigError
from evo_rnn.network import Identity, Linear, Network, network
from evo_rnn.random_feedback import FeedbackAlignment, misaligned

PLAIN = network(GRU(2, 4), 3)
LEFT = PLAIN.layout.size - 3 * 4 - 3  # the readout's genes come last


def drawn(people: int = 3) -> tuple[Tensor, Tensor]:
    """Chromosomes (P, D) and inputs (5, 6, 2)."""
    random = np.random.default_rng(1)
    return torch.tensor(PLAIN.layout.draw(random, people)).double(), torch.tensor(random.normal(size=(5, 6, 2)))


def slope(model: Network, genes: Tensor, inputs: Tensor) -> Tensor:
    genes = genes.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(model.predict(genes, inputs).square().sum(), genes)
    return gradient


def test_chromosomes_and_outputs_are_the_same_to_the_bit() -> None:
    other = misaligned(PLAIN, seed=7)
    genes, inputs = drawn()
    assert other.layout == PLAIN.layout
    assert torch.equal(other.predict(genes, inputs), PLAIN.predict(genes, inputs))


def test_errors_come_back_by_the_random_weights_and_only_they() -> None:
    readout = FeedbackAlignment(4, 3, seed=7)
    generator = torch.Generator().manual_seed(0)
    h, weight, bias, dy = (
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in ((2, 5, 4), (2, 3, 4), (2, 3), (2, 5, 3))
    )
    for each in (h, weight, bias):
        each.requires_grad_()
    readout({"weight": weight, "bias": bias}, h).backward(dy)
    feedback = torch.tensor(readout.feedback)
    torch.testing.assert_close(h.grad, torch.einsum("pno,oh->pnh", dy, feedback), rtol=0, atol=1e-14)
    torch.testing.assert_close(weight.grad, torch.einsum("pno,pnh->poh", dy, h.detach()), rtol=0, atol=1e-14)
    torch.testing.assert_close(bias.grad, dy.sum(dim=1), rtol=0, atol=1e-14)
    true = torch.einsum("pno,poh->pnh", dy, weight.detach())
    assert h.grad is not None
    assert (h.grad - true).norm() > 0.1 * true.norm(), "not by the readout's own weights"


def test_the_readout_learns_as_ever_and_the_cell_does_not() -> None:
    genes, inputs = drawn()
    true, other = slope(PLAIN, genes, inputs), slope(misaligned(PLAIN, seed=7), genes, inputs)
    torch.testing.assert_close(other[:, LEFT:], true[:, LEFT:], rtol=1e-13, atol=1e-13)
    assert (other[:, :LEFT] - true[:, :LEFT]).norm() > 0.1 * true[:, :LEFT].norm() > 0


def test_where_the_weights_are_the_feedback_the_slope_is_the_true_one() -> None:
    other = misaligned(PLAIN, seed=7)
    genes, inputs = drawn()
    assert isinstance(other.readout, FeedbackAlignment)
    genes[:, LEFT:-3] = torch.tensor(other.readout.feedback).flatten()
    true = slope(PLAIN, genes, inputs)
    assert true.norm() > 1
    torch.testing.assert_close(slope(other, genes, inputs), true, rtol=1e-12, atol=1e-12)


def test_a_row_of_a_population_equals_that_network_alone() -> None:
    genes, inputs = drawn()
    other = misaligned(PLAIN, seed=7)
    together = slope(other, genes, inputs)
    alone = torch.cat([slope(other, row[None], inputs) for row in genes])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)


def test_many_sweeps_can_go_back_at_once() -> None:
    readout = FeedbackAlignment(4, 3)
    h = torch.ones(1, 1, 4, dtype=torch.float64, requires_grad=True)
    outputs = readout({"weight": torch.ones(1, 3, 4).double(), "bias": torch.zeros(1, 3).double()}, h)
    basis = torch.eye(3, dtype=torch.float64)[:, None, None]
    (jacobian,) = torch.autograd.grad(outputs, h, basis, is_grads_batched=True)
    np.testing.assert_allclose(jacobian[:, 0, 0], readout.feedback)


def test_the_feedback_is_drawn_from_its_seed_alone_as_readouts_are() -> None:
    first, again, other = (FeedbackAlignment(400, 3, seed).feedback for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()
    assert 0.045 < np.abs(first).max() <= 1 / 400**0.5
    assert abs(first.mean()) < 0.01


def test_single_precision_stays_single() -> None:
    genes, inputs = drawn()
    assert misaligned(PLAIN, 0).predict(genes.float(), inputs.float()).dtype == torch.float32


def test_a_readout_that_is_not_linear_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a linear readout but the network has Identity"):
        misaligned(Network(Elman(2, 3), Identity(3)), 0)
    assert misaligned(Network(Elman(2, 3), Linear(3, 1)), 0).readout.outputs == 1
