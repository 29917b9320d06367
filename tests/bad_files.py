"""The corpus of bad files: each is made by hand to be refused, with one line that says where and how to mend it.

`write_bad_files(folder)` writes them and returns rows. Kinds: ``table`` (a data file whose target is the column ``y``),
``yaml`` (a configuration that cannot be read) and ``config`` (good YAML with a wrong setting, judged by its schema).
"""

from __future__ import annotations

import gzip
import io
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

DATA, CONFIG = 65, 2


class BadFile(NamedTuple):
    """One bad input: its name, where it is, which door it goes to, the exit code, and what the message must say."""

    name: str
    path: str
    kind: str
    exit_code: int
    words: tuple[str, ...]


CSV_GOOD = "t,x,y\n" + "".join(f"{i},{i * 0.5},{(i * 7) % 11 + 0.25}\n" for i in range(60))
YAML_GOOD = "task: sunspots\nmethod:\n  name: ga\nseeds: [1, 2]\n"
NOT_UTF8 = ("UTF-8", "save")
NO_NUMBER = ("row 4", "'y'", "not a number")

CSV_TEXTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "empty cell": ("x,y\n1,2\n3,\n5,6\n", ("row 3", "'y'", "missing")),
    "nan": ("x,y\n1,2\n3,4\n5,nan\n", ("row 4", "'y'", "missing")),
    "NA": ("x,y\n1,2\n3,4\n5,NA\n", ("row 4", "'y'", "missing")),
    "inf": ("x,y\n1,2\n3,4\n5,-inf\n", ("row 4", "'y'", "infinite")),
    "infinity": ("x,y\n1,2\n3,4\n5,Infinity\n", ("row 4", "'y'", "infinite")),
    "text": ("x,y\n1,2\n3,4\n5,high\n", (*NO_NUMBER, "'high'")),
    "underscore": ("x,y\n1,2\n3,4\n5,1_000\n", (*NO_NUMBER, "'1_000'")),
    "hexadecimal": ("x,y\n1,2\n3,4\n5,0x1F\n", NO_NUMBER),
    "other digits": ("x,y\n1,2\n3,4\n5,١٢\n", NO_NUMBER),
    "currency": ("x,y\n1,2\n3,4\n5,$7\n", NO_NUMBER),
    "control characters": ("x,y\n1,2\n3,4\n5,\x1b[31m\x07\n", NO_NUMBER),
    "decimal comma": ("x;y\n1;2\n3;4\n5;6,5\n", (*NO_NUMBER, "6.5", "decimal comma")),
    "dates": ("x,y\n1,2\n3,4\n5,2020-01-31\n", (*NO_NUMBER, "date")),
    "times": ("x,y\n1,2\n3,4\n5,12:30\n", (*NO_NUMBER, "time")),
    "overflow": ("x,y\n1,2\n3,4\n5,1e400\n", ("row 4", "'y'", "too large", "rescale")),
    "huge integer": (f"x,y\n1,2\n3,4\n5,{'9' * 5000}\n", ("row 4", "'y'", "too large", "rescale")),
    "too few cells": ("x,y\n1,2\n3\n5,6\n", ("row 3", "has 2 cells", "row has 1")),
    "too many cells": ("x,y\n1,2\n3,4,5\n6,7\n", ("row 3", "has 2 cells", "row has 3")),
    "empty line": ("x,y\n1,2\n\n3,4\n", ("row 3", "empty")),
    "header only": ("x,y\n", ("no row", "at least two")),
    "one row": ("x,y\n1,2\n", ("one row", "at least two")),
    "blank": ("\n\n\n", ("empty",)),
    "duplicate columns": ("x,y,y\n1,2,3\n4,5,6\n", ("row 1", "columns 2 and 3", "'y'", "rename")),
    "no such column": ("x,Y1\n1,2\n3,4\n", ("no column 'y'", "did you mean 'Y1'", "'x'")),
    "no header": ("1,2\n3,4\n5,6\n", ("row 1", "header", "names")),
    "unnamed column": (",y\n0,1\n1,2\n", ("row 1", "column 1", "no name")),
    "open quote": ('x,y\n1,2\n"3,4\n5,6\n', ("row 3", "quotation")),
    "stray quote": ('x,y\n1,2\n"3"3,4\n5,6\n', ("row 3", "quotation")),
    "quote to the end": ('x,y\n1,2\n3,"4' + "5" * 200_000 + "\n", ("row 3", "quotation")),
    "carriage returns": ("x,y\r1,2\r3,4\r", ("row 1", "carriage return", "LF")),
    "long line": ("x,y\n1,2\n3," + "4" * 2**21 + "\n", ("row 3", "longer", "lines")),
    "too many columns": (",".join(f"c{i}" for i in range(10_001)) + "\n", ("10001 columns", "10000")),
    "wrong among many columns": (",".join(f"column{i:05}" for i in range(9_999)) + "\n", ("no column 'y'", "more")),
    "constant target": ("x,y\n" + "".join(f"{i},3.5\n" for i in range(60)), ("'y'", "constant", "3.5", "rows 2 to 61")),
}

