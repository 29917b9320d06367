"""Early stopping in a table and in words; nothing heavy is imported, so that a stored result is shown at once."""

from __future__ import annotations

from collections.abc import Mapping

MARK = " *"  # behind the name of a method that stopped early


def early_text(early: Mapping[str, tuple[int, int]]) -> str:
    """Which methods stopped early, given how many runs of each did, and of how many; empty if none did."""
    said = [f"{count} of {runs} runs of {method}" for method, (count, runs) in early.items() if count]
    return f"Early stopping ended {', '.join(said)} before the budget was spent." if said else ""
