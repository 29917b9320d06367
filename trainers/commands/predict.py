"""`evo-rnn predict`: a champion's predictions for a table, written as CSV."""

from __future__ import annotations

import csv
import io
import os
import sys
import tempfile
from pathlib import Path

from evo_rnn.errors import ConfigError, DiskError
from evo_rnn.local_file import shown


def predict(name: str, data: str, out: str) -> None:
    """Write the predictions of the champion of run `name` for the rows of `data` to `out`; "-" is standard output.

    Of a comparison the champion is taken that did best on the validation split.

    Raises:
        ConfigError: if there is no such run, it has no champion, or `out` cannot be a file.
        DataError: if the table does not fit the champion.
        DiskError: if the disk refuses.
    """
    target = Path(out)
    if out != "-":
        _check_target(target, data)
    from evo_rnn import atomic
    from evo_rnn.champion import load, predict_table
    from trainers.commands.runs import best_of, client_here, download, find, is_comparison

    client = client_here()
    run = find(client, name)
    if is_comparison(run):
        run = best_of(client, run)
    with tempfile.TemporaryDirectory() as folder:
        champion = load(download(client, run, "champion", folder))
    columns = predict_table(champion, data)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    rows = list(zip(*(values.tolist() for values in columns.values()), strict=True))
    writer.writerows([[format(value, ".9g") for value in row] for row in rows])
    if out == "-":
        sys.stdout.write(text.getvalue())
        return
    try:
        atomic.replace(target, [text.getvalue().encode()])
        target.chmod(0o666 & ~_umask())
    except OSError as error:
        raise DiskError(f"{shown(out)} cannot be written: {error.strerror or error}. Give another place.") from error
    made = f"{len(rows)} rows of {', '.join(columns)} by the champion of {run.info.run_name}"
    sys.stderr.write(f"Made: {shown(out)}, {made}\n")


def _umask() -> int:
    """What the user takes away from new files; it can be read only by setting it."""
    os.umask(mask := os.umask(0o077))
    return mask


def _check_target(target: Path, data: str) -> None:
    """Refuse to write where nothing can be written, or over the data."""
    name = shown(target)
    if not target.parent.is_dir():
        raise ConfigError(
            f"-o should name a file in a directory but there is no {shown(target.parent)}. Make it first."
        )
    if target.exists() and not target.is_file():
        raise ConfigError(f"-o should name a file but {name} is something else. Give another name.")
    if target.exists() and Path(data).exists() and target.samefile(data):
        raise ConfigError(f"-o should not name the data file itself ({name}). Give another name.")
