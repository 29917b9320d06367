"""The command line. Heavy imports stay inside the commands, so that `--help` answers at once.

How they end is said in `trainers.commands.exits`.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from trainers.commands import cluster

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

Source = Annotated[
    str, typer.Argument(metavar="CONFIG", help="A named experiment, a YAML file, or a CSV/Parquet file.")
]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="For example model.hidden=8.")]
Target = Annotated[str, typer.Option(help="Column(s) of the data file to predict, separated by commas.")]
Inputs = Annotated[str, typer.Option(help="Column(s) to predict from; by default the targets.")]
Horizon = Annotated[int | None, typer.Option(min=1, help="How many rows ahead.", show_default="1")]
Workers = Annotated[int, typer.Option(min=-1, help="Worker processes; 0 works without Ray.", show_default="auto")]
RayFile = Annotated[str, typer.Option("--ray", metavar="FILE", help="For example ray_configs/laptop.yaml.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the resolved config and stop.")]
Version = Annotated[bool, typer.Option("--version", is_eager=True, help="Print the version and stop.")]
Json = Annotated[bool, typer.Option("--json", help="Print data only, on standard output.")]


@app.callback(invoke_without_command=True)
def common(version: Version = False) -> None:
    """Evolve recurrent neural networks, train them by gradient, and compare the two fairly."""
    if version:
        from importlib.metadata import version as installed

        sys.stdout.write(f"evo-rnn {installed('evo-rnn')}\n")
        raise typer.Exit


@app.command()
def run(
    source: Source,
    overrides: Overrides = None,
    method: Annotated[str, typer.Option(help="See: evo-rnn list methods.")] = "",
    target: Target = "",
    inputs: Inputs = "",
    horizon: Horizon = None,
    workers: Workers = -1,
    ray: RayFile = "",
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Train one network by one method."""
    from trainers.commands import launch
    from trainers.commands.request import Request

    request = Request(source, overrides or (), target, inputs, horizon or 0, method, workers=workers, ray=ray)
    if dry_run:
        launch.dry_run(request, many=False)
    else:
        launch.run(request, as_json=json)


@app.command()
def compare(
    source: Source,
    overrides: Overrides = None,
    methods: Annotated[str, typer.Option(help="Separated by commas. See: evo-rnn list methods.")] = "",
    seeds: Annotated[
        int | None, typer.Option(min=1, help="How many runs each method has.", show_default="config")
    ] = None,
    target: Target = "",
    inputs: Inputs = "",
    horizon: Horizon = None,
    workers: Workers = -1,
    ray: RayFile = "",
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Train the same network by several methods under one budget, and say who won."""
    from trainers.commands import launch
    from trainers.commands.request import Request

    request = Request(
        source,
        overrides or (),
        target,
        inputs,
        horizon or 0,
        methods=methods,
        seeds=seeds or 0,
        workers=workers,
        ray=ray,
    )
    if dry_run:
        launch.dry_run(request, many=True)
    else:
        launch.compare(request, as_json=json)


@app.command()
def resume(
    name: Annotated[str, typer.Argument(metavar="RUN", help="An id, its beginning, a name, or latest.")] = "latest",
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Go on with a run or a comparison that was stopped, as if nothing had happened; or prolong a run."""
    from trainers.commands.resume import resume

    resume(name, overrides or (), as_json=json)


@app.command("list")
def list_(
    kind: Annotated[
        str, typer.Argument(help="models, algorithms, estimators, methods, tasks, losses, experiments, runs")
    ] = "",
    json: Json = False,
) -> None:
    """List what there is."""
    from trainers.commands import browse

    browse.listed(kind, as_json=json)


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="RUN", help="An id, its beginning, a name, or latest.")],
    genome: Annotated[str, typer.Option(help="A directory for the files of an evolved genome, pictures and all.")] = "",
    json: Json = False,
) -> None:
    """Show what came of a run or a comparison."""
    from trainers.commands import browse

    browse.show(name, as_json=json, genome=genome)


@app.command()
def predict(
    name: Annotated[str, typer.Argument(metavar="RUN", help="An id, its beginning, a name, or latest.")],
    data: Annotated[str, typer.Argument(help="A CSV or Parquet file with the champion's input columns.")],
    out: Annotated[str, typer.Option("-o", "--out", help="The CSV file to write; - is standard output.")] = "-",
    json: Json = False,
) -> None:
    """Predict with the champion of a run: a line a row, with the truth where the file has it."""
    from trainers.commands import predict

    predict.predict(name, data, out, as_json=json)


@app.command()
def ui(port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0) -> None:
    """Open MLflow's pages on this machine."""
    from trainers.commands import browse

    browse.ui(port)


@app.command()
def doctor(
    source: Annotated[str, typer.Argument(metavar="CONFIG", help="The job to time, with --benchmark.")] = "",
    overrides: Overrides = None,
    benchmark: Annotated[bool, typer.Option("--benchmark", help="Time a job; say how many workers pay off.")] = False,
    method: Annotated[str, typer.Option(help="The method to time.")] = "",
    json: Json = False,
) -> None:
    """Examine this installation, or time a generation of a job on it."""
    from trainers.commands import capacity
    from trainers.commands import doctor as room
    from trainers.commands.request import Request

    if benchmark:
        capacity.benchmark(Request(source or "sunspots", overrides or (), method=method), as_json=json)
    elif source:
        raise typer.BadParameter("a CONFIG goes with --benchmark")
    else:
        room.examine(as_json=json)


@app.command()
def simulate(
    source: Annotated[str, typer.Argument(metavar="CONFIG", help="The job to time and to look ahead for.")] = "",
    overrides: Overrides = None,
    method: Annotated[str, typer.Option(help="The method to time.")] = "",
    costs: Annotated[str, typer.Option(metavar="FILE", help="From doctor --benchmark --json; nothing is timed.")] = "",
    latency: Annotated[float, typer.Option(help="Milliseconds between two nodes.")] = 0.5,
    bandwidth: Annotated[float, typer.Option(help="Gbit/s out of the driver's node.")] = 10.0,
    node: Annotated[int, typer.Option(help="Workers a node.")] = 16,
    straggler: Annotated[float, typer.Option(help="Relative deviation of a shard's time.")] = 0.05,
    json: Json = False,
) -> None:
    """Predict how long a generation takes on 1 to 10,000 workers."""
    from evo_rnn.evaluation.costs import Wire
    from trainers.commands import capacity
    from trainers.commands.request import Request

    wire = Wire(latency / 1e3, bandwidth * 1e9 / 8, node, straggler)
    capacity.simulate(Request(source or "sunspots", overrides or (), method=method), costs, wire, as_json=json)


cluster.register(app)


def exit_code() -> int:
    """Run the command that was typed, and return its exit code."""
    from trainers.commands.exits import exit_code

    return exit_code(app)


def main() -> None:
    """Run a command; turn every error into one line and its exit code."""
    from trainers.commands.exits import run_to_its_end

    run_to_its_end(app)


if __name__ == "__main__":
    main()
