"""Strict reading of CSV: a stream of blocks, each record on one line, every error with its row and column.

Good blocks go through `csv.reader` and `float` at C speed; only a block with an offence is read cell by cell, to say
where it is. Rows are lines of the file, counted from 1, which is the header. Memory stays at one block and the numbers.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
from collections.abc import Iterator, Sequence
from contextlib import suppress
from io import FileIO
from typing import TYPE_CHECKING

import numpy as np

from evo_rnn.errors import DataError
from evo_rnn.local_file import quoted, recognise
from evo_rnn.tasks.columns import LARGEST, Wanted, find_columns, looks_numeric, read_number

if TYPE_CHECKING:
    from evo_rnn.shapes import Array  # imports torch

MAX_LINE = 2**20
_CHUNK = 2**16  # not above MAX_LINE: then no line inside a chunk can be too long; small enough to stay in cache
_DELIMITERS = ",;\t"


def read_csv(file: FileIO, name: str, wanted: Wanted, max_bytes: int) -> tuple[Array, str]:
    """Read the wanted columns of a CSV file.

    Args:
        file: the open file.
        name: how messages call it.
        wanted: the columns; every other column may hold anything.
        max_bytes: the most bytes to read, and the most that the numbers may take.

    Returns:
        The values (T, C) in float64, NaN where a forgiven value is missing, and the file's SHA-256.

    Raises:
        DataError: naming file, row, column, what came and the cure.
    """
    digest = hashlib.sha256()
    blocks = _dense(_blocks(file, name, max_bytes, digest), name)
    _, lines = next(blocks, (1, []))
    if not lines or not lines[0].strip():
        raise DataError(f"{name}: the file, or its first line, is empty; it should be a header and rows of numbers")
    delimiter, header = _header(lines[0], name, wanted)
    places = find_columns(name, header, wanted.names)
    parts, rows = [_numbers(name, 2, lines[1:], delimiter, header, places, wanted)], len(lines) - 1
    for first, lines in blocks:
        rows += len(lines)
        if rows * len(places) * 8 > max_bytes:
            raise DataError(
                f"{name}, row {first}: the table takes more than {max_bytes} bytes; use fewer rows or columns"
            )
        parts.append(_numbers(name, first, lines, delimiter, header, places, wanted))
    return np.concatenate(parts), digest.hexdigest()


def read_cells(
    file: FileIO, name: str, known: Sequence[str], max_bytes: int
) -> tuple[list[str], Iterator[list[list[str]]]]:
    """Return the header of a CSV file, and an iterator over its rows of cells as they are written, some at a time.

    Args:
        file: the open file.
        name: how messages call it.
        known: columns that it has: they tell the delimiter, as in `read_csv`.
        max_bytes: the most bytes to read.

    Raises:
        DataError: as `read_csv` does where the text cannot be split into cells of one header; also while iterating.
    """
    blocks = _dense(_blocks(file, name, max_bytes, hashlib.sha256()), name)
    _, lines = next(blocks, (1, [""]))
    delimiter, header = _header(lines[0], name, Wanted(tuple(known), ()))

    def rows() -> Iterator[list[list[str]]]:
        for first, some in itertools.chain([(2, lines[1:])], blocks):
            cells = _split(some, delimiter, name, first)
            if set(map(len, cells)) - {len(header)}:
                _refuse_ragged(name, first, cells, len(header))
            yield cells

    return header, rows()


def _blocks(file: FileIO, name: str, max_bytes: int, digest: hashlib._Hash) -> Iterator[tuple[int, list[str]]]:
    """Yield (number of the first line, lines) of about one chunk; refuse what is not text in UTF-8."""
    first, carry, size = 1, b"", 0
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
        if size == 0:
            _refuse_foreign(chunk, name)
            chunk = chunk.removeprefix(b"\xef\xbb\xbf")
        size += len(chunk)
        if size > max_bytes:
            raise DataError(f"{name}: the file is longer than {max_bytes} bytes; use a smaller one")
        if b"\0" in chunk:
            row = first + chunk.count(b"\n", 0, chunk.index(b"\0"))
            raise DataError(
                f"{name}, row {row}: there is a NUL byte (binary data, or UTF-16); save the file as UTF-8 text"
            )
        whole, newline, rest = chunk.rpartition(b"\n")
        if len(carry) + (chunk.index(b"\n") if newline else len(chunk)) > MAX_LINE:
            raise DataError(f"{name}, row {first}: the line is longer than {MAX_LINE} bytes; break the file into lines")
        if not newline:
            carry += chunk
            continue
        lines = _decode(carry + whole, name, first)
        yield first, lines
        first, carry = first + len(lines), rest
    if carry:
        yield first, _decode(carry, name, first)


def _refuse_foreign(head: bytes, name: str) -> None:
    """Refuse a file whose first bytes say that it is something else."""
    if words := recognise(head):
        raise DataError(f"{name}: the file should be CSV text but is {words}")


def _decode(block: bytes, name: str, first: int) -> list[str]:
    """Return the lines of a block without their ends."""
    try:
        text = block.decode("utf-8")
    except UnicodeDecodeError as error:
        row = first + block.count(b"\n", 0, error.start)
        came = f"byte 0x{block[error.start]:02x}"
        raise DataError(f"{name}, row {row}: the text is not UTF-8 ({came}); save the file as UTF-8") from None
    if "\r" in text:
        text = text.replace("\r\n", "\n").removesuffix("\r")
        if "\r" in text:
            row = first + text.count("\n", 0, text.index("\r"))
            raise DataError(f"{name}, row {row}: there is a carriage return inside the line; end lines with LF or CRLF")
    return text.split("\n")


def _dense(blocks: Iterator[tuple[int, list[str]]], name: str) -> Iterator[tuple[int, list[str]]]:
    """Pass blocks on without the empty lines that may end a file; refuse an empty line before that."""
    blank = 0
    for first, lines in blocks:
        kept = len(lines)
        while kept and not lines[kept - 1].strip(" "):
            kept -= 1
        if blank and kept:
            raise DataError(f"{name}, row {blank}: the line is empty; remove it, or write the missing values' row")
        if kept < len(lines):
            blank = blank or first + kept
        yield first, lines[:kept]


def _header(line: str, name: str, wanted: Wanted) -> tuple[str, list[str]]:
    """Return the delimiter and the columns' names: the delimiter that finds most wanted columns, then most columns."""
    headers: dict[str, list[str]] = {}
    for mark in _DELIMITERS:
        with suppress(DataError):  # quotation marks that make no sense with this delimiter may with another
            headers[mark] = [cell.strip() for cell in _split([line], mark, name, 1)[0]]
    if not headers:
        _split([line], _DELIMITERS[0], name, 1)  # refuses
    delimiter = max(headers, key=lambda mark: (len(set(wanted.names) & set(headers[mark])), len(headers[mark])))
    header = headers[delimiter]
    if all(looks_numeric(cell) for cell in header):
        raise DataError(f"{name}, row 1: there is no header, only numbers; add a first line with the columns' names")
    return delimiter, header


