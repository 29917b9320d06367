"""What a config may say. Every key is checked, unknown keys are refused with a suggestion, and nothing is executed."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from evo_rnn.errors import ConfigError
from trainers.experiments.named import NAMED

Whole = Annotated[int, Field(strict=True)]


class Section(BaseModel):
    """One mapping of a config."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelConfig(Section):
    """The network: a cell, or several in a stack, and a linear readout."""

    cell: str = "elman"
    hidden: Whole = Field(5, ge=1, le=4096)
    layers: Whole = Field(1, ge=1, le=16)
    peepholes: bool = False
    reset: Literal["after", "before"] = "after"
    activation: Literal["relu", "tanh"] = "relu"
    mask: tuple[str, ...] = ()


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
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    gpus_per_worker: float = Field(0, ge=0, le=64)
    cpus_per_worker: float = Field(1, gt=0, le=1024)
    address: str = "local"
    object_store_memory: Whole = Field(256 * 2**20, ge=80 * 2**20)
    startup_deadline: float = Field(120, gt=0, le=86_400)
    deadline: float = Field(60, gt=0, le=86_400)
    attempts: Whole = Field(5, ge=1, le=100)

    @model_validator(mode="after")
    def _count(self) -> ComputeConfig:
        count = self.workers
        if count != "auto" and not (isinstance(count, int) and 0 <= count <= 10_000):
            raise ValueError(f"should have workers auto or a number from 0 to 10000, not {count!r},")
        return self


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
    seeds: Whole = Field(5, ge=1, le=10_000)
    compute: ComputeConfig = ComputeConfig()
    tracking: TrackingConfig = TrackingConfig()


SECTIONS = {"model": ModelConfig, "budget": BudgetConfig, "stop": StopConfig, "compute": ComputeConfig}


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
        raise ConfigError(f"{source}: {_explained(error, _keys(Config))}") from None
    if config.budget.passes == 0 and config.budget.seconds == 0 and not _bounded(config.stop):
        raise ConfigError(f"{source}: budget should bound passes or seconds, or stop.generations should; none does.")
    _choose("model.cell", config.model.cell, CELL_NAMES, source)
    method = _method(config.method, "method", METHODS, source)
    methods = {
        label: _method({"name": label} | given, f"methods.{label}", METHODS, source)
        for label, given in config.methods.items()
    }
    return config.model_copy(update={"method": method, "methods": methods, "task": _task(config.task, source)})


CELL_NAMES = ("elman", "frnn", "lstm", "gru", "indrnn")


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
    _choose(f"{where}.name", name, tuple(known), source)
    wanted = known[name].settings()
    schema = create_model("Method", __config__=ConfigDict(extra="forbid", allow_inf_nan=False), **wanted)
    settings = {key: value for key, value in given.items() if key != "name"}
    try:
        checked = schema.model_validate(settings)
        known[name].trainer(checked.model_dump(), "mse")  # its own checks
    except ValidationError as error:
        raise ConfigError(f"{source}: {where}.{_explained(error, tuple(wanted))}") from None
    except ValueError as error:
        raise ConfigError(f"{source}: {where}: {error}") from None
    return {"name": name, **checked.model_dump()}


def _task(given: Mapping[str, Any], source: str) -> dict[str, Any]:
    from evo_rnn.tasks import TASKS

    name = given.get("name", "file" if "path" in given else "")
    _choose("task.name", name, tuple(TASKS), source)
    return {"name": name, **{key: value for key, value in given.items() if key != "name"}}


def _choose(key: str, value: object, known: tuple[str, ...], source: str) -> None:
    if value not in known:
        near = difflib.get_close_matches(str(value), known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"{source}: {key} should be one of {', '.join(known)} but is {value!r}.{hint}")


def _keys(section: type[BaseModel], before: str = "") -> tuple[str, ...]:
    found = []
    for name, each in section.model_fields.items():
        found.append(before + name)
        if isinstance(each.annotation, type) and issubclass(each.annotation, BaseModel):
            found += _keys(each.annotation, before + name + ".")
    return tuple(found)


def _explained(error: ValidationError, known: tuple[str, ...]) -> str:
    """The first mistake in one line."""
    first = min(
        error.errors(), key=lambda each: each["type"] != "extra_forbidden"
    )  # a misspelt key explains a missing one
    key = ".".join(str(part) for part in first["loc"] if part not in ("str", "int", "constrained-int"))
    came = str(first["input"])[:60].replace("\n", " ")
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5) or [
            name for name in known if name.split(".")[-1] == key.split(".")[-1]
        ]
        hint = f"Did you mean {near[0]!r}?" if near else f"Known keys: {', '.join(sorted(known))}."
        return f"{key} is not a known key (it is set to {came!r}). {hint}"
    if first["type"] == "missing":
        return f"{key} is missing. Give it a value."
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{key} {message} but is {came!r}."


def workers_of(config: Config, most: int) -> int:
    """How many worker processes to start: what the config says; "auto" takes one a core, but no more than `most`."""
    if config.compute.workers != "auto":
        return int(config.compute.workers)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, most)


def known_names() -> tuple[str, ...]:
    """Experiments that have a name instead of a file."""
    return tuple(NAMED)
