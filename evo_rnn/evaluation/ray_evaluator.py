"""The evaluator that spreads a population over Ray workers; its losses have the bits of the local one."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from evo_rnn.description import describe
from evo_rnn.errors import ConfigError
from evo_rnn.evaluation.engines import block_of, chosen
from evo_rnn.evaluation.evaluator import Evaluator, LocalEvaluator
from evo_rnn.evaluation.pool import open_pool
from evo_rnn.evaluation.wire import Litter
from evo_rnn.fit import FIT_BLOCK, Fit
from evo_rnn.network import Model
from evo_rnn.sample import EVERY
from evo_rnn.shapes import Array, Genes, Losses
from evo_rnn.tasks.task import Sequences


class RayEvaluator:
    """One `put` of a generation's matrix, one shard a worker, gathered by index.

    Args:
        model: what the chromosomes are the weights of.
        data: the split to score on; sent to the workers once.
        loss: a name in `LOSSES`.
        workers: how many processes; 0 works in this one, through the same shards.
        device: where each worker computes; "auto" means on a GPU if all of them see one, else on CPUs, with a warning.
        engine: a name in `ENGINES`, or "auto".
        wire: "matrix" puts every generation whole; "seeds" sends parents and seeds where the search is `Bred`, which
            pays on slow networks (evo_rnn/evaluation/wire.py). The losses are the same, bit for bit.
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
        wire: str = "matrix",
        **options: Any,  # noqa: ANN401 (the pool's own)
    ) -> None:
        if wire not in ("matrix", "seeds"):
            raise ConfigError(f"wire should be matrix or seeds but is {wire!r}.")
        self.workers, self.seconds, self.device = max(workers, 1), 0.0, device
        self.wire, self.litters = wire, list[Litter]()
        self.model, self.sequences = model, len(data.inputs)
        self.engine = chosen(model, torch.as_tensor(data.inputs, dtype=torch.float32), engine)
        share = float(options.get("gpus_per_worker", 0.0))
        context = {"model": describe(model), "data": data.arrays(), "loss": loss, "engine": self.engine, "share": share}
        self.pool = open_pool(workers, context, **options)

    def __call__(self, genes: Genes, sequences: tuple[int, ...] = EVERY) -> Losses:
        """The sanitised loss (P,) of each chromosome of (P, D), on the sequences with these numbers alone."""
        kinds = ("cuda", "cpu") if self.device == "auto" else (self.device,)
        count = len(sequences) or self.sequences
        # Blocks are powers of two, so the larger one holds whole ones of the other.
        block = max(block_of(self.model, count, self.engine, kind) for kind in kinds)
        bred = [litter for litter in self.litters if len(litter.parent) == len(genes)]
        self.litters.clear()
        if bred:
            return self._spread_bred(bred[0], genes, block, sequences)
        return self._spread("evo_rnn.evaluation.shard:score", genes, block, sequences)

    def expect(self, litter: Litter | tuple[()]) -> None:
        """The chromosomes of the next call are those of the litter."""
        self.litters[:] = [litter] if self.wire == "seeds" and isinstance(litter, Litter) else []

    def fit(self, fit: Fit, genes: Genes, sequences: tuple[int, ...] = EVERY) -> Genes:
        """The chromosomes (P, D), fitted to these sequences."""
        return self._spread("evo_rnn.evaluation.shard:fit", genes, FIT_BLOCK, sequences, fit)

    def close(self) -> None:
        """End the workers."""
        self.pool.close()

    def _spread(self, work: str, genes: Genes, block: int, *more: Any) -> Array:  # noqa: ANN401 (what the work takes)
        shared = self.pool.share(np.ascontiguousarray(genes, dtype=np.float32))
        cuts = shards(len(genes), block, self.workers)
        done = self.pool.map(work, [(shared, start, stop, self.device, *more) for start, stop in cuts])
        self.seconds += sum(seconds for _, seconds, _ in done)
        kinds = {kind for *_, kind in done}
        if self.device == "auto" and kinds != {"cuda"}:
            self._to_cpu(kinds)
            if len(kinds) > 1:  # whose shard it was must not decide a loss
                return self._spread(work, genes, block, *more)
        return np.concatenate([part for part, *_ in done])

    def _spread_bred(self, litter: Litter, genes: Genes, block: int, sequences: tuple[int, ...]) -> Losses:
        """As `_spread`, by seeds; a shard whose worker lacks parents goes out again, with all of them whole."""
        work = "evo_rnn.evaluation.shard:score_bred"
        parcels = litter.parcels(shards(len(genes), block, self.workers))
        done = self.pool.map(work, [(parcel, {}, self.device, sequences) for parcel in parcels])
        again = [k for k, (*_, lacking) in enumerate(done) if lacking]
        if again:
            # To another worker, perhaps, which may lack others: so all that the shard wants.
            whole = dict(zip(parcels[0].digests, litter.parents, strict=True))
            fresh = self.pool.map(work, [(parcels[k], whole, self.device, sequences) for k in again])
            done = [dict(zip(again, fresh, strict=True)).get(k, each) for k, each in enumerate(done)]
        self.seconds += sum(seconds for _, seconds, *_ in done)
        if self.device == "auto" and {kind for *_, kind, _ in done} != {"cuda"}:
            return self._spread("evo_rnn.evaluation.shard:score", genes, block, sequences)  # which finds what to do
        return np.concatenate([part for part, *_ in done])

    def _to_cpu(self, kinds: set[str]) -> None:
        """From now on all workers compute on CPUs, so that the result is of one kind of device."""
        who = "no worker sees a GPU" if kinds == {"cpu"} else "a worker sees no GPU"
        self.device = "cpu"
        warnings.warn(
            f"{who}: all compute on CPUs from here on. For GPUs set compute.gpus_per_worker, look at the nodes' CUDA "
            "drivers (evo-rnn doctor), or set compute.device to cuda to insist.",
            RuntimeWarning,
            stacklevel=4,
        )


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
        wire: how chromosomes travel to workers: "matrix" or "seeds".
    """

    workers: int = 0
    device: str = "cpu"
    options: Mapping[str, Any] = field(default_factory=dict)
    wire: str = "matrix"

    def evaluator(self, model: Model, data: Sequences, loss: str) -> Evaluator:
        """An evaluator on `data`; close it when done."""
        if self.workers == 0:
            return LocalEvaluator(model, data, loss, self.device)
        return RayEvaluator(model, data, loss, workers=self.workers, device=self.device, wire=self.wire, **self.options)


LOCAL = Compute()
