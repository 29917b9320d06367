"""Running a signal-flow graph through time, and its transpose back through time: the gradient without a tape.

Wan & Beaufays 1996: with a(k) the signal that enters a gain w in the graph, and δ(k) the signal that enters the same gain
in the adjoint graph driven by ∂E/∂output,   ∂E/∂w = Σ_k δ(k) a(k).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from evo_rnn.errors import ConfigError, DataError
from evo_rnn.shapes import check_shape
from trainers.gradient.signal_flow.functions import function
from trainers.gradient.signal_flow.graph import HOLDS, Node, SignalFlowGraph

Signals = Mapping[str, Tensor]  # by node
NONE: Signals = MappingProxyType({})


class Run(NamedTuple):
    """What a graph did: outputs (P, B, T, O); signals (P, B, T) that entered gains and functions; what delays hold (P, B)."""

    outputs: Tensor
    signals: Signals
    state: Signals


class Gradient(NamedTuple):
    """∂E/∂weights (P, D), summed over sequences and steps; and ∂E/∂inputs (P, B, T, I)."""

    weights: Tensor
    inputs: Tensor


def simulate(graph: SignalFlowGraph, weights: Tensor, inputs: Tensor, state: Signals = NONE) -> Run:
    """Run P copies of `graph` with weights (P, D) on inputs (B, T, I), from rest or on from a former run's `state`.

    Raises:
        ConfigError: if `graph` is an adjoint.
        ValueError: if a shape is wrong.
        DataError: if an input is not a finite number.
    """
    if graph.backward:
        raise ConfigError("simulate should get a graph that runs forward but got an adjoint. Use gradient() for that.")
    check_shape(weights, "weights", ("P", len(graph.weights)), "One column a name in graph.weights.")
    check_shape(inputs, "inputs", ("B", "T", len(graph.names("input"))), "One column an input node.")
    check_finite(inputs, "inputs")
    return _sweep(graph, weights, inputs.expand(len(weights), *inputs.shape), state, NONE)


def gradient(graph: SignalFlowGraph, weights: Tensor, signals: Signals, error: Tensor) -> Gradient:
    """∂E/∂weights and ∂E/∂inputs by the adjoint graph, from a run's `signals` and error (P, B, T, O) = ∂E/∂outputs.

    Raises:
        ValueError: if `error` has not the shape of the outputs.
        DataError: if an error is not a finite number.
    """
    length = [next(iter(signals.values())).shape[-1]] if signals else ["T"]
    check_shape(error, "error", (len(weights), "B", *length, len(graph.names("output"))), "Its shape is the outputs'.")
    check_finite(error, "error")
    adjoint = graph.transpose()
    slopes = {n.name: function(str(n.of)).slope(signals[n.name]) for n in adjoint.nodes if n.kind == "slope"}
    back = _sweep(adjoint, weights, error, NONE, slopes)
    total = dict.fromkeys(graph.weights, weights.new_zeros(len(weights)))
    for node in graph.nodes:
        if node.kind == "gain" and isinstance(node.of, str):  # ∂E/∂w = Σ_k δ(k) a(k), over all gains that share w
            total[node.of] = total[node.of] + (back.signals[node.name] * signals[node.name]).sum(dim=(1, 2))
    return Gradient(torch.stack([*total.values()], dim=1) if total else torch.zeros_like(weights), back.outputs)


def check_finite(values: Tensor, name: str) -> None:
    """Raise DataError if a value is infinite or not a number."""
    if not bool(torch.isfinite(values).all()):
        where = tuple((~torch.isfinite(values)).nonzero()[0].tolist())
        cure = "Mend or drop that step, or lower the rate."
        raise DataError(f"{name} should be finite but is {float(values[where])} at {list(where)}. {cure}")


@torch.no_grad()
def _sweep(graph: SignalFlowGraph, weights: Tensor, drive: Tensor, state: Signals, slopes: Signals) -> Run:
    """Step after step; an adjoint graph goes from the last to the first, where its advances are delays."""
    people, batch, length, _ = drive.shape
    rest = drive.new_zeros(people, batch)
    held = {node.name: state.get(node.name, rest) for node in graph.nodes if node.kind in HOLDS}
    column = {name: weights[:, index, None] for index, name in enumerate(graph.weights)}
    entered: dict[str, list[Tensor]] = {n.name: [] for n in graph.nodes if n.kind in ("gain", "function")}
    outputs = []
    order = slice(None, None, -1 if graph.backward else 1)
    for t in range(length)[order]:
        slopes_now = {name: slope[:, :, t] for name, slope in slopes.items()}
        wire = dict(zip(graph.names("input"), drive[:, :, t].unbind(dim=2), strict=True)) | held
        for node, sources in graph.plan:
            if node.name not in wire:
                enters = sum((wire[source] for source in sources[1:]), start=wire[sources[0]])
                wire[node.name] = _leaves(node, enters, column, slopes_now)
                if node.name in entered:
                    entered[node.name].append(enters)
        held = {node.name: wire[sources[0]] for node, sources in graph.plan if node.kind in HOLDS}
        outputs.append(torch.stack([wire[name] for name in graph.names("output")], dim=2))
    signals = {name: torch.stack(steps[order], dim=2) for name, steps in entered.items() if steps}
    return Run(torch.stack(outputs[order], dim=2), signals, held)


def _leaves(node: Node, enters: Tensor, column: Signals, slopes: Signals) -> Tensor:
    """The signal (P, B) that leaves a node."""
    if node.kind == "gain":
        return enters * (column[node.of] if isinstance(node.of, str) else node.of)
    if node.kind == "function":
        return function(str(node.of)).value(enters)
    if node.kind == "slope":
        return enters * slopes[node.name]
    return enters  # sum, branch, output
