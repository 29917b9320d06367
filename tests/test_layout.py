"""Where each gene lies: layouts are invertible and say what they do; networks can be described and built again."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evo_rnn.cells import CELLS, FRNN, LSTM, Elman
from evo_rnn.cells.cell import Cell
from evo_rnn.description import build, describe
from evo_rnn.errors import ConfigError
from evo_rnn.network import network
from tests.cell_examples import every_cell, sizes

# --- layout ---------------------------------------------------------------------------------------------------------


@every_cell
def test_unpack_and_pack_are_inverse(cell: Cell) -> None:
    layout = network(cell, 2).layout
    genes = torch.randn(4, layout.size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weights = layout.unpack(genes)
    assert torch.equal(layout.pack(weights), genes)
    again = layout.unpack(layout.pack(weights))
    assert all(torch.equal(weights[leaf.name], again[leaf.name]) for leaf in layout.leaves)


@settings(max_examples=40, deadline=None)
@given(size=sizes, outputs=st.integers(1, 3), kind=st.sampled_from(sorted(CELLS)), count=st.integers(0, 3))
def test_unpack_and_pack_are_inverse_at_any_size(size: tuple[int, int], outputs: int, kind: str, count: int) -> None:
    layout = network(CELLS[kind](*size), outputs).layout
    genes = torch.arange(count * layout.size, dtype=torch.float32).view(count, layout.size)
    assert torch.equal(layout.pack(layout.unpack(genes)), genes)


@settings(max_examples=40, deadline=None)
@given(mask=st.lists(st.text("01", min_size=5, max_size=5), min_size=3, max_size=3))
def test_exactly_the_links_of_the_mask_are_genes(mask: list[str]) -> None:
    if not (any("1" in row[:2] for row in mask) and any("1" in row[2:] for row in mask)):
        return
    layout = network(FRNN(2, 3, mask=tuple(mask)), 1).layout
    weights = layout.unpack(torch.ones(1, layout.size))
    drawn = torch.cat([weights["cell.input"][0], weights["cell.recurrent"][0]], dim=1)
    assert ["".join("1" if w else "0" for w in row) for row in drawn.tolist()] == mask


@every_cell
def test_every_gene_is_the_link_that_it_is_said_to_be(cell: Cell) -> None:
    layout = network(cell, 2).layout
    links = layout.links()
    assert len(links) == layout.size == len({(link.leaf, link.index) for link in links})
    weights = layout.unpack(torch.eye(layout.size))  # network k has gene k alone
    for k, link in enumerate(links):
        assert weights[link.leaf][(k, *link.index)] == 1
        assert sum(int(value[k].count_nonzero()) for value in weights.values()) == 1


def test_links_name_the_units_at_both_ends() -> None:
    names = {
        (link.leaf, link.index): (link.source, link.target) for link in network(LSTM(2, 3, True), 1).layout.links()
    }
    assert names["cell.input", (4, 1)] == ("cell.x[1]", "cell.f[1]")
    assert names["cell.recurrent", (11, 0)] == ("cell.h[0]", "cell.o[2]")
    assert names["cell.bias", (6,)] == ("one", "cell.g[0]")
    assert names["cell.peephole_o", (2,)] == ("cell.c[2]", "cell.o[2]")
    assert names["readout.weight", (0, 2)] == ("cell.h[2]", "readout.y[0]")


@every_cell
def test_drawn_genes_lie_in_the_range_of_their_leaf(cell: Cell) -> None:
    layout = network(cell, 2).layout
    genes = layout.draw(np.random.default_rng(3), 200)
    assert genes.dtype == np.float32
    for leaf, start, end in layout.spans():
        part = genes[:, start:end]
        assert leaf.low - 1e-6 <= part.min() < part.max() <= leaf.high + 1e-6


def test_wrong_genes_and_wrong_inputs_are_refused_by_name() -> None:
    net = network(Elman(2, 3), 1)
    with pytest.raises(ValueError, match="genes should have shape"):
        net.predict(torch.zeros(2, net.layout.size + 1), torch.zeros(1, 4, 2))
    with pytest.raises(ValueError, match="inputs should have shape"):
        net.predict(torch.zeros(2, net.layout.size), torch.zeros(1, 4, 3))
    with pytest.raises(ValueError, match="weights should have a leaf"):
        net.layout.pack({})


# --- description ----------------------------------------------------------------------------------------------------


@every_cell
def test_a_described_network_can_be_built_again_also_through_json(cell: Cell) -> None:
    net = network(cell, 2)
    assert build(describe(net)) == net
    assert build(json.loads(json.dumps(describe(net)))) == net


@pytest.mark.parametrize(
    "wrong",
    [{"kind": "Perceptron"}, {"kind": "Elman"}, {"kind": "GRU", "inputs": 1, "hidden": 2, "reset": "never"}, {}],
)
def test_a_description_of_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        build(wrong)
