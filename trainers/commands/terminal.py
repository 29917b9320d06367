"""What a person sees while training runs: bars on a terminal, a few lines elsewhere; data alone goes to standard output."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from trainers.commands.estimate import in_words, remaining
from trainers.experiments.race import Event

WIDTH = 110  # where there is no terminal to ask
EVERY = 10.0  # seconds between two lines where there is no terminal


class Board:
    """Progress of all trials: one bar a method, and one for all with the time that is left.

    Args:
        console: where to draw.
        methods: labels.
        seeds: how many runs each method has.
        budget: passes of a run; 0 if there is another bound.
    """

    def __init__(self, console: Console, methods: Iterable[str], seeds: int, budget: float) -> None:
        self._console, self._budget, self._seeds = console, budget, seeds
        self._done: dict[str, dict[int, float]] = {method: {} for method in methods}
        self._costs: dict[str, list[float]] = {method: [] for method in self._done}  # CPU seconds of runs that are over
        self._best = dict.fromkeys(self._done, float("inf"))
        self._passes = dict.fromkeys(self._done, 0)
        self._bars: dict[str, TaskID] = {}
        self._all = TaskID(0)
        self._spoke = self._began = time.monotonic()
        bar = BarColumn(max(10, min(30, console.width - 70)))
        columns = (TextColumn("{task.description:>11}"), bar, TextColumn("{task.fields[note]}"))
        self._progress = Progress(*columns, console=console, transient=True)

    @contextlib.contextmanager
    def shown(self) -> Iterator[Board]:
        """Draw while the block runs."""
        if not self._console.is_terminal:
            yield self
            return
        with self._progress:
            for method in self._done:
                self._bars[method] = self._progress.add_task(escape(method), total=1.0, note="waiting")
            self._all = self._progress.add_task("in all", total=1.0, note="", visible=self._runs > 1)
            yield self

    def update(self, event: Event) -> None:
        """Show one more slice."""
        rows, method = event.slice.rows, event.method
        if rows:
            self._best[method] = min(self._best[method], rows[-1].metrics["validation/loss"])
            self._passes[method] = max(self._passes[method], rows[-1].passes)
        if event.slice.reason:
            self._costs[method].append(event.slice.result["seconds"])
        passes = rows[-1].passes if rows else 0
        share = 1.0 if event.slice.reason else min(passes / self._budget, 0.999) if self._budget else 0.0
        self._done[method][event.seed] = max(self._done[method].get(event.seed, 0.0), share)
        if self._bars:
            over = sum(self._done[method].values()) / self._seeds
            self._progress.update(self._bars[method], completed=over, note=self._note(method))
            self._progress.update(self._all, completed=self._share(), note=self._left())
        else:
            self._speak()

    def _note(self, method: str) -> str:
        runs = sum(share >= 1.0 for share in self._done[method].values())
        count = f"{runs}/{self._seeds} runs" if self._seeds > 1 else f"{self._passes[method]:,} passes"
        best = self._best[method]
        left = self._left() if self._runs == 1 else ""
        return ", ".join(filter(None, [count, f"validation {best:.4g}" if best < float("inf") else "", left]))

    @property
    def _runs(self) -> int:
        return self._seeds * len(self._done)

    def _share(self) -> float:
        """How much of all runs is done, 0 to 1."""
        return sum(share for done in self._done.values() for share in done.values()) / self._runs

    def _left(self) -> str:
        shares = {m: [*done.values(), *[0.0] * (self._seeds - len(done))] for m, done in self._done.items()}
        return in_words(remaining(time.monotonic() - self._began, shares, self._costs)) if self._share() < 1 else ""

    def _speak(self) -> None:
        """A line now and then, and one at the end."""
        now, share = time.monotonic(), self._share()
        if now - self._spoke < EVERY and share < 1:
            return
        self._spoke = now
        leader = min(self._best, key=lambda method: self._best[method])
        over = sum(each >= 1.0 for done in self._done.values() for each in done.values())
        runs = f"{over}/{self._runs} runs" if self._runs > 1 else ""
        best = f"best validation loss {self._best[leader]:.4g}" + (f" by {leader}" if len(self._done) > 1 else "")
        best = best if math.isfinite(self._best[leader]) else ""  # nobody has looked yet
        text = ", ".join(filter(None, [runs, best, self._left()]))
        say(self._console, f"{now - self._began:5.0f} s {100 * share:4.0f} %  {text}")


def console(json: bool) -> Console:
    """Where people read: standard output, or standard error when standard output carries data."""
    screen = Console(stderr=json)
    return screen if screen.is_terminal else Console(stderr=json, width=WIDTH)


def say(screen: Console, text: str, *, whole: bool = False, style: str = "") -> None:
    """Print text as it is, whatever brackets it has; `whole` breaks no line, so that it can be copied."""
    screen.print(text, markup=False, highlight=False, soft_wrap=whole, style=style or None)
