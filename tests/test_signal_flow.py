"""Laws of signal-flow graphs, their adjoints, and the locally recurrent networks: each equals autograd where it claims to."""

from __future__ import annotations

import doctest
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter
from torch import Tensor

from evo_rnn.errors import ConfigError, DataError
from trainers.gradient import signal_flow
from trainers.gradient.signal_flow import (
    CRBP,
    FUNCTIONS,
    IIRMLP,
    IIRLayer,
    Node,
    OnlineAdjoint,
    SignalFlowGraph,
    as_graph,
    gradient,
    netlist,
    rbp,
    simulate,
    wired,
)
from trainers.gradient.signal_flow.filters import iir, impulse_response

EXACT = 1e-12
TORCH = {"tanh": torch.tanh, "logistic": torch.sigmoid, "relu": torch.relu, "sine": torch.sin, "identity": torch.clone}
Netlist = dict[str, str]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def relative(found: Tensor, true: Tensor) -> float:
    """Distance over the norm of the truth, which must be alive."""
    norm = float(true.norm())
    assert norm > 1e-3, "a dead reference proves nothing"
    return float((found - true).norm()) / norm


# --- graphs, on random wirings -------------------------------------------------------------------------------------------


@st.composite
def netlists(draw: st.DrawFn) -> Netlist:
    """Random wirings with shared and fixed weights, fan-out, parallel edges, self-loops and nested loops through delays."""
    inputs = [f"x{i}" for i in range(draw(st.integers(1, 2)))]
    parts = [f"n{i}" for i in range(draw(st.integers(3, 9)))]
    kinds = [draw(st.sampled_from(["gain", "sum", "function", "delay", "delay"])) for _ in parts]
    delays = [name for name, kind in zip(parts, kinds, strict=True) if kind == "delay"] + ["echo"]
    lines = dict.fromkeys(inputs, "input") | {"g": "gain w0 x0", "echo": "delay y"}
    for place, (name, kind) in enumerate(zip(parts, kinds, strict=True)):
        ready = st.sampled_from([*inputs, "g", *parts[:place], *delays])  # a delay may be fed by any, and feed any
        source = draw(st.sampled_from([*inputs, "g", *parts]) if kind == "delay" else ready)
        weight = draw(st.sampled_from(["w0", "w1", "w2", "-0.7", "0.4"]))
        others = " ".join(draw(st.lists(ready, max_size=2)))
        function = draw(st.sampled_from([*TORCH]))
        words = {"gain": f"{weight} {source}", "sum": f"{source} {others}", "function": f"{function} {source}"}
        lines[name] = f"{kind} {words.get(kind, source)}"
    used = {word for line in lines.values() for word in line.split()[1:]}
    loose = [name for name in lines if name not in used]
    lines["y"] = f"sum g {' '.join(loose)}"
    return lines | {"out": "output y", "other": f"output {draw(st.sampled_from(parts))}"}


def unrolled(lines: Netlist, names: tuple[str, ...], weights: Tensor, x: Tensor) -> Tensor:
    """An independent program, differentiable by torch: every signal by recursion from the lines. Outputs (P, B, T, O)."""
    inputs = [name for name, line in lines.items() if line == "input"]
    known: dict[tuple[str, int], Tensor] = {}

    def signal(name: str, t: int) -> Tensor:
        if t < 0:
            return torch.zeros(len(weights), len(x), dtype=x.dtype)
        if (name, t) not in known:
            known[name, t] = compute(lines[name].split(), name, t)
        return known[name, t]

    def compute(words: list[str], name: str, t: int) -> Tensor:
        match words:
            case ["input"]:
                return x[:, t, inputs.index(name)].expand(len(weights), -1)
            case ["gain", weight, source]:
                gain = weights[:, names.index(weight), None] if weight in names else float(weight)
                return gain * signal(source, t)
            case ["function", function, source]:
                return TORCH[function](signal(source, t))
            case ["delay", source]:
                return signal(source, t - 1)
        return torch.stack([signal(source, t) for source in words[1:]]).sum(dim=0)

    outputs = [name for name, line in lines.items() if line.startswith("output")]
    return torch.stack([torch.stack([signal(name, t) for t in range(x.shape[1])], -1) for name in outputs], -1)


