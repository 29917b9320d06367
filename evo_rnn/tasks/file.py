"""The user's own series: columns of a CSV or Parquet file, split in time, scaled by what the training part knows.

The rows are one long sequence in order of time. Every split runs from the first row, so the state has seen all that
came before, and counts only its own targets; nothing after the training part enters its arrays or the scaling.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import PurePath

import numpy as np

from evo_rnn.errors import ConfigError, DataError
from evo_rnn.local_file import shown
from evo_rnn.shapes import Array
from evo_rnn.tasks.labels import read_labels
from evo_rnn.tasks.table import Table, check_varies, read_table
from evo_rnn.tasks.task import Sequences, Task, check_least

LONGEST_LABEL = 32  # characters
Scaling = Mapping[str, Mapping[str, float]]  # by column: "shift" and "scale"


def from_file(
    path: str | os.PathLike[str],
    *,
    target: str | Sequence[str],
    inputs: str | Sequence[str] = (),
    horizon: int = 1,
    washout: int = 12,
    train: float = 0.7,
    validation: float = 0.15,
    missing: str = "error",
    missing_targets: str = "error",
    scale: bool = True,
    allow_constant_target: bool = False,
    lags: int = 12,
) -> Task:
    """A forecasting task from a file: the inputs of row t, and the state, predict the targets of row t + horizon.

    Args:
        path: a local .csv or .parquet file.
        target: the column or columns to predict.
        inputs: the columns to predict from; by default the targets themselves.
        horizon: how many rows ahead.
        washout: how many steps at the start do not count.
        train: share of the rows, from the first, that train.
        validation: share of the rows after them that select champions; the rest tests.
        missing: what an empty input cell means: "error", "ffill" or "zero_with_mask" (0, the mean of the training part,
            and one more input a column that tells where it was known).
        missing_targets: the same for targets: "error", or "mask", which leaves them out of the loss.
        scale: shift and divide each column by mean and standard deviation of its training part, so that the loss is in
            units of the training variance; else the loss is in squared units of the data.
        allow_constant_target: accept a target that never changes while training.
        lags: how many past rows the regression baseline sees.

    Raises:
        ConfigError: if a setting is out of range.
        DataError: if the file cannot be used, is too short, or has a constant target.
    """
    targets = _names(target)
    columns = _names(inputs) or targets
    _check_settings(horizon, washout, lags, train, validation)
    table = read_table(path, targets=targets, inputs=columns, missing=missing, missing_targets=missing_targets)
    known: Array = np.all(table.select_known(targets), axis=1)
    rows = len(known)
    ends = (round(train * rows), round((train + validation) * rows), rows)
    starts = (horizon + washout, *ends[:2])
    _check_length(table, [int(known[a:b].sum()) for a, b in zip(starts, ends, strict=True)], horizon, washout)
    if not allow_constant_target:
        for name in targets:
            check_varies(table, name, 0, ends[0])
    scaling, notes = _scaling(table, ends[0], scale)
    x, y = _inputs(table, columns, scaling, missing), _scaled(table, targets, scaling)
    last = _last_known(y, table.select_known(targets), ends[0])

    def split(first: int, end: int) -> Sequences:
        counts = known[horizon:end] & (np.arange(horizon, end) >= first)
        steps = end - horizon
        return Sequences(x[None, :steps], y[None, horizon:end], counts[None], previous=last[None, :steps])

    training, validating, testing = (split(first, end) for first, end in zip(starts, ends, strict=True))
    return Task(
        PurePath(path).stem,
        training,
        validating,
        testing,
        outputs=len(targets),
        lags=lags,
        notes=f"{PurePath(path).name} (sha256 {table.sha256[:12]}...), {rows} rows, {horizon} ahead; {notes}",
        scaling=scaling,
        labels=_labels(path, columns, targets, rows)[horizon:],
    )


def inputs_from_file(
    path: str | os.PathLike[str], columns: Sequence[str], scaling: Scaling, missing: str = "error"
) -> Array:
    """Inputs (1, T, I) from new data, scaled as the task `from_file` was.

    Args:
        path: a local .csv or .parquet file.
        columns: the inputs of the task, in its order.
        scaling: `Task.scaling`.
        missing: the task's own setting.

    Raises:
        DataError: if the file cannot be used.
    """
    gaps = "error" if missing == "error" else "mask"
    table = read_table(path, targets=columns, inputs=columns, missing=missing, missing_targets=gaps)
    return _inputs(table, columns, scaling, missing)[None]


def unscale(outputs: Array, scaling: Scaling, columns: Sequence[str]) -> Array:
    """Outputs (..., O) of a network in the units of the data; `columns` names the target of each."""
    shift, scale = _shift_and_scale(scaling, columns)
    return outputs * scale + shift


def _labels(path: str | os.PathLike[str], columns: Sequence[str], targets: Sequence[str], rows: int) -> tuple[str, ...]:
    """What the file calls each of its rows, short enough for a picture; empty if it has no word for them."""
    texts = read_labels(path, columns, targets).texts
    return tuple(text[:LONGEST_LABEL] for text in texts) if len(texts) == rows else ()


def _names(columns: str | Sequence[str]) -> tuple[str, ...]:
    return (columns,) if isinstance(columns, str) and columns else tuple(dict.fromkeys(columns))


def _check_settings(horizon: int, washout: int, lags: int, train: float, validation: float) -> None:
    for name, value, least in (("horizon", horizon, 1), ("washout", washout, 0), ("lags", lags, 1)):
        check_least(name, value, least)
    if not (train > 0 and validation > 0 and train + validation < 1):
        raise ConfigError(
            "train and validation should be shares above 0 that leave some rows to test "
            f"but are {train} and {validation}."
        )


def _check_length(table: Table, counted: Sequence[int], horizon: int, washout: int) -> None:
    if min(counted) < 1:
        came = ", ".join(
            f"{count} to {part}" for count, part in zip(counted, ("train", "validate", "test"), strict=True)
        )
        raise DataError(
            f"{shown(table.path)}: {len(table.values)} rows leave known targets {came} (horizon {horizon}, washout "
            f"{washout}), but each part should have at least one; give more rows or a smaller horizon or washout"
        )


def _scaling(table: Table, end: int, scale: bool) -> tuple[dict[str, dict[str, float]], str]:
    """Shift and scale of every column from the known values of the rows before `end`, and what to say about them."""
    if not scale:
        return {name: {"shift": 0.0, "scale": 1.0} for name in table.columns}, "error = mean squared error, not scaled"
    scaling, notes = {}, ["error = mean squared error / variance of the training rows"]
    for name, column, known in zip(table.columns, table.values[:end].T, table.known[:end].T, strict=True):
        values = column[known]
        if len(values) == 0:
            raise DataError(f"{shown(table.path)}: column {name!r} has no value in the training rows; choose another")
        flat = np.ptp(values) <= 1e-12 * np.abs(values).max()
        scaling[name] = {"shift": float(values.mean()), "scale": 1.0 if flat else float(values.std())}
        if flat:
            notes.append(f"warning: column {name!r} is constant in the training rows and was only shifted")
    return scaling, "; ".join(notes)


def _shift_and_scale(scaling: Scaling, columns: Sequence[str]) -> tuple[Array, Array]:
    absent = [name for name in columns if name not in scaling]
    if absent:
        raise ConfigError(f"scaling should have the columns {list(columns)} but lacks {absent}. Was it another task's?")
    shift, scale = (np.array([scaling[name][key] for name in columns]) for key in ("shift", "scale"))
    return shift, scale


def _scaled(table: Table, columns: Sequence[str], scaling: Scaling) -> Array:
    shift, scale = _shift_and_scale(scaling, columns)
    return (table.select(columns) - shift) / scale


def _inputs(table: Table, columns: Sequence[str], scaling: Scaling, missing: str) -> Array:
    """Scaled inputs (T, I); with "zero_with_mask" 0 where unknown, and as many columns that tell where."""
    values, known = _scaled(table, columns, scaling), table.select_known(columns)
    return np.hstack([np.where(known, values, 0.0), known]) if missing == "zero_with_mask" else values


def _last_known(values: Array, known: Array, end: int) -> Array:
    """The last known of values (T, O) at each row; before the first one the mean of the rows before `end`."""
    row = np.maximum.accumulate(np.where(known, np.arange(len(values))[:, None], -1), axis=0)
    mean = values[:end].mean(axis=0, where=known[:end])
    return np.where(row < 0, mean, np.take_along_axis(values, np.maximum(row, 0), axis=0))