def _split(lines: Sequence[str], delimiter: str, name: str, first: int) -> list[list[str]]:
    """Split lines into cells; a quoted cell may not run over the end of its line."""
    try:
        rows = list(csv.reader(lines, delimiter=delimiter, strict=True))
        if len(rows) == len(lines):
            return rows
    except csv.Error:
        if len(lines) == 1:
            cure = "check the quotation marks: each must be closed on its line, at the end of its cell"
            raise DataError(f"{name}, row {first}: the line cannot be split into cells; {cure}") from None
    return [_split([line], delimiter, name, first + i)[0] for i, line in enumerate(lines)]


def _numbers(
    name: str, first: int, lines: list[str], delimiter: str, header: list[str], places: list[int], wanted: Wanted
) -> Array:
    """Return the wanted columns of a block of lines as numbers (rows, C)."""
    rows = _split(lines, delimiter, name, first)
    if set(map(len, rows)) - {len(header)}:
        _refuse_ragged(name, first, rows, len(header))
    values = np.empty((len(rows), len(places)))
    for j, place in enumerate(places):
        cells = [row[place] for row in rows]
        try:
            values[:, j] = list(map(float, cells))
            text = "".join(cells)
            good = text.isascii() and "_" not in text and bool((np.abs(values[:, j]) <= LARGEST).all())
        except ValueError:
            good = False
        if not good:  # `float` takes 1_000 and other scripts' digits; `read_number` does not, and knows the place
            where = f"column {quoted(wanted.names[j])}"
            values[:, j] = [
                read_number(cell, wanted.forgiven[j], f"{name}, row {first + i}, {where}")
                for i, cell in enumerate(cells)
            ]
    return values


def _refuse_ragged(name: str, first: int, rows: list[list[str]], width: int) -> None:
    """Refuse the first row that has not as many cells as the header."""
    i, row = next((i, row) for i, row in enumerate(rows) if len(row) != width)
    if not row:
        raise DataError(f"{name}, row {first + i}: the line is empty; remove it, or write the missing values' row")
    cure = "write one cell for each column (and a point, not a comma, in decimal numbers)"
    raise DataError(f"{name}, row {first + i}: the header has {width} cells but the row has {len(row)}; {cure}")
