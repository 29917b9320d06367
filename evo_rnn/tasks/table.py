"""The door for users' data: the wanted columns of a local CSV or Parquet file, or one line that says why not.

    table = read_table("plant.csv", inputs=["valve", "load"], targets=["pressure"])
    table.select(["pressure"])                      # (T, 1)

A *row* in messages is a line of a CSV file (the header is row 1) or a row of a Parquet file counted from 1. Nothing is
unpacked, followed, downloaded or guessed: a value is a number, or it is missing, or the file is refused.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np

from evo_rnn.errors import ConfigError, DataError
from evo_rnn.local_file import open_local, quoted, shown
from evo_rnn.tasks.columns import Wanted
from evo_rnn.tasks.columns import missing as missing_message
from evo_rnn.tasks.csv_table import read_csv
from evo_rnn.tasks.parquet_table import read_parquet

if TYPE_CHECKING:
    from evo_rnn.shapes import Array  # imports torch

MISSING_INPUTS = ("error", "ffill", "zero_with_mask")
MISSING_TARGETS = ("error", "mask")

_READERS = {".csv": read_csv, ".tsv": read_csv, ".txt": read_csv, ".parquet": read_parquet}
_FIRST_ROW = {read_csv: 2, read_parquet: 1}
_ARCHIVES = frozenset({".gz", ".zip", ".bz2", ".xz", ".zst", ".tar", ".tgz", ".7z"})


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of numbers read from a file.

    Attributes:
        path: the file, as it was given.
        columns: the names, inputs first, then the targets that are not inputs too.
        values: (T, C) float64, finite everywhere.
        known: (T, C) bool, False where the file had no value: there `values` holds the last known value (``ffill``) or
            0 (``zero_with_mask``, and ``mask`` for targets). A builder gives ``zero_with_mask`` inputs an indicator
            column each, and leaves unknown targets out of the loss.
        sha256: the hash of the file's bytes, in hexadecimal.
        first_row: the number that messages give to ``values[0]``.
    """

    path: str
    columns: tuple[str, ...]
    values: Array
    known: Array
    sha256: str
    first_row: int

    def select(self, names: Sequence[str]) -> Array:
        """Return the values (T, len(names)) of some columns, in the order of `names`."""
        return self.values[:, [self.columns.index(name) for name in names]]

    def select_known(self, names: Sequence[str]) -> Array:
        """Return where the file had values, (T, len(names)) bool, for some columns."""
        return self.known[:, [self.columns.index(name) for name in names]]


def read_table(
    path: str | os.PathLike[str],
    *,
    targets: Sequence[str],
    inputs: Sequence[str] = (),
    max_bytes: int = 2 * 2**30,
    missing: str = "error",
    missing_targets: str = "error",
) -> Table:
    """Read the wanted columns of a local CSV (.csv, .tsv, .txt) or Parquet (.parquet) file.

    CSV is UTF-8 text (a byte order mark is accepted) with a header line and `,`, `;` or tabs between cells; numbers
    have a decimal point. Only the wanted columns need be numbers.

    Args:
        path: a regular file; no URL, symbolic link, pipe, device or archive.
        targets: the columns to predict, at least one.
        inputs: the columns to predict from; one may be a target too.
        max_bytes: the most bytes that the file, and rows x wanted columns x 8, may take.
        missing: what an empty or NaN cell of an input means: ``"error"``, ``"ffill"`` (the last known value; the first
            row must have one) or ``"zero_with_mask"`` (0, and `Table.known` is False there).
        missing_targets: the same for targets: ``"error"`` or ``"mask"`` (0, and `Table.known` is False there).
            A column that is both is forgiven only where both choices forgive, and is filled as an input.

    Returns:
        The table, with at least two rows.

    Raises:
        DataError: the file cannot be used: one line with file, row, column, what came and the cure.
        ConfigError: no target, or an unknown way of treating missing values.
    """
    wanted = _wanted(targets, inputs, missing, missing_targets)
    name = shown(path)
    with open_local(path, DataError, "data file") as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise DataError(f"{name}: the file has {size} bytes, at most {max_bytes} are read; use a smaller one")
        reader = _READERS[_suffix(path, name)]
        values, sha256 = reader(file, name, wanted, max_bytes)
    first = first_row(path)
    if len(values) < 2:
        came = "no row" if len(values) == 0 else "one row"
        raise DataError(f"{name}: the table has {came} of values; a series needs at least two, and a fit many more")
    known = ~np.isnan(values)
    for j, column in enumerate(wanted.names):
        forward = missing == "ffill" and column in inputs
        _fill(values[:, j], known[:, j], forward, f"{name}, row {first}, column {quoted(column)}")
    return Table(os.fspath(path), wanted.names, values, known, sha256, first)


