"""The command line. Heavy imports stay inside the commands, so that `--help` answers at once.

Exit codes: 0 done, 2 a config or an option is wrong, 65 data is wrong, 70 a bug, 74 the disk refused, 75 try again,
130 interrupted, 143 terminated.
"""

from __future__ import annotations

import sys
import traceback
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    help="Evolve recurrent neural networks, train them by gradient, and compare the two fairly.",
    pretty_exceptions_enable=False,
)

Source = Annotated[
    str, typer.Argument(metavar="CONFIG", help="A named experiment, a YAML file, or a CSV/Parquet file.")
]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="For example model.hidden=8.")]
Target = Annotated[str, typer.Option(help="Column(s) of the data file to predict, separated by commas.")]
Inputs = Annotated[str, typer.Option(help="Column(s) to predict from; by default the targets.")]
Horizon = Annotated[int, typer.Option(min=0, help="How many rows ahead.", show_default="1")]
Workers = Annotated[int, typer.Option(min=-1, help="Worker processes; 0 works without Ray.", show_default="auto")]
RayFile = Annotated[str, typer.Option("--ray", metavar="FILE", help="For example ray_configs/laptop.yaml.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the resolved config and stop.")]
Json = Annotated[bool, typer.Option("--json", help="Print data only, on standard output.")]


@app.command()
def run(
    source: Source,
    overrides: Overrides = None,
    method: Annotated[str, typer.Option(help="See: evo-rnn list methods.")] = "",
    target: Target = "",
    inputs: Inputs = "",
    horizon: Horizon = 0,
    workers: Workers = -1,
    ray: RayFile = "",
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Train one network by one method."""
    from trainers.commands import launch
    from trainers.commands.request import Request

    request = Request(source, overrides or (), target, inputs, horizon, method, workers=workers, ray=ray)
    if dry_run:
        launch.dry_run(request.config())
    else:
        launch.run(request, as_json=json)


@app.command()
def compare(
    source: Source,
    overrides: Overrides = None,
    methods: Annotated[str, typer.Option(help="Separated by commas. See: evo-rnn list methods.")] = "",
    seeds: Annotated[int, typer.Option(min=0, help="How many runs each method has.", show_default="config")] = 0,
    target: Target = "",
    inputs: Inputs = "",
    horizon: Horizon = 0,
    workers: Workers = -1,
    ray: RayFile = "",
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Train the same network by several methods under one budget, and say who won."""
    from trainers.commands import launch
    from trainers.commands.request import Request

    request = Request(
        source, overrides or (), target, inputs, horizon, methods=methods, seeds=seeds, workers=workers, ray=ray
    )
    if dry_run:
        launch.dry_run(request.config())
    else:
        launch.compare(request, as_json=json)


@app.command("list")
def list_(
    kind: Annotated[
        str, typer.Argument(help="models, algorithms, estimators, methods, tasks, losses, experiments, runs")
    ],
    json: Json = False,
) -> None:
    """List what there is."""
    from trainers.commands import browse

    browse.listed(kind, as_json=json)


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="RUN", help="An id, its beginning, a name, or latest.")],
    json: Json = False,
) -> None:
    """Show what came of a run or a comparison."""
    from trainers.commands import browse

    browse.show(name, as_json=json)


@app.command()
def predict(
    name: Annotated[str, typer.Argument(metavar="RUN", help="An id, its beginning, a name, or latest.")],
    data: Annotated[str, typer.Argument(help="A CSV or Parquet file with the champion's input columns.")],
    out: Annotated[str, typer.Option("-o", "--out", help="The CSV file to write; - is standard output.")] = "-",
) -> None:
    """Predict with the champion of a run."""
    from trainers.commands import foretell

    foretell.predict(name, data, out)


@app.command()
def ui(port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0) -> None:
    """Open MLflow's pages on this machine."""
    from trainers.commands import browse

    browse.ui(port)


@app.command()
def doctor(json: Json = False) -> None:
    """Examine this installation."""
    from trainers.commands import doctor as room

    room.examine(as_json=json)


def main() -> None:
    """Run a command; turn every error into one line and its exit code."""
    sys.exit(_exit_code())


def _exit_code() -> int:
    from evo_rnn.errors import ConfigError, DataError, DiskError, RetryError

    try:
        app(standalone_mode=False)
    except (ConfigError, DataError, DiskError, RetryError) as error:
        return _say(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _say("interrupted; what was done is in the tracker", 130)
    except SystemExit as stop:
        return int(stop.code or 0)
    except Exception as error:
        return _unexpected(error)
    return 0


def _unexpected(error: Exception) -> int:
    import errno

    code = getattr(error, "exit_code", 0)  # click's own usage errors
    if hasattr(error, "format_message"):
        return _say(error.format_message(), code or 2)
    if type(error).__name__ == "Abort":
        return _say("interrupted", 130)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG):
        return _say(f"{error.filename or 'the disk'}: {error.strerror}. Make room and try again.", 74)
    if isinstance(error, BrokenPipeError):
        return 0
    traceback.print_exc()
    return _say(f"this is a bug: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}", 70)


def _say(message: str, code: int) -> int:
    sys.stderr.write(f"evo-rnn: {message}\n")
    return code


if __name__ == "__main__":
    main()
