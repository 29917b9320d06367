"""Searches over chromosomes, by name. A new row here brings its tests with it."""

from populations.algorithms.algorithm import Algorithm, Search
from populations.algorithms.ga import GeneticAlgorithm
from populations.algorithms.random_search import RandomSearch

ALGORITHMS = {"ga": GeneticAlgorithm, "random": RandomSearch}

__all__ = ["ALGORITHMS", "Algorithm", "GeneticAlgorithm", "RandomSearch", "Search"]
