"""The words of a report: who won, how the baselines did, what was trained, how it was measured."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from evo_rnn.network import Model
from evo_rnn.statistics import interval, iqm
from trainers.experiments.outcome import Comparison

NAMES = {"lagged_regression": "lagged regression", "persistence": "persistence"}


def parts(comparison: Comparison) -> list[str]:
    """What the test split is shown by: its spans, or itself."""
    return list(comparison.task.spans) or ["test"]


def full_verdict(comparison: Comparison) -> str:
    """Who won, or that nobody did; what that rests on; and whether it was worth the trouble: how the baselines did.

    A baseline *beats every method* on a part of the test split where its loss lies below the interval of the best
    method there, is *level with the best* within it, and *loses to* it above.
    """
    spans = list(comparison.task.spans)
    basis = f"The verdict rests on the test split ({listed(spans)})." if spans else ""
    words = [baseline_sentence(comparison, name) for name in NAMES if name in comparison.baselines]
    return " ".join(filter(None, [comparison.verdict.sentence, basis, *words]))


def baseline_sentence(comparison: Comparison, name: str) -> str:
    """How one baseline did on the test split and on each of its spans; empty if its loss is not known."""
    outcomes: dict[str, list[str]] = {"beat every method": [], "was level with the best": [], "lost to the best": []}
    for part in ("test", *comparison.task.spans):
        own = comparison.baselines[name].get(part, math.nan)
        if math.isnan(own):
            continue
        losses = {method: comparison.values(method, f"{part}_loss") for method in comparison.methods}
        best = min(losses, key=lambda method: (iqm(losses[method]), method))
        low, high = interval(losses[best])
        outcome = "beat every method" if own < low else "lost to the best" if own > high else "was level with the best"
        place = "the test split" if part == "test" else part
        outcomes[outcome].append(f"{place} ({number(own)} against {number(iqm(losses[best]))} of {best})")
    if len(outcomes["lost to the best"]) == 1 + len(comparison.task.spans):
        return f"{NAMES[name].capitalize()} lost to the best on all of it."
    said = [f"{outcome} on {listed(places)}" for outcome, places in outcomes.items() if places]
    return f"{NAMES[name].capitalize()} {listed(said)}." if said else ""


def number(value: float) -> str:
    """A loss for people: three digits; "failed" if it is not finite."""
    if not math.isfinite(value):
        return "failed" if value > 0 or math.isnan(value) else "-inf"
    if value and not 1e-3 <= abs(value) < 1e4:
        return f"{value:.2e}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.4g}"


def listed(items: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def budget_text(comparison: Comparison) -> str:
    """What each run could spend."""
    return f"{comparison.budget:,.0f} passes a run" if comparison.budget else "no bound on passes"


def model_text(model: Model) -> str:
    """The network in a few words: `Elman, 5 hidden units, 41 genes`."""
    cell = getattr(model, "cell", model)
    layers = getattr(cell, "cells", (cell,))
    names = [f"{type(layer).__name__}, {getattr(layer, 'hidden', 0)} hidden units" for layer in layers]
    counts = Counter(names)
    said = " + ".join(f"{count} x {name}" if count > 1 else name for name, count in counts.items())
    return f"{said}, {model.layout.size} genes"