def first_row(path: str | os.PathLike[str]) -> int:
    """Return the number that messages give to the first row of values: 2 in CSV, where row 1 is the header, else 1."""
    return _FIRST_ROW[_READERS[_suffix(path, shown(path))]]


def check_varies(table: Table, column: str, start: int = 0, stop: int | None = None) -> None:
    """Refuse a column that is constant: nothing can be learned from it and no error could be scaled by it.

    Args:
        table: the table.
        column: the column to judge.
        start: index of the first row of `Table.values` to judge.
        stop: index after the last one; the table's end by default.

    Raises:
        DataError: naming file, column and rows, if the known values there are all one (to 1e-12 of their size) or none.
    """
    rows = range(len(table.values))[start:stop]
    j = table.columns.index(column)
    values = table.values[rows.start : rows.stop, j][table.known[rows.start : rows.stop, j]]
    span = f"rows {rows.start + table.first_row} to {rows.stop + table.first_row - 1}"
    where = f"{shown(table.path)}, {span}, column {quoted(column)}"
    if len(values) == 0:
        raise DataError(f"{where}: there is no value; choose other rows or another column")
    if np.ptp(values) <= 1e-12 * np.abs(values).max():
        cure = "nothing can be learned there: choose another column, or other rows for training"
        raise DataError(f"{where}: the value is constant ({values[0]:g}); {cure}")


def _wanted(targets: Sequence[str], inputs: Sequence[str], missing: str, missing_targets: str) -> Wanted:
    """Return what to read, or refuse a call that does not say it."""
    if isinstance(targets, str) or isinstance(inputs, str) or not targets:
        raise ConfigError("targets and inputs should be lists of columns, with at least one target; name a column")
    if missing not in MISSING_INPUTS:
        raise ConfigError(f"missing should be one of {', '.join(MISSING_INPUTS)} but is {quoted(missing)}")
    if missing_targets not in MISSING_TARGETS:
        raise ConfigError(
            f"missing_targets should be one of {', '.join(MISSING_TARGETS)} but is {quoted(missing_targets)}"
        )
    names = tuple(dict.fromkeys((*inputs, *targets)))
    strict = {*(inputs if missing == "error" else ()), *(targets if missing_targets == "error" else ())}
    return Wanted(names, tuple(name not in strict for name in names))


def _suffix(path: str | os.PathLike[str], name: str) -> str:
    """Return the file's suffix if there is a reader for it."""
    suffix = PurePath(path).suffix.lower()
    if suffix in _ARCHIVES:
        raise DataError(f"{name}: compressed files are not read; decompress it first")
    if suffix not in _READERS:
        raise DataError(f"{name}: the data file should end in {', '.join(_READERS)}; save it as one of these")
    return suffix


def _fill(values: Array, known: Array, forward: bool, where: str) -> None:
    """Replace the missing values of one column (T,) in place."""
    if not known.any():
        raise DataError(f"{where}: the column has no value at all; choose another column")
    if known.all():
        return
    if forward:
        if not known[0]:
            raise DataError(f"{missing_message(where)}; ffill needs a value in the first row")
        values[:] = values[np.maximum.accumulate(np.where(known, np.arange(len(values)), 0))]
    else:
        values[~known] = 0.0