CSV_BYTES: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "no bytes": (b"", ("empty", "header")),
    "UTF-16 LE": (b"\xff\xfe" + CSV_GOOD.encode("utf-16-le"), ("UTF-16", "UTF-8")),
    "UTF-16 BE": (b"\xfe\xff" + CSV_GOOD.encode("utf-16-be"), ("UTF-16", "UTF-8")),
    "UTF-16 without mark": (CSV_GOOD.encode("utf-16-le"), ("row 1", "NUL", "UTF-16")),
    "Latin-1": ("x,y,ort\n1,2,Köln\n".encode("latin-1"), ("row 2", *NOT_UTF8)),
    "NUL": (b"x,y\n1,2\n3,\x004\n", ("row 3", "NUL")),
    "gzip bomb": (gzip.compress(b"1" * 20_000_000, 1), ("gzip", "decompress")),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), ("PNG",)),
    "workbook": (b"PK\x03\x04" + bytes(100), ("Excel", "save")),
    "random bytes": (bytes((i * 97 + 31) % 255 + 1 for i in range(5000)), NOT_UTF8),
}

YAML_TEXTS: dict[str, tuple[str | bytes, tuple[str, ...]]] = {
    "alias bomb": (
        "a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n"
        + "".join(f"{c}: &{c} [{', '.join([f'*{chr(ord(c) - 1)}'] * 9)}]\n" for c in "bcdefg"),
        (":1:4", "anchors"),
    ),
    "alias": ("a: 1\nb: *a\n", (":2:4", "alias")),
    "merge key": ("a: &x {b: 1}\nc:\n  <<: *x\n", (":1:4", "anchors")),
    "nested brackets": ("a: " + "[" * 5000, ("deep",)),
    "nested keys": ("\n".join("  " * i + f"k{i}:" for i in range(60)), ("deep",)),
    "nested lists": ("a:\n" + "- " * 5000, ("deep",)),
    "python tag": ("a: !!python/object/apply:os.system [echo]\n", (":1:4", "tags")),
    "own tag": ("a: !secret x\n", (":1:4", "tags")),
    "tag directive": ("%TAG ! tag:example.com,2000:\n---\na: 1\n", ("tags",)),
    "duplicate key": ("seed: 1\nworkers: 2\nseed: 3\n", (":3:1", "'seed'", "line 1")),
    "duplicate quoted key": ("a:\n  b: 1\n  'b': 2\n", (":3:3", "'b'", "line 2")),
    "octal": ("seed: 017\n", (":1:7", "'017'", "zeros")),
    "huge integer key value": (f"seed: {'9' * 5000}\n", (":1:7", "too large")),
    "overflow": ("rate: 1e999\n", (":1:7", "too large")),
    "number as key": ("1: a\n", (":1:1", "key", "quotes")),
    "list as key": ("? [a, b]\n: 1\n", (":1:3", "key")),
    "list at the top": ("- a\n- b\n", ("mapping", "list")),
    "text at the top": ("hello\n", ("mapping", "text")),
    "empty": ("", ("empty", "key: value")),
    "comments only": ("# nothing\n\n---\n", ("empty", "key: value")),
    "two documents": ("a: 1\n---\nb: 2\n", (":2:1", "one document")),
    "open bracket": ("a: [1, 2\nb: 3\n", (":2:", "not YAML")),
    "tab": ("a:\n\tb: 1\n", (":2:1", "not YAML")),
    "bad indentation": ("a: 1\n  b: 2\n", (":2:", "not YAML")),
    "open quote": ('a: "b\n', ("not YAML", "quotation")),
    "control character": ("a: \x07b\n", (":1:4", "not text")),
    "too long": ("a: " + "x" * 65_536 + "\n", ("longer", "65536")),
    "NUL": (b"a: 1\nb: \x002\n", (":2", "NUL")),
    "UTF-16 LE": (b"\xff\xfe" + YAML_GOOD.encode("utf-16-le"), ("UTF-16", "UTF-8")),
    "UTF-16 BE": (b"\xfe\xff" + YAML_GOOD.encode("utf-16-be"), ("UTF-16", "UTF-8")),
    "Latin-1": ("name: Köln\n".encode("latin-1"), (":1", *NOT_UTF8)),
    "gzip": (gzip.compress(YAML_GOOD.encode()), ("gzip", "decompress")),
}

