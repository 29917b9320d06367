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
from evo_rnn.fitness import LOSSES, Batch, Loss
from evo_rnn.network import Network
from evo_rnn.shapes import check_shape
from evo_rnn.threads import one_thread
from trainers.gradient.estimator import NEVER, Estimator, Memory
from trainers.gradient.slope import FRESH, check_served, fed_back, heard, influence_norm

Piece = tuple[Batch, Tensor, Loss]  # data, resets, and what is differentiated


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
    if loss not in LOSSES:
        raise ConfigError(f"loss should be one of {sorted(LOSSES)} but is {loss!r}.")
    if every < 1:
        raise ConfigError(f"every should be at least 1 step but is {every}.")
    if not clip >= 0:
        raise ConfigError(f"clip should be at least 0, which means none, but is {clip}.")
    check_shape(genes, "genes", ("P", network.layout.size), "Was the population made for another network?")
    if not (genes.requires_grad and genes.is_leaf):
        raise ConfigError("genes should be a leaf that requires grad, as torch.nn.Parameter makes it.")
    if not any(genes is each for group in optimizer.param_groups for each in group["params"]):
        raise ConfigError("optimizer should move the genes but was made for other tensors. Make it with [genes].")
    check_served(estimator, network, every, LOSSES[loss])
    return _learned(estimator, network, genes, optimizer, pieces(stream, network, every, LOSSES[loss]), clip, memory)


def _learned(
    estimator: Estimator,
    network: Network,
    genes: Tensor,
    optimizer: torch.optim.Optimizer,
    parts: Iterator[Piece],
    clip: float,
    memory: Memory,
) -> Iterator[Heard]:
    through, step = fed_back(estimator, network), 0
    for data, reset, loss in parts:
        data = Batch(data.inputs.to(genes), data.targets.to(genes), data.counts.to(genes.device))
        if not memory:
            memory = estimator.begin(network.cell, network.recurrent(genes), len(data.inputs))
        elif (came := tuple(memory["s"].shape[:2])) != (wanted := (len(genes), len(data.inputs))):
            raise DataError(f"memory should be of {wanted} networks and sequences but is of {came}. Begin without one.")
        optimizer.zero_grad()
        with one_thread():
            terms, memory = heard(estimator, through, genes, data, loss, memory, reset.to(genes.device))
            norm = _scaled(genes, data.counted, clip)
            if data.counted and not (torch.isfinite(terms) & torch.isfinite(norm)).any():
                raise ConfigError(
                    f"loss should stay finite but is {float(terms[0])} in every network after step "
                    f"{step + data.inputs.shape[1]}: the learning diverged. Lower the rate, or set clip."
                )
            if data.counted:  # momentum alone moves nothing
                optimizer.step()
        step += data.inputs.shape[1]
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


def pieces(
    stream: Iterable[Chunk | tuple[Tensor, Tensor]], network: Network, length: int, loss: Loss
) -> Iterator[Piece]:
    """The stream in pieces of `length` steps, with resets, for a loss; the last may be shorter.

    Raises:
        DataError: if a chunk has another shape, or a number in it is not finite.
    """
    for part in _even(stream, network, length, loss):
        counts = _flags(part, part.counts, True)
        yield Batch(part.inputs, torch.where(counts[..., None], part.targets, 0.0), counts), part.reset, loss


def _even(
    stream: Iterable[Chunk | tuple[Tensor, Tensor]], network: Network, length: int, loss: Loss
) -> Iterator[Chunk]:
    waiting: list[Chunk] = []
    held, seen, batch = 0, 0, 0
    for given in stream:
        chunk = given if isinstance(given, Chunk) else Chunk(*given)
        batch = batch or len(chunk.inputs)
        _check(chunk, network, batch, seen, loss)
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
    return flags if len(flags) else torch.full(part.inputs.shape[:2], usual, device=part.inputs.device)


def _check(chunk: Chunk, network: Network, batch: int, seen: int, loss: Loss) -> None:
    """Of a chunk after `seen` steps.

    Raises:
        DataError: naming the step.
    """
    steps, width = chunk.inputs.shape[1:2], network.cell.inputs
    outputs = 1 if loss.classes else network.readout.outputs
    try:
        check_shape(
            chunk.inputs, "inputs of the stream", (batch or "B > 0", "t", width), "Every chunk has the same B and I."
        )
        check_shape(chunk.targets, "targets of the stream", (batch, *steps, outputs), "One target a step.")
        for name in ("counts", "reset"):
            if len(flags := getattr(chunk, name)):
                check_shape(flags, f"{name} of the stream", (batch, *steps), "One flag a step.")
                if flags.dtype != torch.bool:
                    raise ValueError(f"{name} of the stream should be bool but is {flags.dtype}. Compare it with 0.")
        if not batch:
            raise ValueError("inputs of the stream should have at least 1 sequence but have 0.")
    except ValueError as error:
        raise DataError(f"After step {seen}: {error}") from None
    asked = torch.where(_flags(chunk, chunk.counts, True)[..., None], chunk.targets, 0.0)
    most = network.readout.outputs - 1
    strange = (
        (asked < 0) | (asked > most) | (asked != asked.round()) if loss.classes else torch.zeros_like(asked).bool()
    )
    for name, values, bad, wanted in (
        ("inputs", chunk.inputs, ~torch.isfinite(chunk.inputs), "finite. Fill it or leave the step out"),
        ("targets", asked, ~torch.isfinite(asked), "finite. Fill it, or say with counts that the step has no target"),
        ("targets", asked, strange, f"class numbers from 0 to {most}. Give the network an output for every class"),
    ):
        if bad.any():
            where = bad.nonzero()[0].tolist()
            wish, cure = wanted.split(". ")
            raise DataError(
                f"{name} of the stream should be {wish} but hold {float(values[tuple(where)])} at step {seen + where[1]} "
                f"of sequence {where[0]}. {cure}."
            )
