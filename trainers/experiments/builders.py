"""From a checked config to the things it speaks of: task, model, trainers, rules, compute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evo_rnn.cells import CELLS, Cell, Stack
from evo_rnn.cells.equations import parsed
from evo_rnn.cells.named_graphs import graph as named_graph
from evo_rnn.errors import ConfigError, DataError
from evo_rnn.evaluation.ray_evaluator import Compute
from evo_rnn.genome import read_genome
from evo_rnn.network import Network, network
from evo_rnn.progress import Trainer
from evo_rnn.tasks import TASKS
from evo_rnn.tasks.task import Task
from trainers.descent import Descent
from trainers.experiments.config import Config, ModelConfig, workers_of
from trainers.experiments.methods import METHODS
from trainers.experiments.stopping import (
    Criterion,
    Generations,
    Learned,
    MinimumLoss,
    Passes,
    Seconds,
    Stagnation,
    WallClock,
)
from trainers.experiments.trial import Rules
from trainers.topology import Topology

FAR = 200_000.0  # passes between two points at most: a run without end must show something too
STEPS = 10_000  # points of a single run, at most
POINTS = 60  # of every curve: enough to see its shape, few enough for a browser
OPTIONS = {
    "lstm": ("peepholes",),
    "gru": ("reset",),
    "indrnn": ("activation",),
    "frnn": ("mask",),
    "second_order": ("activation",),
    "ctrnn": ("dt", "tau", "activation"),
    "graph": ("genome", "equations", "heads"),
    "memory_blocks": ("block_size", "forget", "biases", "gates_heard"),
}
AUTO = "auto"  # the value of an option that leaves it to the cell


def task_of(config: Config) -> Task:
    """The task.

    Raises:
        ConfigError: if a setting does not fit.
        DataError: if a file cannot be used.
    """
    settings = {key: value for key, value in config.task.items() if key != "name"}
    return TASKS[config.task["name"]](**settings)


def model_of(config: Config, task: Task) -> Network:
    """The network for the task's inputs and outputs.

    Raises:
        ConfigError: if the cell refuses its settings.
        DataError: if a genome cannot be used.
    """
    wanted = config.model
    known = OPTIONS.get(wanted.cell, ())
    given = {name for names in OPTIONS.values() for name in names if name in wanted.model_fields_set}
    if strange := given - set(known):
        raise ConfigError(f"model.{sorted(strange)[0]} has no meaning for the cell {wanted.cell!r}. Leave it out.")
    options = {name: value for name in known if (value := getattr(wanted, name)) != AUTO}
    try:
        cells: list[Cell] = []
        for _ in range(wanted.layers):
            inputs = cells[-1].outputs if cells else task.inputs
            cells.append(_cell(wanted, inputs, options))
    except (ConfigError, DataError):
        raise
    except ValueError as error:
        raise ConfigError(f"model: {error}") from None
    return network(cells[0] if len(cells) == 1 else Stack(tuple(cells)), task.outputs)


def _cell(wanted: ModelConfig, inputs: int, options: Mapping[str, Any]) -> Cell:
    if wanted.cell in CELLS:
        made: Cell = CELLS[wanted.cell](inputs, _units(wanted), **options)
        return made
    if wanted.cell != "graph":
        return named_graph(wanted.cell, inputs, wanted.hidden)
    if bool(wanted.genome) == bool(wanted.equations):
        raise ConfigError("model: cell graph needs model.genome, a genome.json, or model.equations. Give one of them.")
    if wanted.equations:
        return parsed(wanted.equations, inputs, wanted.hidden, wanted.heads)
    return read_genome(wanted.genome, inputs)


def _units(wanted: ModelConfig) -> int:
    """Hidden units, or the blocks that hold as many cells."""
    if wanted.cell != "memory_blocks":
        return wanted.hidden
    blocks, rest = divmod(wanted.hidden, wanted.block_size)
    if rest:
        raise ConfigError(
            f"model.hidden should be a multiple of model.block_size = {wanted.block_size} but is {wanted.hidden}: "
            "it counts the cells of all blocks."
        )
    return blocks


def trainer_of(method: dict[str, Any], task: Task) -> Trainer:
    """The trainer of one entry of `method` or `methods`."""
    settings = {key: value for key, value in method.items() if key != "name"}
    made: Trainer = METHODS[method["name"]].trainer(settings, task.loss)
    return made


def check_methods(methods: Mapping[str, Mapping[str, Any]], task: Task, model: Network) -> None:
    """Refuse a gradient method that does not fit this network or this task, before anything is made.

    Raises:
        ConfigError: naming the method and what could be used.
    """
    for where, method in methods.items():
        trainer = trainer_of(dict(method), task)
        if isinstance(trainer, Descent | Topology):
            try:
                trainer.fits(model, task)
            except ConfigError as error:
                raise ConfigError(f"{where}: {error}") from None


def rules_of(config: Config, *, many: bool) -> Rules:
    """The criteria, in the order in which they are asked; the points of the curves.

    In a comparison all methods have points at the same passes. In a single run every step is one, so that the history
    is whole, until there are too many to look at.
    """
    stop, budget = config.stop, config.budget
    criteria: list[tuple[float, Criterion]] = [
        (stop.learned, Learned(stop.learned, stop.on)),
        (stop.loss, MinimumLoss(stop.loss, stop.on)),
        (stop.generations, Generations(stop.generations)),
        (stop.stagnation, Stagnation(stop.stagnation, stop.on)),
        (budget.passes, Passes(budget.passes)),
        (budget.seconds, Seconds(budget.seconds)),
        (stop.wall_clock, WallClock(stop.wall_clock)),
    ]
    kept = tuple(criterion for asked, criterion in criteria if asked)
    device = device_of(config)
    if many:
        return Rules(kept, min(budget.passes / POINTS, FAR), tolerance=stop.tolerance, device=device)
    return Rules(kept, spacing=(budget.passes or FAR) / STEPS, tolerance=stop.tolerance, device=device)


def device_of(config: Config) -> str:
    """The device that is meant: "auto" takes a GPU where whoever computes can see one.

    Raises:
        ConfigError: if the wanted GPU is not there.
    """
    import torch

    wanted = config.compute.device
    if wanted == "auto":
        seen = config.compute.workers == 0 or config.compute.gpus_per_worker > 0  # by those who would compute on it
        return "cuda" if seen and torch.cuda.is_available() else "cpu"
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"compute.device should be a device of this machine but is {wanted!r}. Use cpu or auto.")
    return wanted


def compute_of(config: Config, most: int) -> Compute:
    """Workers and their options; `most` is how many could be of use."""
    names = (
        "gpus_per_worker",
        "cpus_per_worker",
        "address",
        "allow_unauthenticated",
        "object_store_memory",
        "startup_deadline",
        "deadline",
        "attempts",
    )
    options = {name: getattr(config.compute, name) for name in names}
    return Compute(workers_of(config, most), device_of(config), options, config.compute.wire)
