"""Which genes make up one unit of a network: what unit-wise crossover keeps together."""

from __future__ import annotations

import numpy as np

from evo_rnn.layout import Layout
from evo_rnn.shapes import Array


def units_of(layout: Layout) -> Array:
    """The unit (D,) that each gene belongs to, numbered from 0 in the order in which units first appear.

    A gene belongs to its target unit, whichever gate of it. Only where nobody hears the target, as in a readout, it
    belongs to the unit that it comes from; and where it comes from none, as the readout's bias, to its target.
    """
    links = layout.links()
    targets = [_unit(link.target) for link in links]
    owners = list(dict.fromkeys(owner for owner, _ in targets))
    speakers = _speakers({link.source for link in links}, owners)
    heard, known = set(speakers.values()), set(targets)
    numbers: dict[tuple[str, str], int] = {}
    belongs = []
    for link, target in zip(links, targets, strict=True):
        owner, index = _unit(link.source)
        source = (speakers.get(owner, ""), index)
        name = source if target[0] not in heard and source in known else target
        belongs.append(numbers.setdefault(name, len(numbers)))
    return np.array(belongs, dtype=np.int64)


def _unit(name: str) -> tuple[str, str]:
    """`cell.layer1.f[3]` is gate f of the unit 3 of cell.layer1."""
    owner, _, last = name.rpartition(".")
    return owner, last.partition("[")[2]


def _speakers(sources: set[str], owners: list[str]) -> dict[str, str]:
    """Whose units are heard, by the name they are heard under: a stack is heard as one, and speaks by its top layer."""
    last = {name: name.rpartition(".")[2] for name in sources}
    heard = {_unit(name)[0] for name in sources if "[" in last[name] and not last[name].startswith("x[")}  # x: inputs
    within = {name: [owner for owner in owners if owner == name or owner.startswith(f"{name}.")] for name in heard}
    return {name: parts[-1] for name, parts in within.items() if parts}
