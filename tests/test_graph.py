"""Cells as graphs: the cells of the literature are points of the space, and every graph computes what its equations say."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

import numpy as np
import pytest
import torch
import torchrecurrent
from torch import Tensor, nn

from evo_rnn.cells import GRU, LSTM, Edge, Graph, Node
from evo_rnn.cells.equations import parsed, written
from evo_rnn.cells.graph import OPERATIONS
from evo_rnn.cells.named_graphs import GRAPHS, graph
from evo_rnn.cells.plain_torch import plain_source, plain_state
from evo_rnn.description import build, describe
from evo_rnn.errors import ConfigError
from evo_rnn.fitness import LOSSES, Batch
from evo_rnn.network import Identity, Network, network
from populations.topology.mutations import Space
from populations.topology.settings import Rates, mutated
from tests.cell_examples import assert_close
from trainers.gradient import ESTIMATORS, slope

I, H, B, T = 3, 4, 3, 20  # noqa: E741
every_point = pytest.mark.parametrize("name", GRAPHS)


def inputs(width: int = I) -> Tensor:
    return torch.tensor(np.random.default_rng(1).normal(size=(B, T, width)))


def filled(cell: Graph, blocks: dict[tuple[str, str], Tensor]) -> Tensor:
    """Chromosome (1, D) of `cell` alone, from weights by (target node, source as genes name it)."""
    net = Network(cell, Identity(cell.outputs))
    genes = torch.zeros(1, net.layout.size, dtype=torch.float64)
    for place, link in enumerate(net.layout.links()):
        target, _, row = link.target.removeprefix("cell.").partition("[")
        source, _, column = link.source.removeprefix("cell.").partition("[")
        block = blocks[target, source]
        genes[0, place] = block[int(row[:-1]), int(column[:-1])] if block.dim() == 2 else block[int(row[:-1])]
    return genes


def outputs(cell: Graph, blocks: dict[tuple[str, str], Tensor], x: Tensor) -> Tensor:
    return Network(cell, Identity(cell.outputs)).predict(filled(cell, blocks), x)[0]


def gates(names: str, weights: dict[str, Tensor]) -> dict[tuple[str, str], Tensor]:
    """W_ih, W_hh and both biases of torch, gate by gate."""
    found = {}
    parts = {key: value.detach().double().chunk(len(names)) for key, value in weights.items()}
    for k, name in enumerate(names):
        found[name, "x"] = parts["weight_ih"][k]
        found[name, "h"] = parts["weight_hh"][k]
        found[name, "one"] = parts["bias_ih"][k] + parts["bias_hh"][k]
    return found


def of_torch(layer: nn.Module) -> dict[str, Tensor]:
    return {name.removesuffix("_l0"): value for name, value in layer.named_parameters()}


# --- the cells of the literature ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "kind", "names"), [("elman", nn.RNN, "h"), ("lstm", nn.LSTM, "ifgo")])
def test_elman_and_lstm_equal_torch(name: str, kind: Any, names: str) -> None:
    layer, x = kind(I, H, batch_first=True).double(), inputs()
    assert_close(outputs(graph(name, I, H), gates(names, of_torch(layer)), x), layer(x)[0].detach())


def test_gru_equals_torch() -> None:
    layer, x = nn.GRU(I, H, batch_first=True).double(), inputs()
    weights = of_torch(layer)
    blocks = gates("rzn", weights)
    ih, hh = (weights[name].detach().chunk(3)[2] for name in ("bias_ih", "bias_hh"))
    blocks |= {("n", "one"): ih, ("e", "h"): blocks["n", "h"], ("e", "one"): hh}
    assert_close(outputs(graph("gru", I, H), blocks, x), layer(x)[0].detach())


@pytest.mark.parametrize(
    ("name", "cell"),
    [("gru_before", GRU(I, H, reset="before")), ("lstm_peepholes", LSTM(I, H, peepholes=True)), ("gru", GRU(I, H))],
)
def test_points_equal_our_own_cells(name: str, cell: Any) -> None:
    ours = Network(cell, Identity(H))
    genes = torch.randn(2, ours.layout.size, dtype=torch.float64)
    weights = ours.layout.unpack(genes[:1])
    order = ("i", "f", "g", "o") if isinstance(cell, LSTM) else ("r", "z", "n")
    blocks: dict[tuple[str, str], Tensor] = {}
    for leaf, source in (("input", "x"), ("recurrent", "h"), ("bias", "one")):
        parts = weights[f"cell.{leaf}"][0].chunk(len(order))
        blocks |= {(gate, source): part for gate, part in zip(order, parts, strict=True)}
    if name == "lstm_peepholes":
        blocks |= {(gate, "c"): weights[f"cell.peephole_{gate}"][0] for gate in "if"}
        blocks["o", "c@0"] = weights["cell.peephole_o"][0]
    elif name == "gru":
        blocks |= {("e", "h"): blocks["n", "h"], ("e", "one"): weights["cell.reset_bias"][0]}
    else:
        blocks["n", "q@0"] = blocks["n", "h"]
    assert_close(outputs(graph(name, I, H), blocks, inputs()), ours.predict(genes[:1], inputs())[0])


def run_cell(cell: nn.Module, x: Tensor) -> Tensor:
    state, said = torch.zeros(B, H, dtype=torch.float64), []
    for step in x.unbind(1):
        state = cell(step, state)
        said.append(state)
    return torch.stack(said, 1).detach()


def randomised(cell: nn.Module) -> dict[str, Tensor]:
    with torch.no_grad():
        for value in cell.parameters():
            value.normal_()
    return {name: value.detach() for name, value in cell.named_parameters()}


def test_mgu_equals_torchrecurrent() -> None:
    cell = torchrecurrent.MGUCell(I, H).double()
    weights = randomised(cell)
    blocks = gates("fn", weights)
    blocks["n", "q@0"] = blocks["n", "h"]
    assert_close(outputs(graph("mgu", I, H), blocks, inputs()), run_cell(cell, inputs()))


@pytest.mark.parametrize(("name", "kind"), [("mut1", torchrecurrent.MUT1Cell), ("mut3", torchrecurrent.MUT3Cell)])
def test_mut_equals_torchrecurrent(name: str, kind: Any) -> None:
    cell = kind(I, H).double()
    weights = randomised(cell)
    w, b = weights["weight_ih"].chunk(3), weights["bias_ih"].chunk(3)
    u = weights["weight_hh"].chunk(2 if name == "mut1" else 3)
    d = weights["bias_hh"].chunk(len(u))
    if name == "mut1":
        blocks = {("z", "x"): w[0], ("z", "one"): b[0], ("r", "x"): w[1], ("r", "h"): u[0], ("r", "one"): b[1] + d[0]}
        blocks |= {("d", "x"): w[2], ("d", "one"): b[2], ("n", "q@0"): u[1], ("n", "one"): d[1]}
    else:
        blocks = {("z", "x"): w[0], ("z", "a@0"): u[0], ("z", "one"): b[0] + d[0]}
        blocks |= {("r", "x"): w[1], ("r", "h"): u[1], ("r", "one"): b[1] + d[1]}
        blocks |= {("n", "x"): w[2], ("n", "q@0"): u[2], ("n", "one"): b[2] + d[2]}
    assert_close(outputs(graph(name, I, H), blocks, inputs()), run_cell(cell, inputs()))


def naive(cell: Graph, blocks: Any, x: Tensor) -> Tensor:
    """Every equation, one after the other, with one product an edge: (B, T, outputs)."""
    past: list[dict[str, Tensor]] = []
    for step in x.unbind(1):
        now = {"x": step}
        for node in cell.plan.order:
            terms = []
            for edge in node.edges:
                if edge.delay > len(past):
                    value = torch.zeros(len(x), cell.width(edge.source), dtype=x.dtype)
                else:
                    value = past[-edge.delay][edge.source] if edge.delay else now[edge.source]
                usual = edge.delay == (edge.source != "x")
                source = edge.source if usual else f"{edge.source}@{edge.delay}"
                if edge.through == "full":
                    value = torch.einsum("oi,bi->bo", blocks[node.name, source], value)
                elif edge.through == "diagonal":
                    value = blocks[node.name, source] * value
                terms.append(value)
            if node.bias:
                terms.append(blocks[node.name, "one"].expand(len(x), -1))
            if node.op == "const":
                now[node.name] = torch.full((len(x), node.width), node.shift, dtype=x.dtype)
            elif node.op == "mul":
                now[node.name] = torch.stack(terms).prod(dim=0)
            else:
                now[node.name] = OPERATIONS[node.op](torch.stack(terms).sum(dim=0) + node.shift)
        past.append(now)
    return torch.stack([torch.cat([now[head] for head in cell.heads], dim=1) for now in past], dim=1)


def blocks_of(net: Network, genes: Tensor) -> dict[tuple[str, str], Tensor]:
    """Weights by (target node, source) of a chromosome (1, D), element by element from the names of the genes."""
    found: dict[tuple[str, str], dict[tuple[int, int], float]] = {}
    for link, value in zip(net.layout.links(), genes[0].tolist(), strict=True):
        if link.leaf.startswith("cell."):
            target, _, row = link.target.removeprefix("cell.").partition("[")
            source, _, column = link.source.removeprefix("cell.").partition("[")
            elementwise = len(link.index) == 1
            place = (int(row[:-1]), -1 if elementwise else int(column[:-1]))
            found.setdefault((target, source), {})[place] = value
    made = {}
    for key, values in found.items():
        rows, columns = 1 + max(r for r, _ in values), 1 + max(c for _, c in values)
        block = torch.zeros(rows, max(columns, 1), dtype=torch.float64)
        for (row, column), value in values.items():
            block[row, max(column, 0)] = value
        made[key] = block if columns else block[:, 0]
    return made


def random_graphs(count: int, steps: int = 12) -> list[Graph]:
    found = []
    for seed in range(count):
        stream = np.random.default_rng(seed)
        made = graph(list(GRAPHS)[seed % len(GRAPHS)], 2, 3)
        for _ in range(steps):
            made = mutated(made, Rates(), Space(max_width=6), stream)[1].graph
        found.append(made)
    return found


@every_point
def test_points_are_what_their_equations_say(name: str) -> None:
    width = H if name == "mut2" else I  # MUT2 of the paper hears x as it is
    cell = graph(name, width, H)
    net = Network(cell, Identity(H))
    genes = torch.randn(1, net.layout.size, dtype=torch.float64)
    assert_close(net.predict(genes, inputs(width))[0], naive(cell, blocks_of(net, genes), inputs(width)))


def test_mut2_of_the_paper_as_it_is_written() -> None:
    cell, x = graph("mut2", H, H), inputs(H)
    assert Edge("x", "plain") in cell.named["r"].edges
    net = Network(cell, Identity(H))
    genes = torch.randn(1, net.layout.size, dtype=torch.float64)
    w = blocks_of(net, genes)
    h, said = torch.zeros(B, H, dtype=torch.float64), []
    for step in x.unbind(1):
        z = torch.sigmoid(step @ w["z", "x"].T + h @ w["z", "h"].T + w["z", "one"])
        r = torch.sigmoid(step + h @ w["r", "h"].T + w["r", "one"])
        n = torch.tanh((r * h) @ w["n", "q@0"].T + step @ w["n", "x"].T + w["n", "one"])
        h = n * z + h * (1 - z)
        said.append(h)
    assert_close(net.predict(genes, x)[0], torch.stack(said, 1))


@pytest.mark.parametrize("place", range(25))
def test_random_graphs_compute_what_their_equations_say(place: int) -> None:
    cell = random_graphs(place + 1)[place]
    net = Network(cell, Identity(cell.outputs))
    genes = 0.4 * torch.randn(3, net.layout.size, dtype=torch.float64)
    x = inputs(2)[:, :12]
    found = net.predict(genes, x)
    for row in range(3):
        wanted = naive(cell, blocks_of(net, genes[row : row + 1]), x)
        np.testing.assert_allclose(found[row].numpy(), wanted.numpy(), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(net.predict(genes[row : row + 1], x)[0], found[row], rtol=1e-9, atol=1e-12)


# --- parts ----------------------------------------------------------------------------------------------------------


def test_a_delay_is_as_long_as_it_says() -> None:
    cell = parsed("h = identity(w x@3 + b)\ng = identity(h@2)", 1, 1, ("h", "g"))
    blocks = {("h", "x@3"): torch.ones(1).double(), ("h", "one"): torch.zeros(1).double()}
    impulse = torch.zeros(1, 9, 1, dtype=torch.float64)
    impulse[0, 1] = 1
    said = outputs(cell, blocks, impulse)[0]
    assert said[:, 0].nonzero().tolist() == [[4]]
    assert said[:, 1].nonzero().tolist() == [[6]]


def test_heads_of_different_widths_are_named_in_the_readout() -> None:
    net = network(parsed("h = tanh(W x + W h@1 + b)\ng[2] = relu(W h)", 3, 4, ("g", "h")), 1)
    sources = [link.source for link in net.layout.links() if link.leaf == "readout.weight"]
    assert sources == [*(f"cell.g[{k}]" for k in range(2)), *(f"cell.h[{k}]" for k in range(4))]


def test_constants_shifts_and_nodes_that_know_only_their_bias() -> None:
    cell = parsed("k = const(2)\nm = sigmoid(b + 1)\nh = k * m\ng = one_minus(m@1)", 1, 2, ("h", "g"))
    bias = torch.tensor([0.5, -0.5], dtype=torch.float64)
    said = outputs(cell, {("m", "one"): bias}, torch.zeros(1, 2, 1, dtype=torch.float64))[0]
    gate = torch.sigmoid(bias + 1)
    torch.testing.assert_close(said[0], torch.cat([2 * gate, torch.ones(2).double()]))
    torch.testing.assert_close(said[1], torch.cat([2 * gate, 1 - gate]))


@pytest.mark.parametrize("cell", [graph(name, 2, 3) for name in GRAPHS] + random_graphs(6))
def test_graphs_go_out_and_come_in_again(cell: Graph) -> None:
    assert build(json.loads(json.dumps(describe(cell)))) == cell
    usual = parsed(written(cell), 2, 3, cell.heads)
    if {node.width for node in cell.nodes} == {3}:
        assert dict(usual.named) == dict(cell.named)
    assert hash(build(describe(cell))) == hash(cell)


@pytest.mark.parametrize("place", range(8))
def test_the_exported_source_needs_nothing_of_ours(place: int, tmp_path: Any) -> None:
    net = network(random_graphs(place + 1)[place], 2)
    genes = 0.4 * torch.randn(1, net.layout.size)
    source = plain_source(net)
    assert "import evo_rnn" not in source
    (tmp_path / "exported.py").write_text(source)
    spec = importlib.util.spec_from_file_location("exported", tmp_path / "exported.py")
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    champion = module.Champion()
    champion.load_state_dict(plain_state(net, genes))
    x = inputs(2).float()[:, :10]
    torch.testing.assert_close(champion(x)[0], net.predict(genes, x)[0], rtol=1e-4, atol=1e-5)


REFUSING = ("rflo", "diagonal", "kf_rtrl")  # as they refuse a GRU


@pytest.mark.parametrize("rule", ["rtrl", "hybrid", "tbptt", "snap", "eprop", "uoro", "rflo", "diagonal", "kf_rtrl"])
def test_gradient_rules_serve_graphs(rule: str) -> None:
    cell = parsed("z = sigmoid(W x + W h@1 + b)\nn = tanh(W x + w h@2 + b)\nh = z * n", 2, 3, ("h",))
    net = network(cell, 1)
    genes = torch.randn(2, net.layout.size, dtype=torch.float64)
    data = Batch(inputs(2), inputs(1), torch.ones(B, T, dtype=torch.bool))
    estimator = ESTIMATORS[rule]()
    if rule in REFUSING:
        with pytest.raises(ConfigError):
            slope(estimator, net, genes, data, LOSSES["mse"])
        return
    loss, found = slope(estimator, net, genes, data, LOSSES["mse"])
    wanted_loss, wanted = slope(ESTIMATORS["bptt"](), net, genes, data, LOSSES["mse"])
    torch.testing.assert_close(loss, wanted_loss)
    if rule in ("rtrl", "hybrid"):
        np.testing.assert_allclose(found.numpy(), wanted.numpy(), atol=1e-10)


# --- errors ---------------------------------------------------------------------------------------------------------

FINE = Node("h", "tanh", 2, (Edge("x"),), bias=True)


@pytest.mark.parametrize(
    ("nodes", "heads", "said"),
    [
        ((), ("h",), "nodes should be 1"),
        ((FINE, FINE), ("h",), "different names"),
        ((FINE,), ("g",), "heads should be names"),
        ((FINE,), ("h", "h"), "heads should be different"),
        ((Node("x", "tanh", 2, (Edge("x"),)),), ("x",), "should not be x"),
        ((Node("a b", "tanh", 2, (Edge("x"),)),), ("a b",), "its name should be"),
        ((Node("h", "tan", 2, (Edge("x"),)),), ("h",), "op should be one of sum"),
        ((Node("h", "tanh", 0, (Edge("x"),)),), ("h",), "width should be 1"),
        ((Node("h", "tanh", 10**9, (Edge("x"),)),), ("h",), "width should be 1"),
        ((Node("h", "tanh", 2, (Edge("y"),)),), ("h",), "hear x or a node but is y"),
        ((Node("h", "tanh", 2, (Edge("x", "wool"),)),), ("h",), "full, diagonal, plain"),
        ((Node("h", "tanh", 2, (Edge("x", "full", -1),)),), ("h",), "delay should be 0"),
        ((Node("h", "tanh", 2, (Edge("x", "plain"),), bias=True),), ("h",), "should have 2 units but is 3"),
        ((Node("h", "tanh", 2, (Edge("x"), Edge("x", "full"))),), ("h",), "twice"),
        ((Node("h", "mul", 2, (Edge("x"),)),), ("h",), "plain or diagonal"),
        ((Node("h", "const", 2, (Edge("x"),)),), ("h",), "hear nothing"),
        ((Node("h", "tanh", 2, ()),), ("h",), "should hear something"),
        ((Node("h", "tanh", 2, (Edge("x"),), shift=float("nan")),), ("h",), "finite"),
        ((Node("h", "tanh", 3, (Edge("x", "plain"),)),), ("h",), "should have a weight"),
        (
            (Node("a", "tanh", 2, (Edge("b"),)), Node("b", "tanh", 2, (Edge("a"),))),
            ("a",),
            "circle but does among a, b. Delay an edge",
        ),
    ],
)
def test_what_cannot_be_computed_is_refused(nodes: Any, heads: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Graph(3, nodes, heads)
    described = {"kind": "Graph", "inputs": 3, "nodes": [describe(node) for node in nodes], "heads": list(heads)}
    with pytest.raises(ConfigError):
        build(described)


@pytest.mark.parametrize("nodes", [3, ["h"], [{"kind": "Edge", "source": "x"}], [["h", "tanh"]]])
def test_what_is_no_graph_is_refused(nodes: Any) -> None:
    with pytest.raises(ConfigError, match="Graph cannot be built"):
        build({"kind": "Graph", "inputs": 1, "nodes": nodes, "heads": ["h"]})


@pytest.mark.parametrize("line", ["h", "h = ", "h = tanh(W x -", "h = tanh(Q x)", "h[a] = x", "h = x ** 2"])
def test_what_is_no_equation_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="should"):
        parsed(line, 1, 2, ("h",))
