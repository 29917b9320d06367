"""What a champion says of a table, row by row, beside what the table itself says.

found = forecast(champion, "data.csv")
found.columns()     # {"row": ..., "date": ..., "y_in_1": ..., "y_in_1_truth": ...}
found.loss          # as in training, where the file knows the truth
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from evo_rnn.champion import Champion, predict_table
from evo_rnn.errors import DataError
from evo_rnn.fitness import LOSSES, batch
from evo_rnn.shapes import Array
from evo_rnn.tasks.labels import Labels, read_labels
from evo_rnn.tasks.table import first_row, read_table
from evo_rnn.tasks.task import Sequences


@dataclass(frozen=True, eq=False)
class Forecast:
    """Predictions for the rows of a file.

    Args:
        first_row: the number of the first row, as messages count: 2 in CSV, where row 1 is the header.
        labels: what the file calls its rows.
        said: by `<target>_in_<horizon>` (T,): entry t foretells the target of row t + horizon, from rows 0 ... t.
        truth: by `<target>_in_<horizon>_truth` (T,): what came, NaN where the file does not know it; without the
            targets that the file does not have.
        loss: over the rows where every target is known, in the units of training; NaN if there is none.
        judged: how many rows that is.
        remark: why a target that the file has was of no use; mostly empty.
    """

    first_row: int
    labels: Labels
    said: Mapping[str, Array]
    truth: Mapping[str, Array]
    loss: float
    judged: int
    remark: str = ""

    def columns(self) -> dict[str, list[float | int | str]]:
        """All columns of one length: the number of the row, its label where it has one, predictions, truth."""
        rows = len(next(iter(self.said.values())))
        found: dict[str, list[float | int | str]] = {"row": [*range(self.first_row, self.first_row + rows)]}
        if len(self.labels.texts) == rows:
            found[self.labels.name] = [*self.labels.texts]
        return found | {name: values.tolist() for name, values in {**self.said, **self.truth}.items()}


def forecast(champion: Champion, path: str | os.PathLike[str]) -> Forecast:
    """What a champion says of every row of a CSV or Parquet file, and how wrong it is where the file knows.

    Raises:
        ConfigError: if the champion was not trained on a table.
        DataError: if the file cannot be used. A target that cannot be read is only remarked on.
    """
    said = predict_table(champion, path)
    columns = champion.card.columns
    labels = read_labels(path, columns.inputs, columns.targets)
    there = [name for name in columns.targets if name in labels.columns]
    try:
        later, remark = _later(path, there, columns.horizon), ""
    except DataError as error:
        later, remark = {}, str(error)
    truth = {f"{name}_in_{columns.horizon}_truth": values for name, values in later.items()}
    loss, judged = _judged(champion, said, later) if len(later) == len(columns.targets) else (np.nan, 0)
    return Forecast(first_row(path), labels, said, truth, loss, judged, remark)


def _later(path: str | os.PathLike[str], targets: Sequence[str], horizon: int) -> dict[str, Array]:
    """The targets (T,) of the row `horizon` ahead, NaN where they are not known."""
    if not targets:
        return {}
    table = read_table(path, targets=targets, missing_targets="mask")
    values = np.where(table.select_known(targets), table.select(targets), np.nan)
    ahead = np.full_like(values, np.nan)
    ahead[:-horizon] = values[horizon:]
    return {name: ahead[:, i] for i, name in enumerate(targets)}


def _judged(champion: Champion, said: Mapping[str, Array], later: Mapping[str, Array]) -> tuple[float, int]:
    """The loss over the rows where every target is known, and how many these are."""
    card = champion.card
    shift, scale = (np.array([card.scaling[name][key] for name in later]) for key in ("shift", "scale"))
    outputs, targets = ((np.column_stack([*each.values()]) - shift) / scale for each in (said, later))
    known = np.isfinite(targets).all(axis=1)
    loss = LOSSES[card.loss]
    if loss.classes or not known.any():
        return np.nan, 0
    clean = np.where(known[:, None], targets, 0.0)
    data = batch(Sequences(clean[None], clean[None], known[None]), torch.float64)
    return float(loss(torch.from_numpy(outputs)[None, None], data)[0]), int(known.sum())
