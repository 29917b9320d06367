"""Selection, crossover and mutation on whole matrices, each with an explicit generator, each known by a name."""

from collections.abc import Callable

from evo_rnn.shapes import Array, Genes
from populations.operators.classic import classic
from populations.operators.crossover import arithmetic, blend, one_point, simulated_binary, two_point, uniform, unit
from populations.operators.mutation import gaussian, log_normal, sparse
from populations.operators.selection import rank, roulette, tournament
from populations.operators.units import units_of

SELECTIONS: dict[str, Callable[..., Array]] = {"tournament": tournament, "rank": rank, "roulette": roulette}
CROSSOVERS: dict[str, Callable[..., Genes]] = {
    "unit": unit,
    "uniform": uniform,
    "one_point": one_point,
    "two_point": two_point,
    "blend": blend,
    "arithmetic": arithmetic,
    "simulated_binary": simulated_binary,
}
MUTATIONS: dict[str, Callable[..., Genes]] = {"gaussian": gaussian, "sparse": sparse}

__all__ = [
    "CROSSOVERS",
    "MUTATIONS",
    "SELECTIONS",
    "arithmetic",
    "blend",
    "classic",
    "gaussian",
    "log_normal",
    "one_point",
    "rank",
    "roulette",
    "simulated_binary",
    "sparse",
    "tournament",
    "two_point",
    "uniform",
    "unit",
    "units_of",
]
