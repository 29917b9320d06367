"""What a scenario hands back: what was injected, what was checked how often, what failed, and what that says."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path


@dataclass
class Report:
    """The outcome of one scenario. Injectors count, checkers check; neither knows the other.

    Attributes:
        injected: how many of each fault.
        checked: how often each invariant was looked at.
        failures: one line for each that did not hold.
        figures: whatever else was measured.
        seconds: on the clock.
        skipped: why nothing was done; empty if something was.
        independent: whether what was injected are trials of their own, as the rule of three wants them.
    """

    injected: Counter[str] = field(default_factory=Counter)
    checked: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    figures: dict[str, float | str] = field(default_factory=dict)
    seconds: float = 0.0
    skipped: str = ""
    independent: bool = True

    def check(self, invariant: str, holds: bool, detail: object = "") -> bool:
        """Count a look at an invariant, and keep what is wrong when it does not hold."""
        self.checked[invariant] += 1
        if not holds:
            self.failures.append(f"{invariant}: {detail}")
        return holds

    def row(self, name: str) -> str:
        """One line for people."""
        if self.skipped:
            return f"{name:<12} skipped: {self.skipped}"
        faults = ", ".join(f"{kind} {count}" for kind, count in sorted(self.injected.items()))
        looks = ", ".join(f"{kind} {count}" for kind, count in self.checked.items())
        extra = ", ".join(f"{key} {_short(value)}" for key, value in self.figures.items())
        return (
            f"{name:<12} injected {self.injected.total():>6} ({faults}) | checked {looks} | failures {len(self.failures)}"
            f" | {self.seconds:.0f} s | {self.bound()}{' | ' + extra if extra else ''}"
        )

    def bound(self) -> str:
        """What the numbers say about the rate of failures: the rule of three, which assumes independent faults."""
        count = self.injected.total()
        if not self.independent and not self.failures:
            return "no failure"
        if self.failures or not count:
            return f"{len(self.failures)} of {count} failed"
        return f"failure rate below {min(3 / count, 1):.2g} (95 %)"

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(self.__dict__), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Report:
        """Read what `save` wrote."""
        values = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**values, "injected": Counter(values["injected"]), "checked": Counter(values["checked"])})


@dataclass(frozen=True)
class Scenario:
    """One kind of fault.

    Args:
        door: module and function that do it.
        count: how many in a full run.
        seconds: after which it is hung, given a count.
        summary: one sentence.
    """

    door: str
    count: int
    seconds: Callable[[int], float]
    summary: str

    def run(self, count: int, seed: int, folder: Path) -> Report:
        """Do it: so many faults, by the schedule of this seed, in an empty folder."""
        module, _, function = self.door.partition(":")
        found: Report = getattr(import_module(f"benchmarks.chaos.{module}"), function)(count, seed, folder)
        return found


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"
