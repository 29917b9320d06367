"""The look of a method: a colour of its own wherever it is drawn, and the line and the mark of its family.

The colours are those of Okabe and Ito (2008) and of Tol's "muted" scheme (2021), which colour-blind readers tell apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

COLOURS = {
    "ga": "#0072B2",
    "memetic": "#009E73",
    "baldwinian": "#44AA99",
    "evolino": "#CC79A7",
    "bptt": "#D55E00",
    "rtrl": "#E69F00",
    "hybrid": "#882255",
    "topology": "#332288",
    "topology_random": "#999933",
    "torch": "#222222",
    "random": "#8C8C8C",
}
OTHERS = ("#56B4E9", "#AA4499", "#DDCC77", "#117733", "#661100", "#6699CC")
TRUTH, REFERENCE = "#000000", "#555555"
FAMILIES = ("evolution", "memetic", "gradient", "topology", "control")
_SHORT_DASHES = (0, (5, 1.5))
LINES: Mapping[str, object] = {
    "evolution": "-",
    "memetic": (0, (7, 1.5, 1.5, 1.5)),
    "gradient": _SHORT_DASHES,
    "topology": (0, (3, 1, 1, 1)),
    "control": (0, (1.2, 1.2)),
}
MARKS = {"evolution": "o", "memetic": "D", "gradient": "s", "topology": "P", "control": "^"}


def colours(methods: Sequence[str]) -> dict[str, str]:
    """A colour for each method: its own, else one that the hash of its name picks among those not taken yet."""
    chosen = {method: COLOURS[method] for method in methods if method in COLOURS}
    for method in sorted(set(methods) - set(chosen)):
        free = [colour for colour in OTHERS if colour not in chosen.values()] or OTHERS
        digest = hashlib.sha256(method.encode()).digest()
        chosen[method] = free[digest[0] % len(free)]
    return chosen


def ordered(families: Mapping[str, str]) -> dict[str, list[str]]:
    """The methods of each family that has any, the known families first."""
    known = [*FAMILIES, *sorted(set(families.values()) - set(FAMILIES))]
    groups = {family: [method for method, own in families.items() if own == family] for family in known}
    return {family: methods for family, methods in groups.items() if methods}
