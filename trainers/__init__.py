"""The top floor: gradient rules, descent, memetic hybrids, and the experiments with their command line.

`run` and `compare` are imported at their first use, so that the command line can answer `--help` at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

HOMES = {
    "run": "trainers.experiments.desk",
    "compare": "trainers.experiments.desk",
    "Descent": "trainers.descent",
    "GradientSteps": "trainers.memetic",
    "TorchControl": "trainers.control",
    "BPTT": "trainers.gradient",
    "RTRL": "trainers.gradient",
    "Hybrid": "trainers.gradient",
}
__all__ = ["BPTT", "RTRL", "Descent", "GradientSteps", "Hybrid", "TorchControl", "compare", "run"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 (any public name)
    if name not in HOMES:
        raise AttributeError(f"module 'trainers' has no attribute {name!r}. It has {', '.join(__all__)}.")
    return getattr(import_module(HOMES[name]), name)
