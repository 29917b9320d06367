"""Topology evolution: graphs are asked for, their weights are trained, and what came of it is told.

The unit of work is one structure with K weight sets, trained side by side by any gradient rule, by a weight search, or as
Evolino (Schmidhuber et al. 2007, Neural Computation 19: hidden weights evolved, the readout solved). Structures differ in
size, so nothing waits for generations; they are told in the order in which they were asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from evo_rnn.cells import GRU, LSTM, Elman, Graph
from evo_rnn.cells.named_graphs import graph as named_graph
from evo_rnn.errors import ConfigError
from evo_rnn.evaluation.pool import Pool, open_pool
from evo_rnn.evaluation.ray_evaluator import LOCAL, Compute
from evo_rnn.fitness import LOSSES, ranking
from evo_rnn.network import Linear, Model, Network
from evo_rnn.progress import FRESH, Progress, State
from evo_rnn.seeds import generator
from evo_rnn.shapes import Array
from evo_rnn.tasks.task import Task
from evo_rnn.threads import Stopwatch
from populations.topology.lives import successes
from populations.topology.mutations import Space
from populations.topology.population import Individual, Population
from populations.topology.settings import Rates, Settings
from populations.topology.starts import as_graph, with_skip
from trainers.gradient import ESTIMATORS
from trainers.gradient.slope import check_served
from trainers.inner import WORK, Inner, Trained


@dataclass(frozen=True)
class Topology:
    """A trainer that evolves the graph of a network, and trains the weights of every graph.

    Args:
        settings: of the population.
        rates: of the mutations.
        space: bounds of the graphs.
        training: of the weights.
        start: "model", the run's own cell; or a name in `GRAPHS`, or several with commas between.
        skip: the readout of every start hears the input too, so that it can say that nothing changes.
    """

    settings: Settings = field(default_factory=Settings)
    rates: Rates = field(default_factory=Rates)
    space: Space = field(default_factory=Space)
    training: Inner = field(default_factory=Inner)
    start: str = "model"
    skip: bool = True

    def starts(self, model: Model) -> tuple[Graph, ...]:
        """The graphs to begin with.

        Raises:
            ConfigError: if the network is none that a graph can be made of.
        """
        if not isinstance(model, Network) or not isinstance(model.readout, Linear):
            raise ConfigError(f"model should be a cell with a linear readout for topology evolution but is {model}.")
        cell, names = model.cell, [name.strip() for name in self.start.split(",")]
        try:
            hidden = cell.hidden if isinstance(cell, Graph | Elman | LSTM | GRU) else cell.outputs
            made = [as_graph(cell) if name == "model" else named_graph(name, cell.inputs, hidden) for name in names]
        except ValueError as error:
            raise ConfigError(f"start: {error}") from None
        return tuple(with_skip(each) for each in made) if self.skip else tuple(made)

    def fits(self, model: Model, task: Task) -> None:
        """Refuse what cannot be trained.

        Raises:
            ConfigError: naming what could be used.
        """
        for graph in self.starts(model):
            if self.training.inner == "gradient":
                net = Network(graph, Linear(graph.outputs, task.outputs))
                rule, steps = ESTIMATORS[self.training.estimator](), task.train.inputs.shape[1]
                check_served(rule, net, steps, LOSSES[task.loss])

    def train(
        self, model: Model, task: Task, seed: int, resume: State = FRESH, compute: Compute = LOCAL
    ) -> Iterator[Progress]:
        """Yield one progress a trained structure, for ever."""
        self.fits(model, task)
        starts = self.starts(model)
        people = Population(self.settings, self.rates, self.space, starts, task.outputs, seed)
        outside, inside, budget, best = map(float, resume["loop"]) if resume else (0.0, 0.0, 0.0, np.inf)
        if resume:
            people.restore({name.removeprefix("topology/"): value for name, value in resume.items() if name != "loop"})
        context = {"task": task, "device": compute.device}
        with open_pool(min(compute.workers, self.settings.lag), context, **compute.options) as pool:
            here = 0 if compute.workers else 1  # whether the clock of this process sees the training too
            flight, watch = _Flight(pool, self.training, task.outputs, seed), Stopwatch(outside + here * inside)
            for number, one in people.flight.items():
                flight.send(number, one)
            while True:
                watch.start()
                while len(people.flight) < self.settings.lag:
                    flight.send(*people.ask())
                done = flight.back(people.told)
                net, rung = people.net(people.flight[people.told].graph), done.rung
                one = people.tell(done.genes, done.losses)
                budget += self.training.cost(net, len(done.genes), task.train.inputs.shape[1], rung)
                inside += done.seconds
                best = min(best, float(done.train.min()))
                first = ranking(done.train)
                outside = watch.stop() - here * inside
                loop = np.array([outside, inside, budget, best])
                yield Progress(
                    people.told,
                    budget,
                    outside + inside,
                    best,
                    done.genes[first],
                    done.train[first],
                    lambda: _kept(people, loop),  # noqa: B023 (called before the next step, if at all)
                    _metrics(people, one),
                    model=net,
                )


@dataclass
class _Flight:
    """Structures under way: sent in any number, taken back in the order of their own numbers."""

    pool: Pool
    inner: Inner
    outputs: int
    seed: int
    numbers: dict[int, tuple[int, Individual, float]] = field(default_factory=dict)  # by ticket
    early: dict[int, Trained] = field(default_factory=dict)

    def send(self, number: int, one: Individual, state: State = FRESH, left: int = -1, seconds: float = 0.0) -> None:
        """Have a structure trained."""
        rung = one.rung + int(np.isfinite(one.losses).any())
        left = self.inner.work(rung) if left < 0 else left
        net = Network(one.graph, Linear(one.graph.outputs, self.outputs))
        own = int(generator(self.seed, "topology", "training", generation=number).integers(2**62))
        ticket = self.pool.submit(WORK, net, self.inner, own, rung, one.genes, dict(state), left)
        self.numbers[ticket] = number, one, seconds

    def back(self, number: int) -> Trained:
        """Wait for this structure; others that come wait for their turn. Each comes back now and then."""
        while number not in self.early:
            ticket, piece = self.pool.next()
            its, one, seconds = self.numbers.pop(ticket)
            if piece.left:
                self.send(its, one, piece.state, piece.left, seconds + piece.seconds)
            else:
                self.early[its] = replace(piece, seconds=seconds + piece.seconds)
        return self.early.pop(number)


def _kept(people: Population, loop: Array) -> dict[str, Array]:
    return {f"topology/{name}": value for name, value in people.state().items()} | {"loop": loop}


def _metrics(people: Population, one: Individual) -> dict[str, float]:
    """What the population looks like, and how often each mutation has made a child better than its parent."""
    alive = [each for isle in people.alive for each in isle]
    sound = [each.loss for each in alive if np.isfinite(each.loss)]
    leader = min(alive, key=lambda each: (each.loss, each.number))
    found = {
        "population/mean_loss": float(np.mean(sound)) if sound else np.inf,
        "population/invalid_fraction": 1.0 - len(sound) / len(alive),
        "topology/genomes": float(len(people.lives)),
        "topology/nodes": float(len(leader.graph.nodes)),
        "topology/genes": float(leader.genes.shape[1]),
        "topology/rung": float(leader.rung),
        "topology/validation": leader.loss,
        "topology/newest": one.loss,
    }
    for name, (better, tried) in successes(people.lives).items():
        found[f"operator/{name}"] = better / tried
    return found
