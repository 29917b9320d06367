"""A network of a graph and a linear readout as plain PyTorch: source text that needs nothing of ours, and a state dict."""

from __future__ import annotations

import torch
from torch import Tensor

from evo_rnn.cells.equations import written
from evo_rnn.cells.graph import Graph, Node, X, diagonal, late
from evo_rnn.cells.plan import Slot
from evo_rnn.network import Linear, Network

HEAD = '''"""{title}

{equations}

    net = Champion()
    net.load_state_dict(torch.load("champion.pt", weights_only=True))
    outputs, state = net(inputs)            # (B, T, {inputs}) to (B, T, {outputs}); state goes into the next call
"""

import torch
from torch import nn
from torch.nn.functional import linear


class Champion(nn.Module):
    def __init__(self):
        super().__init__()
{parameters}

    def forward(self, inputs, state=None):
        state = inputs.new_zeros(len(inputs), {state}) if state is None else state
        outputs = []
        for x in inputs.unbind(1):
            state = self.step(x, state)
            outputs.append(linear(state[:, :{heard}], self.readout_weight, self.readout_bias))
        return torch.stack(outputs, 1), state

    def step(self, x, s):
{body}
'''


def plain_source(net: Network, title: str = "A network that was evolved.") -> str:
    """Python source of a `torch.nn.Module` that computes what `net` does.

    Raises:
        ValueError: if the network is not a graph with a linear readout.
    """
    graph, readout = _parts(net)
    sizes = {_parameter(leaf.name): leaf.shape for leaf in net.layout.leaves}
    parameters = [
        f"        self.{name} = nn.Parameter(torch.zeros({', '.join(map(str, shape))}))"
        for name, shape in sizes.items()
    ]
    return HEAD.format(
        title=title,
        equations="\n".join(f"    {line}" for line in written(graph).splitlines()),
        inputs=graph.inputs,
        outputs=readout.outputs,
        state=graph.state,
        heard=graph.outputs,
        parameters="\n".join(parameters),
        body="\n".join(f"        {line}" for line in _step(graph)),
    )


def plain_state(net: Network, genes: Tensor) -> dict[str, Tensor]:
    """The state dict of a chromosome (1, D)."""
    _parts(net)
    return {
        _parameter(name): value[0].detach().clone() for name, value in net.layout.unpack(torch.as_tensor(genes)).items()
    }


def _parts(net: Network) -> tuple[Graph, Linear]:
    if not isinstance(net.cell, Graph) or not isinstance(net.readout, Linear):
        raise ValueError(f"the network should be a graph with a linear readout but is {net}.")
    return net.cell, net.readout


def _parameter(leaf: str) -> str:
    return leaf.removeprefix("cell.").replace(".", "_").replace("@", "_at_")


def _now(source: str) -> str:
    return X if source == X else f"n_{source.replace('.', '_')}"


def _past(slot: Slot) -> str:
    return f"{_now(slot[0]) if slot[0] != X else 'n_x'}_{slot[1]}"


def _step(graph: Graph) -> list[str]:
    plan = graph.plan
    names = ", ".join(map(_past, plan.slots))
    lines = [f"{names}{',' * (len(plan.slots) == 1)} = s.split({list(plan.widths)}, 1)"]
    sums: dict[str, list[str]] = {}
    for group in plan.groups:
        terms = [f"linear({_value(slot)}, self.{_parameter(group.leaf(slot))})" for slot in group.slots]
        terms += [f"self.{_parameter(group.biases)}.expand(len(x), -1)"] if group.bias else []
        parts = [f"g_{name.replace('.', '_')}" for name in group.nodes]
        widths = [graph.width(name) for name in group.nodes]
        lines.append(f"{', '.join(parts)}{',' * (len(parts) == 1)} = ({' + '.join(terms)}).split({widths}, 1)")
        sums |= {name: [part] for name, part in zip(group.nodes, parts, strict=True)}
    for source, targets in plan.late.items():
        at = 0
        for target in targets:
            rows = f"self.{_parameter(late(source))}[{at}:{at + graph.width(target)}]"
            sums.setdefault(target, []).append(f"linear({_now(source)}, {rows})")
            at += graph.width(target)
    lines += [f"{_now(node.name)} = {_expression(node, sums.get(node.name, []))}" for node in plan.order]
    kept = [_now(source) if delay == 1 else _past((source, delay - 1)) for source, delay in plan.slots]
    return [*lines, f"return torch.cat([{', '.join(kept)}], 1)"]


def _value(slot: Slot) -> str:
    return _past(slot) if slot[1] else _now(slot[0])


def _expression(node: Node, sums: list[str]) -> str:
    if node.op == "const":
        return f"x.new_full((len(x), {node.width}), {node.shift!r})"
    terms = list(sums)
    for edge in node.edges:
        value = _value((edge.source, edge.delay))
        if edge.through == "plain":
            terms.append(value)
        elif edge.through == "diagonal":
            terms.append(f"self.{_parameter(diagonal(node, edge))} * {value}")
    if node.op == "mul":
        return " * ".join(terms)
    total = " + ".join([*terms, *([repr(node.shift)] if node.shift else [])])
    if node.op == "one_minus":
        return f"1 - ({total})"
    return f"torch.{node.op}({total})" if node.op in ("sigmoid", "tanh", "relu") else total
