"""A population without generations: broods are proposed and inserted by number, each a function of what was inserted."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from evo_rnn.fitness import ranking, reciprocal
from evo_rnn.layout import Layout
from evo_rnn.progress import State
from evo_rnn.seeds import generator
from evo_rnn.shapes import Array, Genes, Losses
from populations.algorithms import GeneticAlgorithm
from populations.algorithms.told import bounded, widths


@dataclass
class Steady:
    """The population and the broods under way.

    Args:
        settings: of the operators and the population.
        brood: children a brood; the last of each P children may have fewer.
        lag: brood n is proposed once 0 ... n - lag are inserted.
        layout: of the chromosomes.
        seed: of the run.
    """

    settings: GeneticAlgorithm
    brood: int
    lag: int
    layout: Layout
    seed: int
    inserted: int = 0  # broods
    genes: Genes = field(init=False)  # (N, D), N <= P, what is bred from
    fitted: Genes = field(init=False)  # (N, D) the same as they were scored
    losses: Losses = field(init=False)  # (N,)
    flight: dict[int, Genes] = field(init=False, default_factory=dict)  # broods under way, by number

    def __post_init__(self) -> None:
        self.toolbox = self.settings.toolbox(self.layout)
        self.round = -(-self.settings.population // self.brood)  # broods that make P children
        self.lag = min(self.lag, self.round)  # so that there is somebody to breed from
        self.genes = self.fitted = np.empty((0, self.layout.size), np.float32)
        self.losses = np.empty(0)

    @property
    def children(self) -> int:
        """How many have been inserted."""
        rounds, rest = divmod(self.inserted, self.round)
        return rounds * self.settings.population + min(rest * self.brood, self.settings.population)

    def propose(self) -> tuple[int, Genes]:
        """The next brood and its number. The first P chromosomes are drawn, all others are bred."""
        number = self.inserted + len(self.flight)
        past, part = divmod(number, self.round)
        count = min(self.brood, self.settings.population - part * self.brood)
        if past:
            with np.errstate(over="ignore", invalid="ignore"):
                self.flight[number] = self._bred(number, count, past)
        else:
            self.flight[number] = self.layout.draw(self._stream("start", number), count, self.settings.spread)
        return number, self.flight[number]

    def insert(self, genes: Genes, fitted: Genes, losses: Losses) -> None:
        """Take the oldest brood from the air: child by child, in place of the worst if it is better."""
        del self.flight[self.inserted]
        self.inserted += 1
        free = self.settings.population - len(self.losses)
        self.genes = np.concatenate([self.genes, genes[:free]])
        self.fitted = np.concatenate([self.fitted, fitted[:free]])
        self.losses = np.concatenate([self.losses, losses[:free]])
        for child in range(free, len(losses)):
            worst = ranking(self.losses)[-1]
            if losses[child] < self.losses[worst]:
                self.genes[worst], self.fitted[worst] = genes[child], fitted[child]
                self.losses[worst] = losses[child]

    def state(self) -> dict[str, Array]:
        """Copies of everything: the population, and the broods under way in their order."""
        flight = np.concatenate([self.genes[:0], *self.flight.values()])
        sizes = np.array([len(brood) for brood in self.flight.values()], np.int64)
        own: dict[str, Array] = {"genes": self.genes, "fitted": self.fitted, "losses": self.losses}
        counts = {"sizes": sizes, "inserted": np.array([self.inserted], np.int64)}
        return {name: array.copy() for name, array in own.items()} | {"flight": flight, **counts}

    def restore(self, state: State) -> None:
        """Go on from a state; from an empty one, begin."""
        if not state:
            while len(self.flight) < self.lag:
                self.propose()
            return
        self.genes, self.fitted, self.losses = (np.array(state[name]) for name in ("genes", "fitted", "losses"))
        self.inserted = int(state["inserted"][0])
        broods = np.split(np.array(state["flight"]), np.cumsum(state["sizes"])[:-1])
        self.flight = {self.inserted + place: brood for place, brood in enumerate(broods)}

    def _bred(self, number: int, count: int, past: int) -> Genes:
        """Children (count, D) of the present population."""
        chosen = self.toolbox.select(reciprocal(self.losses), 2 * count, self._stream("select", number))
        mothers, fathers = chosen[:count], chosen[count:]
        alone = self._stream("alone", number).random(count) >= self.settings.mating
        fathers = np.where(alone, mothers, fathers)  # mated with itself, a chromosome stays as it is
        child = self.toolbox.mate(self.genes[mothers], self.genes[fathers], self._stream("mate", number))
        step = max(self.settings.step * self.settings.decay ** (past - 1), self.settings.least)
        child = self.toolbox.mutate(child, step * widths(self.layout), self._stream("mutate", number))
        return bounded(child, self.genes[mothers])

    def _stream(self, word: str, number: int) -> np.random.Generator:
        return generator(self.seed, "asynchronous", word, generation=number)
