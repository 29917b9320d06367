"""The horizontal axis of a picture of steps: years or dates where the data have them, else steps counted from 1."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from evo_rnn.shapes import Array

if TYPE_CHECKING:
    from matplotlib.axis import Axis


@dataclass(frozen=True)
class TimeAxis:
    """Where steps are drawn.

    Args:
        places: (N,) float64, rising.
        kind: "dates", "numbers", "words" or "steps".
        words: (N,) what to write below the steps, where they are words.
    """

    places: Array
    kind: str
    words: tuple[str, ...] = ()

    @property
    def half(self) -> float:
        """Half the distance of two steps."""
        return float(np.median(np.diff(self.places))) / 2 if len(self.places) > 1 else 0.5

    def mark(self, axis: Axis) -> None:
        """Give an axis the ticks that fit."""
        from matplotlib import dates, ticker

        if self.kind == "dates":
            locator = dates.AutoDateLocator()
            axis.set_major_locator(locator)
            axis.set_major_formatter(dates.ConciseDateFormatter(locator))
            return
        whole = bool((self.places == np.round(self.places)).all())
        axis.set_major_locator(ticker.MaxNLocator(10, steps=[1, 2, 5, 10], integer=whole))
        if self.kind == "words":
            axis.set_major_locator(ticker.MaxNLocator(5, integer=True))
            axis.set_major_formatter(ticker.FuncFormatter(lambda place, _: self._word(place)))
        else:
            axis.set_major_formatter(ticker.ScalarFormatter(useOffset=False))

    def _word(self, place: float) -> str:
        index = round(place) - 1
        return self.words[index] if 0 <= index < len(self.words) else ""


def time_axis(labels: Sequence[str], count: int) -> TimeAxis:
    """The axis for `count` steps that are called `labels`, which may be empty.

    Dates are in ISO 8601, a time zone is not looked at; dates and numbers must rise, and words be all different.
    """
    steps = np.arange(1.0, count + 1)
    if len(labels) != count or not all(labels):
        return TimeAxis(steps, "steps")
    for kind, place in (("dates", _day), ("numbers", float)):
        with suppress(ValueError, OverflowError):
            places = np.array([place(label) for label in labels])
            if np.isfinite(places).all() and (np.diff(places) > 0).all():
                return TimeAxis(places, kind)
    return TimeAxis(steps, "words", tuple(labels)) if len(set(labels)) == count else TimeAxis(steps, "steps")


def _day(label: str) -> float:
    """Days since 1970 of a date, which may have a time; a month is its first day."""
    from matplotlib.dates import date2num

    text = label if len(label) != len("2024-01") or "-" not in label else f"{label}-01"
    return float(date2num(datetime.fromisoformat(text).replace(tzinfo=None)))
