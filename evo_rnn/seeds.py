"""Named random streams: every draw of a run is a function of (seed, words, generation, index) and of nothing else.

A stream is addressed, not passed on: whoever needs randomness asks for it by name. So a result cannot depend on the
number of workers or on the order in which they answer; a run that is stopped and resumed draws what it would have
drawn; and no generator state is ever stored, which removes that whole class of resume bugs.

The streams come from Philox, a counter-based generator: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
SC 2011. Its raw output never changes, but NumPy may improve the methods of ``Generator`` (``normal``, ``choice``, ...)
from one version to the next (NEP 19): equal numbers need an equal NumPy, so a checkpoint records its version.
"""

from __future__ import annotations

import hashlib
import json
import operator

import numpy as np


def generator(seed: int, *words: str | int, generation: int = 0, index: int = 0) -> np.random.Generator:
    """Return the random stream with this name, always from its first number.

    The key is the 128-bit BLAKE2b hash of the seed and the words, written as a JSON list so that no two names share an
    encoding: ``("ab", "c")`` is not ``("a", "bc")``, and ``1`` is not ``"1"``. The counter starts at
    ``[0, index, generation, 0]``, which gives each stream 2**64 blocks of four 64-bit numbers before it would reach
    the next index.

    Args:
        seed: The seed of the run; any integer.
        words: What the stream is for, such as ``"mutation"`` or ``"island", 3``.
        generation: The generation that draws, from 0.
        index: The individual that draws, from 0.

    Raises:
        TypeError: If the seed or a word is neither a string nor an integer.
        OverflowError: If generation or index is negative or needs more than 64 bits.

    Example:
        >>> generator(1, "mutation", generation=7).integers(100, size=3)
        array([34, 84, 10])
    """
    name = [operator.index(seed), *(word if isinstance(word, str) else operator.index(word) for word in words)]
    digest = hashlib.blake2b(json.dumps(name).encode(), digest_size=16).digest()
    counter = np.array([0, operator.index(index), operator.index(generation), 0], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest, dtype="<u8"), counter=counter))
