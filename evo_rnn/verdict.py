"""The verdict of a comparison: a plain sentence that says who won, or that nobody did, and the numbers it rests on.

The method with the lowest interquartile mean of its losses is the best; it *beats* another only where all three hold:

* the bootstrap interval of the difference of their losses over paired seeds lies below 0;
* the bootstrap interval of its probability of improvement lies above 0.5;
* the exact signed-rank p-value, corrected after Holm over all comparisons of the best with another, is small enough.

Where the first two hold, it is *ahead*; where it beats every other method, it *wins*. The third is there because the
bootstrap of few seeds is too sure of itself: among five methods that are all the same, simulated on 8 to 20 seeds, the
best came out ahead of some other in 19 to 28 % of comparisons, had beaten some other in 5 to 7 %, and won in 0.2 % or
less. (That 7 % is more than 5 % is the price of choosing the best by the same losses that test it.) Five paired seeds
cannot give a p-value below 0.0625: on five seeds nobody wins, and the sentence says how many it would take.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from evo_rnn import statistics
from evo_rnn.statistics import Estimate, Values


@dataclass(frozen=True)
class Row:
    """One method: the interquartile mean of its losses, the bootstrap interval of that, and how many runs failed."""

    method: str
    iqm: float
    low: float
    high: float
    failed: int


@dataclass(frozen=True)
class Pair:
    """The best method against another one, over paired seeds.

    Attributes:
        other: The other method.
        difference: Interquartile mean of the loss of the best minus that of the other; NaN if failed runs leave none.
        low: Lower end of its bootstrap interval.
        high: Upper end of its bootstrap interval.
        probability: That a run of the best has a lower loss than a run of the other.
        effect: Cohen's dz of the differences, negative where the best is lower; NaN if a run failed.
        p: Signed-rank p-value, corrected after Holm.
        ahead: Whether both intervals favour the best.
        beaten: Whether p is small enough as well.
    """

    other: str
    difference: float
    low: float
    high: float
    probability: Estimate
    effect: float
    p: float
    ahead: bool
    beaten: bool


@dataclass(frozen=True)
class Verdict:
    """Who won, or that nobody did.

    Attributes:
        sentence: The verdict in plain words.
        best: The method with the lowest interquartile mean, whether or not that means anything.
        winner: The same if it beats every other method, else empty.
        seeds: How many paired seeds it rests on.
        rows: One a method, the best first.
        pairs: The best against each other method, in the order of the rows.
    """

    sentence: str
    best: str
    winner: str
    seeds: int
    rows: tuple[Row, ...]
    pairs: tuple[Pair, ...]


def verdict(losses: Mapping[str, ArrayLike], *, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> Verdict:
    """Judge methods by their losses over the same seeds.

    Args:
        losses: By method, one loss a seed, (N,); entry i of every method is from seed i. A loss that is not finite is a
            failed run, which counts as worse than any other and as equal to another failed run.
        level: Of the intervals; 1 - level is the error allowed over all comparisons.
        resamples: How many bootstrap samples to draw.
        seed: Of the bootstrap.

    Raises:
        ValueError: If there is no method, no seed, or not one loss a seed for every method.
    """
    table = _table(losses)
    rows = sorted(
        (_row(method, values, level, resamples, seed) for method, values in table.items()),
        key=lambda row: (row.iqm, row.failed),
    )
    best, others = rows[0].method, [row.method for row in rows[1:]]
    seeds = table[best].size
    allowed = round(1 - level, 12)
    p_values = statistics.holm([statistics.signed_rank_p(table[best], table[other]) for other in others])
    pairs = tuple(
        _compare(other, table[best], table[other], p, allowed, resamples, seed)
        for other, p in zip(others, p_values.tolist(), strict=True)
    )
    winner = best if pairs and all(pair.beaten for pair in pairs) else ""
    failed = sum(row.failed for row in rows)
    if all(row.failed == seeds for row in rows):
        sentence = "Nobody won: every run failed."
    else:
        same = all(np.array_equal(table[best], table[other]) for other in others)
        sentence = _sentence(best, pairs, seeds, allowed, same)
        if failed:
            sentence += f" {failed} of {seeds * len(rows)} runs failed and count as the worst."
    return Verdict(sentence, best, winner, seeds, tuple(rows), pairs)


def _table(losses: Mapping[str, ArrayLike]) -> dict[str, Values]:
    """Return the losses as arrays (N,), failed runs as infinity."""
    table = {method: np.ravel(np.asarray(values, dtype=np.float64)) for method, values in losses.items()}
    sizes = {method: values.size for method, values in table.items()}
    if len(set(sizes.values())) != 1 or 0 in sizes.values():
        raise ValueError(f"a verdict needs one loss a seed of every method (NaN for a failed run), not {sizes}")
    return {method: np.where(np.isfinite(values), values, np.inf) for method, values in table.items()}


def _row(method: str, values: Values, level: float, resamples: int, seed: int) -> Row:
    low, high = statistics.interval(values, level=level, resamples=resamples, seed=seed)
    return Row(method, statistics.iqm(values), low, high, int(np.isinf(values).sum()))


def _compare(other: str, best: Values, theirs: Values, p: float, allowed: float, resamples: int, seed: int) -> Pair:
    low, high = statistics.paired_interval(best, theirs, level=1 - allowed, resamples=resamples, seed=seed)
    probability = statistics.probability_of_improvement(
        best, theirs, paired=True, level=1 - allowed, resamples=resamples, seed=seed
    )
    ahead = high < 0 and probability.low > 0.5
    return Pair(
        other=other,
        difference=statistics.iqm(statistics.differences(best, theirs)),
        low=low,
        high=high,
        probability=probability,
        effect=statistics.cohen_dz(best, theirs),
        p=p,
        ahead=ahead,
        beaten=ahead and p <= allowed,
    )


def _sentence(best: str, pairs: Sequence[Pair], seeds: int, allowed: float, same: bool) -> str:
    if not pairs:
        return f"Only {best} was tried: there is nothing to compare it with."
    if same:
        return f"Nobody won: all methods had the same losses on {_seeds(seeds)}."
    if seeds == 1:
        return f"One seed shows nothing: {best} had the lowest loss on it, another seed may say otherwise."
    beaten = [pair.other for pair in pairs if pair.beaten]
    rest = [pair.other for pair in pairs if not pair.beaten]
    if not rest:
        worst = max(pair.p for pair in pairs)
        return (
            f"{best} won: its loss was lower than that of {_list(beaten)} over {seeds} paired seeds (p <= {worst:.2g})."
        )
    if beaten:
        return (
            f"Nobody won outright: over {seeds} paired seeds {best} had the lowest loss and beat {_list(beaten)}, "
            f"but cannot be told apart from {_list(rest)}."
        )
    ahead = [pair.other for pair in pairs if pair.ahead]
    if ahead and len(pairs) * 2.0 ** (1 - seeds) > allowed:
        needed = 1 + math.ceil(math.log2(len(pairs) / allowed))
        near = [other for other in rest if other not in ahead]
        return (
            f"Nobody won yet: {best} was ahead of {_list(ahead)} on {seeds} paired seeds, which is too few to call "
            f"(p >= {2.0 ** (1 - seeds):.2g} whatever happens): at least {needed} are needed"
            + (f"; {_list(near)} cannot be told apart from it." if near else ".")
        )
    return f"Nobody won: {best} had the lowest loss, but {_seeds(seeds)} do not tell it apart from {_list(rest)}."


def _seeds(count: int) -> str:
    return f"{count} paired seeds" if count > 1 else "one seed"


def _list(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