def reference(lines: Netlist, graph: SignalFlowGraph, weights: Tensor, x: Tensor, seed: int) -> tuple[Tensor, ...]:
    """Autograd: outputs, ∂E/∂outputs, ∂E/∂weights and ∂E/∂inputs (B, T, I) of a random quadratic E."""
    weights, x = weights.clone().requires_grad_(), x.clone().requires_grad_()
    outputs = unrolled(lines, graph.weights, weights, x)
    outputs.retain_grad()
    (0.5 * (outputs - normal(*outputs.shape, seed=seed + 9)) ** 2).sum().backward()
    assert outputs.grad is not None
    assert weights.grad is not None
    assert x.grad is not None
    return outputs.detach(), outputs.grad, weights.grad, x.grad


@settings(max_examples=60, deadline=None)
@given(netlists(), st.integers(0, 1000))
def test_the_adjoint_graph_is_autograd_on_any_wiring_with_delays(lines: Netlist, seed: int) -> None:
    graph = wired(**lines)
    weights, x = 0.6 * normal(2, len(graph.weights), seed=seed), normal(2, 6, len(graph.names("input")), seed=seed + 1)
    outputs, error, by_weights, by_inputs = reference(lines, graph, weights, x, seed)
    assume(1e-3 < float(by_weights.norm()) < 1e12)
    run = simulate(graph, weights, x)
    found = gradient(graph, weights, run.signals, error)
    assert relative(run.outputs, outputs) <= EXACT
    assert relative(found.weights, by_weights) <= EXACT
    assert float((found.inputs.sum(dim=0) - by_inputs).norm()) <= EXACT * (1 + float(by_inputs.norm()))


@settings(max_examples=60, deadline=None)
@given(netlists())
def test_the_transpose_of_the_transpose_is_the_graph(lines: Netlist) -> None:
    graph = wired(**lines)
    adjoint = graph.transpose()
    assert adjoint != graph
    assert adjoint.names("output") == graph.names("input")
    assert adjoint.weights == graph.weights
    assert adjoint.transpose() == graph


LOOP = {  # two units in a ring with a self-loop, a delay of two, a shared weight and a fixed gain
    "x": "input",
    "u": "gain w x",
    "s": "sum u r p",
    "h": "function tanh s",
    "d": "delay h",
    "dd": "delay d",
    "r": "gain v d",
    "q": "gain v dd",
    "k": "function logistic q",
    "dk": "delay k",
    "p": "gain -0.8 dk",
    "y": "sum h k",
    "out": "output y",
}
STEPS = 9


def ring() -> tuple[SignalFlowGraph, Tensor, Tensor]:
    return wired(**LOOP), torch.tensor([[1.1, 0.9], [-0.7, 1.2]], dtype=torch.float64), normal(3, STEPS, 1, seed=4)


def online(rule: OnlineAdjoint, weights: Tensor, x: Tensor, error: Callable[[int, Tensor], Tensor]) -> Tensor:
    """The gradient of every step, (T, P, D), at fixed weights."""
    memory, found = rule.begin(weights, len(x)), []
    for t, now in enumerate(x.unbind(dim=1)):
        outputs, memory = rule.forward(weights, now, memory)
        slope, memory = rule.backward(weights, error(t, outputs), memory)
        found.append(slope)
    return torch.stack(found)


def true_steps(weights: Tensor, x: Tensor, last: int = 1) -> Tensor:
    """Autograd: at every t the gradient of the last few instantaneous errors, (T, P, D)."""
    weights = weights.clone().requires_grad_()
    outputs = unrolled(LOOP, ("w", "v"), weights, x)
    each = (0.5 * outputs**2).sum(dim=(0, 1, 3))
    sums = [each[max(t - last + 1, 0) : t + 1].sum() for t in range(STEPS)]
    return torch.stack([torch.autograd.grad(e, weights, retain_graph=True)[0] for e in sums])


@pytest.mark.parametrize("last", [1, 3])
@pytest.mark.parametrize("horizon", [STEPS - 1, STEPS, STEPS + 5])
def test_the_online_adjoint_over_the_whole_past_is_exact_at_every_step(horizon: int, last: int) -> None:
    graph, weights, x = ring()
    truth = true_steps(weights, x, last)
    found = online(OnlineAdjoint(graph, horizon, last), weights, x, lambda _, outputs: outputs)
    for t in range(STEPS):
        assert relative(found[t], truth[t]) <= EXACT


