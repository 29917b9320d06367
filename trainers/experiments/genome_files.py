"""What is kept beside a champion whose network was evolved: the genome to read, to see, to train on and to use elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from evo_rnn.cells.equations import written
from evo_rnn.cells.graph import Graph
from evo_rnn.cells.plain_torch import plain_source, plain_state
from evo_rnn.description import describe
from evo_rnn.network import Linear, Model, Network
from evo_rnn.progress import State
from evo_rnn.shapes import Genes
from populations.topology.drawing import draw_genome, draw_population
from populations.topology.lives import lives

ABOUT = "trainer/topology/about"  # in the state of a trial


def write_genome(folder: Path, model: Model, genes: Genes) -> None:
    """Write genome.json, equations.txt, genome.svg and .png, champion.py and champion.pt; nothing for other networks."""
    if not isinstance(model, Network) or not isinstance(model.cell, Graph) or not isinstance(model.readout, Linear):
        return
    folder.mkdir(parents=True, exist_ok=True)
    graph = model.cell
    (folder / "genome.json").write_text(json.dumps(describe(graph), indent=1) + "\n", encoding="utf-8")
    (folder / "equations.txt").write_text(written(graph) + "\n", encoding="utf-8")
    title = f"{len(graph.nodes)} nodes, {model.layout.size} genes"
    for ending in ("svg", "png"):
        draw_genome(graph, title).savefig(folder / f"genome.{ending}")
    (folder / "champion.py").write_text(plain_source(model), encoding="utf-8")
    torch.save(plain_state(model, torch.as_tensor(genes)), folder / "champion.pt")


def write_history(folder: Path, state: State) -> None:
    """Write population.png and lineage.json of a topology search; nothing for others."""
    if ABOUT not in state:
        return
    folder.mkdir(parents=True, exist_ok=True)
    about = json.loads(bytes(state[ABOUT]))
    outside, inside = state["trainer/loop"][:2].tolist()
    whole = max(outside + inside, 1e-9)
    spent = f"{len(about['lives'])} genomes, {about['told'] / whole:.2g} trainings a CPU second"
    said = f"{spent}; {100 * max(outside, 0.0) / whole:.1f} % of the time was not training"
    draw_population(lives(about), said).savefig(folder / "population.png")
    names = ("number", "parent", "operator", "nodes", "genes", "loss", "rung")
    people = [dict(zip(names, values, strict=True)) for values in about["lives"]]
    for each in people:
        each["loss"] = each["loss"] if each["loss"] < float("inf") else None
    (folder / "lineage.json").write_text(json.dumps(people, indent=0) + "\n", encoding="utf-8")
