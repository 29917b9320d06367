"""When to stop: the three classical criteria of recurrent-network evolution and more, composable, each with its reason.

The classical three: the network has learned a given percentage of the training data; the minimum value of the mean squared
error is reached; the maximum number of generations is reached. Each can be judged on the validation split instead, because
"learned" on eight training strings means little for the ninth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Standing:
    """What a criterion may look at.

    Args:
        step: generations or gradient steps so far.
        passes: spent so far.
        seconds: CPU seconds so far.
        wall: seconds on the clock so far.
        loss: best loss so far on a split, "train" or "validation".
        share: the part of the counted steps of a split that the best network has learned, 0 to 1.
        quiet: steps since the loss on a split last improved.
    """

    step: int
    passes: float
    seconds: float
    wall: float
    loss: Callable[[str], float]
    share: Callable[[str], float]
    quiet: Callable[[str], int]


class Criterion(Protocol):
    """Says why to stop, or nothing."""

    def reason(self, now: Standing) -> str:
        """One phrase, empty to go on."""
        ...


def is_goal(criterion: Criterion) -> bool:
    """Whether the criterion is met by one network on the training data, which then is the champion."""
    return isinstance(criterion, Learned | MinimumLoss) and criterion.on == "train"


@dataclass(frozen=True)
class Learned:
    """Stop when `percent` of the counted steps are within the tolerance (classes: right)."""

    percent: float
    on: str = "train"

    def reason(self, now: Standing) -> str:
        """One phrase, empty to go on."""
        share = 100 * now.share(self.on)
        return (
            f"learned {share:.1f} % of the {self.on} data (wanted {self.percent:g} %)" if share >= self.percent else ""
        )


@dataclass(frozen=True)
class MinimumLoss:
    """Stop when the loss is at most `value`."""

    value: float
    on: str = "train"

    def reason(self, now: Standing) -> str:
        """One phrase, empty to go on."""
        loss = now.loss(self.on)
        return f"{self.on} loss {loss:.6g} reached the goal {self.value:g}" if loss <= self.value else ""


@dataclass(frozen=True)
class Generations:
    """Stop after `count` generations or gradient steps."""

    count: int

    def reason(self, now: Standing) -> str:
        """One phrase, empty to go on."""
        return f"maximum of {self.count} generations reached" if now.step >= self.count else ""


@dataclass(frozen=True)
class Passes:
    """Stop when `count` passes are spent."""

    count: float

    def reason(self, now: Standing) -> str:
        """One phrase, empty to go on."""
        return f"budget of {self.count:g} passes spent" if now.passes >= self.count else ""


@dataclass(frozen=True)
class Seconds:
    """Stop when `count` CPU seconds are spent."""

    count: float

    def reason(self, now: Standing) -> str:
        """One phrase, empty to go on."""
        return f"budget of {self.count:g} CPU seconds spent" if now.seconds >= self.count else ""


@dataclass(frozen=True)
class WallClock:
    """Stop when `count` seconds have gone by on the clock. The result then depends on the machine."""

    count: float

    def reason(self, now: Standing) -> str:
        """One phrase, empty to go on."""
        return f"{self.count:g} seconds on the clock are over" if now.wall >= self.count else ""


@dataclass(frozen=True)
class Stagnation:
    """Stop when the loss has not improved for `count` generations or gradient steps."""

    count: int
    on: str = "train"

    def reason(self, now: Standing) -> str:
        """One phrase, empty to go on."""
        return f"no better {self.on} loss for {self.count} generations" if now.quiet(self.on) >= self.count else ""


def first_met(criteria: Sequence[Criterion], now: Standing) -> tuple[str, bool]:
    """The reason of the first criterion that is met, in their order, and whether it is a goal; empty if none is."""
    for criterion in criteria:
        if reason := criterion.reason(now):
            return reason, is_goal(criterion)
    return "", False
