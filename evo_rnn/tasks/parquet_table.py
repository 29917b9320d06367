"""Strict reading of Parquet: bounded by what the file claims to hold before any value is read, then row batch by batch.

The size of a Parquet file says nothing of the size of its data (a dictionary-coded constant is nearly free), so the
bound is rows x columns x 8 bytes from the metadata. Extension types are refused by their names: none is ever loaded.
"""

from __future__ import annotations

import hashlib
from io import FileIO
from typing import TYPE_CHECKING

import numpy as np

from evo_rnn.errors import DataError
from evo_rnn.local_file import quoted, recognise
from evo_rnn.tasks.columns import LARGEST, Wanted, find_columns, infinite, missing, too_large

if TYPE_CHECKING:
    import pyarrow as pa

    from evo_rnn.shapes import Array  # imports torch

_BATCH = 65_536  # rows
_MAX_FOOTER_STRING = 16 * 2**20
_MAX_FOOTER_LIST = 200_000


def read_parquet(file: FileIO, name: str, wanted: Wanted, max_bytes: int) -> tuple[Array, str]:
    """Read the wanted columns of a Parquet file.

    Args:
        file: the open file.
        name: how messages call it.
        wanted: the columns, of integers, floats, decimals or booleans; every other column may hold anything.
        max_bytes: the most bytes that the numbers may take, by the file's own metadata.

    Returns:
        The values (T, C) in float64, NaN where a forgiven value is missing, and the file's SHA-256.

    Raises:
        DataError: naming file, row (counted from 1), column, what came and the cure.
    """
    import pyarrow as pa

    _refuse_foreign(file, name)
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    file.seek(0)
    try:
        return _read(file, name, wanted, max_bytes), digest
    except DataError:
        raise
    except (
        pa.ArrowException,
        OSError,
        ValueError,
        MemoryError,
        OverflowError,
        TypeError,
        KeyError,
        IndexError,
    ) as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(
            f"{name}: the Parquet file is damaged or cannot be read ({quoted(reason, 120)}); write it anew"
        ) from None


def _refuse_foreign(file: FileIO, name: str) -> None:
    """Refuse a file that does not begin and end as Parquet does."""
    head = file.read(32)
    size = file.seek(0, 2)
    file.seek(max(0, size - 4))
    tail = file.read(4)
    file.seek(0)
    if not head:
        raise DataError(f"{name}: the file is empty; write it anew")
    if head.startswith(b"PARE"):
        raise DataError(f"{name}: the Parquet file is encrypted; write it without encryption")
    if not head.startswith(b"PAR1"):
        words = recognise(head) or "something else (CSV text is named .csv)"
        raise DataError(f"{name}: the file should be Parquet but is {words}")
    if tail != b"PAR1" or size < 12:
        raise DataError(f"{name}: the Parquet file is truncated: its end is missing; copy or write it anew")


def _read(file: FileIO, name: str, wanted: Wanted, max_bytes: int) -> Array:
    """Return the wanted columns (T, C), whatever the library raises on the way."""
    import pyarrow.parquet as pq

    parquet = pq.ParquetFile(
        file,
        page_checksum_verification=True,
        thrift_string_size_limit=_MAX_FOOTER_STRING,
        thrift_container_size_limit=_MAX_FOOTER_LIST,
    )
    schema, rows = parquet.schema_arrow, parquet.metadata.num_rows
    if not schema.names:
        raise DataError(f"{name}: the table has no columns; write it with at least one")
    for place in find_columns(name, schema.names, wanted.names):
        _refuse_type(schema.field(place), name)
    if rows < 0 or rows * len(wanted.names) * 8 > max_bytes:
        claim = f"{rows} rows of {len(wanted.names)} wanted columns, more than {max_bytes} bytes"
        raise DataError(f"{name}: the file claims {claim}; use fewer rows or columns")
    values, done = np.empty((rows, len(wanted.names))), 0
    for batch in parquet.iter_batches(batch_size=_BATCH, columns=list(wanted.names), use_threads=False):
        block = np.column_stack([_numbers(batch.column(column)) for column in wanted.names])
        _refuse_values(block, done + 1, name, wanted)
        values[done : done + len(block)] = block
        done += len(block)
    if done != rows:
        raise DataError(f"{name}: the Parquet file is damaged: it claims {rows} rows but holds {done}; write it anew")
    return values


def _refuse_type(field: pa.Field, name: str) -> None:
    """Refuse a wanted column whose type is not a plain number."""
    import pyarrow as pa

    kind, where = field.type, f"{name}, column {quoted(field.name)}"
    extension = b"ARROW:extension:name" in (field.metadata or {}) or isinstance(kind, pa.BaseExtensionType)
    plain = pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean
    if extension:
        raise DataError(f"{where}: the type is an extension type, which is not loaded; write it as a plain number")
    if not any(test(kind) for test in plain):
        cure = "choose a column of numbers, or write it as float64"
        raise DataError(f"{where}: the type is {quoted(kind)}, not a number; {cure}")


def _numbers(column: pa.Array) -> Array:
    """Return one column of a batch as float64 (n,), NaN where it is null."""
    import pyarrow as pa

    numbers: Array = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return numbers


def _refuse_values(block: Array, first: int, name: str, wanted: Wanted) -> None:
    """Refuse the first value of a batch that is missing, infinite or too large."""
    absent = np.isnan(block)
    wrong = (absent & ~np.array(wanted.forgiven)) | (np.abs(block) > LARGEST)
    if not wrong.any():
        return
    i, j = (int(axis[0]) for axis in np.nonzero(wrong))
    where = f"{name}, row {first + i}, column {quoted(wanted.names[j])}"
    if absent[i, j]:
        raise DataError(missing(where))
    raise DataError(infinite(where) if np.isinf(block[i, j]) else too_large(where, block[i, j]))
