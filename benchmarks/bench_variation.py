"""One generation's variation (selection, mating, mutation): whole matrices against DEAP's list operators.

P = 1000 chromosomes of D = 10,000 genes, tournament of 3, uniform crossover, Gaussian mutation of 5 % of the genes; one
thread, CPU time, the two sides interleaved, medians. Run: python benchmarks/bench_variation.py
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import argparse
import random
import time
from collections.abc import Callable
from statistics import median

import numpy as np
from deap import base, tools

from evo_rnn.cells import Elman
from evo_rnn.layout import Layout, units, vector
from evo_rnn.network import network
from evo_rnn.shapes import Genes, Losses
from populations.algorithms import GeneticAlgorithm

TARGET = 30.0


class Fitness(base.Fitness):  # type: ignore[misc]
    """Of one loss, to be minimised."""

    weights = (-1.0,)


class Individual(list[float]):
    """A chromosome as DEAP's manual has it: a list that carries its fitness."""

    def __init__(self, genes: list[float], loss: float) -> None:
        super().__init__(genes)
        self.fitness = Fitness((loss,))


def deap_generation(genes: Genes, loss: Losses) -> Callable[[], object]:
    """Selection, clones, mating in pairs and mutation, as `deap.algorithms.eaSimple` does them."""
    population = [Individual(row, value) for row, value in zip(genes.tolist(), loss.tolist(), strict=True)]
    box = base.Toolbox()
    box.register("select", tools.selTournament, tournsize=3)
    box.register("mate", tools.cxUniform, indpb=0.5)
    box.register("mutate", tools.mutGaussian, mu=0.0, sigma=0.5, indpb=0.05)

    def generation() -> object:
        children = [box.clone(individual) for individual in box.select(population, len(population))]
        for one, other in zip(children[::2], children[1::2], strict=True):
            box.mate(one, other)
        for child in children:
            box.mutate(child)
        return children

    return generation


def matrix_generation(layout: Layout, genes: Genes, loss: Losses, crossover: str) -> Callable[[], object]:
    settings = GeneticAlgorithm(
        population=len(genes), elites=0, mating=1.0, crossover=crossover, mutation="sparse", rate=0.05
    )
    search = settings.begin(layout, seed=0)
    search.tell(genes, loss)
    return search.ask


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--population", type=int, default=1000)
    parser.add_argument("--genes", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    layout = Layout((vector("w", units("h", options.genes), ["one"], -1.0, 1.0),))
    stream = np.random.default_rng(0)
    genes = layout.draw(stream, options.population)
    loss = stream.random(options.population)
    random.seed(0)
    sides = {
        "DEAP lists": deap_generation(genes, loss),
        "matrices, uniform": matrix_generation(layout, genes, loss, "uniform"),
    }
    elman = network(Elman(1, 98), 1).layout  # 9,899 genes in units: about as many
    sides["matrices, unit-wise"] = matrix_generation(elman, elman.draw(stream, options.population), loss, "unit")
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, generation in sides.items():
            start = time.process_time()
            generation()
            seconds[name].append(time.process_time() - start)
    lists = median(seconds["DEAP lists"])
    print(f"P = {options.population}, D = {options.genes}, CPU ms a generation, medians of {options.rounds}")
    for name, taken in seconds.items():
        print(f"{name:22s} {1e3 * median(taken):9.1f} ms   {lists / median(taken):6.1f} x")
    return 0 if lists / median(seconds["matrices, uniform"]) >= TARGET else 1


if __name__ == "__main__":
    raise SystemExit(main())
