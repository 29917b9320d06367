"""The axis letters of the whole project, and the one check of shapes at public doors.

P population, B batch, T time, I inputs, H hidden units, S state, O outputs, D genes; always in this order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor

Genes: TypeAlias = "np.ndarray[Any, np.dtype[np.float32]]"  # (P, D), one chromosome a row
Losses: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"  # (P,), lower is better
Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
Weights: TypeAlias = Mapping[str, Tensor]  # each leaf (P, *shape)


def check_shape(value: Array | Tensor, name: str, want: tuple[int | str, ...], cure: str = "") -> None:
    """Raise if `value` has not the shape `want`.

    Args:
        value: the array to check.
        name: what the caller calls it.
        want: one entry an axis: a length, or a letter that stands for any length.
        cure: a sentence that helps.

    Raises:
        ValueError: naming the array, the wanted shape, the shape that came, and the cure.
    """
    came = tuple(value.shape)
    fits = len(came) == len(want) and all(isinstance(w, str) or w == c for w, c in zip(want, came, strict=True))
    if not fits:
        wanted = ", ".join(str(w) for w in want) + ("," if len(want) == 1 else "")
        raise ValueError(f"{name} should have shape ({wanted}) but has shape {came}. {cure}".strip())
