"""How long a race still takes, from what the runs that are over have cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

ENOUGH = 0.05  # of a run that is alone: before that its speed says little


def remaining(elapsed: float, shares: Mapping[str, Sequence[float]], costs: Mapping[str, Sequence[float]]) -> float:
    """Seconds on the clock that are left; negative while nothing is known.

    A run of a method costs what the method's finished runs cost on the mean; of a method of which none is over, what the
    others cost. The clock is assumed to go on as it went: the same number of workers, as busy as so far.

    Args:
        elapsed: seconds on the clock so far.
        shares: by method, how much of each of its runs is done, 0 to 1; those that have not begun are 0.
        costs: by method, CPU seconds of each finished run.
    """
    means = {method: sum(spent) / len(spent) for method, spent in costs.items() if spent}
    runs = [share for each in shares.values() for share in each]
    if not means and not (len(runs) == 1 and runs[0] >= ENOUGH):
        return -1.0
    usual = sum(means.values()) / len(means) if means else 1.0
    weights = {method: means.get(method, usual) for method in shares}
    done, whole = (sum(weights[m] * size(each) for m, each in shares.items()) for size in (sum, len))
    return elapsed * (whole - done) / done if done else -1.0


def in_words(seconds: float) -> str:
    """`about 12 min left`; empty where nothing is known."""
    if seconds < 0:
        return ""
    if seconds < 90:
        return f"about {10 * max(1, round(seconds / 10))} s left"
    return f"about {seconds / 60:.0f} min left" if seconds < 5400 else f"about {seconds / 3600:.1f} h left"