@pytest.mark.parametrize("horizon", [0, 1, 2])
def test_the_online_adjoint_over_a_short_past_is_another_gradient(horizon: int) -> None:
    """The negative control; the steps before the window is full are exact even so."""
    graph, weights, x = ring()
    truth, found = true_steps(weights, x), online(OnlineAdjoint(graph, horizon), weights, x, lambda _, y: y)
    assert relative(found[horizon], truth[horizon]) <= EXACT
    assert relative(found[-1], truth[-1]) > 1e-3
    assert relative(found.sum(dim=0), truth.sum(dim=0)) > 1e-3


def test_the_online_memory_is_fixed() -> None:
    graph, weights, x = ring()
    rule = OnlineAdjoint(graph, 2, 2)
    memory, sizes = rule.begin(weights, len(x)), []
    for now in x.unbind(dim=1):
        _, memory = rule.forward(weights, now, memory)
        sizes.append(sum(v.numel() for v in (*memory.signals.values(), *memory.state.values(), memory.errors)))
    assert sizes[2:] == [sizes[2]] * (STEPS - 2)
    assert sizes[0] < sizes[2]


def test_a_step_whose_target_is_missing_counts_as_no_error() -> None:
    graph, weights, x = ring()
    rule = OnlineAdjoint(graph, STEPS, 2)
    full = online(rule, weights, x, lambda t, y: y if t != 4 else torch.zeros_like(y))
    memory = rule.begin(weights, len(x))
    for t, now in enumerate(x.unbind(dim=1)):
        outputs, memory = rule.forward(weights, now, memory)
        if t != 4:
            slope, memory = rule.backward(weights, outputs, memory)
            torch.testing.assert_close(slope, full[t], rtol=EXACT, atol=EXACT)


def test_a_linear_graph_and_its_transpose_have_one_inner_product() -> None:
    """Interreciprocity: <e, G x> = <Gᵀ e, x>, without any derivative."""
    lines = LOOP | {"h": "gain 0.9 s", "k": "gain -1.1 q"}
    graph, x, error = wired(**lines), normal(3, STEPS, 1), normal(1, 3, STEPS, 1, seed=1)
    run = simulate(graph, weights := torch.tensor([[1.1, 0.5]], dtype=torch.float64), x)
    back = gradient(graph, weights, run.signals, error).inputs
    assert float((error * run.outputs).sum()) == pytest.approx(float((back * x).sum()), rel=EXACT)


def test_a_run_goes_on_from_its_state_as_if_it_had_never_stopped() -> None:
    graph, weights, x = ring()
    first = simulate(graph, weights, x[:, :4])
    second = simulate(graph, weights, x[:, 4:], first.state)
    assert torch.equal(torch.cat([first.outputs, second.outputs], dim=2), simulate(graph, weights, x).outputs)


def test_float32_stays_float32_and_near() -> None:
    graph, weights, x = ring()
    run = simulate(graph, weights.float(), x.float())
    found = gradient(graph, weights.float(), run.signals, run.outputs)
    truth = true_steps(weights, x).sum(dim=0)
    assert found.weights.dtype is torch.float32
    assert relative(found.weights.double(), truth) < 1e-5


