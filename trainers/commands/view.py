"""Results as a person reads them: of a run in a few lines, of a comparison in a table and a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from trainers.commands.terminal import say
from trainers.experiments.early import MARK, early_text

LEAST = ("train", "runs", "passes", "CPU s", "valid.")  # columns that a narrow terminal does without, in this order


def say_result(screen: Console, result: Mapping[str, Any]) -> None:
    """The result of a run in a few aligned lines."""
    losses = {key.removesuffix("_loss"): value for key, value in result.items() if key.endswith("_loss")}
    parts: dict[str, Any] = {name: losses.pop(name) for name in ("train", "validation", "test") if name in losses}
    spent = f"{result['passes']:,.0f} passes, {result['steps']:,} steps, {result['seconds']:.1f} CPU seconds"
    lines = {
        "stopped": result["stop_reason"],
        "spent": spent,
        "learned": f"{result['learned']:.0f} % of the training targets",
        "loss": _pairs(parts) + (f" ({_pairs(losses)})" if losses else ""),
        "baselines": _pairs(result["baselines"]) + " on the test split",
        "champion": f"sha256 {result['champion_sha256'][:16]}...",
    }
    for name, text in lines.items():
        say(screen, f"{name:<10} {text}")


def say_table(screen: Console, table: Table) -> None:
    """Print a table; where it is too wide, without the columns that matter least."""
    for head in LEAST:
        if Measurement.get(screen, screen.options.update(max_width=1000), table).maximum <= screen.width:
            break
        table.columns[:] = [column for column in table.columns if column.header != head]
    screen.print(table)


def say_summary(screen: Console, summary: Mapping[str, Any]) -> None:
    """What is kept of a comparison: the verdict, and the methods from best to worst, then the baselines."""
    methods, baselines = summary["methods"], summary["baselines"]
    fixed = ("test", "validation", "train")
    spans = [name for name in next(iter(baselines.values()), {}) if name not in fixed]
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("method", no_wrap=True)
    for head in ("test", "95 %", *spans, "valid.", "train", "passes", "CPU s", "runs"):
        table.add_column(head, no_wrap=True, justify="right")
    early = {name: (line.get("early", 0), line["runs"]) for name, line in methods.items()}
    for name, line in sorted(methods.items(), key=lambda item: _infinite(item[1]["test_loss"]["iqm"])):
        test = line["test_loss"]
        losses = [line.get(f"{key}_loss") for key in (*spans, "validation", "train")]
        interval = f"{_loss(test['low'])}-{_loss(test['high'])}"
        spent = (f"{line['passes']:,.0f}", f"{line['seconds']:.1f}", str(line["runs"]))
        mark = MARK if early[name][0] else ""
        table.add_row(escape(name) + mark, _loss(test["iqm"]), interval, *map(_loss, losses), *spent)
    for name, line in sorted(baselines.items()):
        losses = [line.get(key) for key in (*spans, "validation", "train")]
        table.add_row(name.replace("_", " "), _loss(line["test"]), "", *map(_loss, losses), style="dim")
    say_table(screen, table)
    if said := early_text(early):
        say(screen, f"{MARK.strip()} {said}")
    say(screen, summary["verdict"] + "\n")


def _loss(value: float | None) -> str:
    return "inf" if value is None else format(value, "#.3g")


def _infinite(value: float | None) -> float:
    return float("inf") if value is None else value


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {_loss(value)}" for name, value in values.items())