CONFIG_TEXTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "misspelt key": ("tsak: sunspots\n", ("tsak", "task")),
    "misspelt nested key": ("task: {name: sunspots}\nmodel: {cel: elman}\n", ("cel", "cell")),
    "misspelt task": ("task: {name: sunspotz}\n", ("sunspotz", "sunspots")),
    "misspelt method": ("task: {name: sunspots}\nmethod: {name: gaa}\n", ("gaa", "ga")),
    "misspelt cell": ("task: {name: sunspots}\nmodel: {cell: lstn}\n", ("lstn", "lstm")),
    "negative budget": ("task: {name: sunspots}\nbudget: {passes: -1}\n", ("passes", "-1")),
    "NaN budget": ("task: {name: sunspots}\nbudget: {passes: .nan}\n", ("passes", "nan")),
    "infinite budget": ("task: {name: sunspots}\nbudget: {passes: .inf}\n", ("passes", "inf")),
    "text for a number": ("task: {name: sunspots}\nbudget: {passes: many}\n", ("passes", "many")),
    "negative workers": ("task: {name: sunspots}\nworkers: -3\n", ("workers", "compute.workers")),
    "no seeds": ("task: {name: sunspots}\nseeds: 0\n", ("seeds", "0")),
    "text for a section": ("task: {name: sunspots}\nmodel: elman\n", ("model", "elman")),
    "old boolean": ("task: {name: sunspots}\nworkers: yes\n", ("workers", "compute.workers")),
}


def write_bad_files(folder: Path) -> list[BadFile]:
    """Write every bad file into an empty folder and return their rows."""
    rows: list[BadFile] = []

    def add(name: str, suffix: str, kind: str, words: tuple[str, ...], write: Callable[[Path], object]) -> None:
        path = folder / f"{kind} {name}{suffix}"
        write(path)
        rows.append(BadFile(name, str(path), kind, DATA if kind == "table" else CONFIG, (path.stem, *words)))

    for name, (text, words) in CSV_TEXTS.items():
        add(name, ".csv", "table", words, lambda path, text=text: path.write_bytes(text.encode()))  # type: ignore[misc]
    for name, (content, words) in CSV_BYTES.items():
        add(name, ".csv", "table", words, lambda path, content=content: path.write_bytes(content))  # type: ignore[misc]
    for name, (any_text, words) in YAML_TEXTS.items():
        content = any_text if isinstance(any_text, bytes) else any_text.encode()
        add(name, ".yaml", "yaml", words, lambda path, content=content: path.write_bytes(content))  # type: ignore[misc]
    for name, (text, words) in CONFIG_TEXTS.items():
        add(name, ".yaml", "config", words, lambda path, text=text: path.write_text(text))  # type: ignore[misc]
    for kind, suffix, good in (("table", ".csv", CSV_GOOD), ("yaml", ".yaml", YAML_GOOD)):
        _add_places(kind, suffix, good, folder, add, rows)
    _add_odd_names(add)
    _add_parquet(add)
    return rows


