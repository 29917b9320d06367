"""The known name that a misspelt one probably means."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

FAR = 200  # characters of a word that are looked at: comparing takes time that grows with their square


def nearest(word: object, known: Iterable[str]) -> str:
    """The known name most like a word, whatever its case; empty if none is like it.

    `difflib` finds letters that are missing or wrong, but in a short word not those in another order: the same letters
    in any order, one of them perhaps doubled or dropped, mean the same name (`btpp` is `bptt`).
    """
    typed = str(word)[:FAR].casefold()
    folded = {name.casefold(): name for name in reversed(list(known))}
    shuffled = [name for name in folded if sorted(name) == sorted(typed)]
    same = shuffled or [name for name in folded if set(name) == set(typed) and abs(len(name) - len(typed)) <= 1]
    found = difflib.get_close_matches(typed, same or folded, n=1, cutoff=0.0 if same else 0.6)
    return folded[found[0]] if found else ""


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """A question for the end of a message, or nothing."""
    found = nearest(word, known)
    return f" Did you mean {found!r}?" if found else ""
