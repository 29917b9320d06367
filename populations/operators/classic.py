"""Any operator of DEAP's own toolbox, as it is, on our matrices: slower, but the whole collection is there.

>>> from deap import tools
>>> mate = classic(tools.cxTwoPoint)
>>> mutate = classic(tools.mutGaussian, mu=0.0, sigma=0.1, indpb=0.05)
>>> select = classic(tools.selTournament, tournsize=3)
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from deap import base

from evo_rnn.shapes import Array, Genes, Losses


def classic(operator: Callable[..., Any], **settings: Any) -> Callable[..., Array]:  # noqa: ANN401 (as DEAP takes them)
    """A DEAP row operator as a matrix operator with an explicit generator.

    Rows are handed over as lists, because slices of arrays are views and DEAP's swaps corrupt them. DEAP draws from
    Python's global `random`: it is seeded from the generator for the call and given back as it was. Of the two
    children of a crossover the first is kept. A mutation has its size among its own settings: the decaying step of
    the search does not reach it.

    Args:
        operator: a function of DEAP's form: (ind1, ind2, ...), (individual, ...) or (individuals, k, ...).
        settings: what else it takes.

    Raises:
        ValueError: if the operator has another form.
    """
    first = next(iter(inspect.signature(operator).parameters), "")
    if first not in _FORMS:
        raise ValueError(f"operator should take {' or '.join(_FORMS)} first, as those of DEAP do, but takes {first!r}.")
    return partial(_FORMS[first], partial(operator, **settings))


def _mate(operator: Callable[..., Any], mothers: Genes, fathers: Genes, generator: np.random.Generator) -> Genes:
    with _lent(generator):
        pairs = zip(mothers.tolist(), fathers.tolist(), strict=True)
        return _rows([operator(mother, father)[0] for mother, father in pairs], mothers)


def _mutate(operator: Callable[..., Any], genes: Genes, step: Array, generator: np.random.Generator) -> Genes:  # noqa: ARG001
    with _lent(generator):
        return _rows([operator(row)[0] for row in genes.tolist()], genes)


def _select(operator: Callable[..., Any], fitness: Losses, count: int, generator: np.random.Generator) -> Array:
    if not fitness.any():  # proportional rules would return nothing
        return generator.integers(len(fitness), size=count)
    candidates = [_Candidate(index, _Fitness((value,))) for index, value in enumerate(fitness.tolist())]
    with _lent(generator):
        chosen = np.array([candidate.index for candidate in operator(candidates, count)], dtype=np.int64)
    if len(chosen) != count:
        raise ValueError(f"operator should select {count} individuals but selected {len(chosen)}. Take another one.")
    return chosen


_FORMS: dict[str, Callable[..., Array]] = {"ind1": _mate, "individual": _mutate, "individuals": _select}


class _Fitness(base.Fitness):  # type: ignore[misc]  # what DEAP's selections compare; one value, to be maximised
    weights = (1.0,)


@dataclass(eq=False)
class _Candidate:
    """What DEAP's selections choose among."""

    index: int
    fitness: _Fitness


def _rows(children: list[list[float]], parents: Genes) -> Genes:
    lengths = {len(child) for child in children} - {parents.shape[1]}
    if lengths:
        raise ValueError(
            f"children should have {parents.shape[1]} genes but have {min(lengths)}. Take another operator."
        )
    return np.array(children, dtype=np.float32).reshape(parents.shape)


@contextmanager
def _lent(generator: np.random.Generator) -> Iterator[None]:
    """Python's global generator, seeded from ours, for as long as the block lasts."""
    before = random.getstate()
    random.seed(int(generator.integers(2**63)))
    try:
        yield
    finally:
        random.setstate(before)
