"""`evo-rnn predict`: a champion's predictions for a table, written as CSV, beside the truth where the table has it."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evo_rnn.errors import ConfigError, DiskError
from evo_rnn.local_file import shown

if TYPE_CHECKING:
    from evo_rnn.champion import Champion
    from evo_rnn.forecast import Forecast


def predict(name: str, data: str, out: str, *, as_json: bool) -> None:
    """Write the predictions of the champion of run `name` for the rows of `data` to `out`; "-" is standard output.

    Of a comparison the champion is taken that did best on the validation split. How wrong it is where `data` has the
    truth is said on standard error.

    Raises:
        ConfigError: if there is no such run, it has no champion, or `out` cannot be a file.
        DataError: if the table does not fit the champion.
        DiskError: if the disk refuses.
    """
    target = Path(out)
    if out != "-":
        _check_target(target, data)
    champion, run = _champion(name)
    from evo_rnn.forecast import forecast

    found = forecast(champion, data)
    columns = found.columns()
    if out != "-":
        _write(target, _csv(columns))
        made = f"{len(columns['row'])} rows of {', '.join(found.said)} by the champion of {run}"
        sys.stderr.write(f"Made: {shown(out)}, {made}\n")
    elif not as_json:
        sys.stdout.write(_csv(columns))
    if as_json:
        print(json.dumps(_summary(found, champion, run, {} if out != "-" else columns)))
    sys.stderr.write(_verdict(found, champion))


def _champion(name: str) -> tuple[Champion, str]:
    """The champion of a run, or the best of a comparison, and the name of its run."""
    from evo_rnn.champion import load
    from trainers.commands.runs import best_of, client_here, download, find, is_comparison

    client = client_here()
    run = find(client, name)
    if is_comparison(run):
        run = best_of(client, run)
    with tempfile.TemporaryDirectory() as folder:
        return load(download(client, run, "champion", folder)), str(run.info.run_name)


def _csv(columns: Mapping[str, Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([[_cell(value) for value in row] for row in zip(*columns.values(), strict=True)])
    return text.getvalue()


def _cell(value: object) -> object:
    """A number with nine digits; empty where it is not known."""
    if not isinstance(value, float):
        return value
    return "" if math.isnan(value) else format(value, ".9g")


def _summary(
    found: Forecast, champion: Champion, run: str, columns: Mapping[str, Sequence[object]]
) -> dict[str, object]:
    """What `--json` prints; the columns where they go to no file."""
    loss = {champion.card.loss: _plain(found.loss), "rows": found.judged}
    table = {"columns": {name: [*map(_plain, values)] for name, values in columns.items()}} if columns else {}
    return {"name": run, "loss": loss, **table}


def _plain(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _verdict(found: Forecast, champion: Champion) -> str:
    """One line about the loss where the truth is known, or why a truth that seemed to be there was of no use."""
    if found.remark:
        return f"No loss: {found.remark}\n"
    if not found.judged:
        return ""
    rows = "1 row" if found.judged == 1 else f"{found.judged} rows"
    loss = f"{champion.card.loss} {found.loss:.4g}, scaled as in training"
    return f"Loss: {loss}, over {rows} whose truth is in the file\n"


def _write(target: Path, text: str) -> None:
    from evo_rnn import atomic

    try:
        atomic.replace(target, [text.encode()])
        target.chmod(0o666 & ~_umask())
    except OSError as error:
        raise DiskError(f"{shown(target)} cannot be written: {error.strerror or error}. Give another place.") from error


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