@pytest.mark.parametrize("name", FUNCTIONS)
def test_beside_every_function_stands_its_derivative(name: str) -> None:
    a = normal(50).requires_grad_()
    value = FUNCTIONS[name].value(a)
    (true,) = torch.autograd.grad(value.sum() + 0 * a.sum(), a)
    torch.testing.assert_close(FUNCTIONS[name].slope(a.detach()), true, rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize("module", [netlist, signal_flow], ids=lambda module: module.__name__)
def test_the_examples_in_docstrings_run(module: ModuleType) -> None:
    done = doctest.testmod(module)
    assert done.failed == 0
    assert done.attempted > 1


# --- networks with IIR synapses ------------------------------------------------------------------------------------------

T = 13
NETS = {
    "one layer": IIRMLP(2, (IIRLayer(2, 3, 2),)),
    "two layers": IIRMLP(2, (IIRLayer(3, 3, 2), IIRLayer(2, 2, 1, "identity"))),
    "three layers": IIRMLP(1, (IIRLayer(2, 2, 3), IIRLayer(3, 1, 1, "logistic"), IIRLayer(2, 3, 2))),
    "temporal backpropagation (FIR)": IIRMLP(2, (IIRLayer(3, 4, 0), IIRLayer(2, 3, 0))),
    "backpropagation (static)": IIRMLP(2, (IIRLayer(3, 1, 0), IIRLayer(2, 1, 0))),
    "longer than the sequence": IIRMLP(1, (IIRLayer(2, T + 2, 1), IIRLayer(1, 2, T + 3))),
}
every_net = pytest.mark.parametrize("net", NETS.values(), ids=NETS)


def problem(net: IIRMLP) -> tuple[Tensor, Tensor, Tensor]:
    """Genes (P, D) of three networks whose filters remember, inputs (B, T, I), targets (B, T, O)."""
    genes = 0.6 * normal(3, net.layout.size)
    for leaf, start, end in net.layout.spans():
        if leaf.name.endswith("feedback"):
            genes[:, start:end] = 0.9 / max(leaf.shape[-1], 1) * torch.tanh(3 * genes[:, start:end])
    return genes, normal(4, T, net.inputs, seed=1), normal(4, T, net.layers[-1].units, seed=2)


def by_autograd(net: IIRMLP, genes: Tensor, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """An independent program in the words of equations (1)-(3), one number at a time: outputs (P, B, T, O), ∂E/∂genes."""
    genes = genes.clone().requires_grad_()
    signals = [[x[None, :, t, m].expand(len(genes), -1) for t in range(T)] for m in range(net.inputs)]
    for layer, (w, v, bias) in zip(net.layers, net.weights(genes), strict=True):
        after = []
        for n in range(layer.units):
            s = [bias[:, n, None].expand(-1, len(x)) for _ in range(T)]
            for m, source in enumerate(signals):
                y: list[Tensor] = []
                for t in range(T):
                    forward = [w[:, n, m, p, None] * source[t - p] for p in range(layer.taps) if p <= t]
                    back = [v[:, n, m, p - 1, None] * y[t - p] for p in range(1, layer.feedback + 1) if p <= t]
                    y.append(torch.stack(forward + back).sum(dim=0))
                    s[t] = s[t] + y[t]
            after.append([TORCH[layer.function](now) for now in s])
        signals = after
    outputs = torch.stack([torch.stack(signal, dim=-1) for signal in signals], dim=-1)
    (slope,) = torch.autograd.grad((0.5 * (outputs - target) ** 2).sum(), genes)
    return outputs.detach(), slope


def by_crbp(
    net: IIRMLP, horizon: int | tuple[int, ...], genes: Tensor, x: Tensor, target: Tensor, *, finish: bool = True
) -> Tensor:
    """The sum of CRBP's shares over a stream, at fixed genes."""
    rule = CRBP(net, horizon if isinstance(horizon, tuple) else (horizon,) * (len(net.layers) - 1))
    memory, total = rule.begin(genes, len(x)), torch.zeros_like(genes)
    for t in range(T):
        outputs, memory = rule.forward(genes, x[:, t], memory)
        share, memory = rule.backward(genes, outputs - target[:, t], memory)
        total += share
    return total + rule.finish(genes, memory) if finish else total


@every_net
def test_rbp_is_autograd(net: IIRMLP) -> None:
    genes, x, target = problem(net)
    true_outputs, truth = by_autograd(net, genes, x, target)
    outputs, runs = net.run(genes, x)
    found = rbp(net, genes, runs, outputs - target)
    assert relative(outputs, true_outputs) <= EXACT
    for row in range(len(genes)):
        assert relative(found[row], truth[row]) <= EXACT


@every_net
def test_crbp_that_waits_for_the_end_is_rbp(net: IIRMLP) -> None:
    genes, x, target = problem(net)
    outputs, runs = net.run(genes, x)
    truth = rbp(net, genes, runs, outputs - target)
    for row in range(len(genes)):
        assert relative(by_crbp(net, T, genes, x, target)[row], truth[row]) <= EXACT


@pytest.mark.parametrize("horizon", [0, 1, 2, 5])
def test_crbp_is_exact_in_the_output_layer_and_cut_below(horizon: int) -> None:
    """The negative control: a short horizon must differ in the hidden layers, and only there."""
    net = NETS["three layers"]
    genes, x, target = problem(net)
    _, truth = by_autograd(net, genes, x, target)
    found = by_crbp(net, horizon, genes, x, target)
    spans = {leaf.name: slice(start, end) for leaf, start, end in net.layout.spans()}
    for name, span in spans.items():
        error = relative(found[:, span], truth[:, span])
        assert error <= EXACT if name.startswith("3.") else error > 1e-3, name


def test_crbp_nears_rbp_as_its_horizon_grows() -> None:
    net = NETS["two layers"]
    genes, x, target = problem(net)
    _, truth = by_autograd(net, genes, x, target)
    errors = [relative(by_crbp(net, q, genes, x, target), truth) for q in (0, 4, 8, T)]
    assert errors[0] > 10 * errors[2] > 0
    assert errors[3] <= EXACT


def test_a_horizon_of_the_taps_is_enough_without_feedback_and_no_less() -> None:
    """Temporal backpropagation: finite responses of three taps end after two steps."""
    net = NETS["temporal backpropagation (FIR)"]
    genes, x, target = problem(net)
    _, truth = by_autograd(net, genes, x, target)
    assert relative(by_crbp(net, 2, genes, x, target), truth) <= EXACT
    assert relative(by_crbp(net, 1, genes, x, target), truth) > 1e-3
    assert relative(by_crbp(net, 2, genes, x, target, finish=False), truth) > 1e-3


def test_each_layer_waits_for_the_layers_above_it_by_its_own_horizon() -> None:
    """Finite responses of 5 and 2 taps end after 4 and 1 steps; the same two numbers the other way round cut credit."""
    net = IIRMLP(1, (IIRLayer(2, 2, 0), IIRLayer(2, 5, 0), IIRLayer(1, 2, 0)))
    genes, x, target = problem(net)
    _, truth = by_autograd(net, genes, x, target)
    assert CRBP(net, (4, 1)).delays == (5, 1, 0)
    assert relative(by_crbp(net, (4, 1), genes, x, target), truth) <= EXACT
    assert relative(by_crbp(net, (1, 4), genes, x, target), truth) > 1e-3


def test_feedback_taps_of_zero_make_it_the_network_without() -> None:
    fir, wide = NETS["temporal backpropagation (FIR)"], IIRMLP(2, (IIRLayer(3, 4, 2), IIRLayer(2, 3, 2)))
    genes, x, target = problem(fir)
    parts = [w._replace(v=torch.zeros(*w.w.shape[:3], 2, dtype=torch.float64)) for w in fir.weights(genes)]
    same = wide.pack(parts)
    outputs, runs = wide.run(same, x)
    found = wide.weights(rbp(wide, same, runs, outputs - target))
    truth = fir.weights(by_autograd(fir, genes, x, target)[1])
    for layer, true in zip(found, truth, strict=True):
        assert relative(layer.w, true.w) <= EXACT
        assert relative(layer.bias, true.bias) <= EXACT
        assert float(layer.v.norm()) > 1e-3


@pytest.mark.parametrize("name", ["one layer", "two layers", "three layers", "backpropagation (static)"])
def test_the_network_as_a_graph_has_the_same_outputs_and_gradient(name: str) -> None:
    net = NETS[name]
    genes, x, target = problem(net)
    outputs, truth = by_autograd(net, genes, x, target)
    graph = as_graph(net)
    run = simulate(graph, genes, torch.cat([x, torch.ones_like(x[..., :1])], dim=2))
    assert relative(run.outputs, outputs) <= EXACT
    assert relative(gradient(graph, genes, run.signals, run.outputs - target).weights, truth) <= EXACT


def test_a_synapse_is_the_filter_of_scipy() -> None:
    w, v, x = normal(1, 2, 3, 4), 0.3 * normal(1, 2, 3, 2, seed=1), normal(1, 5, 40, 1, 3, seed=2)
    found = iir(w, v, x)
    for n in range(2):
        for m in range(3):
            poles = [1.0, *(-v[0, n, m]).tolist()]
            truth = torch.from_numpy(lfilter(w[0, n, m].numpy(), poles, x[0, :, :, 0, m].numpy(), axis=1))
            assert relative(found[0, :, :, n, m], truth) <= EXACT
    pulse = [1.0] + [0.0] * 19
    truth = torch.from_numpy(lfilter(w[0, 1, 2].numpy(), [1.0, *(-v[0, 1, 2]).tolist()], pulse))
    assert relative(impulse_response(w, v, 20)[0, :, 1, 2], truth) <= EXACT


def test_rows_of_a_population_do_not_feel_each_other() -> None:
    net = NETS["two layers"]
    genes, x, target = problem(net)
    together = by_crbp(net, 3, genes, x, target)
    torch.testing.assert_close(together[1:2], by_crbp(net, 3, genes[1:2], x, target), rtol=EXACT, atol=EXACT)


def learn(rule: CRBP | OnlineAdjoint, genes: Tensor, *, constant: bool) -> tuple[float, float]:
    """Identify an unknown filter from a stream, genes changed at every step: the error at first and at last."""
    x = normal(8, 300, 1, seed=5)
    target = torch.from_numpy(lfilter([0.5, 0.3], [1, -0.6], x.numpy(), axis=1))
    inputs = torch.cat([x, torch.ones_like(x)], dim=2) if constant else x
    memory: Any = rule.begin(genes, len(x))
    errors: list[float] = []
    for now, wanted in zip(inputs.unbind(dim=1), target.unbind(dim=1), strict=True):
        outputs, memory = rule.forward(genes, now, memory)
        share, memory = rule.backward(genes, (outputs - wanted) / len(x), memory)
        genes = genes - 0.05 * share
        errors.append(float(((outputs - wanted) ** 2).mean()))
    return sum(errors[:50]) / 50, sum(errors[-50:]) / 50


def test_both_learn_from_a_stream_with_weights_changed_at_every_step() -> None:
    net = IIRMLP(1, (IIRLayer(2, 2, 1), IIRLayer(1, 1, 1, "identity")))
    genes = torch.from_numpy(net.layout.draw(np.random.default_rng(0), 1)).double()
    for first, last in (
        learn(CRBP(net, (4,)), genes, constant=False),
        learn(OnlineAdjoint(as_graph(net), 4), genes, constant=True),
    ):
        assert last < first / 3


# --- bad input -----------------------------------------------------------------------------------------------------------


def test_a_loop_without_delay_is_refused_by_the_names_of_its_nodes() -> None:
    with pytest.raises(
        ConfigError, match=r"every loop should hold a delay but .*s -> .* holds none\. Put a delay in it\."
    ):
        wired(x="input", s="sum x r", h="function tanh s", r="gain v h", y="output h")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            {"x": "input", "h": "function sigmund x", "y": "output h"},
            "function should be one of identity, .* 'sigmund'",
        ),
        ({"x": "input", "h": "amplifier x", "y": "output h"}, "line 'h' should begin with one of"),
        ({"x": ""}, "line 'x' should begin with one of"),
        ({"x": "input", "h": "gain x", "y": "output h"}, "line 'h' should read 'gain <name> <source>'"),
        ({"x": "input", "h": "gain nan x", "y": "output h"}, "gain 'h' should have .* a finite number but has nan"),
        ({"x": "input", "y": "output z"}, "'z' is none"),
        ({"x": "input", "d": "delay x", "y": "output x"}, "delay 'd' should have 1 edges out but has 0"),
        ({"x": "input", "d": "delay x x", "y": "output d"}, "delay 'd' should have 1 edges in but has 2"),
        ({"x": "input", "s": "sum", "y": "output s", "z": "output x"}, "sum 's' should have one or more edges in"),
        (
            {"x": "input", "a": "advance x", "d": "delay a", "y": "output d"},
            "forward or back in time but has nodes for both",
        ),
    ],
)
def test_a_wrong_netlist_is_refused_with_its_cure(lines: Netlist, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        wired(**lines)
    assert "\n" not in str(caught.value)


def test_two_nodes_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="'x' comes twice"):
        SignalFlowGraph((Node("x", "input"), Node("x", "output")), (("x", "x"),))


