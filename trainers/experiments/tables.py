"""The numbers of a comparison as a table: columns for MLflow and for CSV, and a compact one for the terminal."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from evo_rnn.statistics import iqm
from trainers.experiments.early import MARK, early_text
from trainers.experiments.outcome import Comparison
from trainers.experiments.wording import NAMES, number

if TYPE_CHECKING:
    from rich.table import Table

FILE = "comparison.json"
TABLE_TAGS = {"mlflow.loggedArtifacts": json.dumps([{"path": FILE, "type": "table"}])}
"""Tags of the run that has the file: with them MLflow's UI shows it as a table."""

SHOWN_SPANS = 3  # in a terminal


def columns(comparison: Comparison) -> dict[str, list[Any]]:
    """The table by column, all of one length: the methods from best to worst, then the baselines.

    Losses and what was spent are interquartile means over the seeds; `low` and `high` bound that of the test loss.
    """
    rows = [_method(comparison, row.method) for row in comparison.verdict.rows]
    rows += [_baseline(comparison, name) for name in NAMES if name in comparison.baselines]
    return {name: [row.get(name) for row in rows] for name in rows[0]}


def to_json(table: Mapping[str, list[Any]]) -> str:
    """Columns as `mlflow.log_table` writes them: pandas' "split" orientation, null for what is not finite."""
    return json.dumps({"columns": list(table), "data": [[_plain(cell) for cell in row] for row in _rows(table)]})


def to_csv(table: Mapping[str, list[Any]]) -> str:
    """Columns as CSV with a header; empty for what is not known, `inf` for a failure."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table)
    writer.writerows([["" if cell is None else cell for cell in row] for row in _rows(table)])
    return out.getvalue()


def to_markdown(table: Mapping[str, list[Any]]) -> str:
    """Columns as a Markdown table."""
    lines = ["| " + " | ".join(table) + " |", "|" + "---|" * len(table)]
    lines += ["| " + " | ".join(_text(cell).replace("|", "\\|") for cell in row) + " |" for row in _rows(table)]
    return "\n".join(lines)


def table(comparison: Comparison) -> Table:
    """The same for a terminal of 100 columns."""
    from rich import box
    from rich.table import Table

    spans = list(comparison.task.spans)[:SHOWN_SPANS]
    made = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    made.add_column("method", no_wrap=True, max_width=18)
    heads = {"test": "test", "interval": "95 %", **{span: span for span in spans}, "validation": "valid.",
             "train": "train", "passes": "passes", "CPU seconds": "CPU s", "runs": "runs"}  # fmt: skip
    for head in heads.values():
        made.add_column(head, no_wrap=True, justify="right")
    wide, early = columns(comparison), early_of(comparison)
    for row in (dict(zip(wide, cells, strict=True)) for cells in _rows(wide)):
        own = row["family"] == "baseline"
        row["interval"] = "" if own else _interval(row["low"], row["high"])
        row["passes"] = "" if own else f"{row['passes']:,.0f}"
        row["CPU seconds"] = "" if own else f"{row['CPU seconds']:.1f}"
        row["runs"] = "" if own else f"{row['runs'] - row['failed']}/{row['runs']}" if row["failed"] else row["runs"]
        style = "dim" if own else "bold" if row["method"] == comparison.verdict.winner else ""
        made.add_row(
            row["method"] + (MARK if early.get(row["method"], (0, 0))[0] else ""),
            *(_text(row[name]) for name in heads),
            style=style,
        )
    if said := early_text(early):
        made.caption, made.caption_justify = f"{MARK.strip()} {said}", "left"
    return made


def early_of(comparison: Comparison) -> dict[str, tuple[int, int]]:
    """How many runs of each method stopped early, and how many it has."""
    return {method: (comparison.early(method), len(comparison.of(method))) for method in comparison.methods}


def _method(comparison: Comparison, method: str) -> dict[str, Any]:
    summed = next(row for row in comparison.verdict.rows if row.method == method)

    def middle(key: str) -> float:
        return iqm(comparison.values(method, key))

    reasons = Counter(str(trial.result["stop_reason"]) for trial in comparison.of(method))
    return {
        "method": method,
        "family": comparison.families[method],
        "test": summed.iqm,
        "low": summed.low,
        "high": summed.high,
        **{span: middle(f"{span}_loss") for span in comparison.task.spans},
        "validation": middle("validation_loss"),
        "train": middle("train_loss"),
        "learned %": middle("learned"),
        "passes": middle("passes"),
        "CPU seconds": middle("seconds"),
        "runs": len(comparison.of(method)),
        "failed": summed.failed,
        "stopped because": "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common()),
    }


def _baseline(comparison: Comparison, name: str) -> dict[str, Any]:
    losses = comparison.baselines[name]
    kept = ("test", *comparison.task.spans, "validation", "train")
    return {"method": NAMES[name], "family": "baseline", **{key: losses.get(key) for key in kept}}


def _interval(low: float, high: float) -> str:
    return f"{number(low)}-{number(high) if math.isfinite(high) else 'inf'}" if math.isfinite(low) else ""


def _rows(table: Mapping[str, list[Any]]) -> list[tuple[Any, ...]]:
    return list(zip(*table.values(), strict=True))


def _plain(cell: Any) -> Any:  # noqa: ANN401 (a cell of a table)
    return None if isinstance(cell, float) and not math.isfinite(cell) else cell


def _text(cell: Any) -> str:  # noqa: ANN401
    if isinstance(cell, float):
        return number(cell) if abs(cell) < 100 or not math.isfinite(cell) else f"{cell:,.0f}"
    return "" if cell is None else str(cell)
