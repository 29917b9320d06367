"""What a generation costs on how many workers: measured pieces, a stated model of the network, and their sum.

    generation(W) = driver + put + W dispatch + trip + shipping + slowest shard
    shipping      = 0 on the driver's own node, else 2 latency + (other nodes) bytes / bandwidth
    slowest shard = ceil(blocks / W) block (1 + straggler sqrt(2 ln W))

The driver's link carries the whole matrix once to every other node, as Ray's object store does without its tree of
copies, so this is the cautious figure. The last factor is how far the slowest of W normal times with that relative
deviation lies above the mean (the usual bound on the maximum of W normal variables). A shard is made of whole blocks,
so more workers than blocks have nothing to do.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from evo_rnn.errors import ConfigError
from evo_rnn.evaluation.pool import Pool
from evo_rnn.shapes import Genes

ECHO = "evo_rnn.evaluation.probe:echo"


@dataclass(frozen=True)
class Costs:
    """One generation in pieces; times in seconds on the clock, of one thread.

    Args:
        blocks: in which the population is scored.
        block: scoring one of them.
        driver: proposing and learning, which stays on the driver.
        size: bytes of the matrix of chromosomes.
        put: handing the matrix to the object store.
        trip: an empty call to a worker and back.
        dispatch: the driver's own work for a call: what it does for one worker it cannot do for another.
        start: until the first worker answers; Ray's own start included.
    """

    blocks: int
    block: float
    driver: float
    size: int
    put: float
    trip: float
    dispatch: float
    start: float

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            whole = name in ("blocks", "size")
            good = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
            if not good or not (1 if name == "blocks" else 0) <= value < math.inf:
                raise ConfigError(f"costs: {name} should be a number that is not negative but is {value!r}.")

    def here(self) -> float:
        """Seconds of a generation without workers."""
        return self.driver + self.blocks * self.block


@dataclass(frozen=True)
class Wire:
    """A cluster of equal nodes; the driver sits on the first.

    Args:
        latency: seconds one way between two nodes.
        bandwidth: bytes a second out of the driver's node.
        node: workers a node.
        straggler: standard deviation of a shard's time, relative to its mean.
    """

    latency: float = 0.0005
    bandwidth: float = 1.25e9
    node: int = 16
    straggler: float = 0.05

    def __post_init__(self) -> None:
        bounds = {"latency": self.latency >= 0, "bandwidth": self.bandwidth > 0, "node": self.node >= 1}
        for name, good in (bounds | {"straggler": self.straggler >= 0}).items():
            if not (good and math.isfinite(getattr(self, name))):
                raise ConfigError(f"{name} should be a finite number in its range but is {getattr(self, name)}.")


def generation(costs: Costs, workers: int, wire: Wire) -> float:
    """Seconds of a generation on so many workers; 0 is the driver alone."""
    if workers == 0:
        return costs.here()
    busy = min(workers, costs.blocks)
    others = -(-busy // wire.node) - 1
    shipping = 2 * wire.latency + others * costs.size / wire.bandwidth if others else 0.0
    slowest = -(-costs.blocks // busy) * costs.block * (1 + wire.straggler * math.sqrt(2 * math.log(busy)))
    return costs.driver + costs.put + busy * costs.dispatch + costs.trip + shipping + slowest


def efficiency(costs: Costs, workers: int, wire: Wire) -> float:
    """How much of the workers' time is of use: the time without any, over that of all of them."""
    return costs.here() / (max(workers, 1) * generation(costs, workers, wire))


def advice(costs: Costs, cores: int, wire: Wire) -> tuple[int, str]:
    """How many workers to take on this machine, and why, in a sentence or two."""
    times = {workers: generation(costs, workers, wire) for workers in range(cores + 1)}
    best = min(times, key=lambda workers: (times[workers], workers))
    fewest = next(workers for workers in times if times[workers] <= 1.05 * times[best])
    alone = times[0]
    overhead = costs.put + costs.trip + costs.dispatch
    if fewest == 0:
        if costs.blocks == 1:
            why = "The population fits one block, which is never cut, so a second worker would have nothing to do."
        elif cores == 1:
            why = "There is one core."
        else:
            why = (
                f"Scoring a generation takes {1e3 * costs.blocks * costs.block:.3g} ms, sharing it out at least "
                f"{1e3 * overhead:.3g} ms more."
            )
        return 0, f"{why} Take workers: 0."
    back = costs.start / (alone - times[fewest])
    bound = (
        f"the {costs.blocks} blocks"
        if fewest == costs.blocks
        else f"the {cores} cores"
        if fewest == cores
        else "overhead"
    )
    return fewest, (
        f"{fewest} worker{'s' if fewest > 1 else ''} take {1e3 * times[fewest]:.3g} ms a generation where this process "
        f"alone takes {1e3 * alone:.3g} ms: {alone / times[fewest]:.2f} times as fast, bounded by {bound}. Their start "
        f"is paid back after {math.ceil(back):,} generations."
    )


def timed(call: Callable[[], object], repeats: int = 5, least: float = 0.0) -> float:
    """Median seconds of a call on the clock, after one that warms up."""
    call()
    spent: list[float] = []
    while len(spent) < repeats or sum(spent) < least:
        start = time.perf_counter()
        call()
        spent.append(time.perf_counter() - start)
    return median(spent)


def of_pool(pool: Pool, matrix: Genes, began: float) -> dict[str, float]:
    """What a pool of workers costs: `put`, `trip`, `dispatch`, and `start` since `began` (`time.perf_counter`)."""
    pool.map(ECHO, [(0,)])
    start = time.perf_counter() - began
    trip = timed(lambda: pool.map(ECHO, [(0,)]), 50)
    clock, calls = time.process_time(), 200
    pool.map(ECHO, [(k,) for k in range(calls)])
    dispatch = (time.process_time() - clock) / calls
    return {"put": timed(lambda: pool.share(matrix), 20), "trip": trip, "dispatch": dispatch, "start": start}
