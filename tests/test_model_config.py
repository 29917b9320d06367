"""The section `model` of a config: every cell by its name, with the settings it has and no others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evo_rnn.cells import CELLS, CTRNN, Graph, IndRNN, MemoryBlocks, SecondOrder, Stack
from evo_rnn.cells.equations import parsed
from evo_rnn.cells.named_graphs import GRAPHS
from evo_rnn.champion import Columns, load, save
from evo_rnn.description import build, describe
from evo_rnn.errors import ConfigError, DataError
from evo_rnn.evaluation.engines import Plain, engine_for
from evo_rnn.evaluation.evaluator import LocalEvaluator
from evo_rnn.fit import SolvedReadout
from evo_rnn.fitness import batch
from evo_rnn.network import Logistic, Network, network
from evo_rnn.safe_yaml import parse_yaml
from evo_rnn.tasks.sunspots import sunspots
from evo_rnn.tasks.task import Task
from trainers.commands.plan import config_text
from trainers.control import twinless
from trainers.experiments.builders import model_of, task_of
from trainers.experiments.config import CELL_NAMES, resolve


@pytest.fixture(scope="module")
def task() -> Task:
    return sunspots()


def model(settings: dict[str, Any]) -> Network:
    config = resolve({"task": "sunspots", "model": settings})
    return model_of(config, task_of(config))


def test_a_config_knows_every_cell() -> None:
    assert set(CELL_NAMES) == {*CELLS, "graph", *OTHERS}


OTHERS = set(GRAPHS) - set(CELLS) - {"lstm_peepholes", "gru_before"}  # which are settings of lstm and gru


@pytest.mark.parametrize("cell", CELL_NAMES)
def test_every_cell_has_defaults_and_its_config_resolves_to_itself(cell: str) -> None:
    given = {"equations": "h = tanh(W x + W h@1 + b)"} if cell == "graph" else {}
    first = resolve({"task": "sunspots", "model": {"cell": cell} | given})
    assert type(model_of(first, task_of(first)).cell) is CELLS.get(cell, Graph)
    text = config_text(first, many=False)
    again = resolve(parse_yaml(text))
    assert config_text(again, many=False) == text
    assert model_of(again, task_of(again)) == model_of(first, task_of(first))


@pytest.mark.parametrize(
    ("settings", "cell"),
    [
        ({"cell": "indrnn"}, IndRNN(1, 5)),
        ({"cell": "indrnn", "activation": "tanh"}, IndRNN(1, 5, "tanh")),
        ({"cell": "second_order", "hidden": 4}, SecondOrder(1, 4, "logistic")),
        ({"cell": "second_order", "activation": "tanh"}, SecondOrder(1, 5, "tanh")),
        ({"cell": "ctrnn", "hidden": 3, "dt": 0.1}, CTRNN(1, 3, dt=0.1)),
        ({"cell": "ctrnn", "tau": [2, 9.5], "activation": "logistic"}, CTRNN(1, 5, 1.0, (2.0, 9.5), "logistic")),
        ({"cell": "memory_blocks"}, MemoryBlocks(1, 5)),
        (
            {"cell": "memory_blocks", "hidden": 6, "block_size": 2, "forget": True, "biases": "all"},
            MemoryBlocks(1, 3, 2, forget=True, biases="all"),
        ),
        (
            {"cell": "memory_blocks", "hidden": 2, "layers": 2, "gates_heard": False},
            Stack((MemoryBlocks(1, 2, gates_heard=False), MemoryBlocks(2, 2, gates_heard=False))),
        ),
    ],
)
def test_settings_reach_the_cell(settings: dict[str, Any], cell: Any) -> None:
    assert model(settings) == network(cell, 1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"cell": "lstm", "forget": True}, "model.forget has no meaning for the cell 'lstm'"),
        ({"cell": "elman", "dt": 0.1}, "model.dt has no meaning for the cell 'elman'"),
        ({"cell": "ctrnn", "dt": 0}, "model.dt should be"),
        ({"cell": "ctrnn", "tau": [0.5, 2]}, "model: tau should be two times above dt = 1.0"),
        ({"cell": "ctrnn", "activation": "relu"}, "model: activation should be one of"),
        ({"cell": "ctrnn", "activation": "tahn"}, "model.activation .*Did you mean 'tanh'"),
        (
            {"cell": "memory_blocks", "block_size": 2},
            "model.hidden should be a multiple of model.block_size = 2 but is 5",
        ),
        ({"cell": "memory_blocks", "block_size": 0}, "model.block_size should be"),
        ({"cell": "second"}, "model.cell should be one of .*second_order"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        model(settings)


NETS = [
    network(SecondOrder(1, 3), 1),
    network(CTRNN(1, 3, tau=(2.0, 5.0)), 1),
    Network(MemoryBlocks(1, 2, 2, forget=True), Logistic(4, 1, bias=False)),
]
every_net = pytest.mark.parametrize("net", NETS, ids=lambda net: type(net.cell).__name__)


@every_net
def test_the_plain_engine_runs_them_and_a_champion_is_read_as_it_was_saved(
    net: Network, tmp_path: Path, task: Task
) -> None:
    assert build(describe(net)) == net
    assert isinstance(engine_for(net, torch.from_numpy(task.test.inputs).float()), Plain)
    genes = net.layout.draw(np.random.default_rng(0), 40)
    evaluator = LocalEvaluator(net, task.test)
    losses = evaluator(genes)
    assert len(set(losses)) == 40
    np.testing.assert_array_equal(evaluator(genes[7:8]), losses[7:8])
    found = load(save(tmp_path / "a", net, genes[:1], task, columns=Columns(("sunspots",), ("sunspots",), 1)))
    assert found.model == net
    outputs = found.predict(task.test.inputs)
    assert outputs.tobytes() == evaluator.predict(genes[:1])[0].tobytes()
    errors = (outputs.astype(np.float64) - task.test.targets)[task.test.counts]
    assert np.square(errors).mean() == pytest.approx(losses[0], rel=1e-12)


def test_a_logistic_readout_is_neither_solved_nor_twinned(task: Task) -> None:
    plain = network(CELLS["elman"](1, 3), 1)
    net = Network(plain.cell, Logistic(3, 1))
    assert (twinless(plain) == "", twinless(net) == "") == (True, False)
    assert isinstance(engine_for(net, torch.zeros(1, 2, 1)), Plain)
    genes = torch.from_numpy(net.layout.draw(np.random.default_rng(0), 2))
    with pytest.raises(ConfigError, match="linear readout"):
        SolvedReadout()(net, genes, batch(task.train, torch.float32, "cpu"))


def test_a_cell_of_ones_own_is_written_as_equations_or_read_from_a_genome(tmp_path: Path) -> None:
    said = "c = tanh(W x + w c@3 + b)\nh = relu(W c + b)"
    ours = model({"cell": "graph", "hidden": 4, "equations": said, "heads": ["h", "c"]})
    assert ours.cell == parsed(said, 1, 4, ("h", "c"))
    (tmp_path / "genome.json").write_text(json.dumps(describe(ours.cell)))
    assert model({"cell": "graph", "genome": str(tmp_path / "genome.json")}) == ours


@pytest.mark.parametrize(
    ("body", "error", "said"),
    [
        ("{", DataError, "it is not a genome"),
        ("[]", DataError, "should describe a Graph"),
        ('{"kind": "Elman", "inputs": 1, "hidden": 2}', DataError, "should describe a Graph"),
        ('{"kind": "Graph", "inputs": 1, "nodes": [], "heads": ["h"]}', DataError, "nodes should be 1"),
        (json.dumps(describe(parsed("h = tanh(W x)", 2, 3, ("h",)))), ConfigError, "should have 1 inputs"),
        ("[" * 50_000, DataError, "it is not a genome"),
        (" " * (1 << 21), DataError, "longer than"),
    ],
)
def test_a_damaged_genome_is_refused(body: str, error: type[Exception], said: str, tmp_path: Path) -> None:
    (tmp_path / "genome.json").write_text(body)
    with pytest.raises(error, match=said):
        model({"cell": "graph", "genome": str(tmp_path / "genome.json")})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"cell": "graph"}, "Give one of them"),
        ({"cell": "graph", "equations": "h = W"}, "model: a term should look like|model: node"),
        ({"cell": "graph", "equations": "h = tanh(W h)"}, "circle"),
        ({"cell": "mgu", "genome": "x.json"}, "no meaning for the cell 'mgu'"),
    ],
)
def test_a_cell_that_cannot_be_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        model(settings)