def _add_places(kind: str, suffix: str, good: str, folder: Path, add: Callable[..., None], rows: list[BadFile]) -> None:
    """Things that are not regular local files."""
    (folder / f"good{suffix}").write_text(good)
    add("link", suffix, kind, ("symbolic link", f"good{suffix}"), lambda path: path.symlink_to(f"good{suffix}"))
    add("dangling link", suffix, kind, ("symbolic link", "nothing"), lambda path: path.symlink_to("nowhere"))
    add("link loop", suffix, kind, ("symbolic link", "nothing"), lambda path: path.symlink_to(path.name))
    add("link to a device", suffix, kind, ("symbolic link",), lambda path: path.symlink_to("/dev/zero"))
    add("directory", suffix, kind, ("directory",), lambda path: path.mkdir())
    add("pipe", suffix, kind, ("named pipe",), os.mkfifo)
    add("absent", suffix, kind, ("no such",), lambda _path: None)
    code = DATA if kind == "table" else CONFIG
    for url in (f"http://127.0.0.1:9/data{suffix}", f"s3://bucket/data{suffix}", f"file:///tmp/data{suffix}"):
        rows.append(BadFile(url.split(":")[0] + " URL", url, kind, code, ("URL", "download")))


def _add_odd_names(add: Callable[..., None]) -> None:
    """Good or enormous content under a wrong name."""
    add(
        "compressed", ".csv.gz", "table", ("compressed", "decompress"), lambda p: p.write_bytes(gzip.compress(b"x,y\n"))
    )
    add("zipped", ".csv.zip", "table", ("compressed", "decompress"), lambda p: p.write_bytes(_zip_bomb()))
    add("no suffix", "", "table", (".csv", ".parquet"), lambda p: p.write_text(CSV_GOOD))
    add("workbook name", ".xlsx", "table", (".csv", ".parquet"), lambda p: p.write_bytes(_zip_bomb()))
    add("sparse giant", ".csv", "table", ("bytes", "smaller"), lambda p: _sparse(p, 3 * 2**30))
    add("sparse zeros", ".csv", "table", ("row 1", "NUL"), lambda p: _sparse(p, 2**30))
    add("sparse giant", ".yaml", "yaml", ("longer",), lambda p: _sparse(p, 2**30))


def _sparse(path: Path, size: int) -> None:
    """Write a file that takes no room."""
    with path.open("wb") as file:
        file.truncate(size)


