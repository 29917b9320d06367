"""Functions of one variable by name, each with its derivative beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from evo_rnn.errors import ConfigError


@dataclass(frozen=True)
class Function:
    """f(a) and f'(a), both element by element."""

    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]


def _logistic_slope(a: Tensor) -> Tensor:
    value = torch.sigmoid(a)
    return value * (1 - value)


FUNCTIONS: dict[str, Function] = {
    "identity": Function(lambda a: a, torch.ones_like),
    "logistic": Function(torch.sigmoid, _logistic_slope),
    "relu": Function(torch.relu, lambda a: (a > 0).to(a.dtype)),
    "sine": Function(torch.sin, torch.cos),
    "softplus": Function(torch.nn.functional.softplus, torch.sigmoid),
    "tanh": Function(torch.tanh, lambda a: 1 - torch.tanh(a) ** 2),
}


def function(name: str) -> Function:
    """The function called `name`.

    Raises:
        ConfigError: if there is none.
    """
    if name not in FUNCTIONS:
        known = ", ".join(FUNCTIONS)
        raise ConfigError(f"function should be one of {known} but is {name!r}. Add your own to FUNCTIONS.")
    return FUNCTIONS[name]
