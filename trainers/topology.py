"""Topology evolution: graphs are asked for, their weights are trained, and what came of it is told.

The unit of work is one structure with K weight sets, trained side by side by any gradient rule, by a weight search, or as
Evolino (Schmidhuber et al. 2007, Neural Computation 19: hidden weights evolved, the readout solved). Structures differ in
size, so nothing waits for generations; they are told in the order in which they were asked for.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from evo_rnn.cells import GRU, LSTM, Edge, Elman, Graph, Node
from evo_rnn.cells.cell import Cell
from evo_rnn.cells.graph import X
from evo_rnn.cells.named_graphs import graph as named_graph
from evo_rnn.errors import ConfigError
from evo_rnn.evaluation.evaluator import LocalEvaluator
from evo_rnn.evaluation.pool import Pool, open_pool
from evo_rnn.evaluation.ray_evaluator import LOCAL, Compute
from evo_rnn.evaluation.worker import WorkerCache
from evo_rnn.fit import SolvedReadout
from evo_rnn.fitness import LOSSES, batch, ranking, sanitise
from evo_rnn.network import Linear, Model, Network
from evo_rnn.progress import FRESH, Progress, State
from evo_rnn.seeds import generator
from evo_rnn.shapes import Array, Genes, Losses
from evo_rnn.tasks.task import Task
from evo_rnn.threads import Stopwatch
from populations.algorithms import ALGORITHMS
from populations.evolution import Evolution, Unfitted
from populations.stretch import Port
from populations.topology.lives import successes
from populations.topology.mutations import Space
from populations.topology.population import Individual, Population, Rates, Settings
from trainers.gradient import ESTIMATORS, passes
from trainers.gradient.estimator import reseeded
from trainers.gradient.slope import check_served
from trainers.moving import Move
from trainers.rows import OPTIMIZERS, Rows

WORK = "trainers.topology:train_on"
LONGEST = 2.0  # seconds a call, about: a worker that is silent for long would count as hung
FOUR = 4  # times as much training a rung
NEVER = 2**31


@dataclass(frozen=True)
class Inner:
    """How the weights of a structure are trained.

    Args:
        inner: "gradient"; "evolution", a search over weights; "evolino", the same with the readout solved by ridge.
        effort: gradients or generations on the first rung; each further rung has four times as many.
        estimator: of the gradient, a name in `ESTIMATORS`.
        optimizer: a name in `OPTIMIZERS`.
        learning_rate: of the optimizer.
        clip: bound on the norm of each row's gradient; 0 means none.
        algorithm: of the search over weights, a name in `ALGORITHMS`.
        weight_population: its chromosomes.
        loss: a name in `LOSSES`.
    """

    inner: str = "gradient"
    effort: int = 10
    estimator: str = "bptt"
    optimizer: str = "adam"
    learning_rate: float = 0.03
    clip: float = 1.0
    algorithm: str = "ga"
    weight_population: int = 20
    loss: str = "mse"

    def __post_init__(self) -> None:
        known = {"inner": INNER, "estimator": ESTIMATORS, "optimizer": OPTIMIZERS, "algorithm": ALGORITHMS}
        for name, names in known.items():
            if getattr(self, name) not in names:
                raise ConfigError(f"{name} should be one of {', '.join(names)} but is {getattr(self, name)!r}.")
        if self.effort < 1 or self.weight_population < 2:
            raise ConfigError("effort should be at least 1 and weight_population at least 2 but one is less.")
        if not 0 < self.learning_rate < np.inf or not 0 <= self.clip < np.inf:
            raise ConfigError("learning_rate should be positive and clip 0 or more but one is not.")
        if self.inner == "evolino":
            SolvedReadout(loss=self.loss)  # refuses losses without a target a step

    def work(self, rung: int) -> int:
        """Gradients or generations of a rung."""
        return int(self.effort * FOUR**rung)

    def cost(self, net: Network, sets: int, steps: int, rung: int) -> float:
        """Passes that a rung costs; one more a weight set is for looking at what came of it."""
        if self.inner == "gradient":
            each = sets * passes(ESTIMATORS[self.estimator](), net, steps)
        else:
            each = self.weight_population * (1.0 + self.fit.passes(net, steps))
        return self.work(rung) * each + sets

    @property
    def fit(self) -> SolvedReadout | Unfitted:
        """What is done to each chromosome before it is scored."""
        return SolvedReadout(loss=self.loss) if self.inner == "evolino" else Unfitted()


INNER = ("gradient", "evolution", "evolino")


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


def as_graph(cell: Cell) -> Graph:
    """A cell as the graph that computes the same.

    Raises:
        ValueError: if it is none that a graph is known of.
    """
    if isinstance(cell, Graph):
        return cell
    kinds = {Elman: "elman", LSTM: "lstm", GRU: "gru"}
    name = kinds.get(type(cell), "")
    if not name or not isinstance(cell, Elman | LSTM | GRU):
        raise ValueError(f"the model should be an elman, an lstm, a gru or a graph, to begin with, but is {cell}.")
    name += "_peepholes" * (isinstance(cell, LSTM) and cell.peepholes)
    name += "_before" * (isinstance(cell, GRU) and cell.reset == "before")
    return named_graph(name, cell.inputs, cell.hidden)


def with_skip(graph: Graph) -> Graph:
    """The graph with the input beside its heads."""
    if any(graph.named[head].op == "identity" and graph.named[head].edges == (SKIP,) for head in graph.heads):
        return graph
    name = next(name for name in ("now", *(f"now{k}" for k in range(999))) if name not in graph.named)
    return Graph(graph.inputs, (*graph.nodes, Node(name, "identity", graph.inputs, (SKIP,))), (*graph.heads, name))


SKIP = Edge(X, "plain")


@dataclass(frozen=True, eq=False)
class Trained:
    """What training has made of a structure, so far.

    Args:
        genes: (K, D).
        losses: (K,) on the validation split.
        train: (K,) on the training split.
        rung: that was trained.
        seconds: of the CPU.
        left: gradients or generations still to do, when the call ended early.
        state: to go on from then.
    """

    genes: Genes
    losses: Losses
    train: Losses
    rung: int
    seconds: float
    left: int = 0
    state: State = field(default_factory=dict)


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


def train_on(
    cache: WorkerCache, net: Network, inner: Inner, seed: int, rung: int, genes: Genes, state: State, left: int
) -> Trained:
    """Train weight sets (K, D) of a structure further; a call that gets long ends early.

    Where it ends cannot matter: what goes on from its state does not differ by a bit from what never stopped.
    """
    clock, due = time.thread_time(), time.monotonic() + LONGEST
    task, device = cache.values["task"], cache.values["device"]
    train = _descend if inner.inner == "gradient" else _search
    genes, state, left = train(task, device, net, inner, seed, np.array(genes), state, left, due)
    if left:
        nothing = np.full(len(genes), np.inf)
        return Trained(genes[:0], nothing, nothing, rung, time.thread_time() - clock, left, state)
    validation = LocalEvaluator(net, task.validation, task.loss, device)(genes)
    return Trained(
        genes, validation, LocalEvaluator(net, task.train, task.loss, device)(genes), rung, time.thread_time() - clock
    )


Piece = tuple[Genes, State, int]  # weight sets, what to go on from, what is left


def _descend(
    task: Task, device: str, net: Network, inner: Inner, seed: int, genes: Genes, state: State, left: int, due: float
) -> Piece:
    """Each row follows its own gradient; one that breaks begins again where it began."""
    start = np.array(state["start"]) if state else genes
    rates = np.full(len(genes), inner.learning_rate)
    rows = Rows(inner.optimizer, rates, lambda row, life: np.array(start[row]), NEVER)  # noqa: ARG005
    rows.restore({name: value for name, value in state.items() if name != "start"})
    data, loss = batch(task.train, torch.float32, device), LOSSES[task.loss]
    rule = ESTIMATORS[inner.estimator]()
    while left:
        Move(rows, reseeded(rule, seed, left), net, data, loss, clip=inner.clip)({})
        left -= 1
        if left and time.monotonic() > due:
            return genes, rows.state() | {"start": start, "loop": np.zeros(4)}, left
    return rows.genes().numpy(), {}, 0


def _search(
    task: Task, device: str, net: Network, inner: Inner, seed: int, genes: Genes, state: State, left: int, due: float
) -> Piece:
    """Weights are evolved from those that came; the best as many are handed back."""
    known = genes[:0] if state else genes
    losses = LocalEvaluator(net, task.train, task.loss, device)(known)
    port = Port(replace(ALGORITHMS[inner.algorithm](), population=inner.weight_population), known, sanitise(losses))
    loop = Evolution(algorithm=port, fit=inner.fit)
    for progress in loop.train(net, task, seed, state, Compute(device=device)):
        left -= 1
        if not left:
            break
        if time.monotonic() > due:
            return genes, progress.checkpoint(), left
    found, its = port.told
    everybody, all_losses = np.concatenate([found, known]), np.concatenate([its, losses])
    return everybody[ranking(all_losses)[: len(genes)]], {}, 0


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
