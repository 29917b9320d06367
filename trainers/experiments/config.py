"""What a config may say. Every key is checked, unknown keys are refused with a suggestion, and nothing is executed."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, field_validator

from evo_rnn.errors import ConfigError
from evo_rnn.evaluation.ray_address import AUTO, host_and_port
from evo_rnn.local_file import quoted
from trainers.experiments.explain import choose, refuse

Whole = Annotated[int, Field(strict=True)]


class Section(BaseModel):
    """One mapping of a config."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelConfig(Section):
    """The network: a cell, or several in a stack, and a linear readout. A cell that lacks a setting refuses it."""

    cell: str = "elman"
    hidden: Whole = Field(5, ge=1, le=4096)
    layers: Whole = Field(1, ge=1, le=16)
    peepholes: bool = False
    reset: Literal["after", "before"] = "after"
    activation: Literal["auto", "relu", "tanh", "logistic"] = "auto"
    mask: tuple[str, ...] = ()
    dt: float = Field(1.0, gt=0, le=1e9)
    tau: tuple[float, ...] = ()
    block_size: Whole = Field(1, ge=1, le=4096)
    forget: bool = False
    biases: Literal["gates", "all", "none"] = "gates"
    gates_heard: bool = True
    genome: str = ""
    equations: str = Field("", max_length=20_000)
    heads: tuple[str, ...] = ("h",)


class BudgetConfig(Section):
    """What a run may spend. A pass is one network over all counted training steps once; 0 means no bound."""

    passes: float = Field(30_000, ge=0, le=1e12)
    seconds: float = Field(0, ge=0, le=1e9)


class StopConfig(Section):
    """Other reasons to stop; 0 means never for that reason."""

    learned: float = Field(0, ge=0, le=100)
    tolerance: float = Field(0.1, gt=0, le=100)
    loss: float = Field(0, ge=0)
    generations: Whole = Field(0, ge=0)
    stagnation: Whole = Field(0, ge=0)
    wall_clock: float = Field(0, ge=0)
    on: Literal["train", "validation"] = "train"


