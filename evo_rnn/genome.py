"""A genome in a file: genome.json, as it is kept beside a champion. It is data; nothing in it is executed."""

from __future__ import annotations

import json
import os

from evo_rnn.cells.graph import Graph
from evo_rnn.description import build
from evo_rnn.errors import ConfigError, DataError
from evo_rnn.local_file import open_local, shown

MOST = 1 << 20  # bytes


def read_genome(path: str | os.PathLike[str], inputs: int) -> Graph:
    """The graph in a file.

    Args:
        path: of genome.json.
        inputs: I of the task that it shall learn.

    Raises:
        DataError: if it is no genome, naming what is wrong.
        ConfigError: if it has another number of inputs.
    """
    with open_local(path, DataError, "genome") as file:
        body = file.read(MOST + 1)
    try:
        if len(body) > MOST:
            raise ValueError(f"it is longer than {MOST} bytes")
        made = build(json.loads(body))
    except (ConfigError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{shown(path)}: it is not a genome: {str(error)[:200]} Copy genome.json again.") from None
    if not isinstance(made, Graph):
        raise DataError(
            f"{shown(path)}: it should describe a Graph but describes {str(made)[:60]}. Copy genome.json again."
        )
    if made.inputs != inputs:
        raise ConfigError(
            f"{shown(path)}: the genome should have {inputs} inputs, as the task has, but has {made.inputs}."
        )
    return made
