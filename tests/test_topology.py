"""Topology evolution: growth keeps the function, genomes are recognised, and a search is the same wherever it is done."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evo_rnn.cells import CTRNN, GRU, LSTM, Elman, Graph, Node
from evo_rnn.cells.equations import parsed
from evo_rnn.cells.graph import X, spoken
from evo_rnn.cells.named_graphs import GRAPHS, graph
from evo_rnn.errors import ConfigError
from evo_rnn.evaluation.ray_evaluator import Compute
from evo_rnn.fitness import LOSSES, batch
from evo_rnn.network import Network, network
from evo_rnn.progress import FRESH, Progress
from evo_rnn.tasks import TASKS
from populations.topology import GROWTH, MUTATIONS, Space, digest, fingerprint, inherited, pruned
from populations.topology.crossover import crossed
from populations.topology.population import Population
from populations.topology.settings import Rates, Settings, mutated
from populations.topology.starts import as_graph, with_skip
from trainers.gradient import BPTT, slope
from trainers.inner import Inner
from trainers.topology import Topology

SPACE = Space(max_width=8, max_nodes=40)
EVERY = list(GRAPHS)


def stirred(seed: int, steps: int = 8) -> Graph:
    stream = np.random.default_rng(seed)
    made = graph(EVERY[seed % len(EVERY)], 2, 3)
    for _ in range(steps):
        made = mutated(made, Rates(), SPACE, stream)[1].graph
    return made


def grown(name: str, parent: Graph, seed: int) -> Any:
    """A mutation of this kind, whatever it takes; some genomes have no room for it."""
    stream = np.random.default_rng(seed)
    for _ in range(50):
        try:
            return MUTATIONS[name](parent, SPACE, stream)
        except ValueError:
            continue
    return None


# --- mutations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GROWTH)
def test_growth_keeps_the_function(name: str) -> None:
    tried = 0
    for seed in range(230):
        parent = stirred(seed, seed % 6)
        change = grown(name, parent, seed)
        if change is None:
            continue
        mother, child = network(parent, 2), network(change.graph, 2)
        stream = np.random.default_rng(seed)
        genes = mother.layout.draw(stream, 2).astype(np.float64)
        given_on = inherited(mother, genes, child, change, child.layout.draw(stream, 2).astype(np.float64))
        x = torch.tensor(stream.normal(size=(2, 12, 2)))
        before, after = (net.predict(torch.tensor(weights), x) for net, weights in ((mother, genes), (child, given_on)))
        assert change.graph != parent
        if before.abs().max() < 1e6:
            np.testing.assert_allclose(after.numpy(), before.numpy(), atol=1e-10, rtol=1e-10)
            tried += 1
    assert tried >= 200


@pytest.mark.parametrize("name", GROWTH)
def test_what_has_grown_can_learn(name: str) -> None:
    """The branch that is silent at first has a slope, and copies of a unit do not stay alike."""
    parent = graph("lstm", 2, 3)
    change = grown(name, parent, 3)
    mother, child = network(parent, 1), network(change.graph, 1)
    stream = np.random.default_rng(0)
    genes = mother.layout.draw(stream, 1)
    given_on = torch.tensor(inherited(mother, genes, child, change, child.layout.draw(stream, 1)), dtype=torch.float64)
    data = replace(batch(TASKS["sunspots"]().train, torch.float64), inputs=torch.randn(1, 220, 2).double())
    _, slopes = slope(BPTT(), child, given_on, data, LOSSES["mse"])
    places = {(link.target, link.source): k for k, link in enumerate(child.layout.links())}
    known = {(link.target, link.source) for link in mother.layout.links()}
    fresh = [place for key, place in places.items() if key not in known]
    split = change.renamed and not change.silent
    assert split or max(float(slopes[0, place].abs()) for place in fresh) > 0
    if name == "widen":
        origins = next(iter(change.origins.values()))
        first, copy = origins.index(origins[-1]), len(origins) - 1
        pair = [slopes[0, places[f"cell.g[{unit}]", "cell.x[0]"]] for unit in (first, copy)]
        assert not torch.isclose(*pair, rtol=1e-6)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6))
def test_any_chain_of_mutations_gives_a_network_that_trains(seed: int) -> None:
    stream = np.random.default_rng(seed)
    made = graph(EVERY[seed % len(EVERY)], 2, 3)
    genes = network(made, 1).layout.draw(stream, 2)
    for _ in range(50):
        _, change = mutated(made, Rates(), SPACE, stream)
        before, after = network(made, 1), network(change.graph, 1)
        genes = inherited(before, genes, after, change, after.layout.draw(stream, 2))
        made = change.graph
        assert pruned(made) == made
        assert len(made.nodes) <= SPACE.max_nodes
        assert max(node.width for node in made.nodes) <= SPACE.max_width
    net, data = network(made, 1), batch(TASKS["sunspots"]().train)
    short = replace(
        data, inputs=torch.randn(1, 9, 2).double(), targets=data.targets[:, 20:29], counts=data.counts[:, 20:29]
    )
    loss, gradient = slope(BPTT(), net, 0.1 * torch.tensor(genes).double(), short, LOSSES["mse"])
    assert loss.isfinite().all()
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


@pytest.mark.parametrize("name", MUTATIONS)
def test_every_mutation_changes_something(name: str) -> None:
    changes = [grown(name, stirred(seed), seed) for seed in range(12)]
    found = [(change.graph, stirred(seed)) for seed, change in enumerate(changes) if change is not None]
    assert len(found) >= 4
    assert all(child != parent for child, parent in found)


def test_narrowing_keeps_the_weights_of_the_units_that_stay() -> None:
    parent = graph("elman", 2, 4)
    change = grown("narrow", parent, 0)
    mother, child = network(parent, 1), network(change.graph, 1)
    genes = mother.layout.draw(np.random.default_rng(0), 1)
    found = inherited(mother, genes, child, change, np.full((1, child.layout.size), np.nan, np.float32))
    kept = change.origins["h"]
    before = mother.layout.unpack(torch.tensor(genes))["cell.group0.h@1"][0]
    after = child.layout.unpack(torch.tensor(found))["cell.group0.h@1"][0]
    torch.testing.assert_close(after, before[list(kept)][:, list(kept)])
    assert np.isfinite(found).all()


def test_crossover_brings_in_a_part_of_the_other() -> None:
    stream = np.random.default_rng(1)
    first = parsed("a.h = tanh(W x + W a.h@1 + b)\ng = relu(W a.h + b)", 2, 3, ("g",))
    second = parsed("m.c = sigmoid(W x + w m.c@2 + b)\nh = tanh(W m.c + b)", 2, 4, ("h",))
    children = {crossed(first, second, stream).graph for _ in range(40)}
    assert any(node.op == "sigmoid" for child in children for node in child.nodes)
    assert all(child.inputs == 2 for child in children)
    for seed in range(40):
        child = crossed(stirred(seed), stirred(seed + 1), stream).graph
        assert pruned(child) == child


# --- which genomes are the same -------------------------------------------------------------------------------------


def shuffled(cell: Graph, stream: np.random.Generator) -> Graph:
    """The same graph under other names, in another order, with a node that nobody hears."""
    names = {
        node.name: f"q{place}" for place, node in zip(stream.permutation(len(cell.nodes)), cell.nodes, strict=True)
    }
    names[X] = X
    nodes = [
        replace(
            node,
            name=names[node.name],
            edges=tuple(
                replace(node.edges[k], source=names[node.edges[k].source]) for k in stream.permutation(len(node.edges))
            ),
        )
        for node in cell.nodes
    ]
    dead = Node("dead", "tanh", 2, bias=True)
    order = stream.permutation(len(nodes) + 1)
    return Graph(cell.inputs, tuple([*nodes, dead][k] for k in order), tuple(names[head] for head in cell.heads))


@pytest.mark.parametrize("name", EVERY)
def test_names_and_orders_do_not_matter(name: str) -> None:
    stream, cell = np.random.default_rng(0), graph(name, 3, 4)
    others = [shuffled(cell, stream) for _ in range(20)]
    assert {digest(other) for other in others} == {digest(cell)}
    assert {fingerprint(other) for other in others} == {fingerprint(cell)}


def test_different_cells_are_different() -> None:
    cells = [graph(name, 3, width) for name in EVERY for width in (3, 4)]
    assert len({digest(cell) for cell in cells}) == len(cells)
    assert len({fingerprint(cell) for cell in cells}) == len(cells)


def test_sharing_a_node_is_not_having_two() -> None:
    one = parsed("a = tanh(W x + b)\nc = relu(W a)\nd = relu(W a)\nh = c * d", 2, 3, ("h",))
    two = parsed("a = tanh(W x + b)\ne = tanh(W x + b)\nc = relu(W a)\nd = relu(W e)\nh = c * d", 2, 3, ("h",))
    assert digest(one) != digest(two)


def test_what_is_written_differently_and_computes_the_same_has_one_fingerprint() -> None:
    plain = parsed("a = tanh(W x + b)\nh = a + a@1", 2, 3, ("h",))
    longer = parsed("a = tanh(W x + b)\nm = mul(a)\nh = identity(m + a@1)", 2, 3, ("h",))
    assert digest(plain) != digest(longer)
    assert fingerprint(plain) == fingerprint(longer)


def test_equal_digests_mean_equal_functions() -> None:
    stream = np.random.default_rng(0)
    known: dict[str, set[str]] = {}
    for seed in range(60):
        made = graph(EVERY[seed % len(EVERY)], 2, 2)
        for _ in range(8):
            made = mutated(made, Rates(), SPACE, stream)[1].graph
            known.setdefault(digest(made), set()).add(fingerprint(made))
    assert len(known) > 300
    assert all(len(functions) == 1 for functions in known.values())


@pytest.mark.nightly
def test_no_digest_of_5000_genomes_has_two_functions() -> None:
    stream, known, seed = np.random.default_rng(1), {}, 0
    while len(known) < 5000:
        made, seed = graph(EVERY[seed % len(EVERY)], 2, 2), seed + 1
        for _ in range(20):
            made = mutated(made, Rates(), SPACE, stream)[1].graph
            known.setdefault(digest(made), set()).add(fingerprint(made))
    assert all(len(functions) == 1 for functions in known.values())


# --- the population -------------------------------------------------------------------------------------------------


def fake(one: Any, number: int) -> tuple[Any, Any]:
    """What training might have made of it: the larger the number of genes, the better."""
    loss = 1.0 / one.genes.shape[1] + 0.001 * (number % 7)
    return one.genes + np.float32(0.01), loss + 0.001 * np.arange(len(one.genes))


def lived(people: Population, steps: int) -> list[str]:
    found = []
    for _ in range(steps):
        while len(people.flight) < people.settings.lag:
            people.ask()
        one = people.flight[people.told]
        found.append(f"{one.number} {one.operator} {one.rung} {digest(one.graph)} {one.genes.sum():.9g}")
        people.tell(*fake(one, people.told))
    return found


def people(**given: Any) -> Population:
    return Population(
        Settings(**({"population": 8, "weight_sets": 2} | given)),
        Rates(crossover=0.2),
        SPACE,
        (graph("lstm", 1, 2), graph("gru", 1, 2)),
        1,
        5,
    )


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"survival": "nsga2"},
        {"inheritance": "darwinian"},
        {"inheritance": "baldwinian"},
        {"search": "random"},
        {"islands": 3},
        {"lag": 1, "hurdles": 1},
    ],
)
def test_a_population_goes_on_from_its_state_as_if_nothing_had_been(given: dict[str, Any]) -> None:
    whole = people(**given)
    wanted = lived(whole, 40)
    for cut in (0, 1, 17, 39):
        first = people(**given)
        found = lived(first, cut)
        second = people(**given)
        second.restore({name: value.copy() for name, value in first.state().items()})
        assert found + lived(second, 40 - cut) == wanted


def test_nothing_is_trained_twice_but_to_be_trained_on() -> None:
    one = people()
    born: dict[str, str] = {}
    for line in lived(one, 120):
        number, _, _, name, _ = line.split()
        assert born.setdefault(number, name) == name
    assert len(set(born.values())) == len(born) < 120


def test_only_the_best_share_of_a_rung_is_trained_on() -> None:
    one = people(hurdles=3, keep=0.34)
    lived(one, 150)
    rungs = [life.rung for life in one.lives.values()]
    passed = [sum(rung >= k for rung in rungs) for k in range(3)]
    assert 0 < passed[1] <= 0.34 * passed[0] + 1
    assert 0 < passed[2] <= 0.34 * passed[1] + 1


def test_the_oldest_goes_or_the_worst_in_loss_and_size() -> None:
    old = people()
    lived(old, 60)
    assert len(old.alive[0]) == 8
    newest = sorted(life.number for life in old.lives.values() if life.loss < np.inf)[-8:]
    assert {one.number for one in old.alive[0]} == set(newest)
    pareto = people(survival="nsga2")
    lived(pareto, 60)
    best = min(pareto.lives.values(), key=lambda life: life.loss)
    smallest = min((life for life in pareto.lives.values() if life.loss < np.inf), key=lambda life: life.genes)
    assert {best.number, smallest.number} <= {one.number for one in pareto.alive[0]} | {best.number}
    assert len(pareto.alive[0]) == 8


def test_training_that_made_it_worse_is_forgotten() -> None:
    one = people(lag=1)
    _, first = one.ask()
    kept = one.tell(first.genes + 1, np.array([0.5, np.inf]))
    one.flight[one.told] = kept
    again = one.tell(kept.genes + 1, np.array([0.7, 0.1]))
    assert again.losses.tolist() == [0.5, 0.1]
    np.testing.assert_array_equal(again.genes[0], kept.genes[0])


# --- the trainer ----------------------------------------------------------------------------------------------------

SUNSPOTS = TASKS["sunspots"]()
SMALL = Topology(Settings(population=5, weight_sets=2, lag=3, hurdles=2), Rates(), SPACE, Inner(effort=2))
LSTM2 = network(LSTM(1, 2), 1)


def steps(
    trainer: Topology, count: int, seed: int = 0, compute: Compute | None = None, resume: Any = FRESH
) -> list[Any]:
    found = []
    stream = trainer.train(LSTM2, SUNSPOTS, seed, resume, compute or Compute())
    for progress in stream:
        found.append((said(progress), progress.checkpoint()))
        if len(found) == count:
            break
    stream.close()  # type: ignore[attr-defined]
    return found


def said(progress: Progress) -> tuple[Any, ...]:
    assert isinstance(progress.model, Network)
    assert isinstance(progress.model.cell, Graph)
    kept = digest(progress.model.cell), progress.candidates.tobytes(), progress.losses.tobytes()
    return (progress.step, progress.passes, progress.loss, *kept)


@pytest.mark.parametrize("inner", ["gradient", "evolution", "evolino"])
def test_a_search_goes_on_bit_for_bit_after_it_was_stopped(inner: str) -> None:
    trainer = replace(SMALL, training=Inner(inner=inner, effort=2, weight_population=6))
    whole = steps(trainer, 8)
    for cut in (1, 4):
        found = steps(trainer, 8 - cut, resume=whole[cut - 1][1])
        assert [each for each, _ in found] == [each for each, _ in whole[cut:]]
    assert len({each[3] for each, _ in whole}) > 3
    assert [each for each, _ in steps(trainer, 2, seed=1)] != [each for each, _ in whole[:2]]


@pytest.mark.parametrize("inner", ["gradient", "evolution", "evolino"])
def test_where_a_long_training_is_cut_cannot_matter(inner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = replace(SMALL, training=Inner(inner=inner, effort=3, weight_population=6))
    whole = [each for each, _ in steps(trainer, 4)]
    monkeypatch.setattr("trainers.inner.LONGEST", 0.0)
    assert [each for each, _ in steps(trainer, 4)] == whole


def test_training_helps() -> None:
    trainer = replace(SMALL, training=Inner(effort=30), settings=replace(SMALL.settings, hurdles=1))
    best = steps(trainer, 3)[-1][0][2]
    assert best < 0.5 * SUNSPOTS.train.targets[SUNSPOTS.train.counts].var()


@pytest.mark.nightly
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_any_number_of_workers_finds_the_same(workers: int) -> None:
    wanted = [each for each, _ in steps(SMALL, 10)]
    assert [each for each, _ in steps(SMALL, 10, compute=Compute(workers))] == wanted


@pytest.mark.timeout(240)
def test_workers_find_the_same_also_when_one_is_killed() -> None:
    wanted = [each for each, _ in steps(SMALL, 10)]
    killed: list[int] = []

    def kill() -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end and not killed:
            for each in psutil.Process().children(recursive=True):
                try:
                    if "RayWorker" in " ".join(each.cmdline()):
                        time.sleep(0.4)
                        os.kill(each.pid, signal.SIGKILL)
                        killed.append(each.pid)
                        return
                except (psutil.Error, ProcessLookupError):
                    continue
            time.sleep(0.05)

    thread = threading.Thread(target=kill)
    thread.start()
    found = [each for each, _ in steps(SMALL, 10, compute=Compute(2))]
    thread.join()
    assert killed
    assert found == wanted


def test_a_network_that_breaks_is_the_worst_and_nothing_is_lost() -> None:
    wild = replace(SMALL, training=Inner(effort=3, learning_rate=1e30, clip=0.0))
    found = steps(wild, 6)
    assert found[-1][0][0] == 6


def test_every_cell_of_torch_can_be_a_start() -> None:
    for cell in (Elman(1, 3), LSTM(1, 3), LSTM(1, 3, peepholes=True), GRU(1, 3), GRU(1, 3, reset="before")):
        assert with_skip(as_graph(cell)).outputs == 4
    assert with_skip(with_skip(as_graph(Elman(1, 3)))).outputs == 4
    several = replace(SMALL, start="model, gru,mgu").starts(LSTM2)
    assert [len(each.nodes) for each in several] == [10, 10, 8]


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (lambda: Settings(population=0), "population should be at least 1"),
        (lambda: Settings(survival="luck"), "survival should be aging or nsga2 but is 'luck'"),
        (lambda: Settings(keep=2.0), "keep should be from 0 to 1"),
        (lambda: Settings(population=2, islands=3), "islands should be at most population"),
        (lambda: Rates(**dict.fromkeys(MUTATIONS, 0.0)), "rates of mutations"),
        (lambda: Rates(add_edge=-1.0), "rates of mutations"),
        (lambda: Inner(inner="magic"), "inner should be one of gradient, evolution, evolino"),
        (lambda: Inner(effort=0), "effort should be at least 1"),
        (lambda: Inner(learning_rate=float("nan")), "learning_rate should be positive"),
        (lambda: Inner(inner="evolino", loss="ctc"), "needs a loss with a target at every step"),
        (lambda: replace(SMALL, start="lstmm").starts(LSTM2), "should be one of elman, lstm"),
        (lambda: SMALL.starts(network(CTRNN(1, 2), 1)), "should be an elman, an lstm, a gru or a graph"),
    ],
)
def test_settings_that_make_no_sense_are_refused(made: Any, wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted):
        made()


def test_sources_are_called_plainly_where_they_are_heard_as_usual() -> None:
    assert [spoken(slot) for slot in ((X, 0), (X, 2), ("h", 1), ("h", 0), ("h", 3))] == ["x", "x@2", "h", "h@0", "h@3"]
