"""The words of the command line for a cluster: `evo-rnn submit` and `evo-rnn job`; the work is imported when asked for."""

from __future__ import annotations

from typing import Annotated

import typer

Address = Annotated[
    str, typer.Option(metavar="URL", envvar="RAY_API_SERVER_ADDRESS", help="The cluster's dashboard, port 8265.")
]
Job = Annotated[str, typer.Argument(metavar="JOB", help="As evo-rnn submit called it.")]
Json = Annotated[bool, typer.Option("--json", help="Print data only, on standard output.")]
HERE = "http://127.0.0.1:8265"
job = typer.Typer(no_args_is_help=True, help="Look after jobs on a Ray cluster.")


def submit(
    source: Annotated[
        str,
        typer.Argument(metavar="CONFIG", help="As for run: a name, a YAML, CSV or Parquet file. To resume: the run."),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="For example model.hidden=8.")
    ] = None,
    address: Address = HERE,
    command: Annotated[
        str, typer.Option(help="run, compare or resume.", show_default="run; compare with --methods or --seeds")
    ] = "",
    method: Annotated[str, typer.Option(help="For run. See: evo-rnn list methods.")] = "",
    methods: Annotated[str, typer.Option(help="For compare, separated by commas.")] = "",
    seeds: Annotated[int | None, typer.Option(min=1, help="For compare: runs of each method.")] = None,
    target: Annotated[str, typer.Option(help="Column(s) of the data file to predict, separated by commas.")] = "",
    inputs: Annotated[str, typer.Option(help="Column(s) to predict from; by default the targets.")] = "",
    horizon: Annotated[int | None, typer.Option(min=1, help="How many rows ahead.", show_default="1")] = None,
    workers: Annotated[
        int, typer.Option(min=-1, help="Worker processes.", show_default="as many as the cluster has CPUs")
    ] = -1,
    ray: Annotated[str, typer.Option("--ray", metavar="FILE", help="A file with the section compute.")] = "",
    directory: Annotated[
        str, typer.Option(metavar="PATH", help="Where the job works on the head; runs are resumed from there.")
    ] = "~/evo-rnn-jobs",
    detach: Annotated[bool, typer.Option("--detach", help="Leave once the job is sent.")] = False,
    allow_unauthenticated: Annotated[
        bool, typer.Option("--allow-unauthenticated", help="Use a cluster that is open to everybody.")
    ] = False,
    allow_local_tracking: Annotated[
        bool, typer.Option("--allow-local-tracking", help="Let the head keep the runs itself.")
    ] = False,
    json: Json = False,
) -> None:
    """Send an experiment to a Ray cluster, follow it, and exit with its code."""
    from trainers.commands.request import Request
    from trainers.commands.submit import Order
    from trainers.commands.submit import submit as send

    wanted = command or ("compare" if methods or seeds else "run")
    request = Request(
        source, overrides or (), target, inputs, horizon or 0, method, methods, seeds or 0, workers=workers, ray=ray
    )
    order = Order(address, wanted, directory, detach, allow_unauthenticated, allow_local_tracking)
    send(request, order, as_json=json)


@job.command("status")
def status(name: Job, address: Address = HERE, json: Json = False) -> None:
    """Say what became of a job."""
    from trainers.commands import jobs

    jobs.status(name, address, as_json=json)


@job.command("list")
def listed(address: Address = HERE, json: Json = False) -> None:
    """List the jobs of evo-rnn on a cluster."""
    from trainers.commands import jobs

    jobs.listed(address, as_json=json)


@job.command("logs")
def logs(
    name: Job,
    address: Address = HERE,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until the job ends; exit with its code.")] = False,
) -> None:
    """Print what a job has printed."""
    from trainers.commands import jobs

    jobs.logs(name, address, follow=follow)


@job.command("stop")
def stop(name: Job, address: Address = HERE) -> None:
    """End a job; it has time to write down what it has."""
    from trainers.commands import jobs

    jobs.stop(name, address)


def register(app: typer.Typer) -> None:
    """Give the program these commands."""
    app.command()(submit)
    app.add_typer(job, name="job")
