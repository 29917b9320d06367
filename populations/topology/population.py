"""A population of graphs with their weights: who is proposed next, who survives, and what is never trained twice.

Children are asked for and told in order, so that whatever is decided depends on `lag` and on no number of workers. Who
survives is decided by age (Real et al. 2019, Regularized evolution for image classifier architecture search) or by
non-dominated sorting on loss and size (Deb et al. 2002, NSGA-II, by DEAP). Training is handed out in rungs: only the best
share of a rung is trained on (Li et al. 2020, A system for massively parallel hyperparameter tuning: ASHA).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace

import numpy as np
from deap import base, tools

from evo_rnn.cells.graph import Graph
from evo_rnn.description import build, describe
from evo_rnn.network import Network, network
from evo_rnn.progress import State
from evo_rnn.seeds import generator
from evo_rnn.shapes import Array, Genes, Losses
from populations.topology.canonical import digest, fingerprint
from populations.topology.crossover import crossed
from populations.topology.inheritance import Change, inherited
from populations.topology.lives import Life, lives
from populations.topology.mutations import Space
from populations.topology.settings import Rates, Settings, mutated

TRIES = 40  # draws of a child, until one is new
STEPS = 8  # mutations at most between a start and a random genome


@dataclass(frozen=True, eq=False)
class Individual:
    """A genome with its weights.

    Args:
        number: of the proposal that it was born of.
        graph: the genome.
        start: (K, D) the weights that it began with.
        genes: (K, D) its weights now.
        losses: (K,) on the validation split; infinite until it is told.
        rung: of training that it has been through.
        parent: the number of its parent; its own, if it has none.
        operator: what made it of its parent.
    """

    number: int
    graph: Graph
    start: Genes
    genes: Genes
    losses: Losses
    rung: int = 0
    parent: int = 0
    operator: str = "start"

    @property
    def loss(self) -> float:
        """The median over its weight sets."""
        return float(np.sort(self.losses)[(len(self.losses) - 1) // 2])


@dataclass
class Population:
    """Graphs that are alive, those under way, and what is known of all others.

    Args:
        settings: see there.
        rates: of the mutations.
        space: bounds.
        starts: what the first are made of.
        outputs: O.
        seed: of the run.
    """

    settings: Settings
    rates: Rates
    space: Space
    starts: tuple[Graph, ...]
    outputs: int
    seed: int
    alive: list[list[Individual]] = field(init=False)  # by island
    flight: dict[int, Individual] = field(init=False, default_factory=dict)  # by number of the proposal
    lives: dict[int, Life] = field(init=False, default_factory=dict)
    seen: set[str] = field(init=False, default_factory=set)  # digests and fingerprints
    told: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.alive = [[] for _ in range(self.settings.islands)]

    def net(self, graph: Graph) -> Network:
        """A graph with the usual readout."""
        return network(graph, self.outputs)

    def ask(self) -> tuple[int, Individual]:
        """The next proposal: its number, and whom to train. One that lived before is to be trained on."""
        number = self.told + len(self.flight)
        chosen = self._promoted() or self._born(number)
        self.flight[number] = chosen
        return number, chosen

    def tell(self, genes: Genes, losses: Losses) -> Individual:
        """Take the oldest proposal from the air, with what training has made of its weights (K, D) and losses (K,).

        A weight set that training on has made worse stays as it was.
        """
        one = self.flight.pop(self.told)
        better = losses < one.losses
        again = np.isfinite(one.losses).any()
        rung = one.rung + again
        kept = np.where(better[:, None] | (not again), genes, one.genes)
        one = replace(one, genes=kept, losses=np.where(better, losses, one.losses), rung=int(rung))
        life = self.lives[one.number]
        life.loss, life.rung = one.loss, one.rung
        island = self.alive[one.number % self.settings.islands]
        if again:
            island[:] = [one if each.number == one.number else each for each in island]
        else:
            island.append(one)
            self._cull(island)
        self.told += 1
        return one

    def _cull(self, island: list[Individual]) -> None:
        room = max(1, self.settings.population // self.settings.islands)
        if len(island) <= room:
            return
        if self.settings.survival == "aging":
            del island[min(range(len(island)), key=lambda place: island[place].number)]
        else:
            ranked = [_Ranked(one.loss, one.genes.shape[1], place) for place, one in enumerate(island)]
            stay = {each.place for each in tools.selNSGA2(ranked, room)}
            island[:] = [one for place, one in enumerate(island) if place in stay]

    def _promoted(self) -> Individual | None:
        """The best of a rung that deserves another, the highest first: of all who passed the rung, `keep` may go on."""
        away = {one.number for one in self.flight.values()}
        for rung in range(self.settings.hurdles - 2, -1, -1):
            passed = [life for life in self.lives.values() if life.rung >= rung and life.loss < np.inf]
            further = sum(life.rung > rung for life in passed)
            waiting = sum(np.isfinite(one.losses).any() and one.rung == rung for one in self.flight.values())
            if further + waiting >= int(len(passed) * self.settings.keep):
                continue
            here = [one for isle in self.alive for one in isle if one.rung == rung and one.number not in away]
            here = [one for one in here if np.isfinite(one.loss)]
            if here:
                best: Individual = min(here, key=lambda one: (one.loss, one.number))
                return best
        return None

    def _born(self, number: int) -> Individual:
        """A child that is not known yet: a start, a mutant of one, or the child of a parent that is alive."""
        stream = generator(self.seed, "topology", "birth", generation=number)
        if number < len(self.starts):
            graph = self.starts[number]
            genes = self._fresh(graph, number)
            return self._enter(Individual(number, graph, genes, genes, self._unknown(), 0, number, "start"))
        for attempt in range(TRIES):
            parent = self._parent(number, stream)
            child, operator = self._made(parent, number, stream, attempt)
            known = {digest(child.graph), fingerprint(child.graph)}
            if not known & self.seen or attempt == TRIES - 1:
                break
        return self._enter(replace(child, operator=operator))

    def _enter(self, one: Individual) -> Individual:
        self.seen |= {digest(one.graph), fingerprint(one.graph)}
        size = one.genes.shape[1]
        self.lives[one.number] = Life(one.number, one.parent, one.operator, len(one.graph.nodes), size)
        return one

    def _made(
        self, parent: Individual, number: int, stream: np.random.Generator, attempt: int
    ) -> tuple[Individual, str]:
        """A child, and how it was made. The longer nothing new was found, the more mutations."""
        random = self.settings.search == "random"
        steps = int(stream.integers(1, STEPS + 1)) if random else 1 + attempt // 8
        genes = parent.start if self.settings.inheritance == "baldwinian" else parent.genes
        graph, names = parent.graph, []
        if stream.random() < self.rates.crossover and not random:
            other = self._parent(number, stream)
            change = crossed(graph, other.graph, stream)
            genes, graph = self._passed_on(graph, genes, change, number), change.graph
            names.append("crossover")
        for _ in range(steps if not names else steps - 1):
            name, change = mutated(graph, self.rates, self.space, stream)
            genes, graph = self._passed_on(graph, genes, change, number), change.graph
            names.append(name)
        if random or self.settings.inheritance == "darwinian":
            genes = self._fresh(graph, number)
        return Individual(number, graph, genes, genes, self._unknown(), 0, parent.number), names[0]

    def _passed_on(self, graph: Graph, genes: Genes, change: Change, number: int) -> Genes:
        return inherited(self.net(graph), genes, self.net(change.graph), change, self._fresh(change.graph, number))

    def _parent(self, number: int, stream: np.random.Generator) -> Individual:
        """The best of a few who are alive on the child's island, or on another; a start, while there are too few."""
        place = number % self.settings.islands
        if self.settings.islands > 1 and stream.random() < self.settings.exchange:
            place = int(stream.integers(self.settings.islands))
        island = self.alive[place]
        if len(island) < 2 or self.settings.search == "random":
            graph = self.starts[int(stream.integers(len(self.starts)))]
            first = self._fresh(graph, number)
            return Individual(number, graph, first, first, self._unknown())
        several = stream.integers(len(island), size=self.settings.tournament)
        best: Individual = min((island[k] for k in several), key=lambda one: (one.loss, one.number))
        return best

    def _fresh(self, graph: Graph, number: int) -> Genes:
        stream = generator(self.seed, "topology", "weights", generation=number)
        return self.net(graph).layout.draw(stream, self.settings.weight_sets)

    def _unknown(self) -> Losses:
        return np.full(self.settings.weight_sets, np.inf)

    def state(self) -> dict[str, Array]:
        """Everything: who is alive and who is under way, with their weights, and what is remembered."""
        every = [one for isle in self.alive for one in isle] + list(self.flight.values())
        about = {
            "told": self.told,
            "alive": [len(isle) for isle in self.alive],
            "flight": list(self.flight),
            "people": [[one.number, describe(one.graph), one.rung, one.parent, one.operator] for one in every],
            "lives": [list(asdict(life).values()) for life in self.lives.values()],
            "seen": sorted(self.seen),
        }
        text = np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)
        numbers = {"genes": [one.genes for one in every], "start": [one.start for one in every]}
        arrays = {
            name: np.concatenate([np.zeros(0, np.float32), *(v.ravel() for v in all_)])
            for name, all_ in numbers.items()
        }
        losses = np.array([one.losses for one in every]).reshape(len(every), self.settings.weight_sets)
        return {"about": text.copy(), "losses": losses, **arrays}

    def restore(self, state: State) -> None:
        """Go on from a state."""
        about = json.loads(bytes(state["about"]))
        people, at = [], 0
        for (number, graph, rung, parent, operator), losses in zip(about["people"], state["losses"], strict=True):
            made: Graph = build(graph)
            size = self.net(made).layout.size * self.settings.weight_sets
            start, genes = (
                np.array(state[name][at : at + size]).reshape(self.settings.weight_sets, -1)
                for name in ("start", "genes")
            )
            people.append(Individual(number, made, start, genes, np.array(losses), rung, parent, operator))
            at += size
        self.told, self.seen = about["told"], set(about["seen"])
        self.alive = []
        for count in about["alive"]:
            self.alive.append(people[:count])
            people = people[count:]
        self.flight = dict(zip(about["flight"], people, strict=True))
        self.lives = lives(about)


class _Size(base.Fitness):  # type: ignore[misc] # DEAP has no types
    weights = (-1.0, -1.0)


class _Ranked:
    """What DEAP sorts."""

    def __init__(self, loss: float, size: int, place: int) -> None:
        self.place, self.fitness = place, _Size((min(loss, 1e300), size))
