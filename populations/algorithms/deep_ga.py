"""The deep genetic algorithm: truncation and Gaussian noise alone (Such et al. 2017, arXiv:1712.06567, Algorithm 1).

A chromosome is a parent and a seed, so it can travel as 10 bytes: see evo_rnn/evaluation/wire.py. The paper's sigma is
one number for all weights; here it counts in half widths of a gene's initial range, so that one default suits all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from evo_rnn.errors import ConfigError
from evo_rnn.evaluation.wire import ITSELF, NOBODY, Litter, digest
from evo_rnn.fitness import ranking, sanitise
from evo_rnn.layout import Layout
from evo_rnn.seeds import generator
from evo_rnn.shapes import Array, Genes, Losses, check_shape


@dataclass(frozen=True)
class DeepGA:
    """The best few have children, each with noise on every gene; no crossover.

    Args:
        population: P, chromosomes in a generation (N in the paper).
        elites: how many of the best go on unchanged, as the first rows.
        parents: how many of the best have children (T in the paper).
        power: standard deviation of the noise, in half widths of the gene's initial range (sigma in the paper).
        spread: width of the first generation, in initial ranges.
    """

    population: int = 100
    elites: int = 1
    parents: int = 10
    power: float = 0.1
    spread: float = 1.0

    def __post_init__(self) -> None:
        bounds = {
            "population": (1, np.inf),
            "parents": (1, np.inf),
            "elites": (0, min(self.population - 1, self.parents)),
            "power": (0, 1e6),
            "spread": (0, 1e6),
        }
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} should be between {low} and {high} but is {getattr(self, name)}.")

    def begin(self, layout: Layout, seed: int) -> DeepSearch:
        """A search in progress."""
        return DeepSearch(self, layout, seed)


@dataclass
class DeepSearch:
    """A deep genetic algorithm in progress."""

    settings: DeepGA
    layout: Layout
    seed: int
    generation: int = field(init=False, default=0)
    parents: Genes = field(init=False)  # (N, D) the selected, best first
    origins: tuple[tuple[bytes, int], ...] = field(init=False, default=())  # theirs; a guess, which receivers check

    def __post_init__(self) -> None:
        self.parents = np.empty((0, self.layout.size), np.float32)

    def ask(self) -> Genes:
        """The first generation (P, D), or the elites and the children."""
        litter = self.litter()
        if not isinstance(litter, Litter):
            return self.layout.draw(self._stream("start"), self.settings.population, self.settings.spread)
        return litter.genes(self.layout)

    def litter(self) -> Litter | tuple[()]:
        """How what `ask` answers comes about (Algorithm 1, lines 5 to 7: k uniform in 1 ... T, then sigma epsilon)."""
        if not len(self.parents):
            return ()
        count, elites = self.settings.population, min(self.settings.elites, len(self.parents))
        parent = self._stream("parent").integers(len(self.parents), size=count)
        seeds = self._stream("seeds").integers(2**62, size=count)
        parent[:elites], seeds[:elites] = np.arange(elites), ITSELF
        return Litter(self.parents, self.origins, parent, seeds, self.settings.power)

    def tell(self, genes: Genes, loss: Losses) -> None:
        """The best sound ones are the next parents; of a generation without any, those before stay (lines 9 and 10)."""
        check_shape(genes, "genes", ("N", self.layout.size), "Is the search for another network?")
        check_shape(loss, "loss", (len(genes),), "Every chromosome has one loss.")
        clean = np.where(np.isfinite(genes).all(axis=1), sanitise(loss), np.inf)
        best = ranking(clean)[: self.settings.parents]
        best = best[np.isfinite(clean[best])]
        if len(best):
            self.origins = self._origins(best, len(genes))
            self.parents = np.array(genes[best], dtype=np.float32)
        self.generation += 1

    def state(self) -> dict[str, Array]:
        """The parents and the generation."""
        return {"parents": self.parents.copy(), "generation": np.array([self.generation], dtype=np.int64)}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take the place of the search that gave the state."""
        self.parents = np.array(state["parents"], dtype=np.float32)
        self.origins = ((NOBODY, ITSELF),) * len(self.parents)
        self.generation = int(state["generation"][0])

    def _origins(self, best: Array, told: int) -> tuple[tuple[bytes, int], ...]:
        """Whose children the next parents are, if what was told is what was asked for."""
        litter = self.litter()
        if not isinstance(litter, Litter) or told != len(litter.parent):
            return ((NOBODY, ITSELF),) * len(best)
        return tuple((digest(litter.parents[litter.parent[k]]), int(litter.seeds[k])) for k in best)

    def _stream(self, word: str) -> np.random.Generator:
        return generator(self.seed, "deep_ga", word, generation=self.generation)
