"""What is remembered of every genome that ever lived: who came of whom, by which mutation, and what it was worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np


@dataclass
class Life:
    """What is remembered of everybody who ever lived, for pictures and for counting."""

    number: int
    parent: int
    operator: str
    nodes: int
    genes: int
    loss: float = np.inf
    rung: int = 0


def lives(about: Mapping[str, Any]) -> dict[int, Life]:
    """Everybody who ever lived, by number, from the text of a state."""
    names = [each.name for each in fields(Life)]
    found = [Life(**dict(zip(names, values, strict=True))) for values in about["lives"]]
    return {life.number: life for life in found}


def successes(lives: Mapping[int, Life]) -> dict[str, tuple[int, int]]:
    """By operator, how many of its children are better than their parents, and how many there are."""
    found: dict[str, tuple[int, int]] = {}
    for life in lives.values():
        if life.operator != "start" and life.parent in lives and np.isfinite(life.loss):
            better, tried = found.get(life.operator, (0, 0))
            found[life.operator] = better + bool(life.loss < lives[life.parent].loss), tried + 1
    return found


def pareto_front(born: list[Life]) -> list[Life]:
    """Those that no other one beats in both loss and size, by size."""
    found: list[Life] = []
    for life in sorted(born, key=lambda each: (each.genes, each.loss)):
        if not found or life.loss < found[-1].loss:
            found.append(life)
    return found


def ancestors(lives: Mapping[int, Life], one: Life) -> list[Life]:
    """From a start down to this one."""
    line = [one]
    while line[-1].parent != line[-1].number and line[-1].parent in lives and line[-1].operator != "start":
        line.append(lives[line[-1].parent])
    return line[::-1]
