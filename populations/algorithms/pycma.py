"""pycma (Hansen, Akimoto and Baudis, https://github.com/CMA-ES/pycma) with our random streams, its state as arrays.

Everything that pycma changes while it runs is named in `CHANGING`, so a search is stopped and resumed to the bit, at a
cost that does not grow with its age. Its files, clocks, signals and global random numbers are left out.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from evo_rnn.shapes import Array, Losses

CHANGING = {  # by the part of the strategy that owns them; lists are kept short by pycma
    "": "mean mean_old mean_after_tell sigma _sigma_old pc pc2 countiter countevals count_eigen itereigenupdated",
    "adapt_sigma": "ps delta _ps_updated_iteration",
    "sigma_vec": "scaling is_identity",
    "fit": "fit hist histbest histmedian median median0 median_min median_previous median_got_worse flatfit_iterations",
    "best": "f evals",
    "_stoptolxstagnation": "x count count_x",
    "sm": "C B D last_update count_tell count_eigen",  # the sampler of a full covariance; a separable one is constant
}
LISTS = ("fit", "hist", "histbest", "histmedian")
WORST = 1e300  # a loss that pycma can still calculate with


class _Stream:
    """Normal numbers for pycma from the stream of the generation that asks."""

    source: np.random.Generator

    def __call__(self, *shape: int) -> Array:
        return self.source.standard_normal(shape)


@contextmanager
def _quietly() -> Iterator[None]:
    """Hostile losses and long steps are expected; pycma's warnings about them help nobody."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def strategy(start: Array, step: float, count: int, *, separable: bool, patience: int) -> Any:  # noqa: ANN401 (untyped)
    """A strategy of pycma about `start` (D,), which learns from `count` points at once for `patience` iterations."""
    import cma  # slow, and the command line's help needs none of it
    from cma.sigma_adaptation import CMAAdaptSigmaCSA
    from cma.utilities.utils import ElapsedWCTime

    options: dict[str, Any] = {
        "popsize": count,
        "CMA_diagonal": separable,
        "AdaptSigma": CMAAdaptSigmaCSA,  # the default below 300 genes; above, pycma wants mirrors of its own in the batch
        "conditioncov_alleviate": False,  # would turn the coordinates; tolconditioncov starts afresh instead
        "tolupsigma": 1e8,  # before pycma rewrites its scales, at 1e9
        "randn": _Stream(),
        "seed": np.nan,  # pycma leaves NumPy's global numbers alone
        "signals_filename": None,
        "verbose": -9,
        "verb_log": 0,
    }
    if patience:
        options["maxiter"] = patience
    with _quietly():
        es = cma.CMAEvolutionStrategy(start, step, options)
    es.timer = ElapsedWCTime()  # pycma sets it in its first `ask`, which a resumed strategy has behind it
    return es


def ask(es: Any, count: int, stream: np.random.Generator) -> Array:  # noqa: ANN401
    """`count` points (count, D) drawn from the stream."""
    es.opts["randn"].source = stream
    with _quietly():
        return np.array(es.ask(count))


def tell(es: Any, points: Array, losses: Losses) -> bool:  # noqa: ANN401
    """Learn from points (N, D) and their sanitised losses (N,), both from best to worst. Whether the run has ended."""
    values = np.minimum(losses, WORST)
    with _quietly():
        es.tell(list(points), list(_without_ties(values)), check_points=False)
        es.fit.fit = [float(value) for value in values]  # what is flat shall look flat to `stop`
        es.sent_solutions.clear()
        es.archive.clear()
        return bool(es.stop())


def shortened(es: Any, points: Array) -> Array:  # noqa: ANN401
    """Foreign points (N, D), drawn near as Hansen, "Injecting external solutions into CMA-ES", 2011, demands."""
    with _quietly():
        return np.array([es.repair_genotype(point, copy_if_changed=True) for point in points]).reshape(points.shape)


def numbers(es: Any) -> dict[str, Array]:  # noqa: ANN401
    """All that changes, as new arrays of float64 and int64; what pycma has not set yet is left out."""
    found: dict[str, Array] = {}
    for name, owner, attribute in _places(es):
        value = getattr(owner, attribute, None)
        if value is not None:
            array = np.array(value)
            found[name] = array.astype(np.float64 if array.dtype.kind == "f" or not array.size else np.int64)
    return found


def set_numbers(es: Any, values: Mapping[str, Array]) -> None:  # noqa: ANN401
    """Make a fresh strategy of equal settings the one that gave the numbers."""
    for name, owner, attribute in _places(es):
        if name in values:
            setattr(owner, attribute, _as_kept(attribute, values[name]))
    es._updateBDfromSM(es.sm)  # views that pycma holds


def _places(es: Any) -> Iterator[tuple[str, Any, str]]:  # noqa: ANN401
    """The name, the owner and the attribute of everything that changes."""
    for part, names in CHANGING.items():
        owner = getattr(es, part) if part else es
        if part != "sm" or hasattr(owner, "B"):
            for attribute in names.split():
                yield f"{part}.{attribute}".lstrip("."), owner, attribute


def _as_kept(attribute: str, value: Array) -> Any:  # noqa: ANN401
    if attribute in LISTS:
        return [float(each) for each in value]
    if value.ndim:
        return np.array(value)
    return np.float64(value) if value.dtype.kind == "f" else int(value)


def _without_ties(values: Losses) -> Losses:
    """Sorted values (N,), those that are equal a hair apart: pycma sorts them as it pleases, we by their index."""
    if len(values) < 2 or (np.diff(values) > 0).all():
        return values
    apart = values.copy()
    for index in range(1, len(apart)):
        apart[index] = max(apart[index], np.nextafter(apart[index - 1], np.inf))
    return apart
