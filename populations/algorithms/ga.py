"""The genetic algorithm (Holland 1975; real-coded: Goldberg 1991), its matrix operators named in a DEAP Toolbox."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from deap.base import Toolbox

from evo_rnn.errors import ConfigError
from evo_rnn.fitness import ranking, reciprocal
from evo_rnn.layout import Layout
from evo_rnn.seeds import generator
from evo_rnn.shapes import Array, Genes, Losses
from populations.algorithms.told import bounded, received, widths
from populations.operators import CROSSOVERS, MUTATIONS, SELECTIONS, log_normal, units_of

REPLACEMENTS = ("generational", "steady_state")
STEP_CONTROLS = ("decay", "self_adaptive")

BLOCK = 2**18  # genes bred at a time: a megabyte; part of what a seed means, as every block draws in turn


@dataclass(frozen=True)
class GeneticAlgorithm:
    """Elites stay; children of selected parents are mutated.

    Args:
        population: P, chromosomes in a generation.
        replacement: "generational": what was told last are the parents; or "steady_state": the best ever told are, so
            children replace the worst (GENITOR: Whitley 1989). Then every chromosome asked for is new, and a
            population of 10 to 20 children learns fastest.
        members: how many parents there are in a steady state; as long as there are fewer, chromosomes are drawn.
        elites: how many of the best go on unchanged, as the first rows; none in a steady state.
        selection: a name in `SELECTIONS`.
        size: of a tournament.
        pressure: children that the fittest expects under rank selection, 1 to 2.
        crossover: a name in `CROSSOVERS`.
        mating: share of children with two parents; the others are copies of one.
        alpha: how far blend crossover reaches beyond the parents, in their distance.
        eta: how near the parents simulated binary crossover stays; larger is nearer.
        mutation: a name in `MUTATIONS`.
        rate: share of genes that a sparse mutation moves.
        step: standard deviation of a mutation, in half widths of the gene's initial range. A dense one wants half.
        step_control: "decay": one step for all; or "self_adaptive": every chromosome carries its own, which begins as
            `step`, is inherited as the geometric mean of the parents' and moves log-normally (Schwefel 1981).
        decay: factor on the step in every generation, where it decays.
        least: the step never falls below it.
        spread: width of the first generation, in initial ranges.
    """

    population: int = 100
    replacement: str = "generational"
    members: int = 50
    elites: int = 2
    selection: str = "tournament"
    size: int = 3
    pressure: float = 1.8
    crossover: str = "unit"
    mating: float = 0.9
    alpha: float = 0.3
    eta: float = 5.0
    mutation: str = "sparse"
    rate: float = 0.2
    step: float = 0.3
    step_control: str = "decay"
    decay: float = 0.99
    least: float = 0.02
    spread: float = 1.0

    def __post_init__(self) -> None:
        names = {"selection": SELECTIONS, "crossover": CROSSOVERS, "mutation": MUTATIONS}
        for name, known in (names | {"replacement": REPLACEMENTS, "step_control": STEP_CONTROLS}).items():
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} should be one of {sorted(known)} but is {getattr(self, name)!r}.")
        bounds = {
            "population": (1, np.inf),
            "members": (1, np.inf),
            "elites": (0, max(self.population - 1, 0)),
            "size": (1, np.inf),
            "pressure": (1, 2),
        }
        shares = dict.fromkeys(("mating", "rate", "decay"), (0, 1))
        widths = dict.fromkeys(("alpha", "eta", "step", "least", "spread"), (0, 1e6))
        for name, (low, high) in (bounds | shares | widths).items():
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} should be between {low} and {high} but is {getattr(self, name)}.")

    def toolbox(self, layout: Layout) -> Toolbox:
        """The operators under DEAP's names: `select`, `mate` and `mutate`, each with its settings."""
        settings: dict[str, dict[str, Any]] = {
            "tournament": {"size": self.size},
            "rank": {"pressure": self.pressure},
            "unit": {"units": units_of(layout)} if self.crossover == "unit" else {},
            "blend": {"alpha": self.alpha},
            "simulated_binary": {"eta": self.eta},
            "sparse": {"rate": self.rate},
        }
        box = Toolbox()
        box.register("select", SELECTIONS[self.selection], **settings.get(self.selection, {}))
        box.register("mate", CROSSOVERS[self.crossover], **settings.get(self.crossover, {}))
        box.register("mutate", MUTATIONS[self.mutation], **settings.get(self.mutation, {}))
        return box

    def begin(self, layout: Layout, seed: int) -> GeneticSearch:
        """A search in progress."""
        return GeneticSearch(self, layout, seed)


