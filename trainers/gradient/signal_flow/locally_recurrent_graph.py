"""The perceptron with IIR synapses as a signal-flow graph: each synapse is a direct-form filter of gains and delays."""

from __future__ import annotations

from collections.abc import Iterator

from trainers.gradient.signal_flow.graph import SignalFlowGraph
from trainers.gradient.signal_flow.locally_recurrent import IIRMLP, IIRLayer
from trainers.gradient.signal_flow.netlist import wired

Line = tuple[str, str]  # a node's name and its line in the netlist


def as_graph(net: IIRMLP) -> SignalFlowGraph:
    """The same network: its weights are `net`'s genes (P, D) in order; its last input is the constant one."""
    sources = [f"x[{m}]" for m in range(net.inputs)]
    lines: list[Line] = [(name, "input") for name in (*sources, "one")]
    for number, layer in enumerate(net.layers, 1):
        lines += _layer(layer, number, sources)
        sources = [f"h{number}[{n}]" for n in range(layer.units)]
    lines += [(f"out[{n}]", f"output {source}") for n, source in enumerate(sources)]
    return wired(**dict(lines))


def _layer(layer: IIRLayer, number: int, sources: list[str]) -> Iterator[Line]:
    """Gains in the order of genes (w, v, bias), then all that joins them."""
    synapses = [(n, m) for n in range(layer.units) for m in range(len(sources))]
    lags, echoes = range(layer.taps), range(1, layer.feedback + 1)
    for n, m in synapses:
        yield from (_gain(f"w{number}[{n},{m},{p}]", f"{sources[m]}{_lag(p)}") for p in lags)
    for n, m in synapses:
        yield from (_gain(f"v{number}[{n},{m},{p}]", f"y{number}[{n},{m}]{_lag(p)}") for p in echoes)
    yield from (_gain(f"b{number}[{n}]", "one") for n in range(layer.units))
    for source in sources:
        yield from _delays(source, layer.taps - 1)
    for n, m in synapses:
        yield from _delays(f"y{number}[{n},{m}]", layer.feedback)
        parts = [f"w{number}[{n},{m},{p}]" for p in lags] + [f"v{number}[{n},{m},{p}]" for p in echoes]
        yield f"y{number}[{n},{m}]", f"sum {' '.join(parts)}"
    for n in range(layer.units):
        parts = [f"y{number}[{n},{m}]" for m in range(len(sources))]
        yield f"s{number}[{n}]", f"sum {' '.join(parts)} b{number}[{n}]"
        yield f"h{number}[{n}]", f"function {layer.function} s{number}[{n}]"


def _gain(weight: str, source: str) -> Line:
    return weight, f"gain {weight} {source}"


def _delays(source: str, steps: int) -> Iterator[Line]:
    yield from ((f"{source}{_lag(p)}", f"delay {source}{_lag(p - 1)}") for p in range(1, steps + 1))


def _lag(steps: int) -> str:
    return f"(t-{steps})" if steps else ""
