"""Learning from a stream: chunks come, weights move every few steps, and nothing that has passed is kept.

The memory is the estimator's: of fixed size for all of them but those whose tape is as long as the chunk (`every` bounds
it). So a stream may be longer than any memory, and need never end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from evo_rnn.errors import ConfigError, DataError
from evo_rnn.fitness import LOSSES, Batch
from evo_rnn.network import Network
from evo_rnn.shapes import check_shape
from evo_rnn.threads import one_thread
from trainers.gradient.estimator import NEVER, Estimator, Memory
from trainers.gradient.slope import FRESH, check_served, fed_back, heard, influence_norm


@dataclass(frozen=True, eq=False)
class Chunk:
    """A piece of a stream; B sequences go on from the piece before.

    Args:
        inputs: (B, t, I).
        targets: (B, t, O), or class numbers (B, t, 1).
        counts: (B, t) bool, the steps that have a target; empty means all.
        reset: (B, t) bool, the steps that begin a new episode; empty means none.
    """

    inputs: Tensor
    targets: Tensor
    counts: Tensor = NEVER
    reset: Tensor = NEVER


@dataclass(frozen=True, eq=False)
class Heard:
    """What is known after each step of the optimizer.

    Args:
        step: steps of the stream so far.
        loss: (P,) mean over the counted steps since the last one, before the weights moved; NaN if none counted.
        norm: (P,) of the gradient.
        influence: (P,) the norm of the influence matrices; 0 where none are kept.
        memory: of the estimator; save it with the genes and the optimizer's state to go on later.
    """

    step: int
    loss: Tensor
    norm: Tensor
    influence: Tensor
    memory: Memory


def learned_online(
    estimator: Estimator,
    network: Network,
    genes: Tensor,
    optimizer: torch.optim.Optimizer,
    stream: Iterable[Chunk],
    *,
    loss: str = "mse",
    every: int = 1,
    clip: float = 0.0,
    memory: Memory = FRESH,
) -> Iterator[Heard]:
    """Move `genes` along the stream, and say so each time.

    Args:
        estimator: how credit goes through time.
        network: a cell and a readout.
        genes: (P, D), a leaf that requires grad and that `optimizer` moves.
        optimizer: any of torch.optim.
        stream: chunks of any length, all with the same B; a tuple (inputs, targets) will do.
        loss: a name in `LOSSES`.
        every: steps of the stream between two steps of the optimizer; chunks are cut and joined as needed. A loss that
            needs whole sequences takes pieces of `every` steps for them.
        clip: bound on the norm of each network's gradient; 0 means none.
        memory: that of an earlier stream, to go on from; by default the stream begins at the cell's start.

    Raises:
        ConfigError: if the estimator cannot serve the cell or the loss, or a setting is out of range.
        DataError: if a chunk has another shape, or a number in it is not finite, naming the step.
    """
    if every < 1:
        raise ConfigError(f"every should be at least 1 step but is {every}.")
    check_shape(genes, "genes", ("P", network.layout.size), "Was the population made for another network?")
    if not (genes.requires_grad and genes.is_leaf):
        raise ConfigError("genes should be a leaf that requires grad, as torch.nn.Parameter makes it.")
    check_served(estimator, network, every, LOSSES[loss])
    through, step = fed_back(estimator, network), 0
    for part in pieces(stream, network, every):
        if not memory:
            memory = estimator.begin(network.cell, network.recurrent(genes), len(part.inputs))
        counts = part.counts if len(part.counts) else torch.ones(part.inputs.shape[:2], dtype=torch.bool)
        counts = counts.to(part.inputs.device)
        data = Batch(part.inputs, torch.where(counts[..., None], part.targets, 0.0), counts)
        optimizer.zero_grad()
        with one_thread():
            terms, memory = heard(estimator, through, genes, data, LOSSES[loss], memory, part.reset)
            norm = _scaled(genes, data.counted, clip)
            optimizer.step()
        step += part.inputs.shape[1]
        yield Heard(step, terms / data.counted, norm, influence_norm(memory, len(genes)), memory)


def _scaled(genes: Tensor, counted: Tensor, clip: float) -> Tensor:
    """Make the gradient a mean over the counted steps, bound it, and give its norm (P,) before that."""
    if genes.grad is None:
        genes.grad = torch.zeros_like(genes)
    genes.grad /= counted.clamp(min=1)
    norm: Tensor = genes.grad.norm(dim=1)
    if clip:
        genes.grad *= (clip / norm.clamp(min=clip))[:, None]
    return norm


def pieces(stream: Iterable[Chunk | tuple[Tensor, Tensor]], network: Network, length: int) -> Iterator[Chunk]:
    """The stream in pieces of `length` steps; the last may be shorter.

    Raises:
        DataError: if a chunk has another shape, or a number in it is not finite.
    """
    waiting: list[Chunk] = []
    held, seen, batch = 0, 0, 0
    for given in stream:
        chunk = given if isinstance(given, Chunk) else Chunk(*given)
        batch = batch or len(chunk.inputs)
        _check(chunk, network, batch, seen)
        seen += chunk.inputs.shape[1]
        at = 0
        while at < chunk.inputs.shape[1]:
            part = _cut(chunk, slice(at, at + length - held))
            at, held = at + part.inputs.shape[1], held + part.inputs.shape[1]
            waiting.append(part)
            if held == length:
                yield _joined(waiting)
                waiting, held = [], 0
    if waiting:
        yield _joined(waiting)


def _cut(chunk: Chunk, here: slice) -> Chunk:
    return Chunk(chunk.inputs[:, here], chunk.targets[:, here], chunk.counts[:, here], chunk.reset[:, here])


def _joined(parts: list[Chunk]) -> Chunk:
    if len(parts) == 1:
        return parts[0]
    inputs, targets = (torch.cat([getattr(part, name) for part in parts], dim=1) for name in ("inputs", "targets"))
    counts, reset = (
        torch.cat([_flags(part, getattr(part, name), usual) for part in parts], dim=1)
        for name, usual in (("counts", True), ("reset", False))
    )
    return Chunk(inputs, targets, counts, reset if reset.any() else NEVER)


def _flags(part: Chunk, flags: Tensor, usual: bool) -> Tensor:
    return flags if len(flags) else torch.full(part.inputs.shape[:2], usual)


def _check(chunk: Chunk, network: Network, batch: int, seen: int) -> None:
    steps, width = chunk.inputs.shape[1:2], network.cell.inputs
    try:
        check_shape(chunk.inputs, "inputs of the stream", (batch, "t", width), "Every chunk has the same B and I.")
        check_shape(chunk.targets, "targets of the stream", (batch, *steps, "O"), "One target a step.")
        for name in ("counts", "reset"):
            if len(flags := getattr(chunk, name)):
                check_shape(flags, f"{name} of the stream", (batch, *steps), "One flag a step.")
    except ValueError as error:
        raise DataError(f"After step {seen}: {error}") from None
    asked = torch.where(chunk.counts[..., None], chunk.targets, 0.0) if len(chunk.counts) else chunk.targets
    for name, values, cure in (
        ("inputs", chunk.inputs, "Fill it or leave the step out."),
        ("targets", asked, "Fill it, or say with counts that the step has no target."),
    ):
        if not torch.isfinite(values).all():
            where = (~torch.isfinite(values)).nonzero()[0].tolist()
            raise DataError(
                f"{name} of the stream should be finite but hold {float(values[tuple(where)])} at step {seen + where[1]} "
                f"of sequence {where[0]}. {cure}"
            )
