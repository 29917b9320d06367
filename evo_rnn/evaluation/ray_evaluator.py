"""The evaluator that spreads a population over Ray workers; its losses have the bits of the local one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from evo_rnn.description import describe
from evo_rnn.evaluation.evaluator import Evaluator, LocalEvaluator
from evo_rnn.evaluation.pool import open_pool
from evo_rnn.fit import FIT_BLOCK, Fit
from evo_rnn.network import Model
from evo_rnn.shapes import Array, Genes, Losses
from evo_rnn.tasks.task import Sequences


class RayEvaluator:
    """One `put` of a generation's matrix, one shard a worker, gathered by index.

    Args:
        model: what the chromosomes are the weights of.
        data: the split to score on; sent to the workers once.
        loss: a name in `LOSSES`.
        workers: how many processes; 0 works in this one, through the same shards.
        device: where each worker computes.
        engine: a name in `ENGINES`, or "auto".
        options: for the pool: `gpus_per_worker`, `address`, `deadline`, ...
    """

    def __init__(
        self,
        model: Model,
        data: Sequences,
        loss: str = "mse",
        *,
        workers: int,
        device: str = "cpu",
        engine: str = "auto",
        **options: Any,  # noqa: ANN401 (the pool's own)
    ) -> None:
        self.workers, self.seconds = max(workers, 1), 0.0
        self.block = LocalEvaluator(model, data, loss, "cpu", engine).block
        context = {"model": describe(model), "data": data.arrays(), "loss": loss, "device": device, "engine": engine}
        self.pool = open_pool(workers, context, **options)

    def __call__(self, genes: Genes) -> Losses:
        """The sanitised loss (P,) of each chromosome of (P, D)."""
        return self._spread("evo_rnn.evaluation.shard:score", genes, self.block, ())

    def fit(self, fit: Fit, genes: Genes) -> Genes:
        """The fitted chromosomes (P, D)."""
        return self._spread("evo_rnn.evaluation.shard:fit", genes, FIT_BLOCK, (fit,))

    def close(self) -> None:
        """End the workers."""
        self.pool.close()

    def _spread(self, work: str, genes: Genes, block: int, more: tuple[Any, ...]) -> Array:
        shared = self.pool.share(np.ascontiguousarray(genes, dtype=np.float32))
        cuts = shards(len(genes), block, self.workers)
        done = self.pool.map(work, [(shared, start, stop, *more) for start, stop in cuts])
        self.seconds += sum(seconds for _, seconds in done)
        return np.concatenate([part for part, _ in done])


def shards(count: int, block: int, workers: int) -> list[tuple[int, int]]:
    """Contiguous pieces of `count` rows, one a worker, cut only between blocks so that every row keeps its slot."""
    blocks = -(-count // block)
    cuts = sorted({min(block * round(blocks * k / workers), count) for k in range(workers + 1)})
    return list(pairwise(cuts))


@dataclass(frozen=True)
class Compute:
    """Where chromosomes are scored: in this process, or in Ray workers.

    Args:
        workers: how many worker processes; 0 means none, and no Ray.
        device: as torch names it.
        options: for the pool.
    """

    workers: int = 0
    device: str = "cpu"
    options: Mapping[str, Any] = field(default_factory=dict)

    def evaluator(self, model: Model, data: Sequences, loss: str) -> Evaluator:
        """An evaluator on `data`; close it when done."""
        if self.workers == 0:
            return LocalEvaluator(model, data, loss, self.device)
        return RayEvaluator(model, data, loss, workers=self.workers, device=self.device, **self.options)


LOCAL = Compute()