class ComputeConfig(Section):
    """Where the work is done."""

    workers: str | Whole = "auto"
    device: str = "auto"
    gpus_per_worker: float = Field(0, ge=0, le=64)
    cpus_per_worker: float = Field(1, gt=0, le=1024)
    wire: Literal["matrix", "seeds"] = "matrix"
    address: str = "local"
    allow_unauthenticated: bool = False
    object_store_memory: Whole = Field(256 * 2**20, ge=80 * 2**20)
    startup_deadline: float = Field(120, gt=0, le=86_400)
    deadline: float = Field(60, gt=0, le=86_400)
    attempts: Whole = Field(5, ge=1, le=100)

    @field_validator("workers", mode="before")
    @classmethod
    def _count(cls, count: object) -> object:
        if count != "auto" and not (type(count) is int and 0 <= count <= 10_000):
            raise ValueError(f"should be auto or a whole number from 0 to 10000 but is {count!r}.")
        return count

    @field_validator("device")
    @classmethod
    def _place(cls, device: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
            raise ValueError(f"should be auto, cpu, cuda or cuda:NUMBER but is {device!r}.")
        return device

    @field_validator("address")
    @classmethod
    def _cluster(cls, address: str) -> str:
        if address not in ("local", AUTO):
            host_and_port(address, "")
        return address


class TrackingConfig(Section):
    """Where runs are written down."""

    experiment: str = Field("", max_length=200)
    uri: str = ""


class Config(Section):
    """A whole experiment."""

    task: dict[str, Any]
    model: ModelConfig = ModelConfig()
    method: dict[str, Any] = {"name": "ga"}
    methods: dict[str, dict[str, Any]] = {}
    budget: BudgetConfig = BudgetConfig()
    stop: StopConfig = StopConfig()
    seed: Whole = Field(0, ge=0, lt=2**63)
    seeds: Whole = Field(10, ge=1, le=10_000)
    compute: ComputeConfig = ComputeConfig()
    tracking: TrackingConfig = TrackingConfig()


LABEL = re.compile(r"\w[\w .-]{0,39}", re.ASCII)  # of a method: it becomes part of MLflow's names
CLOSED = ConfigDict(extra="forbid", allow_inf_nan=False)


def resolve(raw: Mapping[str, Any], source: str = "config") -> Config:
    """The complete config of what a user wrote.

    Args:
        raw: as it came out of the YAML file and the overrides.
        source: what to call it in errors.

    Raises:
        ConfigError: naming the key, what came and what was wanted.
    """
    from trainers.experiments.methods import METHODS

    try:
        config = Config.model_validate(named_forms(dict(raw)))
    except ValidationError as error:
        refuse(error, _keys(Config), source)
    if config.budget.passes == 0 and config.budget.seconds == 0 and not _bounded(config.stop):
        raise ConfigError(
            f"{source}: nothing would end a run. Set budget.passes, budget.seconds, stop.generations or stop.wall_clock."
        )
    choose("model.cell", config.model.cell, CELL_NAMES, source)
    method = _method(config.method, "method", METHODS, source)
    for label in config.methods:
        if not LABEL.fullmatch(label):
            wanted = "should have a name of at most 40 letters, digits, spaces and the signs _ - ."
            raise ConfigError(f"{source}: methods {wanted} but one is called {quoted(label)}.")
    methods = {
        label: _method({"name": label} | given, f"methods.{label}", METHODS, source)
        for label, given in config.methods.items()
    }
    return config.model_copy(update={"method": method, "methods": methods, "task": _task(config.task, source)})


def settings_for(name: str) -> dict[str, Any]:
    """The checked defaults of the method called `name`."""
    from trainers.experiments.methods import METHODS

    return _method({"name": name}, "method", METHODS, "defaults")


def compute_section(raw: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The keys of a file with the section `compute` alone, checked.

    Raises:
        ConfigError: naming the file and the key.
    """
    try:
        ComputeConfig.model_validate(dict(raw))
    except ValidationError as error:
        refuse(error, tuple(ComputeConfig.model_fields), source)
    return dict(raw)


CELL_NAMES: tuple[str, ...] = (
    "elman",
    "frnn",
    "lstm",
    "gru",
    "indrnn",
    "second_order",
    "ctrnn",
    "memory_blocks",
    "graph",
)
CELL_NAMES += ("lstm_no_forget", "lstm_cifg", "mgu", "mut1", "mut2", "mut3")  # graphs that have a name


def _bounded(stop: StopConfig) -> bool:
    return bool(stop.generations or stop.wall_clock)


def named_forms(raw: dict[str, Any]) -> dict[str, Any]:
    """Short forms: `task: sunspots`, `method: ga`, `methods: [ga, bptt]`."""
    for key in ("task", "method"):
        if isinstance(raw.get(key), str):
            raw[key] = {"name": raw[key]}
    methods = raw.get("methods", {})
    if isinstance(methods, str):
        methods = [name.strip() for name in methods.split(",")]
    if isinstance(methods, list) and all(isinstance(name, str) for name in methods):
        raw["methods"] = {name: {} for name in methods}
    elif isinstance(methods, Mapping):
        raw["methods"] = {label: given if given is not None else {} for label, given in methods.items()}
    return raw


def _method(given: Mapping[str, Any], where: str, known: Mapping[str, Any], source: str) -> dict[str, Any]:
    name = given.get("name", "ga")
    choose(f"{where}.name" if "name" in given and where != f"methods.{name}" else where, name, tuple(known), source)
    settings = _checked(given, known[name].settings(), where, source)
    if isinstance(settings.get("islands"), list | tuple):
        settings["islands"] = _islands(settings["islands"], where, source)
    try:
        known[name].trainer(settings, "mse")  # its own checks
    except ValueError as error:
        dot = "." if str(error).partition(" ")[0] in settings else ": "
        raise ConfigError(f"{source}: {where}{dot}{error}") from None
    return {"name": name, **settings}


def _islands(given: Sequence[Any], where: str, source: str) -> list[dict[str, Any]]:
    """Each island's method, complete."""
    from trainers.experiments.methods import ISLANDS, with_name

    return [_method(with_name(each), f"{where}.islands.{index}", ISLANDS, source) for index, each in enumerate(given)]


def _task(given: Mapping[str, Any], source: str) -> dict[str, Any]:
    from evo_rnn.tasks import TASKS

    if "name" not in given and "path" not in given:
        raise ConfigError(f"{source}: task.name is missing. Give one of {', '.join(TASKS)}.")
    name = given.get("name", "file")
    choose("task.name", name, tuple(TASKS), source)
    make = TASKS[name].make
    hints = get_type_hints(make)
    wanted = {
        each.name: (hints[each.name], ... if each.default is inspect.Parameter.empty else each.default)
        for each in inspect.signature(make).parameters.values()
    }
    return {"name": name, **_checked(given, wanted, "task", source)}


def _checked(given: Mapping[str, Any], wanted: dict[str, Any], where: str, source: str) -> dict[str, Any]:
    """All settings (type, default) of a method or a task, with those that were given."""
    schema: type[BaseModel] = create_model("Settings", __config__=CLOSED, **wanted)
    try:
        return schema.model_validate({key: value for key, value in given.items() if key != "name"}).model_dump()
    except ValidationError as error:
        refuse(error, tuple(wanted), source, where)


def _keys(section: type[BaseModel], before: str = "") -> tuple[str, ...]:
    found = []
    for name, each in section.model_fields.items():
        found.append(before + name)
        if isinstance(each.annotation, type) and issubclass(each.annotation, BaseModel):
            found += _keys(each.annotation, before + name + ".")
    return tuple(found)


def workers_of(config: Config, most: int) -> int:
    """How many worker processes to start: what the config says; "auto" takes one a core, but no more than `most`."""
    if config.compute.workers != "auto":
        return int(config.compute.workers)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, most)