def _zip_bomb() -> bytes:
    """Return a small archive of 20 MB of zeros."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("data.csv", bytes(20_000_000))
    return stream.getvalue()


class _Unloadable(pa.ExtensionType):  # type: ignore[misc]
    """An extension type whose loading would be a fault."""

    def __init__(self) -> None:
        super().__init__(pa.float64(), "tests.unloadable")

    def __arrow_ext_serialize__(self) -> bytes:
        return b"cos\nsystem\n(S'false'\ntR."

    @classmethod
    def __arrow_ext_deserialize__(cls, _storage: object, _serialized: bytes) -> _Unloadable:
        raise RuntimeError("an extension type was loaded")


def _add_parquet(add: Callable[..., None]) -> None:
    """Parquet files: damaged, lying, or of types that are not numbers."""
    numbers = [i * 0.5 for i in range(60)]

    def column(name: str, values: object, words: tuple[str, ...]) -> None:
        array = values if isinstance(values, pa.Array) else pa.array(values)
        table = pa.table({"x": pa.array(numbers[: len(array)]), "y": array})
        add(name, ".parquet", "table", words, lambda path: pq.write_table(table, path))

    def raw(name: str, content: bytes, words: tuple[str, ...]) -> None:
        add(name, ".parquet", "table", words, lambda path: path.write_bytes(content))

    column("null", [*numbers[:59], None], ("row 60", "'y'", "missing"))
    column("nan", [1.0, float("nan"), 2.0], ("row 2", "'y'", "missing"))
    column("inf", [1.0, 2.0, float("inf")], ("row 3", "'y'", "infinite"))
    column("too large", [1.0, 1e300, 2.0], ("row 2", "'y'", "too large"))
    column("text", ["a", "b", "c"], ("'y'", "string", "not a number"))
    column("category", pa.array(["a", "b", "a"]).dictionary_encode(), ("'y'", "not a number"))
    column("dates", pa.array([1, 2, 3], pa.timestamp("us")), ("'y'", "timestamp"))
    column("bytes", [b"a", b"b", b"c"], ("'y'", "binary"))
    column("lists", [[1.0], [2.0], [3.0]], ("'y'", "list"))
    column("structs", [{"y": 1.0}, {"y": 2.0}, {"y": 3.0}], ("'y'", "struct"))
    column("nothing but nulls", pa.nulls(3), ("'y'", "null"))
    column("extension", pa.ExtensionArray.from_storage(_Unloadable(), pa.array([1.0, 2.0, 3.0])), ("'y'", "extension"))
    column("no rows", pa.array([], pa.float64()), ("no row", "at least two"))
    column("one row", [1.0], ("one row", "at least two"))
    column("constant target", [2.5] * 60, ("'y'", "constant", "2.5", "rows 1 to 60"))
    misnamed, twice = pa.table({"yy": numbers}), pa.Table.from_arrays([pa.array(numbers)] * 2, names=["y", "y"])
    add("no such column", ".parquet", "table", ("no column 'y'", "'yy'"), lambda p: pq.write_table(misnamed, p))
    add("duplicate columns", ".parquet", "table", ("'y'", "rename"), lambda p: pq.write_table(twice, p))
    add("no columns", ".parquet", "table", ("no columns",), lambda p: pq.write_table(pa.table({}), p))
    good = io.BytesIO()
    pq.write_table(pa.table({"y": numbers}), good)
    whole = good.getvalue()
    raw("truncated", whole[: len(whole) // 2], ("truncated",))
    raw("head lost", whole[10:], ("should be Parquet",))
    raw("footer overwritten", whole[:-200] + b"\xff" * 192 + whole[-8:], ("damaged",))
    raw("footer length lies", whole[:-8] + struct.pack("<I", 2**31 - 1) + b"PAR1", ("damaged",))
    raw("pages overwritten", whole[:4] + b"\xff" * 200 + whole[204:], ("damaged",))
    raw("magic only", b"PAR1PAR1", ("truncated",))
    raw("encrypted", b"PARE" + whole[4:-4] + b"PARE", ("encrypted",))
    raw("empty file", b"", ("empty",))
    raw("text file", CSV_GOOD.encode(), ("should be Parquet", ".csv"))
    raw("zip bomb", _zip_bomb(), ("zip",))
    raw("gzip", gzip.compress(whole), ("gzip",))
    add("dictionary bomb", ".parquet", "table", ("claims", "bytes"), _dictionary_bomb)


def _dictionary_bomb(path: Path) -> None:
    """Write a constant column in a few kilobytes that unfolds to 2.3 GB: every row group has the same one page."""
    column = pa.DictionaryArray.from_arrays(pa.array(bytes(2**20), pa.int8()), pa.array([1.0]))
    stream, footer = io.BytesIO(), io.BytesIO()
    pq.write_table(pa.table({"y": column}), stream, compression="zstd")
    metadata = pq.read_metadata(stream)
    for _ in range(279):
        metadata.append_row_groups(pq.read_metadata(stream))
    metadata.write_metadata_file(footer)
    content = stream.getvalue()
    pages = content[: len(content) - 8 - struct.unpack("<I", content[-8:-4])[0]]
    path.write_bytes(pages + footer.getvalue()[4:])
