"""Particle swarm (Kennedy and Eberhart 1995) with the constriction of Clerc and Kennedy 2002."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from evo_rnn.errors import ConfigError
from evo_rnn.fitness import ranking
from evo_rnn.layout import Layout
from evo_rnn.seeds import generator
from evo_rnn.shapes import Array, Genes, Losses
from populations.algorithms.told import bounded, guests, received, widths


@dataclass(frozen=True)
class ParticleSwarm:
    """Particles fly, pulled by the best place that each has seen and the best that its neighbours have seen.

    Args:
        population: P, particles.
        own: pull towards the best place of the particle itself, phi_1.
        social: pull towards the best place of its neighbours, phi_2. Together they exceed 4.
        neighbours: how many on either side of a particle in the ring it hears, 0 for the whole swarm.
        limit: no step of a gene is larger, in half widths of its initial range.
        spread: width of the first generation, in initial ranges.
    """

    population: int = 20
    own: float = 2.05
    social: float = 2.05
    neighbours: int = 2
    limit: float = 0.5
    spread: float = 2.0

    def __post_init__(self) -> None:
        bounds = {"population": (1, np.inf), "own": (0, 100), "social": (0, 100), "neighbours": (0, np.inf)}
        widest = dict.fromkeys(("limit", "spread"), (0, 1e6))
        for name, (low, high) in (bounds | widest).items():
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} should be between {low} and {high} but is {getattr(self, name)}.")
        if not self.own + self.social > 4:
            raise ConfigError(f"own and social should exceed 4 together but are {self.own} and {self.social}.")

    @property
    def constriction(self) -> float:
        """Chi, the factor on the velocity that keeps a swarm from exploding (Clerc and Kennedy 2002, type 1'')."""
        phi = self.own + self.social
        return float(2 / (phi - 2 + (phi * phi - 4 * phi) ** 0.5))

    def begin(self, layout: Layout, seed: int) -> _ParticleSwarm:
        """A search in progress."""
        return _ParticleSwarm(self, layout, seed)


@dataclass
class _ParticleSwarm:
    settings: ParticleSwarm
    layout: Layout
    seed: int
    generation: int = 0
    place: Genes = field(init=False)  # (P, D) where the particles are: what is asked for
    velocity: Genes = field(init=False)  # (P, D)
    best: Genes = field(init=False)  # (P, D) the best place that each has seen
    loss: Losses = field(init=False)  # (P,) of that

    def __post_init__(self) -> None:
        count, spread = self.settings.population, self.settings.spread
        self.place = self.layout.draw(self._stream("start"), count, spread)
        self.velocity = (self.layout.draw(self._stream("velocity"), count, spread) - self.place) / np.float32(2)
        self.best, self.loss = self.place.copy(), np.full(count, np.inf)

    def ask(self) -> Genes:
        return self.place.copy()

    def tell(self, genes: Genes, loss: Losses) -> None:
        """Row i is where particle i is, whatever was refined in it; rows beyond P are guests. Then all fly on."""
        genes, loss = received(genes, loss, self.layout.size)
        rows = min(len(loss), self.settings.population)
        self.place[:rows] = genes[:rows]
        better = np.flatnonzero(loss[:rows] <= self.loss[:rows])
        self.best[better], self.loss[better] = genes[better], loss[better]
        leaving, entering = guests(self.loss, loss[rows:])
        self.best[leaving], self.loss[leaving] = genes[rows + entering], loss[rows + entering]
        self.generation += 1
        with np.errstate(over="ignore", invalid="ignore"):
            self._fly()

    def state(self) -> dict[str, Array]:
        generation = np.array([self.generation], dtype=np.int64)
        arrays: dict[str, Array] = {
            "place": self.place,
            "velocity": self.velocity,
            "best": self.best,
            "loss": self.loss,
        }
        return {name: array.copy() for name, array in arrays.items()} | {"generation": generation}

    def restore(self, state: Mapping[str, Array]) -> None:
        self.place, self.velocity = np.array(state["place"]), np.array(state["velocity"])
        self.best, self.loss = np.array(state["best"]), np.array(state["loss"])
        self.generation = int(state["generation"][0])

    def _fly(self) -> None:
        """Velocity v <- chi (v + U(0, phi_1) (p_i - x) + U(0, phi_2) (p_g - x)); place x <- x + v."""
        stream, s = self._stream("fly"), self.settings
        own, social = (most * stream.random(self.place.shape, dtype=np.float32) for most in (s.own, s.social))
        pulled = own * (self.best - self.place) + social * (self.best[self._leaders()] - self.place)
        velocity = np.float32(s.constriction) * (self.velocity + pulled)
        most = np.float32(s.limit) * widths(self.layout)
        self.velocity = np.clip(bounded(velocity, np.zeros_like(velocity)), -most, most)
        self.place = bounded(self.place + self.velocity, self.place)

    def _leaders(self) -> Array:
        """The best neighbour (P,) of each particle, itself among them; of equals the first."""
        count, near = len(self.loss), self.settings.neighbours
        rank = np.empty(count, dtype=np.int64)
        rank[ranking(self.loss)] = np.arange(count)
        if not near or 2 * near + 1 >= count:
            return np.full(count, rank.argmin())
        ring = (np.arange(count)[:, None] + np.arange(-near, near + 1)) % count
        return np.asarray(ring[np.arange(count), rank[ring].argmin(axis=1)])

    def _stream(self, word: str) -> np.random.Generator:
        return generator(self.seed, "particle_swarm", word, generation=self.generation)
