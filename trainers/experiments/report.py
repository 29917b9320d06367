"""The report of a comparison: what was found, in words first, then in numbers and pictures.

`write_report` makes all files; `table` is for the terminal, `full_verdict` for every place with room for one
paragraph.
"""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from evo_rnn import atomic
from evo_rnn.errors import DiskError
from evo_rnn.local_file import shown
from evo_rnn.verdict import Pair
from trainers.experiments import tables
from trainers.experiments.early import early_text
from trainers.experiments.figures import comparison_figure
from trainers.experiments.outcome import Comparison
from trainers.experiments.predictions import can_draw, predictions_figure
from trainers.experiments.tables import TABLE_TAGS, columns, table
from trainers.experiments.wording import budget_text, full_verdict, model_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["TABLE_TAGS", "columns", "full_verdict", "markdown", "note", "table", "write_report"]

PACKAGES = ("evo-rnn", "torch", "numpy", "deap", "ray", "mlflow")
BRIEF = ("method", "test", "low", "high", "validation", "passes", "CPU seconds")


def write_report(comparison: Comparison, directory: str | os.PathLike[str], target: str = "") -> list[Path]:
    """Write comparison.png, comparison.json, comparison.csv, report.md, and predictions.png where there is one to draw.

    Args:
        comparison: what came of it.
        directory: where; made if absent.
        target: the column that is predicted, for the units of predictions.png.

    Returns:
        The files, in the order above.

    Raises:
        DiskError: if the disk refuses.
    """
    directory = Path(directory)
    numbers = columns(comparison)
    bodies = {
        "comparison.png": _png(comparison_figure(comparison, full_verdict(comparison))),
        tables.FILE: tables.to_json(numbers).encode(),
        "comparison.csv": tables.to_csv(numbers).encode(),
        "report.md": markdown(comparison).encode(),
    }
    if can_draw(comparison):
        bodies["predictions.png"] = _png(predictions_figure(comparison, target))
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, body in bodies.items():
            atomic.replace(directory / name, [body])
    except OSError as error:
        raise DiskError(f"cannot write the report to {shown(directory)}: {error.strerror or error}") from error
    return [directory / name for name in bodies]


def markdown(comparison: Comparison) -> str:
    """report.md."""
    pictures = ["![Learning curves and test losses](comparison.png)"]
    if can_draw(comparison):
        pictures.append("![Predictions on the test split](predictions.png)")
    sections = {
        f"# {comparison.name}": f"**{comparison.verdict.sentence}**\n\n{_rest(comparison)}",
        "## Numbers": tables.to_markdown(columns(comparison)) + "\n\n" + _reading(comparison),
        "## Pictures": "\n\n".join(pictures),
        f"## {comparison.verdict.best} against each other method": _pairs(comparison),
        "## How it was measured": _measured(comparison),
        "## Data": comparison.task.notes or "No notes.",
        "## Versions": ", ".join(f"{name} {number}" for name, number in _versions().items()) + ".",
    }
    return "\n\n".join(f"{head}\n\n{body}" for head, body in sections.items() if body) + "\n"


def note(comparison: Comparison) -> str:
    """The verdict and a small table in Markdown: what the description of the run in MLflow holds."""
    numbers = columns(comparison)
    small = tables.to_markdown({name: numbers[name] for name in BRIEF})
    return f"**{comparison.verdict.sentence}**\n\n{_rest(comparison)}\n\n{small}\n"


def _rest(comparison: Comparison) -> str:
    return full_verdict(comparison).removeprefix(comparison.verdict.sentence).strip()


def _reading(comparison: Comparison) -> str:
    spans = ", ".join(comparison.task.spans)
    return (
        f"Losses are {comparison.task.loss}, lower is better. test, validation, train"
        + (f", {spans}" if spans else "")
        + ", learned %, passes and CPU seconds are interquartile means over the seeds; low and high bound the "
        "test loss (95 % bootstrap interval). learned % is the share of the counted training steps that the "
        "champion gets right within the tolerance. A loss is *failed* where the middle runs gave no finite number."
    )


def _pairs(comparison: Comparison) -> str:
    """The best method against each other one."""
    pairs = comparison.verdict.pairs
    if not pairs:
        return ""
    lines = ["| other | difference | 95 % interval | probability of improvement | effect size dz | p (Holm) | beaten |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    return "\n".join([*lines, *map(_pair, pairs)]) + (
        "\n\nThe difference is that of the test losses over paired seeds, negative where "
        f"{comparison.verdict.best} is lower. The probability is that a run of {comparison.verdict.best} has the lower "
        "loss. *beaten* asks for all three: both intervals clear, and p small enough."
    )


def _pair(pair: Pair) -> str:
    chance = pair.probability
    cells = [
        pair.other.replace("|", "\\|"),
        f"{pair.difference:+.3g}",
        f"{pair.low:+.3g} to {pair.high:+.3g}",
        f"{chance.value:.2f} ({chance.low:.2f} to {chance.high:.2f})",
        f"{pair.effect:.2f}",
        f"{pair.p:.2g}",
        "yes" if pair.beaten else "no",
    ]
    return "| " + " | ".join(cells) + " |"


def _measured(comparison: Comparison) -> str:
    seeds = ", ".join(map(str, comparison.seeds[:10])) + (" ..." if len(comparison.seeds) > 10 else "")
    lines = [
        f"All methods trained the same network ({model_text(comparison.model)}) on the same data.",
        f"Budget: {budget_text(comparison)}. One pass is one network over all counted training steps once; a gradient "
        "costs what it costs. Seconds are CPU seconds, of all processes that worked for the run.",
        early_text(tables.early_of(comparison)),
        "Of all networks that a run offered, its champion is the one with the lowest loss on the validation split. "
        "The test split was looked at once for each champion, when its run was over.",
        f"Seeds are paired: {seeds}. Seed i is the same for every method.",
        "Intervals are percentile bootstrap intervals (2,000 resamples) of the interquartile mean; with few seeds they "
        "are too narrow. A run without a finite loss counts as the worst.",
        "A method wins only if it beats every other one: see `evo_rnn/verdict.py`.",
    ]
    return "\n".join(f"* {line}" for line in lines if line)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _png(figure: Figure) -> bytes:
    from io import BytesIO

    from matplotlib.backends.backend_agg import FigureCanvasAgg

    out = BytesIO()
    FigureCanvasAgg(figure).print_png(out)
    return out.getvalue()
