"""What an evaluator is: chromosomes in, losses out; the same bits whoever computes them.

Determinism: a chromosome is always scored in a block of one fixed size, at the slot its global index gives it, by one
thread. So neither the number of workers nor the size of the population can change a bit (docs/decisions/0002). On a GPU
several blocks are scored at once, as many as its memory has room for; each block's sums are its own, so that their
number cannot change a bit either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from evo_rnn.errors import RetryError
from evo_rnn.evaluation.devices import found, full_precision
from evo_rnn.evaluation.engines import Engine, chosen, engine_for
from evo_rnn.fit import Fit, fit_in_blocks
from evo_rnn.fitness import LOSSES, Batch, batch, sanitise
from evo_rnn.network import Model
from evo_rnn.sample import EVERY, pick
from evo_rnn.shapes import Array, Genes, Losses, check_shape
from evo_rnn.tasks.task import Sequences
from evo_rnn.threads import one_thread


class Evaluator(Protocol):
    """Losses (P,) float64 of chromosomes (P, D) float32, sanitised: an invalid network has an infinite loss."""

    @property
    def seconds(self) -> float:
        """CPU seconds spent in other processes so far; what is spent in this one, its own clock tells."""
        ...

    def __call__(self, genes: Genes, sequences: tuple[int, ...] = EVERY) -> Losses:
        """The loss of each chromosome, in order, on the sequences with these numbers alone."""
        ...

    def fit(self, fit: Fit, genes: Genes, sequences: tuple[int, ...] = EVERY) -> Genes:
        """The chromosomes (P, D), in order, fitted to these sequences."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


@dataclass
class _View:
    """Some sequences of the data as tensors, and the engine that runs over them."""

    sequences: tuple[int, ...]
    exact: Batch  # float64, what losses are of
    batch: Batch  # float32
    engine: Engine


class LocalEvaluator:
    """Scores chromosomes in this process: the oracle of every other evaluator.

    Args:
        model: what the chromosomes are the weights of.
        data: the split to score on.
        loss: a name in `LOSSES`.
        device: where to compute, as torch names it; "auto" takes a GPU if there is one.
        engine: a name in `evo_rnn.evaluation.engines.ENGINES`, or "auto".
        blocks: most to score at once; 0 means one on a CPU, and on a GPU as many as there are and memory has room for.
    """

    seconds = 0.0

    def __init__(
        self,
        model: Model,
        data: Sequences,
        loss: str = "mse",
        device: str = "cpu",
        engine: str = "auto",
        blocks: int = 0,
    ) -> None:
        self.model, self.source, self.loss, self.device = model, data, LOSSES[loss], found(device)
        self.blocks = blocks or (MOST if self.device.startswith("cuda") else 1)
        self._name = chosen(model, torch.as_tensor(data.inputs, dtype=torch.float32), engine)
        self._views = [
            self._view(EVERY)
        ]  # of all the data; and then, at most, of the sequences that were asked for last

    @property
    def block(self) -> int:
        """How many chromosomes are always scored together, on all the data."""
        return self._views[0].engine.block

    def __call__(self, genes: Genes, sequences: tuple[int, ...] = EVERY) -> Losses:
        """The sanitised loss (P,) of each chromosome of (P, D), on the sequences with these numbers alone.

        Raises:
            ValueError: if the chromosomes are of another network.
            RetryError: if not even one block fits the memory of the GPU.
        """
        view = self._on(sequences)
        losses = self._map(view, genes, lambda outputs: self.loss(outputs.double(), view.exact))
        return sanitise(torch.cat(losses).numpy()) if losses else np.empty(0)

    def fit(self, fit: Fit, genes: Genes, sequences: tuple[int, ...] = EVERY) -> Genes:
        """The chromosomes (P, D) fitted to the data, in blocks of a fixed size."""
        with one_thread(), full_precision():
            return fit_in_blocks(fit, self.model, genes, self._on(sequences).batch)

    def close(self) -> None:
        """Nothing to give back."""

    def predict(self, genes: Genes) -> Array:
        """Outputs (P, B, T, O) float32 of each chromosome."""
        return torch.cat(self._map(self._views[0], genes, lambda outputs: outputs)).numpy()

    def learned(self, genes: Genes, tolerance: Array) -> Array:
        """The share (P,) of counted steps within `tolerance (O,)` of the target (for classes: right), 0 to 1."""
        bound, view = torch.as_tensor(tolerance, dtype=torch.float64, device=self.device), self._views[0]
        shares = self._map(view, genes, lambda outputs: self.loss.share(outputs.double(), view.exact, bound))
        return np.asarray(torch.cat(shares).numpy())

    def _on(self, sequences: tuple[int, ...]) -> _View:
        for view in self._views:
            if view.sequences == sequences:
                return view
        self._views[1:] = [self._view(sequences)]
        return self._views[1]

    def _view(self, sequences: tuple[int, ...]) -> _View:
        data = pick(self.source, sequences)
        exact, short = (batch(data, dtype, self.device) for dtype in (torch.float64, torch.float32))
        return _View(sequences, exact, short, engine_for(self.model, short.inputs, self._name))

    def _map(self, view: _View, genes: Genes, use: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """What `use` makes of the outputs of each block, on the CPU; where memory runs out, half as many at once."""
        check_shape(genes, "genes", ("P", self.model.layout.size), "Was the population made for another network?")
        done: list[Tensor] = []
        start = 0
        while start < len(genes):
            engine = self._engine(view, len(genes) - start)
            part = genes[start : start + engine.chunk]
            try:
                done += _scored(engine, part, use, self.device)
                start += len(part)
                continue
            except torch.OutOfMemoryError as error:
                if engine.chunk == engine.block:
                    raise RetryError(_TOO_LARGE.format(engine.block, self.device)) from error
            # Out of the clause: the exception held what is to be given back.
            self.blocks = engine.chunk // engine.block // 2
            del engine
            view.engine = engine_for(self.model, view.batch.inputs, self._name)
            torch.cuda.empty_cache()
        return done

    def _engine(self, view: _View, rows: int) -> Engine:
        """The view's engine, made larger where more blocks wait than it takes."""
        block = view.engine.block
        wanted = min(self.blocks, 1 << (-(-rows // block) - 1).bit_length())
        while wanted * block > view.engine.chunk:
            try:
                grown = engine_for(self.model, view.batch.inputs, self._name, wanted)
            except torch.OutOfMemoryError:
                self.blocks = wanted = max(wanted // 2, 1)
                continue
            if grown.chunk == view.engine.chunk:  # it never takes more
                self.blocks = 1
                break
            view.engine = grown
        return view.engine


MOST = 64  # blocks at once on a GPU: more have nothing to add
_TOO_LARGE = (
    "one block of {} networks does not fit the memory of {}: take fewer sequences a generation (minibatch), fewer workers "
    "a GPU (gpus_per_worker), or device cpu"
)


def _scored(engine: Engine, genes: Genes, use: Callable[[Tensor], Tensor], device: str) -> list[Tensor]:
    """What `use` makes of one chunk, block by block: a sum over a chunk could be cut up in another way."""
    padded = np.zeros((engine.chunk, genes.shape[1]), np.float32)  # whole blocks: kernels differ with the shape
    padded[: len(genes)] = genes
    with torch.no_grad(), one_thread(), full_precision():
        outputs = engine(torch.from_numpy(padded).to(device)).split(engine.block)
        used = range(0, len(genes), engine.block)
        return [use(block)[: len(genes) - start].cpu().clone() for start, block in zip(used, outputs, strict=False)]
