"""Taps: leaves of weights that note what a step does with them.

A cell writes its step in three words, `linear`, `affine` and `row` (`evo_rnn.cells.cell`). Given taps instead of tensors,
the same step says which sums a = W z its next state is made of; a small nudge at each sum then gives K = ∂s/∂a by autograd,
and the immediate term I_t = ∂s_t/∂θ is K ⊗ z: never stored dense.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, NoReturn, cast

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from evo_rnn.shapes import Weights


class Unseen(Exception):
    """A leaf is used in another way."""

    def __init__(self, leaf: str) -> None:
        super().__init__(leaf)
        self.leaf = leaf


@dataclass(frozen=True)
class Use:
    """One use of a leaf: its rows `first` to `first + rows` hear `fan` values; a row of single values hears a one."""

    leaf: str
    first: int
    rows: int
    fan: int


def as_it_is(value: Tensor) -> Tensor:
    """The value itself."""
    return value


@dataclass
class Notes:
    """What a step did, in the order of its calls.

    Args:
        enter: what is done to the values that a link hears before it hears them; `Tensor.detach` cuts credit there.
        nudge: makes the zero (P, B, N) that is added to a sum.
    """

    enter: Callable[[Tensor], Tensor] = as_it_is
    nudge: Callable[[Tensor], Tensor] = torch.zeros_like
    uses: list[Use] = field(default_factory=list)
    heard: list[Tensor] = field(default_factory=list)
    nudges: list[Tensor] = field(default_factory=list)

    def summed(self, use: Use, heard: Tensor, total: Tensor) -> Tensor:
        """Note one sum, nudged."""
        zero = self.nudge(total)
        self.uses.append(use)
        self.heard.append(heard)
        self.nudges.append(zero)
        return total + zero


class Tap:
    """A leaf (P, N, M) or (P, N) under observation; knows the three words and whole-row slices, and nothing else."""

    def __init__(self, weight: Tensor, leaf: str, first: int, notes: Notes, batch: int) -> None:
        self._weight, self._leaf, self._first, self._notes, self._batch = weight, leaf, first, notes, batch

    def linear(self, x: Tensor) -> Tensor:
        """W x."""
        heard = self._notes.enter(x)
        return self._notes.summed(self._use(x.shape[2]), x, torch.bmm(heard, self._weight.mT))

    def affine(self, x: Tensor, base: Tensor) -> Tensor:
        """W x + base."""
        heard = self._notes.enter(x)
        return self._notes.summed(self._use(x.shape[2]), x, torch.baddbmm(base, heard, self._weight.mT))

    def row(self) -> Tensor:
        """The values beside every sequence."""
        values = self._weight[:, None].expand(-1, self._batch, -1)
        return self._notes.summed(self._use(1), values.new_ones(*values.shape[:2], 1), values)

    def _use(self, fan: int) -> Use:
        return Use(self._leaf, self._first, self._weight.shape[1], fan)

    def __getitem__(self, key: Any) -> Tap:  # noqa: ANN401 (whatever a step may write)
        whole = isinstance(key, tuple) and len(key) == 2 and key[0] == slice(None) and isinstance(key[1], slice)
        if not whole or key[1].step not in (None, 1) or self._weight.dim() != 3:
            raise Unseen(self._leaf)
        first = self._first + key[1].indices(self._weight.shape[1])[0]
        return Tap(self._weight[key], self._leaf, first, self._notes, self._batch)

    def __getattr__(self, name: str) -> NoReturn:
        raise Unseen(self.__dict__["_leaf"])

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> NoReturn:  # noqa: ANN401
        taps = (each for each in tree_leaves((args, kwargs)) if isinstance(each, Tap))
        raise Unseen(next((tap._leaf for tap in taps), ""))


def _refused(tap: Tap, *_: object) -> NoReturn:
    raise Unseen(tap._leaf)


# fmt: off
BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift", "rshift")
OTHER = (
    "neg", "pos", "abs", "invert", "lt", "le", "gt", "ge", "eq", "ne", "len", "bool", "float", "int", "index", "iter",
    "contains", "setitem", "array",
)
# fmt: on
for word in (*BINARY, *(f"r{each}" for each in BINARY), *OTHER):
    setattr(Tap, f"__{word}__", _refused)  # Python looks these up in the class, past `__getattr__`


def tapped(weights: Weights, notes: Notes, batch: int, plain: Collection[str] = ()) -> Weights:
    """`weights` with a tap for every leaf that is not in `plain`."""
    taps = {name: w if name in plain else Tap(w, name, 0, notes, batch) for name, w in weights.items()}
    return cast(Weights, taps)
