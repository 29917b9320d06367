"""The multilayer perceptron with IIR synapses, a locally recurrent network (Back & Tsoi 1991, Neural Computation 3).

In the notation of Campolucci, Uncini, Piazza & Rao 1999, On-line learning algorithms for locally recurrent neural networks,
IEEE Transactions on Neural Networks 10:

    (1)  y_nm[t] = Σ_{p=0}^{L-1} w_nm(p) x_m[t-p] + Σ_{p=1}^{I} v_nm(p) y_nm[t-p]      the synapse from unit m to unit n
    (2)  s_n[t] = b_n + Σ_m y_nm[t]
    (3)  x_n[t] = f(s_n[t])                                                            the layer's output

Without feedback (I = 0) it is the FIR network of temporal backpropagation; with L = 1 besides, the usual perceptron.
Equations are numbered in this package, not as in the paper: (1)-(3) here, (4)-(7) in rbp.py, (8)-(9) in crbp.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from torch import Tensor

from evo_rnn.errors import ConfigError
from evo_rnn.layout import Layout, Leaf, units, vector
from evo_rnn.shapes import check_shape
from trainers.gradient.signal_flow.filters import iir
from trainers.gradient.signal_flow.functions import function
from trainers.gradient.signal_flow.simulation import check_finite


@dataclass(frozen=True)
class IIRLayer:
    """One layer.

    Args:
        units: n.
        taps: L, from the present input to the one L - 1 steps ago.
        feedback: I, from the synapse's last output to the one I steps ago; 0 for finite responses.
        function: f by name.
    """

    units: int
    taps: int
    feedback: int
    function: str = "tanh"

    def __post_init__(self) -> None:
        if self.units < 1 or self.taps < 1 or self.feedback < 0:
            came = f"{self.units}, {self.taps} and {self.feedback}"
            raise ConfigError(
                f"units, taps and feedback should be at least 1, 1 and 0 but are {came}. Raise the low one."
            )
        function(self.function)


class LayerWeights(NamedTuple):
    """w (P, n, m, L), v (P, n, m, I), bias (P, n)."""

    w: Tensor
    v: Tensor
    bias: Tensor


class LayerRun(NamedTuple):
    """What a layer did: its inputs x (P, B, T, m), its synapses' y (P, B, T, n, m), its units' s (P, B, T, n)."""

    x: Tensor
    y: Tensor
    s: Tensor


@dataclass(frozen=True)
class IIRMLP:
    """A multilayer perceptron with an IIR filter in every synapse.

    Args:
        inputs: I.
        layers: M of them, the first one next to the inputs.
    """

    inputs: int
    layers: tuple[IIRLayer, ...]

    def __post_init__(self) -> None:
        if self.inputs < 1 or not self.layers:
            raise ConfigError(
                f"a network should have an input and a layer but has {self.inputs} and {len(self.layers)}."
            )

    @cached_property
    def layout(self) -> Layout:
        """Where each weight lies in genes (P, D): per layer w, v, bias."""
        leaves: list[Leaf] = []
        sources = units("x", self.inputs)
        for number, layer in enumerate(self.layers, 1):
            targets = units(f"h{number}", layer.units)
            fan_in = 1 / (len(sources) * layer.taps) ** 0.5
            leaves.append(_taps(f"{number}.feedforward", targets, sources, range(layer.taps), fan_in))
            echoes = [f"y{number}[{source}]" for source in sources]
            stable = 0.5 / max(layer.feedback, 1)  # Σ_p |v_p| <= 1/2: every filter begins stable
            leaves.append(_taps(f"{number}.feedback", targets, echoes, range(1, layer.feedback + 1), stable))
            leaves.append(vector(f"{number}.bias", targets, ["one"], -0.5, 0.5))
            sources = targets
        return Layout(tuple(leaves))

    def weights(self, genes: Tensor) -> tuple[LayerWeights, ...]:
        """Each layer's weights in chromosomes (P, D)."""
        parts = self.layout.unpack(genes)
        numbers = range(1, len(self.layers) + 1)
        return tuple(
            LayerWeights(*(parts[f"{n}.{leaf}"] for leaf in ("feedforward", "feedback", "bias"))) for n in numbers
        )

    def pack(self, layers: list[LayerWeights]) -> Tensor:
        """Chromosomes (P, D), or their gradient, of each layer's weights."""
        named = zip(self.layout.leaves, (leaf for layer in layers for leaf in layer), strict=True)
        return self.layout.pack({leaf.name: value for leaf, value in named})

    def run(self, genes: Tensor, x: Tensor) -> tuple[Tensor, tuple[LayerRun, ...]]:
        """Outputs (P, B, T, O) of chromosomes (P, D) on inputs x (B, T, I) from rest, and what each layer did.

        Raises:
            ValueError: if a shape is wrong.
            DataError: if an input is not a finite number.
        """
        check_shape(x, "x", ("B", "T", self.inputs), "One column an input.")
        check_finite(x, "x")
        x = x.expand(len(genes), *x.shape)
        runs = []
        for layer, (w, v, bias) in zip(self.layers, self.weights(genes), strict=True):
            y = iir(w, v, x[..., None, :])  # (1)
            s = bias[:, None, None] + y.sum(dim=-1)  # (2)
            runs.append(LayerRun(x, y, s))
            x = function(layer.function).value(s)  # (3)
        return x, tuple(runs)


def _taps(name: str, targets: Sequence[str], sources: Sequence[str], lags: range, bound: float) -> Leaf:
    """A leaf (n, m, number of lags), whose sources are named by unit and lag."""
    named = tuple(f"{source}(t-{lag})" for source in sources for lag in lags)
    return Leaf(name, (len(targets), len(sources), len(lags)), tuple(targets), named, -bound, bound)
