"""`evo-rnn predict`: a champion's predictions for a table, written as CSV."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from evo_rnn.errors import ConfigError


def predict(name: str, data: str, out: str) -> None:
    """Write the predictions of the champion of run `name` for the rows of `data` to `out`; "-" is standard output.

    Raises:
        ConfigError: if there is no such run, it has no champion, or `out` exists as something else than a file.
        DataError: if the table does not fit the champion.
    """
    from evo_rnn.champion import load, predict_table
    from trainers.commands.browse import _client, download, find

    client = _client()
    run = find(client, name)
    with tempfile.TemporaryDirectory() as folder:
        champion = load(download(client, run, "champion", folder))
    columns = predict_table(champion, data)
    lines = [
        ",".join(columns),
        *(",".join(format(value, ".9g") for value in row) for row in zip(*columns.values(), strict=True)),
    ]
    text = "\n".join(lines) + "\n"
    if out == "-":
        sys.stdout.write(text)
        return
    target = Path(out)
    if target.exists() and not target.is_file():
        raise ConfigError(f"-o should name a file but {out} is something else.")
    target.write_text(text, encoding="utf-8")
    sys.stderr.write(f"Made: {out} with {len(lines) - 1} rows of {', '.join(columns)}.\n")
