"""The door for data: a good file comes out exactly as it is, and a bad one as nothing but an explained refusal."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evo_rnn.errors import ConfigError, DataError
from evo_rnn.local_file import open_local
from evo_rnn.tasks import csv_table
from evo_rnn.tasks.table import Table, check_varies, read_table
from tests.bad_files import CSV_GOOD

NUMBERS = st.floats(-1e99, 1e99)
FUZZ = settings(max_examples=500, deadline=None)


def read(path: Path, text: str | bytes, **options: object) -> Table:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_table(path, **{"targets": ["y"], **options})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2, max_size=30),
    st.sampled_from(",;\t"),
    st.sampled_from(["\n", "\r\n"]),
)
def test_numbers_come_out_of_csv_exactly_as_they_went_in(
    folder: Path, rows: list[tuple[float, float]], mark: str, end: str
) -> None:
    lines = [f"when{mark}y{mark}x", *(f"2020-01-01{mark}{y!r}{mark}{x!r}" for y, x in rows)]
    table = read(folder / "exact.csv", end.join(lines) + end, inputs=["x"])
    assert table.columns == ("x", "y")
    np.testing.assert_array_equal(table.select(["y", "x"]), np.array(rows))
    assert table.known.all()
    assert table.first_row == 2


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2, max_size=30))
def test_numbers_come_out_of_parquet_exactly_as_they_went_in(folder: Path, rows: list[tuple[float, float]]) -> None:
    path, values = folder / "exact.parquet", np.array(rows)
    pq.write_table(pa.table({"y": values[:, 0], "name": ["a"] * len(rows), "x": values[:, 1]}), path)
    table = read_table(path, targets=["y"], inputs=["x"])
    np.testing.assert_array_equal(table.select(["y", "x"]), values)
    assert table.first_row == 1


def test_the_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    table = read(tmp_path / "a.csv", CSV_GOOD)
    assert table.sha256 == hashlib.sha256(CSV_GOOD.encode()).hexdigest()
    pq.write_table(pa.table({"y": [1.0, 2.0]}), tmp_path / "a.parquet")
    content = (tmp_path / "a.parquet").read_bytes()
    assert read_table(tmp_path / "a.parquet", targets=["y"]).sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64])
def test_where_the_blocks_end_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    whole = read(tmp_path / "a.csv", CSV_GOOD, inputs=["x"])
    monkeypatch.setattr(csv_table, "_CHUNK", chunk)
    for text in (CSV_GOOD, CSV_GOOD.replace("\n", "\r\n"), CSV_GOOD.rstrip("\n"), CSV_GOOD + "\n\r\n \n"):
        np.testing.assert_array_equal(read(tmp_path / "a.csv", text, inputs=["x"]).values, whole.values)
    with pytest.raises(DataError, match=r"row 62, column 'y': 'oops'"):
        read(tmp_path / "a.csv", CSV_GOOD + "60,1,oops\n61,1,2\n")
    with pytest.raises(DataError, match="row 63: the line is empty"):
        read(tmp_path / "a.csv", CSV_GOOD + "60,1,2\n\n\n61,1,2\n")
    with pytest.raises(DataError, match="row 62: the text is not UTF-8"):
        read(tmp_path / "a.csv", CSV_GOOD.encode() + b"60,1,2 \xe9\n")
    with pytest.raises(DataError, match="row 62: there is a NUL"):
        read(tmp_path / "a.csv", CSV_GOOD.encode() + b"60,1,\x002\n")


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffy,x\n1.5,a\n-2e-3,b\n",
        'y,"the, x"\n1.5,"a ""b"", c"\n-2e-3,\n',
        " y , x\n 1.5 ,\n-2e-3 , 12:30\n",
        "y\n1.5\n-2e-3\n",
        "a;b;y\n1,5;é;1.5\n2,5;ñ;-.002\n",
        '"a;b";"y"\n"1;2";"1.5"\nx;-2e-3\n',
        "a\ty\nx,y\t+1.5\nx;y\t-2.e-3\n",
    ],
)
def test_good_files_of_many_manners_are_read_alike(tmp_path: Path, text: str) -> None:
    for suffix in (".csv", ".tsv", ".txt", ".CSV"):
        assert read(tmp_path / f"a{suffix}", text).values[:, 0].tolist() == [1.5, -0.002]


@pytest.mark.parametrize(
    ("values", "want"),
    [
        (pa.array([1, 2, 2**53 + 1]), [1.0, 2.0, float(2**53)]),
        (pa.array([True, False, True]), [1.0, 0.0, 1.0]),
        (pa.array([Decimal("1.25"), Decimal("-2.50"), Decimal("0.00")]), [1.25, -2.5, 0.0]),
        (pa.array([1.5, -2.5, 0.0], pa.float32()), [1.5, -2.5, 0.0]),
        (pa.array(np.array([1.5, -2.5, 0.0], np.float16)), [1.5, -2.5, 0.0]),
        (pa.array([1, 2, 255], pa.uint8()), [1.0, 2.0, 255.0]),
    ],
)
def test_parquet_numbers_of_every_type_are_read(tmp_path: Path, values: pa.Array, want: list[float]) -> None:
    pq.write_table(pa.table({"y": values, "other": [[1], [2], [3]]}), tmp_path / "a.parquet")
    assert read_table(tmp_path / "a.parquet", targets=["y"]).values[:, 0].tolist() == want


def test_a_dotted_name_is_a_column_and_not_a_path_into_a_struct(tmp_path: Path) -> None:
    table = pa.table({"a": [{"b": 1.0}, {"b": 2.0}], "a.b": [3.0, 4.0]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert read_table(tmp_path / "a.parquet", targets=["a.b"]).values[:, 0].tolist() == [3.0, 4.0]


def test_a_header_that_no_delimiter_fits_or_that_is_empty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row 1: the line cannot be split"):
        read(tmp_path / "a.csv", '"a" b;"y\n1,2\n')
    for text in ("\ny\n1\n2\n", " \ny\n1\n2\n", "\n" * 200_000 + "y\n1\n"):
        with pytest.raises(DataError, match="first line, is empty"):
            read(tmp_path / "a.csv", text)


def test_the_right_row_is_named_beyond_the_first_batch_and_row_group(tmp_path: Path) -> None:
    values = np.arange(200_000.0)
    values[150_001] = np.inf
    pq.write_table(pa.table({"y": values}), tmp_path / "a.parquet", row_group_size=90_000)
    with pytest.raises(DataError, match=r"row 150002, column 'y': the value is infinite"):
        read_table(tmp_path / "a.parquet", targets=["y"])
    lines = ["y", *map(str, range(200_000))]
    lines[150_001] = "inf"
    with pytest.raises(DataError, match=r"row 150002, column 'y': the value is infinite"):
        read(tmp_path / "a.csv", "\n".join(lines))


GAPS = "x,y\n1,10\n,20\n3,\nNaN,40\n"


def write_gaps(folder: Path, kind: str) -> Path:
    path = folder / f"gaps.{kind}"
    if kind == "csv":
        path.write_text(GAPS)
    else:
        pq.write_table(pa.table({"x": [1.0, None, 3.0, float("nan")], "y": [10, 20, None, 40]}), path)
    return path


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_missing_values_are_treated_as_asked_and_remembered(tmp_path: Path, kind: str) -> None:
    path = write_gaps(tmp_path, kind)
    filled = read_table(path, targets=["y"], inputs=["x"], missing="ffill", missing_targets="mask")
    assert filled.select(["x"])[:, 0].tolist() == [1, 1, 3, 3]
    assert filled.select(["y"])[:, 0].tolist() == [10, 20, 0, 40]
    assert filled.select_known(["x", "y"]).tolist() == [[True, True], [False, True], [True, False], [False, True]]
    zeros = read_table(path, targets=["y"], inputs=["x"], missing="zero_with_mask", missing_targets="mask")
    assert zeros.select(["x"])[:, 0].tolist() == [1, 0, 3, 0]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("options", "row", "column"),
    [
        ({}, 2, "x"),
        ({"missing": "ffill"}, 3, "y"),
        ({"missing_targets": "mask"}, 2, "x"),
        ({"inputs": ["x", "y"], "missing": "ffill"}, 3, "y"),
        ({"inputs": ["y"], "missing_targets": "mask"}, 3, "y"),
    ],
)
def test_a_missing_value_that_is_not_forgiven_is_refused_where_it_is(
    tmp_path: Path, kind: str, options: dict[str, object], row: int, column: str
) -> None:
    path = write_gaps(tmp_path, kind)
    row += kind == "csv"
    with pytest.raises(DataError, match=rf"row {row}, column '{column}': the value is missing"):
        read_table(path, **{"targets": ["y"], "inputs": ["x"], **options})  # type: ignore[arg-type]


def test_ffill_needs_a_first_value_and_no_column_may_be_all_gaps(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 2, column 'x': .* ffill needs a value in the first row"):
        read(tmp_path / "a.csv", "x,y\n,1\n2,2\n", inputs=["x"], missing="ffill")
    with pytest.raises(DataError, match="column 'x': the column has no value at all"):
        read(tmp_path / "a.csv", "x,y\n,1\n,2\n", inputs=["x"], missing="zero_with_mask")
    with pytest.raises(DataError, match="column 'y': the column has no value at all"):
        read(tmp_path / "a.csv", "x,y\n1,\n2,NA\n", inputs=["x"], missing_targets="mask")


@pytest.mark.parametrize(
    "options", [{"targets": []}, {"targets": "y"}, {"inputs": "x"}, {"missing": "drop"}, {"missing_targets": "ffill"}]
)
def test_a_call_that_asks_for_the_impossible_is_a_configuration_error(
    tmp_path: Path, options: dict[str, object]
) -> None:
    with pytest.raises(ConfigError):
        read(tmp_path / "a.csv", CSV_GOOD, **options)


def test_the_bound_on_bytes_counts_the_file_the_rows_and_the_wanted_columns(tmp_path: Path) -> None:
    read(tmp_path / "a.csv", CSV_GOOD, max_bytes=len(CSV_GOOD))
    with pytest.raises(DataError, match="bytes"):
        read(tmp_path / "a.csv", CSV_GOOD, max_bytes=len(CSV_GOOD) - 1)
    small = "y\n" + "1\n" * 100_000  # 2 bytes a row in the file, 8 in memory
    with pytest.raises(DataError, match=r"row \d+: the table takes more than 400000 bytes"):
        read(tmp_path / "a.csv", small, max_bytes=400_000)
    pq.write_table(pa.table({"x": [1.0] * 60_000, "y": [1.0] * 60_000}), tmp_path / "a.parquet")
    read_table(tmp_path / "a.parquet", targets=["y"], max_bytes=480_000)
    with pytest.raises(DataError, match="60000 rows of 2 wanted columns, more than 480000 bytes"):
        read_table(tmp_path / "a.parquet", targets=["y"], inputs=["x"], max_bytes=480_000)


def test_a_column_varies_or_is_refused_by_its_known_values_in_the_rows_asked_for(tmp_path: Path) -> None:
    table = read(tmp_path / "a.csv", "y\n5\n5\n\n5\n7\n".replace("\n\n", "\nNA\n"), missing_targets="mask")
    check_varies(table, "y")
    check_varies(table, "y", 3, 5)
    with pytest.raises(DataError, match=r"a\.csv, rows 2 to 5, column 'y': the value is constant \(5\)"):
        check_varies(table, "y", 0, 4)
    for text in ("y\n0\n0\n", "y\n1000000000.1\n1000000000.1000001\n"):
        with pytest.raises(DataError, match="constant"):
            check_varies(read(tmp_path / "b.csv", text), "y")
    with pytest.raises(DataError, match="rows 4 to 4, column 'y': there is no value"):
        check_varies(table, "y", 2, 3)


def test_names_that_hold_line_breaks_do_not_break_the_message(tmp_path: Path) -> None:
    path = tmp_path / "two\nlines\x1b[31m.csv"
    with pytest.raises(DataError) as caught:
        read(path, "x\n1\n2\n", targets=["y\nz"])
    assert str(caught.value).isprintable()


def test_devices_sockets_and_unusable_names_are_refused(tmp_path: Path) -> None:
    for path in ("/dev/zero", "", "a\0b.csv", "x" * 5000 + ".csv", str(tmp_path / "a.csv" / "b.csv")):
        (tmp_path / "a.csv").write_text(CSV_GOOD)
        with pytest.raises(DataError) as caught:
            read_table(path, targets=["y"])
        assert str(caught.value).isprintable()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(CSV_GOOD)
    (tmp_path / "a.csv").chmod(0)
    with pytest.raises(DataError, match="permission"):
        read_table(tmp_path / "a.csv", targets=["y"])


def test_a_file_swapped_for_a_link_between_look_and_opening_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(CSV_GOOD)
    looked = os.lstat(path)
    path.unlink()
    path.symlink_to("/etc/hostname")
    monkeypatch.setattr(os, "lstat", lambda _path: looked)
    with pytest.raises(DataError, match="cannot be opened"):
        open_local(path, DataError, "data file")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match="regular file"):
        open_local(path, DataError, "data file")


def test_the_doors_open_without_the_heavy_libraries() -> None:
    heavy = "{'torch', 'ray', 'mlflow', 'pandas', 'pyarrow', 'matplotlib'}"
    probe = f"import sys, evo_rnn.safe_yaml, evo_rnn.tasks.table; print(*({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def survives(path: Path, content: bytes) -> None:
    """Only our refusal, in one line, may come out of the door."""
    path.write_bytes(content)
    for options in ({}, {"missing": "ffill", "missing_targets": "mask", "inputs": ["x"]}):
        refusal, table = "", None
        try:
            table = read_table(path, targets=["y"], **options)  # type: ignore[arg-type]
        except DataError as error:
            refusal = str(error)
        assert refusal.isprintable()
        assert table is None or np.isfinite(table.values).all()


@st.composite
def mutated(draw: st.DrawFn, good: bytes, tokens: tuple[bytes, ...]) -> bytes:
    """A good file with some bytes overwritten, cut out or put in."""
    content = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        length = draw(st.integers(0, 8))
        content[start : start + length] = draw(st.one_of(st.sampled_from(tokens), st.binary(max_size=8)))
    return bytes(content)


CSV_TOKENS = (
    b"",
    b",",
    b";",
    b"\t",
    b'"',
    b"\n",
    b"\r\n",
    b"\r",
    b"nan",
    b"inf",
    b"1e999",
    b"1_0",
    b"\xff",
    b"\0",
    b"\n\n",
)


@FUZZ
@given(
    content=st.one_of(
        st.binary(max_size=200), st.text(alphabet='xy,;\t"\r\n 0159.eE+-na_', max_size=80).map(str.encode)
    )
)
def test_arbitrary_bytes_as_csv_give_only_refusals(folder: Path, content: bytes) -> None:
    survives(folder / "fuzz.csv", content)
    survives(folder / "fuzz.csv", b"x,y\n1,2\n" + content)


@FUZZ
@given(content=mutated(CSV_GOOD.encode(), CSV_TOKENS))
def test_damaged_csv_gives_only_refusals(folder: Path, content: bytes) -> None:
    survives(folder / "fuzz.csv", content)


def parquet_bytes() -> bytes:
    stream = io.BytesIO()
    table = pa.table({"x": [float(i) for i in range(50)], "y": [i % 7 for i in range(50)], "z": ["a"] * 50})
    pq.write_table(table, stream, row_group_size=30)
    return stream.getvalue()


@FUZZ
@given(
    content=mutated(
        parquet_bytes(), (b"", b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0" * 8, b"PAR1", b"\xff\xff\xff\xff\x0f")
    )
)
def test_damaged_parquet_gives_only_refusals(folder: Path, content: bytes) -> None:
    survives(folder / "fuzz.parquet", content)


@FUZZ
@given(content=st.binary(max_size=300))
def test_arbitrary_bytes_as_parquet_give_only_refusals(folder: Path, content: bytes) -> None:
    survives(folder / "fuzz.parquet", content)
    survives(folder / "fuzz.parquet", b"PAR1" + content + len(content).to_bytes(4, "little") + b"PAR1")
