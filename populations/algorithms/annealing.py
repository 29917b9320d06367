"""Simulated annealing (Kirkpatrick, Gelatt and Vecchi 1983): P independent chains, each with its own step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from evo_rnn.errors import ConfigError
from evo_rnn.fitness import FLOOR
from evo_rnn.layout import Layout
from evo_rnn.seeds import generator
from evo_rnn.shapes import Array, Genes, Losses
from populations.algorithms.told import bounded, guests, received, widths
from populations.operators import sparse


@dataclass(frozen=True)
class Annealing:
    """Chains that accept a worse neighbour by chance, less and less as they cool.

    The energy is the logarithm of the loss, so a temperature has no unit: at T a loss twice as large is accepted with
    probability 2**(-1/T). It is one of the searches that see the values of losses, not their order alone.

    Args:
        population: P, independent chains.
        temperature: T of the first generation.
        cooling: factor on the temperature in every generation.
        rate: share of genes that a proposal moves.
        step: their first standard deviation, in half widths of the gene's initial range.
        acceptance: share of proposals that a chain wants accepted: its step grows or shrinks towards it (as in Corana
            et al. 1987).
        adaptation: how fast: the logarithm of the step moves by it times what an acceptance was more than wanted.
        spread: width of the first generation, in initial ranges.
    """

    population: int = 10
    temperature: float = 0.1
    cooling: float = 0.99
    rate: float = 0.2
    step: float = 0.3
    acceptance: float = 0.2
    adaptation: float = 0.1
    spread: float = 1.0

    def __post_init__(self) -> None:
        shares = dict.fromkeys(("cooling", "rate", "acceptance"), (0, 1))
        sizes = dict.fromkeys(("temperature", "step", "adaptation", "spread"), (0, 1e6))
        for name, (low, high) in ({"population": (1, np.inf)} | shares | sizes).items():
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} should be between {low} and {high} but is {getattr(self, name)}.")

    def begin(self, layout: Layout, seed: int) -> _Annealing:
        """A search in progress."""
        return _Annealing(self, layout, seed)


@dataclass
class _Annealing:
    settings: Annealing
    layout: Layout
    seed: int
    generation: int = 0
    members: Genes = field(init=False)  # (P, D) where each chain is
    loss: Losses = field(init=False)  # (P,), infinite where not told yet
    step: Losses = field(init=False)  # (P,) of each chain, in half widths

    def __post_init__(self) -> None:
        count = self.settings.population
        self.members = self.layout.draw(self._stream("start"), count, self.settings.spread)
        self.loss, self.step = np.full(count, np.inf), np.full(count, float(self.settings.step))

    def ask(self) -> Genes:
        if not self.generation:
            return self.members.copy()
        with np.errstate(over="ignore", invalid="ignore"):
            steps = self.step[:, None] * widths(self.layout)
            return bounded(sparse(self.members, steps, self._stream("move"), rate=self.settings.rate), self.members)

    def tell(self, genes: Genes, loss: Losses) -> None:
        """Row i is the proposal of chain i, whatever was refined in it; rows beyond P are guests."""
        genes, loss = received(genes, loss, self.layout.size)
        rows = min(len(loss), self.settings.population)
        chosen = self._accepted(loss[:rows])
        if self.generation:
            surplus = chosen - self.settings.acceptance
            self.step[:rows] = np.clip(self.step[:rows] * np.exp(self.settings.adaptation * surplus), 1e-6, 1e6)
        self.members[:rows][chosen], self.loss[:rows][chosen] = genes[:rows][chosen], loss[:rows][chosen]
        leaving, entering = guests(self.loss, loss[rows:])
        self.members[leaving], self.loss[leaving] = genes[rows + entering], loss[rows + entering]
        self.generation += 1

    def state(self) -> dict[str, Array]:
        arrays: dict[str, Array] = {"members": self.members, "loss": self.loss, "step": self.step}
        generation = np.array([self.generation], dtype=np.int64)
        return {name: array.copy() for name, array in arrays.items()} | {"generation": generation}

    def restore(self, state: Mapping[str, Array]) -> None:
        self.members, self.loss = np.array(state["members"]), np.array(state["loss"])
        self.step, self.generation = np.array(state["step"]), int(state["generation"][0])

    def _accepted(self, proposed: Losses) -> Array:
        """Metropolis: always if not worse, else with probability exp(-(log new - log old) / T). Never an invalid one."""
        old, new = np.maximum(self.loss[: len(proposed)], FLOOR), np.maximum(proposed, FLOOR)
        temperature = self.settings.temperature * self.settings.cooling ** max(self.generation - 1, 0)
        chance = self._stream("accept").random(self.settings.population)[: len(proposed)]
        valid = np.isfinite(new)
        with np.errstate(divide="ignore", invalid="ignore"):  # at zero temperature only what is not worse
            warm = np.log(new) - np.log(old) <= -temperature * np.log(chance)
        return (proposed <= self.loss[: len(proposed)]) | (valid & warm)

    def _stream(self, word: str) -> np.random.Generator:
        return generator(self.seed, "annealing", word, generation=self.generation)
