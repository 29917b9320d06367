"""The slope of a loss for a whole population: the one loop that every estimator runs in."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evo_rnn.cells.cell import Cell
from evo_rnn.errors import ConfigError
from evo_rnn.fitness import Batch, Loss
from evo_rnn.network import Network
from evo_rnn.random_feedback import misaligned
from evo_rnn.shapes import check_shape
from evo_rnn.threads import one_thread
from trainers.gradient.estimator import LEARNED, NEVER, Estimator, Memory, layout_of, multiply_adds

ROOM = 2**22  # numbers that online rules keep between two calls of `backward`: more are slower than more calls
FRESH: Memory = {}


@dataclass(frozen=True, eq=False)
class Sweep:
    """What one way over the data gives.

    Args:
        loss: (P,).
        gradient: (P, D).
        influence: (P,) the largest Frobenius norm of an influence matrix that was met; 0 where none is kept.
        memory: what the estimator has learned of its own, for the next sweep.
    """

    loss: Tensor
    gradient: Tensor
    influence: Tensor
    memory: Memory


def slope(estimator: Estimator, network: Network, genes: Tensor, data: Batch, loss: Loss) -> tuple[Tensor, Tensor]:
    """Loss (P,) and gradient (P, D) of chromosomes (P, D); rows do not feel each other.

    Args:
        estimator: how credit goes through time.
        network: a cell and a readout.
        genes: (P, D), of the dtype that all is computed in.
        data: sequences of the same dtype; a loss that needs a whole sequence wants an estimator that sees it.
        loss: what is differentiated.

    Raises:
        ValueError: if the chromosomes are of another network.
        ConfigError: if the estimator cannot serve the cell, or not this loss.
    """
    found = sweep(estimator, network, genes, data, loss)
    return found.loss, found.gradient


def sweep(
    estimator: Estimator, network: Network, genes: Tensor, data: Batch, loss: Loss, learned: Memory = FRESH
) -> Sweep:
    """As `slope`, going on with what the estimator has `learned` in an earlier sweep."""
    check_shape(genes, "genes", ("P", network.layout.size), "Was the population made for another network?")
    check_served(estimator, network, data.inputs.shape[1], loss)
    network = fed_back(estimator, network)
    theta, steps = genes.detach().clone().requires_grad_(), data.inputs.shape[1]
    rows = len(genes) * len(data.inputs)
    block = handed_over(estimator, network.cell, steps, rows) if loss.causal else steps
    total, largest = genes.new_zeros(len(genes)), genes.new_zeros(len(genes))
    with one_thread():
        memory: Memory = {**estimator.begin(network.cell, network.recurrent(theta), len(data.inputs)), **learned}
        for start in range(0, steps, block):
            part = Batch(*(t[:, start : start + block] for t in (data.inputs, data.targets, data.counts)))
            terms, memory = heard(estimator, network, theta, part, loss, memory)
            total += terms
            largest = torch.maximum(largest, influence_norm(memory, len(genes)).to(largest))
    gradient = theta.grad if theta.grad is not None else torch.zeros_like(theta)
    kept = {name: value for name, value in memory.items() if name.startswith(LEARNED)}
    return Sweep(total / data.counted, gradient / data.counted, largest, kept)


def heard(
    estimator: Estimator,
    network: Network,
    theta: Tensor,
    part: Batch,
    loss: Loss,
    memory: Memory,
    reset: Tensor = NEVER,
) -> tuple[Tensor, Memory]:
    """One chunk: the summed loss (P,), its gradient added to that of `theta (P, D)`, and the memory after it."""
    steps, total = part.inputs.shape[1], theta.new_zeros(len(theta))
    one = estimator.sees(network.cell, steps) == 1 and loss.causal
    block = handed_over(estimator, network.cell, steps, len(theta) * len(part.inputs)) if one else steps
    for here in (slice(start, start + block) for start in range(0, steps, block)):
        piece = Batch(part.inputs[:, here], part.targets[:, here], part.counts[:, here])
        states, memory = estimator.advance(network.cell, network.recurrent(theta), piece.inputs, memory, reset[:, here])
        terms = loss.total(network.read(theta, states), piece)
        terms.sum().backward()
        total += terms.detach()
    return total, memory


def check_served(estimator: Estimator, network: Network, steps: int, loss: Loss) -> None:
    """Refuse a cell that lacks what is needed, or a loss that needs whole sequences where fewer steps are seen at once.

    Raises:
        ConfigError: naming what could be used.
    """
    estimator.check(network.cell)
    seen = estimator.sees(network.cell, steps)
    if seen < steps and not loss.causal:
        raise ConfigError(
            f"{loss.name} needs whole sequences of {steps} steps but {type(estimator).__name__} sees {seen} at once. "
            f"Use bptt, or hybrid with a horizon of at least {steps}."
        )


def fed_back(estimator: Estimator, network: Network) -> Network:
    """The network whose readout sends errors back as the estimator wants: through its weights, or random ones."""
    wants = getattr(estimator, "feedback", "true")
    return misaligned(network, getattr(estimator, "feedback_seed", 0)) if wants == "random" else network


def handed_over(estimator: Estimator, cell: Cell, steps: int, rows: int) -> int:
    """Steps to hand over at once: what is best for the estimator, and as much as fits in the cache where that is free."""
    block = estimator.block(cell, steps)
    if estimator.sees(cell, steps) > 1:
        return block
    return max(1, min(block, ROOM // max(1, estimator.storage(cell, 1) * rows)))


def influence_norm(memory: Memory, people: int) -> Tensor:
    """The Frobenius norm (P,) of what a memory keeps of the influence matrices, the largest over the sequences."""
    kept = [value for name, value in memory.items() if name.rstrip("0123456789") == "J"]
    if not kept:
        return torch.zeros(people)
    squares = torch.stack([value.flatten(1).square().sum(dim=1) for value in kept]).sum(dim=0)
    norms: Tensor = squares.sqrt().view(people, -1).amax(dim=1)
    return norms


def passes(estimator: Estimator, network: Network, steps: int, every: int = 0) -> float:
    """The declared cost of one gradient over sequences of `steps` steps, in forward passes of the network.

    With `every`, so many steps are handed over at once: rules that go back to where their block began do so more often.
    """
    forward = multiply_adds(network.layout)
    readout = forward - multiply_adds(layout_of(network.cell))
    again = estimator.again(network.cell, every) if every and hasattr(estimator, "again") else 0.0
    return (estimator.flops(network.cell, steps) + again + 3 * readout) / forward