@dataclass
class GeneticSearch:
    """A genetic algorithm in progress. Register other operators in `toolbox` before the first `ask` to change it."""

    settings: GeneticAlgorithm
    layout: Layout
    seed: int
    toolbox: Toolbox = field(init=False)
    generation: int = field(init=False, default=0)
    parents: Genes = field(init=False)  # (N, D) what was told last, or the best ever told
    loss: Losses = field(init=False)  # (N,)
    steps: Losses = field(init=False)  # (N,) that each parent carries, in half widths; unused where the step decays

    def __post_init__(self) -> None:
        self.toolbox = self.settings.toolbox(self.layout)
        self.parents, self.loss, self.steps = np.empty((0, self.layout.size), np.float32), np.empty(0), np.empty(0)

    def ask(self) -> Genes:
        """The first generation (P, D), or the elites of what was told and their children."""
        if self._drawing():
            return self.layout.draw(self._stream("start"), self.settings.population, self.settings.spread)
        genes = np.empty((self.settings.population, self.layout.size), np.float32)
        best = self._elites()
        genes[: len(best)] = self.parents[best]
        with np.errstate(over="ignore", invalid="ignore"):
            self._breed(genes[len(best) :], *self._pairs(len(genes) - len(best)))
        return genes

    def tell(self, genes: Genes, loss: Losses) -> None:
        """What was told are the parents of the next generation; in a steady state, the best of it and of the parents.

        Row i carries the step of child i, whatever was refined in it; rows beyond P are guests and carry a middling one.
        """
        genes, loss = received(genes, loss, self.layout.size)
        asked = self._offered()[: len(loss)]
        steps = np.concatenate([asked, np.full(len(loss) - len(asked), self._usual())])
        if self.settings.replacement == "steady_state":
            genes, loss = np.concatenate([genes, self.parents]), np.concatenate([loss, self.loss])
            stay = ranking(loss)[: self.settings.members]  # of equals the newer: the search drifts over plateaus
            genes, loss, steps = genes[stay], loss[stay], np.concatenate([steps, self.steps])[stay]
        self.parents, self.loss, self.steps = genes, loss, steps
        self.generation += 1

    def state(self) -> dict[str, Array]:
        """The parents, their losses, the steps that they carry and the generation."""
        generation = np.array([self.generation], dtype=np.int64)
        arrays: dict[str, Array] = {"parents": self.parents, "loss": self.loss, "steps": self.steps}
        return {name: array.copy() for name, array in arrays.items()} | {"generation": generation}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take the place of the search that gave the state."""
        self.parents, self.loss, self.steps = (np.array(state[name]) for name in ("parents", "loss", "steps"))
        self.generation = int(state["generation"][0])

    def _drawing(self) -> bool:
        steady = self.settings.replacement == "steady_state"
        return len(self.parents) < (self.settings.members if steady else 1)

    def _elites(self) -> Array:
        """The valid ones among the best, that go on as they are."""
        if self._drawing() or self.settings.replacement == "steady_state":
            return np.empty(0, dtype=np.int64)
        best = ranking(self.loss)[: self.settings.elites]
        return best[np.isfinite(self.loss[best])]

    def _pairs(self, count: int) -> tuple[Array, Array]:
        """Mothers and fathers (count,) of the next children."""
        chosen = self.toolbox.select(reciprocal(self.loss), 2 * count, self._stream("select"))
        mothers, fathers = chosen[:count], chosen[count:]
        alone = self._stream("alone").random(count) >= self.settings.mating
        return mothers, np.where(alone, mothers, fathers)  # mated with itself, a chromosome stays as it is

    def _breed(self, children: Genes, mothers: Array, fathers: Array) -> None:
        """Fill `children`, block by block: what an operator makes on the way stays in the processor's cache."""
        step, mating, mutation = self._step(mothers, fathers), self._stream("mate"), self._stream("mutate")
        width = widths(self.layout)
        rows = max(BLOCK // self.layout.size, 1)
        for block in (slice(start, start + rows) for start in range(0, len(children), rows)):
            child = self.toolbox.mate(self.parents[mothers[block]], self.parents[fathers[block]], mating)
            child = self.toolbox.mutate(child, step[block] * width if step.ndim else step * width, mutation)
            sound = np.isfinite(child.sum())  # where huge genes overflow, the mother's stay
            children[block] = child if sound else bounded(child, self.parents[mothers[block]])

    def _step(self, mothers: Array, fathers: Array) -> Array:
        """The step of all children, (), or of each, (N, 1): in half widths."""
        if self.settings.step_control == "self_adaptive":
            return self._inherited(mothers, fathers)[:, None]
        share = self.settings.step * self.settings.decay ** (self.generation - 1)
        return np.array(max(share, self.settings.least), dtype=np.float32)

    def _inherited(self, mothers: Array, fathers: Array) -> Losses:
        steps = log_normal(self.steps[mothers], self.steps[fathers], self.layout.size, self._stream("steps"))
        return np.maximum(steps, self.settings.least)

    def _offered(self) -> Losses:
        """The steps (P,) that the chromosomes asked for carry."""
        if self._drawing() or self.settings.step_control != "self_adaptive":
            return np.full(self.settings.population, float(self.settings.step))
        best = self._elites()
        return np.concatenate([self.steps[best], self._inherited(*self._pairs(self.settings.population - len(best)))])

    def _usual(self) -> float:
        return float(np.median(self.steps)) if len(self.steps) else float(self.settings.step)

    def _stream(self, word: str) -> np.random.Generator:
        return generator(self.seed, "ga", word, generation=self.generation)
