"""Methods by name: how a trainer is made of the flat settings that a config gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any, Generic, TypeVar, get_type_hints

from evo_rnn.errors import ConfigError
from evo_rnn.fit import SolvedReadout
from evo_rnn.progress import Trainer
from populations.algorithms import ALGORITHMS, GeneticAlgorithm, Search
from populations.asynchronous import Asynchronous
from populations.evolution import Evolution, Unfitted
from populations.islands import Islands
from populations.topology.mutations import Space
from populations.topology.settings import Rates, Settings
from trainers.control import TorchControl
from trainers.descent import Descent
from trainers.gradient import ESTIMATORS
from trainers.inner import Inner
from trainers.memetic import GradientSteps
from trainers.topology import Topology

Named = str | dict[str, Any]  # a method by its name, or with settings beside the name
PLAIN = (int, float, str, bool, tuple[float, ...], int | str, tuple[Named, ...])
FIXED = ("loss",)  # comes from the task


Made = TypeVar("Made", bound=Trainer, covariant=True)


@dataclass(frozen=True)
class Method(Generic[Made]):
    """One method.

    Args:
        summary: one sentence for people.
        parts: dataclasses whose plain fields are the method's settings.
        make: builds the trainer from the parts, in their order.
        defaults: settings that differ from those of the parts.
        family: "evolution", "gradient", "memetic" or "control".
        without: fields of the parts that have no meaning here.
    """

    summary: str
    parts: tuple[type, ...]
    make: Callable[..., Made]
    family: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()

    def settings(self) -> dict[str, tuple[Any, Any]]:
        """The type and the default of every setting, by name."""
        found: dict[str, tuple[Any, Any]] = {}
        for part in self.parts:
            hints = get_type_hints(part)
            for each in fields(part):
                if each.name in found:
                    raise ValueError(f"two parts of a method have a setting {each.name!r}. Rename one.")
                plain = each.init and hints[each.name] in PLAIN and each.default is not MISSING
                if plain and each.name not in (*FIXED, *self.without):
                    found[each.name] = (hints[each.name], self.defaults.get(each.name, each.default))
        return found

    def trainer(self, settings: Mapping[str, Any], loss: str) -> Made:
        """The trainer with these settings, for a task of this loss."""
        complete = {**self.defaults, **{name: default for name, (_, default) in self.settings().items()}, **settings}
        made = []
        for part in self.parts:
            names = {each.name for each in fields(part)}
            own = {name: value for name, value in complete.items() if name in names}
            made.append(part(**own, **({"loss": loss} if "loss" in names else {})))
        return self.make(*made)


@dataclass(frozen=True)
class Members:
    """The methods of an archipelago.

    Args:
        islands: one method an island, each a name, or a mapping with a name and settings.
        loss: of the task.
    """

    islands: tuple[Named, ...] = ({"name": "ga", "population": 25},) * 4  # together as many as one population
    loss: str = "mse"


def with_name(given: Named) -> dict[str, Any]:
    """`ga` as `{name: ga}`."""
    return {"name": given} if isinstance(given, str) else {"name": "ga"} | given


def _archipelago(members: Members, loop: Islands) -> Trainer:
    made = []
    for given in map(with_name, members.islands):
        own = {name: value for name, value in given.items() if name != "name"}
        made.append(ISLANDS[given["name"]].trainer(own, members.loss))
    return replace(loop, members=tuple(made))


def _refined(search: Search, fit: GradientSteps, loop: Evolution) -> Evolution:
    return replace(loop, algorithm=search, fit=_asked(fit))


def _asked(fit: GradientSteps) -> GradientSteps | Unfitted:
    """Gradients, if any were asked for."""
    if fit.gradients < 0:
        raise ConfigError(f"gradients should be 0 or more but is {fit.gradients}.")
    return fit if fit.gradients else Unfitted()


def _fitted(search: Search, fit: SolvedReadout, loop: Evolution) -> Evolution:
    return replace(loop, algorithm=search, fit=fit)


def _without_generations(search: GeneticAlgorithm, fit: GradientSteps, loop: Asynchronous) -> Trainer:
    return replace(loop, algorithm=search, fit=_asked(fit))


def _descended(estimator: Any, loop: Descent) -> Trainer:  # noqa: ANN401 (any Estimator)
    own = {each.name: getattr(loop, each.name) for each in fields(loop)}
    return Descent(**(own | {"estimator": estimator}))


def _topology(settings: Settings, rates: Rates, space: Space, inner: Inner, loop: Topology) -> Trainer:
    return replace(loop, settings=settings, rates=rates, space=space, training=inner)


def _itself(trainer: Trainer) -> Trainer:
    return trainer


def _first_line(thing: object) -> str:
    return (thing.__doc__ or "").splitlines()[0]


FEW = {  # where a gradient costs many passes, fewer rows can follow it for longer
    "rtrl": {"learning_rates": (0.1, 0.03), "restarts": 1, "check": 5, "patience": 10},
    "hybrid": {"learning_rates": (0.1, 0.03), "restarts": 2, "check": 5, "patience": 20},
}
SMALL = {"population": 20, "elites": 2}  # each chromosome costs many passes, so there are fewer

NONE = {"gradients": 0}  # refinement by gradients composes with every search, and is off unless asked for

ISLANDS: dict[str, Method[Evolution]] = {
    **{
        name: Method(_first_line(search), (search, GradientSteps, Evolution), _refined, "evolution", NONE)
        for name, search in ALGORITHMS.items()
    },
    "steady_state": Method(
        "A genetic algorithm whose children take the place of the worst at once, with steps that adapt themselves.",
        (ALGORITHMS["ga"], GradientSteps, Evolution),
        _refined,
        "evolution",
        NONE | {"replacement": "steady_state", "step_control": "self_adaptive", "population": 20},
    ),
    "memetic": Method(
        "A genetic algorithm whose children follow a few gradients; what they learn is inherited.",
        (ALGORITHMS["ga"], GradientSteps, Evolution),
        _refined,
        "memetic",
        SMALL,
    ),
    "baldwinian": Method(
        "A genetic algorithm whose children follow a few gradients; what they learn is scored, not inherited.",
        (ALGORITHMS["ga"], GradientSteps, Evolution),
        _refined,
        "memetic",
        SMALL | {"inheritance": "baldwinian"},
    ),
    "evolino": Method(
        "A genetic algorithm on the hidden weights; the readout is solved by ridge regression.",
        (ALGORITHMS["ga"], SolvedReadout, Evolution),
        _fitted,
        "memetic",
        {"population": 50},
    ),
}
"""Methods that are one evolution, so that each can live on an island."""

METHODS: dict[str, Method[Any]] = {
    **{name: ISLANDS[name] for name in ALGORITHMS},
    **{
        name: Method(_first_line(estimator), (estimator, Descent), _descended, "gradient", FEW.get(name, {}))
        for name, estimator in ESTIMATORS.items()
    },
    **ISLANDS,
    "islands": Method(
        "Several searches side by side that exchange their best; one island a worker.",
        (Members, Islands),
        _archipelago,
        "evolution",
    ),
    "asynchronous": Method(
        "A genetic algorithm without generations, so that no worker waits; each child may take the place of the worst.",
        (GeneticAlgorithm, GradientSteps, Asynchronous),
        _without_generations,
        "evolution",
        NONE | {"elites": 0},
        ("replacement", "members", "elites", "step_control"),
    ),
    "topology": Method(
        "Evolution of the network's graph, from the run's cell on; the weights of every graph are trained.",
        (Settings, Rates, Space, Inner, Topology),
        _topology,
        "topology",
    ),
    "topology_random": Method(
        "Random graphs of the same space, their weights trained likewise: what topology evolution has to beat.",
        (Settings, Rates, Space, Inner, Topology),
        _topology,
        "topology",
        {"search": "random"},
    ),
    "torch": Method("torch.nn's own network with Adam, as anyone would write it.", (TorchControl,), _itself, "control"),
}
