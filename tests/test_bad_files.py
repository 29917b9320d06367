"""Every bad file is refused in one line that says where and how to mend it, at once, and nothing is written."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from evo_rnn.safe_yaml import load_yaml
from evo_rnn.tasks.table import check_varies, read_table
from tests.bad_files import CONFIG, CSV_GOOD, DATA, YAML_GOOD, BadFile, write_bad_files

_PROBE = """
import json, re, sys, time
from pathlib import Path
import pyarrow.parquet, yaml
from evo_rnn.safe_yaml import load_yaml
from evo_rnn.tasks.table import check_varies, read_table

def peak():  # not ru_maxrss, which a child takes over from its parent
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

rows, before = json.load(sys.stdin), peak()
for row in rows:
    start, code, message = time.process_time(), 0, ""
    try:
        if row["kind"] == "table":
            check_varies(read_table(row["path"], targets=["y"]), "y")
        else:
            load_yaml(row["path"])
    except Exception as error:
        code, message = getattr(error, "exit_code", 70), str(error)
    row.update(code=code, message=message, cpu=time.process_time() - start)
json.dump({"rows": rows, "memory": peak() - before}, sys.stdout)
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[BadFile]]:
    folder = tmp_path_factory.mktemp("bad")
    return folder, write_bad_files(folder)


def test_the_corpus_has_at_least_sixty_files_of_every_kind_and_none_is_named_twice(
    corpus: tuple[Path, list[BadFile]],
) -> None:
    _, rows = corpus
    kinds = Counter(row.kind for row in rows)
    assert set(kinds) == {"table", "yaml", "config"}
    assert kinds["table"] + kinds["yaml"] >= 60
    assert len({row.path for row in rows}) == len(rows)


def test_what_the_bad_files_were_made_from_is_good(tmp_path: Path) -> None:
    csv, yaml = tmp_path / "good.csv", tmp_path / "good.yaml"
    csv.write_text(CSV_GOOD)
    yaml.write_text(YAML_GOOD)
    table = read_table(csv, targets=["y"], inputs=["x"])
    check_varies(table, "y")
    assert table.values.shape == (60, 2)
    assert load_yaml(yaml) == {"task": "sunspots", "method": {"name": "ga"}, "seeds": [1, 2]}


def test_every_bad_file_is_refused_in_one_line_with_place_and_cure_at_once_and_nothing_is_written(
    corpus: tuple[Path, list[BadFile]], tmp_path: Path
) -> None:
    folder, rows = corpus
    before = sorted(path.name for path in folder.iterdir())
    done = subprocess.run(
        [sys.executable, "-c", _PROBE],
        input=json.dumps([row._asdict() for row in rows]),
        capture_output=True,
        text=True,
        timeout=120,  # a pipe or a device that is read would hang
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    faults = [fault for row in report["rows"] for fault in _faults(row)]
    assert not faults, "\n".join(faults)
    assert report["memory"] < 300 * 2**20
    assert sorted(path.name for path in folder.iterdir()) == before
    assert not list(tmp_path.iterdir())


def _faults(row: dict[str, object]) -> list[str]:
    """What is wrong with the way one row was refused."""
    name, message, cpu = f"{row['kind']} {row['name']}", str(row["message"]), float(str(row["cpu"]))
    faults = [f"{name}: took {cpu:.2f} s of CPU"] if cpu >= 1 else []
    if row["kind"] == "config":
        return faults + ([f"{name}: refused as YAML: {message}"] if row["code"] else [])
    wanted = DATA if row["kind"] == "table" else CONFIG
    if row["code"] != wanted or row["exit_code"] != wanted:
        faults.append(f"{name}: exit code {row['code']} instead of {wanted}: {message}")
    if "\n" in message or not message.isprintable() or len(message) > 600:
        faults.append(f"{name}: the message is not one printable line: {message!r}")
    words = row["words"]
    assert isinstance(words, list)
    return faults + [f"{name}: {word!r} is not in: {message}" for word in words if word not in message]
