"""What a person sees while training runs: bars on a terminal, a few lines elsewhere; data alone goes to standard output."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from trainers.experiments.race import Event

WIDTH = 110  # where there is no terminal to ask
EVERY = 10.0  # seconds between two lines where there is no terminal


class Board:
    """Progress of all trials: one bar a method.

    Args:
        console: where to draw.
        methods: labels.
        seeds: how many runs each method has.
        budget: passes of a run; 0 if there is another bound.
    """

    def __init__(self, console: Console, methods: Mapping[str, object], seeds: int, budget: float) -> None:
        self._console, self._budget, self._seeds = console, budget, seeds
        self._done = {method: dict.fromkeys(range(0), 0.0) for method in methods}
        self._best = dict.fromkeys(methods, float("inf"))
        self._bars: dict[str, TaskID] = {}
        self._spoke = self._began = time.monotonic()
        columns = (TextColumn("{task.description:>11}"), BarColumn(30), TextColumn("{task.fields[note]}"))
        self._progress = Progress(*columns, TimeRemainingColumn(), console=console, transient=True)

    @contextlib.contextmanager
    def shown(self) -> Iterator[Board]:
        """Draw while the block runs."""
        if not self._console.is_terminal:
            yield self
            return
        with self._progress:
            for method in self._done:
                self._bars[method] = self._progress.add_task(method, total=1.0, note="waiting")
            yield self

    def update(self, event: Event) -> None:
        """Show one more slice."""
        rows, method = event.slice.rows, event.method
        if rows:
            self._best[method] = min(self._best[method], rows[-1].metrics["validation/loss"])
        passes = rows[-1].passes if rows else 0
        known = self._done[method].get(event.seed, 0.0)
        share = 1.0 if event.slice.reason else min(passes / self._budget, 1.0) if self._budget else 0.0
        self._done[method][event.seed] = max(known, share)
        self._speak(method, final=bool(event.slice.reason))

    def _speak(self, method: str, *, final: bool) -> None:
        over = sum(self._done[method].values()) / self._seeds
        runs = sum(share >= 1.0 for share in self._done[method].values())
        best = self._best[method]
        note = f"{runs}/{self._seeds} runs" + (f", validation {best:.4g}" if best < float("inf") else "")
        if self._bars:
            self._progress.update(self._bars[method], completed=over, note=note)
            return
        everything = sum(sum(done.values()) for done in self._done.values()) / (self._seeds * len(self._done))
        now = time.monotonic()
        if now - self._spoke >= EVERY or (final and everything >= 1.0):
            self._spoke = now
            self._console.print(
                f"{now - self._began:5.0f} s  {100 * everything:3.0f} %  {method}: {note}", highlight=False
            )


def console(json: bool) -> Console:
    """Where people read: standard output, or standard error when standard output carries data."""
    screen = Console(stderr=json)
    return screen if screen.is_terminal else Console(stderr=json, width=WIDTH)
