"""Finding the wanted columns of a table by name, and the words for a number that is not one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from evo_rnn.errors import DataError
from evo_rnn.local_file import quoted

MAX_COLUMNS = 10_000
LARGEST = 1e100
"""The largest magnitude a value may have: its square must stay far inside float64, because data are standardised."""

MISSING = frozenset({"", "NA", "N/A", "NaN", "nan", "NAN", "null", "NULL", "None", "-nan", "<NA>"})
"""The cells that mean "no value here"."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_INFINITE = re.compile(r"[+-]?inf(inity)?", re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"[+-]?[\d. ]*,\d+([eE][+-]?\d+)?", re.ASCII)
_DATE = re.compile(r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}.*|\d{1,2}:\d{2}(:\d{2}.*)?|\d{4}-\d{2}(-\d{2})?.*", re.ASCII)
_NO_VALUE_CURE = (
    "fill it in, drop the row, or allow gaps: task.missing=ffill (or zero_with_mask) for inputs, "
    "task.missing_targets=mask for "
    "targets"
)


@dataclass(frozen=True)
class Wanted:
    """The columns to read: their names and, for each, whether a missing value is forgiven (then it is read as NaN)."""

    names: tuple[str, ...]
    forgiven: tuple[bool, ...]


def find_columns(file: str, header: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Return the place of each wanted column in the header.

    Raises:
        DataError: too many columns, one without a name, two with one name, or a wanted one that is not there.
    """
    if len(header) > MAX_COLUMNS:
        raise DataError(f"{file}: the table has {len(header)} columns, at most {MAX_COLUMNS} are read; drop some")
    if "" in header:
        number = header.index("") + 1
        raise DataError(f"{file}, row 1: column {number} has no name; name it (from pandas: to_csv(..., index=False))")
    places: dict[str, int] = {}
    for place, name in enumerate(header):
        if name in places:
            first, second = places[name] + 1, place + 1
            raise DataError(f"{file}, row 1: columns {first} and {second} are both called {quoted(name)}; rename one")
        places[name] = place
    for name in wanted:
        if name not in places:
            raise DataError(f"{file}: there is no column {quoted(name)}; {_nearest(name, header)}")
    return [places[name] for name in wanted]


def _nearest(name: str, header: Sequence[str]) -> str:
    """Return the cure for a column that is not there: a guess, and the first names that are."""
    candidates = {known.casefold(): known for known in header[:1000] if len(known) <= 100}
    near = difflib.get_close_matches(name[:100].casefold(), candidates, n=1)
    guess = f"did you mean {quoted(candidates[near[0]])}? " if near else ""
    listed = ", ".join(quoted(known, 30) for known in header[:10])
    rest = f" and {len(header) - 10} more" if len(header) > 10 else ""
    return f"{guess}its columns are {listed}{rest}"


def read_number(cell: str, forgiven: bool, where: str) -> float:
    """Return one cell as a float: NaN for a missing value that is forgiven.

    Raises:
        DataError: naming the place, what came and the cure.
    """
    text = cell.strip()
    if text in MISSING:
        if forgiven:
            return float("nan")
        raise DataError(missing(where))
    if _INFINITE.fullmatch(text):
        raise DataError(infinite(where))
    if _NUMBER.fullmatch(text):
        number = float(text)
        if abs(number) > LARGEST:
            raise DataError(too_large(where, text))
        return number
    if _DECIMAL_COMMA.fullmatch(text):
        cure = f"write numbers with a point ({text.replace('.', '').replace(',', '.')[:20]}), not a decimal comma"
    elif _DATE.fullmatch(text):
        cure = "it looks like a date or a time: choose a column of numbers, or write it as a number"
    else:
        cure = "write a plain number such as 1.5 or 1e-3"
    raise DataError(f"{where}: {quoted(text)} is not a number; {cure}")


def looks_numeric(cell: str) -> bool:
    """Return whether a header cell is a number rather than a name."""
    return bool(_NUMBER.fullmatch(cell.strip()))


def missing(where: str) -> str:
    """Return the message for a value that is not there."""
    return f"{where}: the value is missing (empty or NaN); {_NO_VALUE_CURE}"


def infinite(where: str) -> str:
    """Return the message for an infinite value."""
    return f"{where}: the value is infinite (inf); replace it by a finite number or drop the row"


def too_large(where: str, value: object) -> str:
    """Return the message for a value beyond `LARGEST`."""
    return f"{where}: the value {quoted(value)} is too large (limit {LARGEST:g}); rescale the column"
