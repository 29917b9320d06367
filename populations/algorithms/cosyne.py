"""CoSyNE, cooperative synapse neuroevolution (Gomez, Schmidhuber and Miikkulainen, JMLR 9, 2008, algorithm 1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from evo_rnn.errors import ConfigError
from evo_rnn.fitness import ranking
from evo_rnn.layout import Layout
from evo_rnn.seeds import generator
from evo_rnn.shapes import Array, Genes, Losses
from populations.algorithms.told import bounded, received, widths
from populations.operators import uniform

BLOCK = 2**20  # genes permuted at a time; part of what a seed means, as every block draws in turn


@dataclass(frozen=True)
class Cosyne:
    """Every weight has its own subpopulation: a column of the matrix, permuted so that each meets other partners.

    Of the paper's probability of a weight to be permuted, the share of the best fitness is taken by rank, so that the
    order of losses is all that matters.

    Args:
        population: P, networks in a generation; the size of every subpopulation.
        parents: share of the networks, the best, that are recombined.
        children: share of the networks, the worst, that children replace.
        rate: share of the genes of a child that are mutated.
        step: scale of the Cauchy mutation, in half widths of the gene's initial range.
        decay: factor on the step in every generation.
        least: the step never falls below it.
        spread: width of the first generation, in initial ranges.
    """

    population: int = 30
    parents: float = 0.25
    children: float = 0.75
    rate: float = 0.2
    step: float = 0.1
    decay: float = 0.99
    least: float = 0.01
    spread: float = 1.0

    def __post_init__(self) -> None:
        shares = dict.fromkeys(("parents", "children", "rate", "decay"), (0, 1))
        widest = dict.fromkeys(("step", "least", "spread"), (0, 1e6))
        for name, (low, high) in ({"population": (2, np.inf)} | shares | widest).items():
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} should be between {low} and {high} but is {getattr(self, name)}.")

    def begin(self, layout: Layout, seed: int) -> _Cosyne:
        """A search in progress."""
        return _Cosyne(self, layout, seed)


@dataclass
class _Cosyne:
    settings: Cosyne
    layout: Layout
    seed: int
    generation: int = 0
    networks: Genes = field(init=False)  # (N, D) what was told last
    loss: Losses = field(init=False)  # (N,)

    def __post_init__(self) -> None:
        self.networks, self.loss = np.empty((0, self.layout.size), np.float32), np.empty(0)

    def ask(self) -> Genes:
        count = self.settings.population
        if not len(self.networks):
            return self.layout.draw(self._stream("start"), count, self.settings.spread)
        order = ranking(self.loss)
        kept = self.networks[order[: count - round(self.settings.children * count)]]  # line 9: the worst make room
        children = self._children(self.networks[order], count - len(kept))
        return self._permuted(np.concatenate([kept, children]), self.loss[order[: len(kept)]])

    def tell(self, genes: Genes, loss: Losses) -> None:
        self.networks, self.loss = received(genes, loss, self.layout.size)
        self.generation += 1

    def state(self) -> dict[str, Array]:
        generation = np.array([self.generation], dtype=np.int64)
        return {"networks": self.networks.copy(), "loss": self.loss.copy(), "generation": generation}

    def restore(self, state: Mapping[str, Array]) -> None:
        self.networks, self.loss = np.array(state["networks"]), np.array(state["loss"])
        self.generation = int(state["generation"][0])

    def _children(self, ordered: Genes, count: int) -> Genes:
        """Line 8: the best networks are recombined, and some weights get Cauchy noise."""
        s, stream = self.settings, self._stream("children")
        best = ordered[: max(round(s.parents * len(ordered)), 1)]
        mothers, fathers = stream.integers(len(best), size=(2, count))
        children = uniform(best[mothers], best[fathers], stream)
        step = max(s.step * s.decay ** (self.generation - 1), s.least) * widths(self.layout)
        noise = np.clip(stream.standard_cauchy(children.shape), -1e6, 1e6) * step
        hit = stream.random(children.shape, dtype=np.float32) < s.rate
        with np.errstate(over="ignore"):
            return bounded((children + hit * noise).astype(np.float32), children)

    def _permuted(self, networks: Genes, kept: Losses) -> Genes:
        """Lines 10 to 15: in every column, the marked weights change places among themselves.

        A weight of a kept network is marked with probability 1 - (place / most) ** (1 / D), where the place counts the
        kept networks that are worse: never in the best, always in the worst. Those of children are marked as well.
        """
        count, size = networks.shape
        worse = len(kept) - np.searchsorted(kept, kept, side="right")
        share = np.concatenate([worse / max(len(kept) - 1, 1), np.zeros(count - len(kept))])
        stream, chance = self._stream("permute"), (1 - share ** (1 / size))[:, None]
        width = max(BLOCK // count, 1)
        for start in range(0, size, width):  # a block of columns at a time: keys and orders are larger than genes
            columns = networks[:, start : start + width]
            marked = stream.random(columns.shape) < chance
            keys = np.where(marked, stream.random(columns.shape), 2.0)  # the marked come first, in a random order
            shuffled = np.argsort(keys, axis=0, kind="stable")
            places = np.argsort(~marked, axis=0, kind="stable")
            np.put_along_axis(columns, places, np.take_along_axis(columns, shuffled, axis=0), axis=0)
        return networks

    def _stream(self, word: str) -> np.random.Generator:
        return generator(self.seed, "cosyne", word, generation=self.generation)
