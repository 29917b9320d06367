"""The work that an evaluation worker does: score or fit one shard of the population. It imports the ground floor alone."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from evo_rnn.description import build
from evo_rnn.evaluation.devices import found, take_share
from evo_rnn.evaluation.evaluator import LocalEvaluator
from evo_rnn.evaluation.wire import Parcel, parents_of, unpacked
from evo_rnn.evaluation.worker import WorkerCache
from evo_rnn.fit import Fit
from evo_rnn.shapes import Array, Genes
from evo_rnn.tasks.task import Sequences

Done = tuple[Array, float, str]  # a shard's result, the CPU seconds it took, and the kind of device that made it


def score(cache: WorkerCache, genes: Genes, start: int, stop: int, device: str, sequences: tuple[int, ...]) -> Done:
    """Losses of the chromosomes `start` ... `stop` of (P, D) on these sequences."""
    clock, evaluator = time.process_time(), _evaluator(cache, device)
    losses = evaluator(genes[start:stop], sequences)
    return losses, time.process_time() - clock, _kind(evaluator.device)


def fit(
    cache: WorkerCache, genes: Genes, start: int, stop: int, device: str, sequences: tuple[int, ...], how: Fit
) -> Done:
    """The chromosomes `start` ... `stop` of (P, D), fitted to these sequences."""
    clock, evaluator = time.process_time(), _evaluator(cache, device)
    fitted = evaluator.fit(how, genes[start:stop], sequences)
    return fitted, time.process_time() - clock, _kind(evaluator.device)


def score_bred(
    cache: WorkerCache, parcel: Parcel, whole: Mapping[bytes, Genes], device: str, sequences: tuple[int, ...]
) -> tuple[Array, float, str, list[bytes]]:
    """As `score`, of chromosomes that come as seeds; no losses but the digests of parents that are lacking, if any are."""
    clock, evaluator = time.process_time(), _evaluator(cache, device)
    layout, kept = evaluator.model.layout, cache.kept.setdefault("parents", {})
    lacking = parents_of(kept, layout, parcel, whole)
    losses = np.empty(0) if lacking else evaluator(unpacked(kept, layout, parcel), sequences)
    return losses, time.process_time() - clock, _kind(evaluator.device), lacking


def _kind(device: str) -> str:
    return device.partition(":")[0]


def _evaluator(cache: WorkerCache, device: str) -> LocalEvaluator:
    name, values = f"evaluator on {device}", cache.values
    if name not in cache.kept:
        take_share(found(device), values["share"])
        cache.kept[name] = LocalEvaluator(
            build(values["model"]), Sequences(**values["data"]), values["loss"], device, values["engine"]
        )
    evaluator: LocalEvaluator = cache.kept[name]
    return evaluator
