"""What a table calls its own rows: its column of dates, times or years, as text.

Labels are for people: for the axis of a picture and for a column beside predictions. Nothing is computed from them, so
a file whose labels cannot be read is as good as one without.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from evo_rnn.errors import DataError
from evo_rnn.local_file import open_local, shown
from evo_rnn.tasks.columns import MISSING, looks_numeric
from evo_rnn.tasks.csv_table import read_cells

if TYPE_CHECKING:
    import pyarrow as pa

NAMES = ("date", "datetime", "timestamp", "time", "year")  # whatever their case, the first that is there
MIDNIGHT = " 00:00:00"
MOST_BYTES = 2**28  # of labels, as a Parquet file claims; and of a CSV file that is read for them


@dataclass(frozen=True)
class Labels:
    """The columns of a table, and what it calls its rows.

    Args:
        columns: all of them, whatever they hold.
        name: the column of the labels; empty if there is none.
        texts: (T,) one a row; empty if there are none.
    """

    columns: tuple[str, ...] = ()
    name: str = ""
    texts: tuple[str, ...] = ()


def read_labels(path: str | os.PathLike[str], known: Sequence[str], besides: Sequence[str] = ()) -> Labels:
    """The columns and the labels of a CSV or Parquet file.

    Labels are in a column of dates, times or years, told by its name or type, else in the first column if that does not
    hold numbers.

    Args:
        path: a file that `read_table` has read.
        known: columns that it has.
        besides: columns that are no labels, whatever they are called: what is predicted.
    """
    try:
        with open_local(path, DataError, "data file") as file:
            if PurePath(path).suffix.lower() == ".parquet":
                return _of_parquet(file, besides)
            return _of_csv(file, shown(path), known, besides)
    except DataError:  # it was read before, so it has changed since
        return Labels()


def _of_csv(file: FileIO, name: str, known: Sequence[str], besides: Sequence[str]) -> Labels:
    size = os.fstat(file.fileno()).st_size
    header, blocks = read_cells(file, name, known, size)
    place = -1
    texts: list[str] = []
    for rows in blocks if size <= MOST_BYTES else ():
        place = place if texts else _place(header, [row[0].strip() for row in rows], besides)
        if place < 0:
            return Labels(tuple(header))
        texts += [row[place].strip() for row in rows]
    return Labels(tuple(header), header[place] if texts else "", tuple(texts))


def _place(header: Sequence[str], first: Sequence[str], besides: Sequence[str]) -> int:
    """Where the labels are, given the first column; negative if there are none."""
    if named := _named(header, besides):
        return list(header).index(named)
    words = any(cell not in MISSING and not looks_numeric(cell) for cell in first)
    return 0 if words and header[0] not in besides else -1


def _named(header: Sequence[str], besides: Sequence[str]) -> str:
    folded = {name.casefold(): name for name in header if name not in besides}
    return next((folded[name] for name in NAMES if name in folded), "")


def _of_parquet(file: FileIO, besides: Sequence[str]) -> Labels:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        parquet = pq.ParquetFile(file)
        fields = [field for field in parquet.schema_arrow if _is_plain(field) and field.name not in besides]
        columns = tuple(parquet.schema_arrow.names)
        named = _named([field.name for field in fields], ())
        timed = [field.name for field in fields if pa.types.is_temporal(field.type)]
        worded = [field.name for field in fields if field.name == columns[0] and _is_text(field)]
        chosen = next(iter(([named] if named else []) + timed + worded), "")
        if not chosen or _claimed(parquet, chosen) > MOST_BYTES:
            return Labels(columns)
        values = parquet.read(columns=[chosen], use_threads=False).column(0)
        return Labels(columns, chosen, _texts(values))
    except (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError, TypeError, KeyError, IndexError):
        return Labels()


def _is_plain(field: pa.Field) -> bool:
    """Whether the column is of text, dates, times or numbers, and of no type that a file brings along."""
    import pyarrow as pa

    if b"ARROW:extension:name" in (field.metadata or {}):
        return False
    tests = pa.types.is_date, pa.types.is_timestamp, pa.types.is_integer, pa.types.is_floating
    return _is_text(field) or any(test(field.type) for test in tests)


def _is_text(field: pa.Field) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(field.type) or pa.types.is_large_string(field.type))


def _claimed(parquet: Any, name: str) -> int:  # noqa: ANN401 (a ParquetFile)
    """The bytes that a column takes unpacked, by the file's own metadata."""
    groups = [parquet.metadata.row_group(i) for i in range(parquet.metadata.num_row_groups)]
    chunks = [group.column(i) for group in groups for i in range(group.num_columns)]
    return sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema == name)


def _texts(values: pa.ChunkedArray) -> tuple[str, ...]:
    import pyarrow as pa

    if pa.types.is_timestamp(values.type):
        values = values.cast(pa.timestamp("us", values.type.tz), safe=False)
    texts = [_text(value) for value in values.to_pylist()]
    whole_days = all(text.endswith(MIDNIGHT) or not text for text in texts)
    return tuple(text.removesuffix(MIDNIGHT) if whole_days else text for text in texts)


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.12g}" if isinstance(value, float) else str(value)
