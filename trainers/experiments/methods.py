"""Methods by name: how a trainer is made of the flat settings that a config gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, get_type_hints

from evo_rnn.fit import SolvedReadout
from evo_rnn.progress import Trainer
from populations.algorithms import ALGORITHMS, Search
from populations.evolution import Evolution
from trainers.control import TorchControl
from trainers.descent import Descent
from trainers.gradient import ESTIMATORS
from trainers.memetic import GradientSteps

PLAIN = (int, float, str, bool, tuple[float, ...], int | str)
FIXED = ("loss",)  # comes from the task


@dataclass(frozen=True)
class Method:
    """One method.

    Args:
        summary: one sentence for people.
        parts: dataclasses whose plain fields are the method's settings.
        make: builds the trainer from the parts, in their order.
        defaults: settings that differ from those of the parts.
        family: "evolution", "gradient", "memetic" or "control".
    """

    summary: str
    parts: tuple[type, ...]
    make: Callable[..., Trainer]
    family: str
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def settings(self) -> dict[str, tuple[Any, Any]]:
        """The type and the default of every setting, by name."""
        found: dict[str, tuple[Any, Any]] = {}
        for part in self.parts:
            hints = get_type_hints(part)
            for each in fields(part):
                if each.name in found:
                    raise ValueError(f"two parts of a method have a setting {each.name!r}. Rename one.")
                if each.init and hints[each.name] in PLAIN and each.name not in FIXED and each.default is not MISSING:
                    found[each.name] = (hints[each.name], self.defaults.get(each.name, each.default))
        return found

    def trainer(self, settings: Mapping[str, Any], loss: str) -> Trainer:
        """The trainer with these settings, for a task of this loss."""
        complete = {name: default for name, (_, default) in self.settings().items()} | dict(settings)
        made = []
        for part in self.parts:
            names = {each.name for each in fields(part)}
            own = {name: value for name, value in complete.items() if name in names}
            made.append(part(**own, **({"loss": loss} if "loss" in names else {})))
        return self.make(*made)


def _evolved(search: Search) -> Trainer:
    return Evolution(search)


def _fitted(search: Search, fit: Any, loop: Evolution) -> Trainer:  # noqa: ANN401 (any Fit)
    return Evolution(search, fit, loop.inheritance)


def _descended(estimator: Any, loop: Descent) -> Trainer:  # noqa: ANN401 (any Estimator)
    own = {each.name: getattr(loop, each.name) for each in fields(loop)}
    return Descent(**(own | {"estimator": estimator}))


def _itself(trainer: Trainer) -> Trainer:
    return trainer


FEW = {  # where a gradient costs many passes, fewer rows can follow it for longer
    "rtrl": {"learning_rates": (0.1, 0.03), "restarts": 1, "check": 5, "patience": 10},
    "hybrid": {"learning_rates": (0.1, 0.03), "restarts": 2, "check": 5, "patience": 20},
}
SMALL = {"population": 20, "elites": 2}  # each chromosome costs many passes, so there are fewer

METHODS: dict[str, Method] = {
    **{
        name: Method((search.__doc__ or "").splitlines()[0], (search,), _evolved, "evolution")
        for name, search in ALGORITHMS.items()
    },
    **{
        name: Method(
            (estimator.__doc__ or "").splitlines()[0], (estimator, Descent), _descended, "gradient", FEW.get(name, {})
        )
        for name, estimator in ESTIMATORS.items()
    },
    "memetic": Method(
        "A genetic algorithm whose children follow a few gradients; what they learn is inherited.",
        (ALGORITHMS["ga"], GradientSteps, Evolution),
        _fitted,
        "memetic",
        SMALL,
    ),
    "baldwinian": Method(
        "A genetic algorithm whose children follow a few gradients; what they learn is scored, not inherited.",
        (ALGORITHMS["ga"], GradientSteps, Evolution),
        _fitted,
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
    "torch": Method("torch.nn's own network with Adam, as anyone would write it.", (TorchControl,), _itself, "control"),
}
