"""A step under trial: conditions on what it is given are decided for it, so that what they hide at most values is seen.

An episode that begins where an input equals one, or a gate that opens beyond four, is met at no random point. Here the
digits of the point's number decide: the k-th comparison (or relu) of the step is true at every point whose k-th digit is 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

FEW = 5  # conditions: all of their outcomes together are met among 2**FEW points
# fmt: off
MOVED = {
    "view", "_unsafe_view", "reshape", "expand", "cat", "stack", "split", "split_with_sizes", "slice", "select",
    "transpose", "permute", "t", "unsqueeze", "squeeze", "chunk", "unbind", "clone", "detach", "alias", "_to_copy",
    "zeros_like", "ones_like", "new_ones", "new_zeros", "new_empty", "empty_like", "zeros", "ones", "full", "arange",
    "scalar_tensor", "roll", "flip", "narrow", "where", "copy", "lift_fresh", "repeat",
}
SMOOTH = {
    "tanh", "sigmoid", "mul", "add", "sub", "rsub", "div", "neg", "exp", "expm1", "log", "log1p", "sin", "cos", "sqrt",
    "rsqrt", "reciprocal", "square", "pow", "softplus", "silu", "gelu", "elu", "leaky_relu", "abs", "sign", "floor",
    "round", "erf", "addcmul", "addcdiv", "lerp", "bmm", "mm", "addmm", "baddbmm", "sum", "mean", "_softmax",
    "_log_softmax",
}
ASKED = {
    "relu", "eq", "ne", "lt", "le", "gt", "ge", "logical_not", "logical_and", "logical_or", "logical_xor",
    "bitwise_not", "bitwise_and", "bitwise_or", "bitwise_xor",
}
# fmt: on
OPEN = MOVED | SMOOTH | ASKED  # a derivative through these that is zero at all points is zero everywhere


class Decided(TorchDispatchMode):
    """Decides inside a `with`, and notes whether anything could stay hidden.

    Args:
        given: what conditions may depend on.
        points: (P, B) the numbers of the points; from 2**FEW on, every entry is decided by chance.
    """

    def __init__(self, given: Iterable[Tensor], points: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._given: dict[int, Tensor] = {}
        self._points, self._random = points, torch.Generator().manual_seed(int(points[0, 0]))
        self._decisions, self._open = 0, True
        for each in given:
            self._follow(each)

    @property
    def shows_all(self) -> bool:
        """Whether the step is made of functions that hide nothing, and of few conditions."""
        return self._open and self._decisions <= FEW

    def _follow(self, value: Tensor) -> None:
        self._given[value.untyped_storage().data_ptr()] = value  # kept, so that its place is not used again

    def _heads(self, shape: torch.Size) -> Tensor:
        """The next decision, for values that begin with the points' axes."""
        chance = torch.rand(shape, generator=self._random) < 0.5
        if shape[:2] != self._points.shape:
            self._open = False
            return chance
        points = self._points.view(*self._points.shape, *[1] * (len(shape) - 2))
        digit = (points >> self._decisions) % 2 == 1
        self._decisions += 1
        return torch.where(points < 2**FEW, digit, chance)

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401 (an operation of torch)
        types: Any,  # noqa: ANN401
        args: Any = (),  # noqa: ANN401
        kwargs: Any = None,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """The operation, or a decision in place of what it would find."""
        values = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        known = any(each.untyped_storage().data_ptr() in self._given for each in values)
        out = func(*args, **(kwargs or {}))
        if not known:
            return out
        name = func.overloadpacket.__name__.removesuffix("_")
        asks = any(each.is_floating_point() for each in values) and name != "where"
        self._open = self._open and name in OPEN
        for each in tree_leaves(out):
            if isinstance(each, Tensor):
                if name == "relu":  # autograd asks what came out of it
                    each.copy_(self._heads(each.shape) * (each + 1))
                elif each.dtype == torch.bool and asks:
                    each.copy_(self._heads(each.shape))
                self._follow(each)
        return out
