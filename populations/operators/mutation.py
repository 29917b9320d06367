"""How children differ from what they inherited: Gaussian steps on whole matrices.

Every rule is `mutate(genes (N, D), step (D,), generator) -> genes (N, D)` and leaves its arguments alone. `step` is the
standard deviation for each gene, in its own unit: the search makes it a share of the gene's initial range. It may also
be (N, D), where every chromosome has its own.
"""

from __future__ import annotations

import numpy as np

from evo_rnn.shapes import Array, Genes, Losses


def gaussian(genes: Genes, step: Array, generator: np.random.Generator) -> Genes:
    """Every gene moves."""
    noise: Genes = generator.standard_normal(size=(len(genes), genes.shape[1]), dtype=np.float32)
    noise *= step.astype(np.float32)
    noise += genes
    return noise


def sparse(genes: Genes, step: Array, generator: np.random.Generator, *, rate: float = 0.05) -> Genes:
    """Each gene moves with probability `rate`, independently."""
    mutated = genes.astype(np.float32)
    where = _hits(mutated.size, rate, generator)
    noise = generator.standard_normal(len(where), dtype=np.float32)
    own = step.astype(np.float32)
    noise *= own[where % genes.shape[1]] if own.ndim == 1 else own.reshape(-1)[where]
    mutated.reshape(-1)[where] += noise
    return mutated


def log_normal(mothers: Losses, fathers: Losses, genes: int, generator: np.random.Generator) -> Losses:
    """The steps (N,) that children carry: the geometric mean of their parents' steps, times exp(tau N(0, 1)).

    tau = 1 / sqrt(D), one step a chromosome (Schwefel 1981, Numerical optimization of computer models; Bäck 1996,
    Evolutionary algorithms in theory and practice, section 2.1). The step moves before the genes do, so that a child
    shows how good its own step is.

    Args:
        mothers: (N,) steps.
        fathers: (N,) steps.
        genes: D.
        generator: where the noise comes from.
    """
    steps: Losses = np.sqrt(mothers * fathers) * np.exp(generator.standard_normal(len(mothers)) / genes**0.5)
    return steps


def _hits(trials: int, rate: float, generator: np.random.Generator) -> Array:
    """Which of `trials` independent trials succeed, ascending. The gaps between successes are geometric.

    So the work is in proportion to the successes, not to the trials: six times less than a mask at a rate of 5 %.
    """
    found = [np.empty(0, dtype=np.int64)]
    last = -1
    while rate > 0 and last < trials - 1:
        expected = (trials - 1 - last) * rate
        gaps = generator.geometric(rate, size=int(expected + 4 * expected**0.5) + 1)
        found.append(last + np.minimum(gaps, trials).cumsum())
        last = int(found[-1][-1])
    hits = np.concatenate(found)
    return hits[: np.searchsorted(hits, trials)]
