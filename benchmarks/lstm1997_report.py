"""The 1997 experiments side by side: what came out here, what the paper printed, and the gap in words."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from evo_rnn.statistics import interval

Z = 1.959964  # two-sided 95 %


@dataclass(frozen=True)
class Published:
    """What the paper prints (Hochreiter and Schmidhuber 1997, tables 1, 2, 7 and 9).

    Args:
        success: share of trials.
        trials: of which the means are taken.
        count: mean number of sequences until success.
        wrong: of 2560 test sequences, mean; -1 where the paper tests otherwise.
    """

    success: float
    trials: int
    count: int
    wrong: int = -1


@dataclass(frozen=True)
class Outcome:
    """What came out here.

    Args:
        experiment: its name.
        network: in words.
        weights: how many.
        rate: the learning rate.
        trials: how many.
        counts: sequences until success, of the trials that succeeded.
        presented: sequences that the longest unsolved trial saw, 0 if none is unsolved.
        seconds: of the wall clock.
        wrong: of 2560 test sequences, one number a solved trial; empty where the paper tests otherwise.
        stopped: why unsolved trials ended.
        published: the paper's numbers.
        more: anything else worth a clause.
    """

    experiment: str
    network: str
    weights: int
    rate: float
    trials: int
    counts: tuple[int, ...]
    presented: int
    seconds: float
    wrong: tuple[int, ...]
    stopped: str
    published: Published
    more: str = ""


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    share, extra = successes / trials, Z * Z / trials
    half = Z * ((share * (1 - share) + extra / 4) / trials) ** 0.5
    low, high = ((share + extra / 2 + sign * half) / (1 + extra) for sign in (-1, 1))
    return max(low, 0.0), min(high, 1.0)


def summary(outcome: Outcome) -> dict[str, object]:
    """Everything about an outcome, for JSON."""
    low, high = wilson(len(outcome.counts), outcome.trials)
    found: dict[str, object] = {**asdict(outcome), "success": len(outcome.counts) / outcome.trials}
    found["success_interval"] = [low, high]
    if outcome.counts:
        for name, statistic in (("median", np.median), ("mean", np.mean)):
            found[name] = float(statistic(outcome.counts))
            found[f"{name}_interval"] = list(interval(outcome.counts, partial(statistic, axis=-1)))
    return {**found, "gap": gap(outcome)}


def gap(outcome: Outcome) -> str:
    """How far the outcome is from the paper, in one sentence."""
    paper, solved = outcome.published, len(outcome.counts)
    low, high = wilson(solved, outcome.trials)
    share = f"{solved} of {outcome.trials} trials solved it ({_percent(low)} to {_percent(high)} %)"
    inside = low <= paper.success <= high
    word = "which agrees with" if inside else "fewer than" if high < paper.success else "more than"
    text = f"{share}, {word} the paper's {_percent(paper.success)} %"
    if solved:
        low, high = interval(outcome.counts, partial(np.mean, axis=-1))
        ratio = float(np.mean(outcome.counts)) / paper.count
        text += f"; those that did took {ratio:.2f} times the paper's mean number of sequences"
        text += ", and its mean lies in our interval" if low <= paper.count <= high else ""
    if solved < outcome.trials:
        text += f"; the others were stopped after {outcome.presented:,} sequences by the bound on {outcome.stopped}"
    return text + (f"; {outcome.more}." if outcome.more else ".")


def table(outcomes: list[Outcome]) -> str:
    """A Markdown table, and below it the gaps."""
    heads = ["experiment", "network", "weights", "rate", "solved, % [95 %]", "paper, %"]
    heads += ["median [95 %]", "mean [95 %]", "paper's mean", "wrong of 2560", "paper's", "seconds"]
    rows = [_row(outcome) for outcome in outcomes]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = [heads, ["-" * width for width in widths], *rows]
    text = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |" for line in lines]
    gaps = [f"* {each.experiment}, {each.network}, rate {each.rate:g}: {gap(each)}" for each in outcomes]
    return "\n".join([*text, "", *gaps])


def write(outcomes: list[Outcome], notes: str, folder: Path) -> None:
    """`lstm1997.json` and `lstm1997.md` in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "lstm1997.json").write_text(json.dumps([summary(each) for each in outcomes], indent=2) + "\n")
    (folder / "lstm1997.md").write_text(f"{table(outcomes)}\n\n{notes}\n")


def _row(outcome: Outcome) -> list[str]:
    paper, solved = outcome.published, len(outcome.counts)
    low, high = (_percent(each) for each in wilson(solved, outcome.trials))
    return [
        outcome.experiment,
        outcome.network,
        f"{outcome.weights:,}",
        f"{outcome.rate:g}",
        f"{solved}/{outcome.trials}, {_percent(solved / outcome.trials)} [{low}, {high}]",
        f"{_percent(paper.success)} of {paper.trials}",
        *(_estimate(outcome.counts, statistic) for statistic in (np.median, np.mean)),
        f"{paper.count:,}",
        f"{np.mean(outcome.wrong):.1f}" if outcome.wrong else "",
        f"{paper.wrong}" if paper.wrong >= 0 else "",
        f"{outcome.seconds:.0f}",
    ]


def _estimate(counts: tuple[int, ...], statistic: object) -> str:
    if not counts:
        return "none solved"
    assert callable(statistic)
    low, high = interval(counts, partial(statistic, axis=-1))
    return f"{statistic(counts):,.0f} [{low:,.0f}, {high:,.0f}]"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"