def test_negative_horizons_and_empty_windows_are_refused() -> None:
    graph, net = ring()[0], NETS["two layers"]
    with pytest.raises(ConfigError, match="horizon should be 0 steps back or more but is -1"):
        OnlineAdjoint(graph, -1)
    with pytest.raises(ConfigError, match=r"errors should be 1 to horizon \+ 1 = 3 steps but is 4"):
        OnlineAdjoint(graph, 2, 4)
    with pytest.raises(ConfigError, match="graph should run forward"):
        OnlineAdjoint(graph.transpose(), 2)
    with pytest.raises(ConfigError, match=r"horizons should be 1 numbers, 0 or more, but are \(-2,\)"):
        CRBP(net, (-2,))
    with pytest.raises(ConfigError, match="horizons should be 1 numbers"):
        CRBP(net, (2, 2))


def test_layers_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="units, taps and feedback should be at least 1, 1 and 0 but are 2, 0 and 1"):
        IIRLayer(2, 0, 1)
    with pytest.raises(ConfigError, match="function should be one of"):
        IIRLayer(2, 1, 1, "sigmund")
    with pytest.raises(ConfigError, match="should have an input and a layer"):
        IIRMLP(1, ())


def test_wrong_shapes_are_refused() -> None:
    graph, weights, x = ring()
    run = simulate(graph, weights, x)
    rule, net = OnlineAdjoint(graph, 2), NETS["two layers"]
    genes, inputs, _ = problem(net)
    causal, memory = CRBP(net, (3,)), rule.begin(weights, 3)
    _, after = causal.forward(genes, inputs[:, 0], causal.begin(genes, 4))
    bad: list[tuple[str, Callable[[], object]]] = [
        (r"weights should have shape \(P, 2\)", lambda: simulate(graph, weights[:, :1], x)),
        (r"inputs should have shape \(B, T, 1\)", lambda: simulate(graph, weights, x[..., 0])),
        (
            r"error should have shape \(2, B, 9, 1\)",
            lambda: gradient(graph, weights, run.signals, run.outputs[:, :, 1:]),
        ),
        (r"x should have shape \(3, 1\)", lambda: rule.forward(weights, x[:2, 0], memory)),
        ("no step was made", lambda: rule.backward(weights, run.outputs[:, :, 0], memory)),
        (r"x should have shape \(B, T, 2\)", lambda: net.run(genes, inputs[..., :1])),
        (r"genes should have shape \(P, 53\)", lambda: net.run(genes[:, :3], inputs)),
        (r"error should have shape \(3, 4, 13, 2\)", lambda: rbp(net, genes, net.run(genes, inputs)[1], inputs)),
        (r"x should have shape \(4, 2\)", lambda: causal.forward(genes, inputs, causal.begin(genes, 4))),
        (r"error should have shape \(3, 4, 2\)", lambda: causal.backward(genes, inputs, after)),
        ("no step waits for it", lambda: causal.backward(genes, inputs[:, 0], causal.begin(genes, 4))),
        ("should come after every forward", lambda: causal.forward(genes, inputs[:, 1], after)),
        ("simulate should get a graph that runs forward", lambda: simulate(graph.transpose(), weights, x)),
    ]
    for message, attempt in bad:
        with pytest.raises(ValueError, match=message) as caught:
            attempt()
        assert "\n" not in str(caught.value)


def test_numbers_that_are_none_are_refused_with_their_place() -> None:
    graph, weights, x = ring()
    net = NETS["two layers"]
    genes, inputs, target = problem(net)
    x[1, 3, 0] = inputs[0, 2, 1] = torch.nan
    causal = CRBP(net, (3,))
    bad: list[tuple[str, Callable[[], object]]] = [
        (r"inputs should be finite but is nan at \[1, 3, 0\]", lambda: simulate(graph, weights, x)),
        (r"x should be finite but is nan at \[0, 2, 1\]", lambda: net.run(genes, inputs)),
        (
            r"x should be finite but is nan at \[0, 1\]",
            lambda: causal.forward(genes, inputs[:, 2], causal.begin(genes, 4)),
        ),
        (
            "error should be finite but is inf",
            lambda: rbp(net, genes, net.run(genes, target)[1], target.expand(3, -1, -1, -1).abs() / 0),
        ),
    ]
    for message, attempt in bad:
        with pytest.raises(DataError, match=message):
            attempt()
