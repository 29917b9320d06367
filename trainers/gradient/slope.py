"""The slope of a loss for a whole population: the one loop that every estimator runs in."""

from __future__ import annotations

import torch
from torch import Tensor

from evo_rnn.errors import ConfigError
from evo_rnn.fitness import Batch, Loss
from evo_rnn.network import Network
from evo_rnn.shapes import check_shape
from evo_rnn.threads import one_thread
from trainers.gradient.estimator import Estimator, multiply_adds


def slope(estimator: Estimator, network: Network, genes: Tensor, data: Batch, loss: Loss) -> tuple[Tensor, Tensor]:
    """Loss (P,) and gradient (P, D) of chromosomes (P, D); rows do not feel each other.

    Args:
        estimator: how credit goes through time.
        network: a cell and a readout.
        genes: (P, D), of the dtype that all is computed in.
        data: sequences of the same dtype; a loss that needs a whole sequence wants an estimator of one block.
        loss: what is differentiated.

    Raises:
        ValueError: if the chromosomes are of another network.
        ConfigError: if the loss is not causal and the estimator works in blocks shorter than the sequences.
    """
    check_shape(genes, "genes", ("P", network.layout.size), "Was the population made for another network?")
    steps = data.inputs.shape[1]
    block = estimator.block(network.cell, steps)
    if block < steps and not loss.causal:
        raise ConfigError(f"{loss.name} needs whole sequences of {steps} steps but the block has {block}. Use bptt.")
    with one_thread():
        return _swept(estimator, network, genes, data, loss, block)


def _swept(
    estimator: Estimator, network: Network, genes: Tensor, data: Batch, loss: Loss, block: int
) -> tuple[Tensor, Tensor]:
    theta, steps = genes.detach().clone().requires_grad_(), data.inputs.shape[1]
    recurrent = cell_genes(network)
    total = genes.new_zeros(len(genes))
    memory = estimator.begin(network.cell, theta[:, :recurrent], len(data.inputs))
    for start in range(0, steps, block):
        part = Batch(*(t[:, start : start + block] for t in (data.inputs, data.targets, data.counts)))
        states, memory = estimator.advance(network.cell, theta[:, :recurrent], part.inputs, memory)
        terms = loss.total(network.read(theta, states), part)
        terms.sum().backward()
        total += terms.detach()
    gradient = theta.grad if theta.grad is not None else torch.zeros_like(theta)
    return total / data.counted, gradient / data.counted


def cell_genes(network: Network) -> int:
    """How many genes belong to the cell. They come first; a readout that feeds nothing back needs no influence."""
    return sum(leaf.size for leaf in network.cell.leaves())


def passes(estimator: Estimator, network: Network, steps: int) -> float:
    """The declared cost of one gradient over sequences of `steps` steps, in forward passes of the network."""
    return estimator.passes(network.cell, multiply_adds(network.layout), steps)
