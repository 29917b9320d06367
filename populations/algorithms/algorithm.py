"""What a search over chromosomes is: settings that say how, and a search in progress that asks and is told.

running = GeneticAlgorithm(population=200).begin(model.layout, seed=0)
while True:
    genes = running.ask()
    running.tell(genes, evaluate(genes))
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from evo_rnn.layout import Layout
from evo_rnn.shapes import Array, Genes, Losses


class Algorithm(Protocol):
    """A search in progress. All it knows is in `state`; every draw is addressed by seed and generation."""

    def ask(self) -> Genes:
        """The chromosomes (P, D) float32 to score next. Changes nothing: asked twice, it answers the same."""
        ...

    def tell(self, genes: Genes, loss: Losses) -> None:
        """Learn what was evaluated: chromosomes (N, D) and their losses (N,), lower is better.

        They may be what was asked for, refined, joined by migrants, more or fewer. Losses need not be sanitised. The
        arguments are copied, never changed.

        Raises:
            ValueError: if a shape does not fit.
        """
        ...

    def state(self) -> dict[str, Array]:
        """Everything needed to go on, as arrays of float32, float64 and int64."""
        ...

    def restore(self, state: Mapping[str, Array]) -> None:
        """Go on from what `state` gave, perhaps to another object with the same settings, layout and seed."""
        ...


class Search(Protocol):
    """How to search: a frozen dataclass whose fields are the parameters that are logged and configured."""

    @property
    def population(self) -> int:
        """P, the number of chromosomes asked for in each generation."""
        ...

    def begin(self, layout: Layout, seed: int) -> Algorithm:
        """A search over the chromosomes of `layout`. Equal arguments give equal searches, bit for bit."""
        ...
