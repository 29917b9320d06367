"""Searches over chromosomes, by name. A new row here brings its tests with it."""

from populations.algorithms.algorithm import Algorithm, Search
from populations.algorithms.annealing import Annealing
from populations.algorithms.cma_es import CMAES
from populations.algorithms.cosyne import Cosyne
from populations.algorithms.deep_ga import DeepGA
from populations.algorithms.differential_evolution import DifferentialEvolution
from populations.algorithms.esp import Esp
from populations.algorithms.ga import GeneticAlgorithm
from populations.algorithms.map_elites import MapElites
from populations.algorithms.nsga2 import NSGA2
from populations.algorithms.openai_es import OpenAIES
from populations.algorithms.particle_swarm import ParticleSwarm
from populations.algorithms.pgpe import PGPE
from populations.algorithms.random_search import RandomSearch
from populations.algorithms.snes import SNES
from populations.algorithms.xnes import XNES

ALGORITHMS = {
    "ga": GeneticAlgorithm,
    "deep_ga": DeepGA,
    "differential_evolution": DifferentialEvolution,
    "particle_swarm": ParticleSwarm,
    "annealing": Annealing,
    "cosyne": Cosyne,
    "esp": Esp,
    "cma_es": CMAES,
    "snes": SNES,
    "xnes": XNES,
    "openai_es": OpenAIES,
    "pgpe": PGPE,
    "nsga2": NSGA2,
    "map_elites": MapElites,
    "random": RandomSearch,
}

__all__ = [
    "ALGORITHMS",
    "CMAES",
    "NSGA2",
    "PGPE",
    "SNES",
    "XNES",
    "Algorithm",
    "Annealing",
    "Cosyne",
    "DeepGA",
    "DifferentialEvolution",
    "Esp",
    "GeneticAlgorithm",
    "MapElites",
    "OpenAIES",
    "ParticleSwarm",
    "RandomSearch",
    "Search",
]
