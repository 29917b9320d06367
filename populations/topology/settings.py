"""How a population of graphs lives, and how often each mutation is drawn."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from evo_rnn.cells.graph import Graph
from evo_rnn.errors import ConfigError
from populations.topology.inheritance import Change
from populations.topology.mutations import MUTATIONS, Space


@dataclass(frozen=True)
class Rates:
    """How often each mutation is drawn, relative to all, and how often two parents are crossed."""

    add_edge: float = 0.2
    add_node: float = 0.2
    add_memory: float = 0.05
    add_layer: float = 0.05
    change_operation: float = 0.15
    change_delay: float = 0.1
    widen: float = 0.07
    narrow: float = 0.03
    tie_gates: float = 0.02
    remove_edge: float = 0.1
    remove_node: float = 0.1
    remove_layer: float = 0.03
    crossover: float = 0.0

    def __post_init__(self) -> None:
        given = asdict(self)
        if not all(0 <= rate < np.inf for rate in given.values()) or sum(given.values()) <= given["crossover"]:
            raise ConfigError(f"rates of mutations should be numbers from 0, not all of them 0, but are {given}.")
        if self.crossover > 1:
            raise ConfigError(f"crossover should be at most 1 but is {self.crossover}.")


@dataclass(frozen=True)
class Settings:
    """How a population lives.

    Args:
        population: genomes that are alive.
        weight_sets: K, chromosomes a genome, trained side by side.
        lag: child n is proposed once the children 0 ... n - lag are told. Twice the number of workers keeps all busy.
        survival: "aging", the oldest goes; "nsga2", the worst in loss and size goes.
        tournament: genomes among which the best becomes a parent.
        inheritance: "lamarckian", a child begins with what its parent has learned; "baldwinian", with what its parent
            began with; "darwinian", with fresh weights.
        search: "evolution", or "random": every genome is a few random mutations away from a start, with fresh weights.
        islands: populations side by side, each with its share of the genomes.
        exchange: how often a parent comes from another island.
        hurdles: rungs of training, each four times as long as the one before.
        keep: the share of a rung that is trained on.
    """

    population: int = 30
    weight_sets: int = 4
    lag: int = 4
    survival: str = "aging"
    tournament: int = 5
    inheritance: str = "lamarckian"
    search: str = "evolution"
    islands: int = 1
    exchange: float = 0.1
    hurdles: int = 3
    keep: float = 0.34

    def __post_init__(self) -> None:
        for name in ("population", "weight_sets", "lag", "tournament", "islands", "hurdles"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} should be at least 1 but is {getattr(self, name)}.")
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} should be {' or '.join(known)} but is {getattr(self, name)!r}.")
        for name in ("exchange", "keep"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} should be from 0 to 1 but is {getattr(self, name)}.")
        if self.islands > self.population:
            raise ConfigError(f"islands should be at most population = {self.population} but are {self.islands}.")


CHOICES = {
    "survival": ("aging", "nsga2"),
    "inheritance": ("lamarckian", "baldwinian", "darwinian"),
    "search": ("evolution", "random"),
}


def mutated(graph: Graph, rates: Rates, space: Space, stream: np.random.Generator) -> tuple[str, Change]:
    """One mutation that makes a graph, drawn by its rate."""
    names = list(MUTATIONS)
    shares = np.array([getattr(rates, name) for name in names])
    for _ in range(1000):
        name = names[int(stream.choice(len(names), p=shares / shares.sum()))]
        try:
            change = MUTATIONS[name](graph, space, stream)
        except ValueError:  # what was drawn makes no graph
            continue
        if len(change.graph.nodes) <= space.max_nodes:
            return name, change
    raise ConfigError("rates should allow a mutation of this genome but none was found. Give more of them a rate.")
