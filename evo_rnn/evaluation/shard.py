"""The work that an evaluation worker does: score or fit one shard of the population. It imports the ground floor alone."""

from __future__ import annotations

import time

from evo_rnn.description import build
from evo_rnn.evaluation.evaluator import LocalEvaluator
from evo_rnn.evaluation.worker import WorkerCache
from evo_rnn.fit import Fit
from evo_rnn.shapes import Genes, Losses
from evo_rnn.tasks.task import Sequences


def score(cache: WorkerCache, genes: Genes, start: int, stop: int) -> tuple[Losses, float]:
    """Losses of the chromosomes `start` ... `stop` of (P, D), and the CPU seconds it took."""
    clock = time.process_time()
    losses = _evaluator(cache)(genes[start:stop])
    return losses, time.process_time() - clock


def fit(cache: WorkerCache, genes: Genes, start: int, stop: int, how: Fit) -> tuple[Genes, float]:
    """The chromosomes `start` ... `stop` of (P, D), fitted, and the CPU seconds it took."""
    clock = time.process_time()
    fitted = _evaluator(cache).fit(how, genes[start:stop])
    return fitted, time.process_time() - clock


def _evaluator(cache: WorkerCache) -> LocalEvaluator:
    if "evaluator" not in cache.kept:
        values = cache.values
        cache.kept["evaluator"] = LocalEvaluator(
            build(values["model"]), Sequences(**values["data"]), values["loss"], values["device"], values["engine"]
        )
    evaluator: LocalEvaluator = cache.kept["evaluator"]
    return evaluator
