"""How many workers a job can use: `evo-rnn doctor --benchmark` measures it here, `evo-rnn simulate` looks further."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evo_rnn.evaluation.costs import Costs, Wire
    from evo_rnn.evaluation.evaluator import Evaluator
    from evo_rnn.network import Network
    from evo_rnn.shapes import Genes
    from evo_rnn.tasks.task import Task
    from populations.evolution import Evolution
    from trainers.commands.request import Request

SIZES = (1, 2, 4, 8, 16, 32, 64, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)


@dataclass(frozen=True)
class Job:
    """One generation of a config, to be timed.

    Args:
        words: which job it is, for people.
        evolution: its trainer.
        model: its network.
        task: what is learned.
        genes: the first generation (P, D).
        chosen: the sequences that it is scored on.
    """

    words: str
    evolution: Evolution
    model: Network
    task: Task
    genes: Genes
    chosen: tuple[int, ...]

    def score(self, evaluator: Evaluator) -> object:
        """What the evaluator does in one generation."""
        from populations.evolution import Unfitted

        if isinstance(self.evolution.fit, Unfitted):
            return evaluator(self.genes, self.chosen)
        return evaluator(evaluator.fit(self.evolution.fit, self.genes, self.chosen), self.chosen)


def job_of(request: Request) -> Job:
    """The job that a config describes.

    Raises:
        ConfigError: if its method does not evolve.
    """
    from evo_rnn.errors import ConfigError
    from evo_rnn.sample import sample
    from populations.evolution import Evolution
    from trainers.commands.plan import planned
    from trainers.experiments.builders import model_of, trainer_of

    plan = planned(request, many=False)
    config, task = plan.config, plan.task
    evolution, model = trainer_of(config.method, task), model_of(config, task)
    if not isinstance(evolution, Evolution):
        raise ConfigError(
            f"method should score populations in one evolution but is {config.method['name']!r}. Add --method ga."
        )
    genes = evolution.algorithm.begin(model.layout, config.seed).ask()
    words = (
        f"{len(genes)} chromosomes of {model.layout.size} genes ({config.method['name']}, {config.model.cell} "
        f"{config.model.hidden}) on {len(task.train.inputs)} x {task.train.inputs.shape[1]} steps of {plan.source}"
    )
    return Job(words, evolution, model, task, genes, sample(task.train, evolution.minibatch, config.seed, 0))


def measure(job: Job, check: tuple[int, ...] = ()) -> tuple[Costs, dict[int, float]]:
    """The pieces of a generation of the job on this machine, and whole generations on `check` workers."""
    import torch

    from evo_rnn.evaluation.costs import Costs, of_pool, timed
    from evo_rnn.evaluation.engines import block_of, chosen
    from evo_rnn.evaluation.evaluator import LocalEvaluator
    from evo_rnn.evaluation.ray_evaluator import RayEvaluator
    from evo_rnn.evaluation.ray_pool import RayPool
    from evo_rnn.evaluation.ray_session import join_ray

    data, count = job.task.train, len(job.chosen) or len(job.task.train.inputs)
    local = LocalEvaluator(job.model, data, job.task.loss)
    engine = chosen(job.model, torch.as_tensor(data.inputs, dtype=torch.float32))
    blocks = -(-len(job.genes) // block_of(job.model, count, engine, "cpu"))
    whole = timed(lambda: job.score(local), 5, least=0.2)
    began = time.perf_counter()
    leave = join_ray("local", cpus=max((1, *check)), gpus=False, object_store_memory=256 * 2**20)
    try:
        with RayPool(1) as pool:
            rest = of_pool(pool, job.genes, began)
        costs = Costs(blocks, whole / blocks, _driver(job), job.genes.nbytes, **rest)
        seen = {}
        for workers in check:
            spread = RayEvaluator(job.model, data, job.task.loss, workers=workers)
            try:
                seen[workers] = timed(partial(job.score, spread), 7, least=0.3) + costs.driver
            finally:
                spread.close()
    finally:
        leave()
    return costs, seen


def _driver(job: Job) -> float:
    import numpy as np

    from evo_rnn.evaluation.costs import timed

    search = job.evolution.algorithm.begin(job.model.layout, 0)
    losses = np.random.default_rng(0).random(len(job.genes))
    search.tell(job.genes, losses)

    def turn() -> None:
        search.tell(search.ask()[: len(losses)], losses)

    return timed(turn, 5, least=0.05)


def benchmark(request: Request, *, as_json: bool) -> None:
    """Print what a generation costs here and how many workers pay off."""
    from evo_rnn.evaluation.costs import Wire, advice, efficiency, generation

    job = job_of(request)
    costs, _ = measure(job)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wire = Wire(node=max(cores, 1))
    workers, why = advice(costs, cores, wire)
    if as_json:
        table = [{"workers": n, "seconds": generation(costs, n, wire)} for n in range(cores + 1)]
        print(json.dumps({"job": job.words, "costs": asdict(costs), "table": table, "workers": workers, "why": why}))
        return
    lines = [
        job.words,
        f"{'one generation, scored here':<34}{_time(costs.blocks * costs.block)}  in {_many(costs.blocks, 'block')}",
        f"{'proposing and learning':<34}{_time(costs.driver)}",
        f"{'a worker starts':<34}{_time(costs.start)}",
        f"{'one round trip to a worker':<34}{_time(costs.trip)}  {_time(costs.dispatch).strip()} of it are the driver's",
        f"{'the matrix is put (' + _bytes(costs.size) + ')':<34}{_time(costs.put)}",
        *(
            f"{'expected on ' + _many(n, 'worker') if n else 'expected without workers':<34}"
            f"{_time(generation(costs, n, wire))}  {100 * efficiency(costs, n, wire):.0f} % of use"
            for n in range(cores + 1)
        ),
        f"How many workers pay off: {workers}. {why}",
    ]
    sys.stdout.write("\n".join(lines) + "\n")


def simulate(request: Request, given: str, wire: Wire, *, as_json: bool) -> None:
    """Print what a generation would take on up to 10,000 workers.

    Args:
        request: the job to measure; its source is empty where costs are given.
        given: a file that `doctor --benchmark --json` has written, or empty.
        wire: the cluster.
        as_json: data only.
    """
    from evo_rnn.evaluation.costs import efficiency, generation

    costs, seen, words = _read(given) if given else _measured(request)
    table: list[dict[str, Any]] = [
        {"workers": n, "seconds": generation(costs, n, wire), "efficiency": efficiency(costs, n, wire)} for n in SIZES
    ]
    check: list[dict[str, Any]] = [
        {"workers": n, "measured": took, "predicted": generation(costs, n, wire)} for n, took in seen.items()
    ]
    if as_json:
        out = {"job": words, "costs": asdict(costs), "network": asdict(wire), "table": table, "check": check}
        print(json.dumps(out))
        return
    lines = [
        words,
        f"network: {1e3 * wire.latency:g} ms, {8e-9 * wire.bandwidth:g} Gbit/s out of the driver's node, {wire.node} "
        f"workers a node, stragglers {100 * wire.straggler:g} %; {_many(costs.blocks, 'block')} of "
        f"{_time(costs.block).strip()}",
        f"{'workers':>8}{'generation':>12}{'speed-up':>10}{'of use':>8}",
        *(
            f"{row['workers']:>8,}{_time(row['seconds']):>12}{costs.here() / row['seconds']:>10.1f}"
            f"{100 * row['efficiency']:>6.0f} %"
            for row in table
        ),
        *(
            f"checked: {_many(row['workers'], 'worker')} measured at {_time(row['measured']).strip()}, predicted "
            f"{_time(row['predicted']).strip()} (x {row['predicted'] / row['measured']:.2f})"
            for row in check
        ),
    ]
    if SIZES[-1] > costs.blocks:
        lines.append(f"More than {_many(costs.blocks, 'worker')} have nothing to do: a block is never cut.")
    sys.stdout.write("\n".join(lines) + "\n")


def _measured(request: Request) -> tuple[Costs, dict[int, float], str]:
    job = job_of(request)
    return *measure(job, check=(1, 2)), job.words


def _read(path: str) -> tuple[Costs, dict[int, float], str]:
    from evo_rnn.errors import ConfigError
    from evo_rnn.evaluation.costs import Costs
    from evo_rnn.local_file import shown

    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        return Costs(**found["costs"]), {}, str(found.get("job", shown(path)))
    except OSError as error:
        raise ConfigError(f"{shown(path)}: {error.strerror}.") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(
            f"{shown(path)}: should be what evo-rnn doctor --benchmark --json prints, with its part costs."
        ) from None


def _time(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{1e6 * seconds:>7.3g} us"
    return f"{1e3 * seconds:>7.3g} ms" if seconds < 1 else f"{seconds:>7.3g} s "


def _bytes(count: int) -> str:
    return f"{count / 1e6:.3g} MB" if count >= 1e6 else f"{count / 1e3:.3g} kB"


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
