"""The estimators as a table for people: what they promise, need and cost."""

from __future__ import annotations

from typing import Any

from evo_rnn.cells import CTRNN, LSTM, Cell, Elman, IndRNN
from evo_rnn.errors import ConfigError
from trainers.gradient import ESTIMATORS
from trainers.gradient.estimator import Estimator, layout_of, multiply_adds

UNITS, STEPS = 32, 256  # of the example that numbers are given for


def estimators() -> dict[str, dict[str, Any]]:
    """For each name its traits, and what it keeps and costs on the first of Elman, LSTM, IndRNN and CTRNN that it serves.

    `sees` is how many steps one way back looks at; `kept` the numbers kept for one sequence while one step is handed over;
    `cost` the multiply-adds of a step, forward and credit, relative to a forward step.
    """
    return {name: _row(rule()) for name, rule in ESTIMATORS.items()}


def _row(rule: Estimator) -> dict[str, Any]:
    cell, traits = _example(rule), rule.traits
    cost = rule.flops(cell, STEPS) / multiply_adds(layout_of(cell))
    near = [word for word, local in (("time", traits.local_in_time), ("space", traits.local_in_space)) if local]
    return {
        "exact": traits.exact,
        "unbiased": traits.unbiased,
        "local in": " and ".join(near),
        "sees": rule.sees(cell, STEPS),
        "kept": rule.storage(cell, 1),
        "cost": float(f"{cost:.3g}"),
        "example": f"{type(cell).__name__.lower()}{UNITS}",
        "needs": traits.needs,
        "about": (type(rule).__doc__ or "").splitlines()[0],
    }


def _example(rule: Estimator) -> Cell:
    for cell in (Elman(1, UNITS), LSTM(1, UNITS), IndRNN(1, UNITS), CTRNN(1, UNITS)):
        try:
            rule.check(cell)
        except ConfigError:
            continue
        return cell
    raise ConfigError(f"{type(rule).__name__} serves none of the examples. Add one that it serves.")
