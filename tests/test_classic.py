"""DEAP's own operators on our matrices."""

from __future__ import annotations

import pickle
import random
from typing import Any

import numpy as np
import pytest
from deap import tools
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from populations.operators import classic

some = settings(max_examples=40, deadline=None)
ZEROS, ONES = np.zeros((50, 12), np.float32), np.ones((50, 12), np.float32)


def stream(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def matrices() -> st.SearchStrategy[Any]:
    shapes = st.tuples(st.integers(1, 8), st.integers(2, 20))  # DEAP needs two genes at least
    return shapes.flatmap(lambda s: hnp.arrays(np.float32, (2, *s), elements=st.floats(-100, 100, width=32)))


@given(pair=matrices(), seed=st.integers(0, 2**32))
@some
def test_a_lifted_crossover_conserves_genes_and_does_what_deap_does_to_lists(pair: Any, seed: int) -> None:
    mothers, fathers = pair
    before = mothers.copy()
    children = classic(tools.cxTwoPoint)(mothers, fathers, stream(seed))
    random.seed(int(stream(seed).integers(2**63)))
    for child, mother, father in zip(children, mothers.tolist(), fathers.tolist(), strict=True):
        first, second = tools.cxTwoPoint(list(mother), list(father))
        assert child.tolist() == first
        assert sorted(first + second) == sorted(mother + father)
    np.testing.assert_array_equal(mothers, before)


def test_lifted_operators_leave_the_global_generator_as_it_was() -> None:
    random.seed(5)
    before = random.getstate()
    genes = np.zeros((6, 4), np.float32)
    one = classic(tools.mutGaussian, mu=0.0, sigma=1.0, indpb=0.5)(genes, np.ones(4), stream(1))
    two = classic(tools.mutGaussian, mu=0.0, sigma=1.0, indpb=0.5)(genes, np.ones(4), stream(1))
    other = classic(tools.mutGaussian, mu=0.0, sigma=1.0, indpb=0.5)(genes, np.ones(4), stream(2))
    with pytest.raises(TypeError):
        classic(tools.cxBlend)(genes, genes, stream(1))  # alpha is missing
    assert random.getstate() == before
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()
    assert not genes.any()


def test_lifted_operators_can_be_pickled_and_refuse_what_does_not_fit() -> None:
    mate = pickle.loads(pickle.dumps(classic(tools.cxBlend, alpha=0.3)))  # noqa: S301 (our own bytes)
    np.testing.assert_array_equal(mate(ONES[:2], ONES[:2], stream()), ONES[:2])
    with pytest.raises(ValueError, match=r"operator should take ind1 or individual or individuals first"):
        classic(len)
    with pytest.raises(ValueError, match=r"children should have 12 genes but have \d+"):
        classic(tools.cxMessyOnePoint)(ZEROS, ONES, stream())
    with pytest.raises(ValueError, match="operator should select 9 individuals but selected 3"):
        classic(tools.selBest)(np.ones(3), 9, stream())
