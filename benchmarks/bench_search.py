"""Evaluations that a search needs on standard functions: our CMA-ES against plain pycma, SNES against EvoTorch's figures.

    python benchmarks/bench_search.py [--rounds 10] [--dimensions 10 20]

Medians over seeds; both sides begin at the same points. EvoTorch 0.6.1 was measured once (torch 2.13, float64) with the
same population, deviations and learning rates as here; its medians are in `EVOTORCH`.
"""

from __future__ import annotations

import argparse
import itertools
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from evo_rnn.layout import Layout, units, vector
from evo_rnn.shapes import Losses
from populations.algorithms import CMAES, SNES, Search

Points = np.ndarray[Any, np.dtype[np.float64]]  # (P, D)
Function = Callable[[Points], Losses]
START = 0.8  # where both sides begin, in every gene
TARGET = 1e-9

EVOTORCH = {("sphere", 10): 1985, ("sphere", 20): 4278, ("ellipsoid", 10): 2825, ("ellipsoid", 20): 5934}


def sphere(x: Points) -> Losses:
    return np.asarray((x**2).sum(axis=1))


def ellipsoid(x: Points) -> Losses:
    return np.asarray((10 ** (6 * np.arange(x.shape[1]) / (x.shape[1] - 1)) * x**2).sum(axis=1))


def rosenbrock(x: Points) -> Losses:
    return np.asarray((100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2).sum(axis=1))


def rastrigin(x: Points) -> Losses:
    return np.asarray((10 + x**2 - 10 * np.cos(2 * np.pi * x)).sum(axis=1))


# function, initial deviation, start, and population; 0 stands for the usual 4 + 3 ln D
FUNCTIONS: dict[str, tuple[Function, float, float, int]] = {
    "sphere": (sphere, 0.5, START, 0),
    "ellipsoid": (ellipsoid, 0.5, START, 0),
    "rosenbrock": (rosenbrock, 0.5, 0.0, 0),
    "rastrigin": (rastrigin, 2.0, 3.0, 100),  # what small populations find by restarts only
}


def ours(settings: Search, function: Function, start: float, size: int, seed: int, limit: int) -> float:
    """Evaluations until the target is reached, infinite if that takes more than the limit. Genes are in units of 1."""
    layout = Layout((vector("w", units("w", size), units("w", size), start - 1, start + 1),))
    search = settings.begin(layout, seed)
    for count in range(settings.population, limit + 1, settings.population):
        genes = search.ask()
        loss = function(genes.astype(np.float64))
        if loss.min() <= TARGET:
            return count
        search.tell(genes, loss)
    return math.inf


def plain(settings: CMAES, function: Function, start: float, size: int, seed: int, limit: int) -> float:
    """The same by pycma's own loop with its own IPOP restarts; they begin where ours do, uniform about the start."""
    import cma

    points = np.random.default_rng(seed)
    starts = itertools.chain([np.full(size, start)], (start + points.uniform(-1, 1, size) for _ in itertools.count()))
    options = {"popsize": settings.population, "ftarget": TARGET, "maxfevals": limit, "seed": seed + 1, "verbose": -9}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, es = cma.fmin2(
            lambda x: float(function(x[None])[0]),
            lambda: next(starts),
            settings.step,
            options | {"verb_log": 0, "signals_filename": None},
            restarts=9,
        )
    return float(es.countevals) if es.best.f <= TARGET else math.inf


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10, help="seeds")
    parser.add_argument("--dimensions", type=int, nargs="+", default=[10, 20])
    parser.add_argument("--functions", nargs="+", default=list(FUNCTIONS), choices=list(FUNCTIONS))
    parser.add_argument("--limit", type=int, default=300_000, help="evaluations")
    options = parser.parse_args()
    print(f"median evaluations to {TARGET:.0e}, {options.rounds} seeds")
    print(f"{'':14}{'D':>4}{'P':>5}{'cma_es':>10}{'pycma':>10}{'ratio':>7}{'snes':>10}{'EvoTorch':>10}{'ratio':>7}")
    for name, size in itertools.product(options.functions, options.dimensions):
        function, step, start, population = FUNCTIONS[name]
        population = population or 4 + int(3 * math.log(size))
        covariance, separable = CMAES(population, step), SNES(population, step)
        seeds, rest = range(options.rounds), (function, start, size)
        row = [np.median([side(covariance, *rest, seed, options.limit) for seed in seeds]) for side in (ours, plain)]
        line = f"{name:14}{size:4}{population:5}{row[0]:10.0f}{row[1]:10.0f}{row[0] / row[1]:7.2f}"
        if (name, size) in EVOTORCH:
            mine, theirs = np.median([ours(separable, *rest, s, options.limit) for s in seeds]), EVOTORCH[name, size]
            line += f"{mine:10.0f}{theirs:10.0f}{mine / theirs:7.2f}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
