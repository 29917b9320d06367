"""Annual sunspot numbers 1700-2008: one year ahead, on the splits of the forecasting literature.

Train to 1920, validation 1921-55, test 1956-79 and 1980-2008 (Weigend, Huberman and Rumelhart 1990, Int. J. Neural
Systems 1; the last span is younger than the paper). Values are divided by the standard deviation of 1700-1979, so the
mean squared error *is* the literature's normalised error; they are centred on the training years alone.

Source: yearly mean sunspot numbers, National Geophysical Data Center; public domain.
"""

from __future__ import annotations

from importlib.resources import files

import numpy as np

from evo_rnn.shapes import Array
from evo_rnn.tasks.task import Sequences, Task

WASHOUT = 12  # years before the first target: as many as the lagged regression needs, so all methods see the same steps


def sunspots() -> Task:
    """The sunspot task: input the number of this year, target that of the next."""
    year, number = _series()
    centre = number[year <= 1920].mean()
    scale = number[year <= 1979].std()
    values = (number - centre) / scale

    def split(first: int, last: int) -> Sequences:
        """All years up to `last`, of which the targets `first` ... `last` count: the state has seen all that came before."""
        seen = values[year <= last]
        target_year = year[year <= last][1:]
        now, after = seen[:-1, None], seen[1:, None]
        return Sequences(now[None], after[None], (target_year >= first)[None], previous=now[None])

    return Task(
        name="sunspots",
        train=split(1700 + WASHOUT, 1920),
        validation=split(1921, 1955),
        test=split(1956, 2008),
        spans={"1956-79": split(1956, 1979), "1980-2008": split(1980, 2008)},
        outputs=1,
        lags=WASHOUT,
        notes="annual sunspot numbers 1700-2008; error = mean squared error / variance of 1700-1979",
        scaling={"sunspots": {"shift": float(centre), "scale": float(scale)}},
        labels=tuple(map(str, year[1:])),
    )


def _series() -> tuple[Array, Array]:
    text = files("evo_rnn.tasks").joinpath("data/sunspots.csv").read_text(encoding="utf-8")
    rows = np.array([line.split(",") for line in text.split()[1:]], dtype=np.float64)
    return rows[:, 0].astype(np.int64), rows[:, 1]
