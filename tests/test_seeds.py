"""Random streams are addressed by name: same name same numbers, another name others, whoever asks and when."""

from __future__ import annotations

import doctest
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evo_rnn import seeds
from evo_rnn.seeds import generator

WORDS = st.lists(st.text(max_size=3) | st.integers(-9, 9), max_size=3)


def raw(*name: str | int, seed: int = 0, generation: int = 0, index: int = 0) -> list[int]:
    bits = generator(seed, *name, generation=generation, index=index).bit_generator.random_raw(4)
    return [int(number) for number in bits]


def test_the_first_numbers_never_change() -> None:
    # Philox's raw output is fixed for ever; if this fails, every seeded result of every user changes.
    assert raw("mutation", seed=1, generation=7)[:3] == [
        15612130346346657784,
        16662714199583847569,
        14217601274020236774,
    ]
    assert generator(1, "mutation", generation=7).random() == (15612130346346657784 >> 11) * 2.0**-53


@given(WORDS, WORDS, st.integers(-5, 5), st.integers(-5, 5))
def test_two_streams_are_equal_only_where_their_names_are(
    first: list[str | int], second: list[str | int], seed: int, other: int
) -> None:
    assert (raw(*first, seed=seed) == raw(*second, seed=other)) == ((seed, first) == (other, second))


def test_where_one_word_ends_and_whether_it_is_a_number_matter() -> None:
    names: list[tuple[str | int, ...]] = [
        ("ab", "c"), ("a", "bc"), ("abc",), (), ("",), ("", ""), (1,), ("1",), ("1, 2",), (1, 2),
        ('1", "2',), ("1", "2"),
    ]  # fmt: skip
    assert len({tuple(raw(*name)) for name in names}) == len(names)


def test_generations_individuals_and_seeds_have_streams_of_their_own() -> None:
    places = itertools.product((0, 1, 2**63), (0, 1, 2), (0, 1, 2**64 - 1))
    blocks = [tuple(raw("x", seed=s, generation=g, index=i)) for s, g, i in places]
    assert len({number for block in blocks for number in block}) == 4 * 27


def test_streams_are_uncorrelated_across_every_part_of_the_name() -> None:
    rows = [generator(0, "x", generation=g, index=i).standard_normal(4000) for g in range(4) for i in range(4)]
    rows += [generator(s, "x").standard_normal(4000) for s in range(1, 5)]
    correlation = np.corrcoef(rows) - np.eye(20)
    assert np.abs(correlation).max() < 4.5 / np.sqrt(4000)


def test_numpy_integers_name_the_same_streams_as_their_values() -> None:
    assert raw(np.int64(3), seed=np.int32(2), generation=np.int8(1), index=np.uint8(4)) == raw(  # type: ignore[arg-type]
        3, seed=2, generation=1, index=4
    )


def test_a_word_that_is_no_word_and_a_negative_place_are_refused() -> None:
    with pytest.raises(TypeError):
        raw(1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        raw(seed=1.0)  # type: ignore[arg-type]
    with pytest.raises(OverflowError):
        raw(index=-1)
    with pytest.raises(OverflowError):
        raw(generation=2**64)


def test_the_example_in_the_docstring_is_true() -> None:
    assert doctest.testmod(seeds).failed == 0
