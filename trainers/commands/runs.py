"""The runs in the store here: all, one by what a user calls it, the best of a comparison, and their files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from evo_rnn.errors import ConfigError, RetryError
from evo_rnn.local_file import quoted
from evo_rnn.nearest import did_you_mean

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


def is_comparison(run: Run) -> bool:
    """Whether the run is the parent of others."""
    return bool(run.data.tags.get("evo.kind") == "comparison")


def find(client: MlflowClient, name: str) -> Run:
    """The run with this id, beginning of an id, or name; `latest` is the newest.

    Raises:
        ConfigError: if there is none, or more than one.
    """
    runs = runs_of(client)
    if name == "latest" and runs:
        return next((run for run in runs if not parent_of(run)), runs[0])
    found = [run for run in runs if run.info.run_id.startswith(name)] or [r for r in runs if r.info.run_name == name]
    if len(found) == 1:
        return found[0]
    if found:
        which = ", ".join(run.info.run_id[:8] for run in found[:3]) + (", ..." if len(found) > 3 else "")
        raise ConfigError(f"RUN should name one run but {quoted(name)} fits {len(found)}: {which}. Give one of these.")
    hint = did_you_mean(name, sorted({run.info.run_name for run in runs} | {"latest"})) or " See: evo-rnn list runs."
    raise ConfigError(f"RUN should be the id or the name of a run, or latest, but {quoted(name)} is none.{hint}")


def best_of(client: MlflowClient, comparison: Run) -> Run:
    """The run of a comparison whose champion did best on the validation split.

    Raises:
        ConfigError: if none has finished.
    """
    metric = "final/validation_loss"
    mine = [run for run in runs_of(client) if parent_of(run) == comparison.info.run_id and metric in run.data.metrics]
    if not mine:
        raise ConfigError(
            f"no run of {comparison.info.run_name!r} has finished, so there is no champion. Run it again."
        )
    return min(mine, key=lambda run: (run.data.metrics[metric], run.info.run_name))


def download(client: MlflowClient, run: Run, path: str, folder: str) -> Path:
    """A local copy of an artifact.

    Raises:
        ConfigError: if the run has no such artifact.
    """
    from mlflow.exceptions import MlflowException

    try:
        return Path(client.download_artifacts(run.info.run_id, path, folder))
    except (MlflowException, OSError):
        raise ConfigError(f"run {run.info.run_name!r} should have the artifact {path!r} but has not.") from None


def has_store() -> bool:
    """Whether there may be runs: a database that is not there has none."""
    from evo_rnn.tracking import tracking_uri

    uri = tracking_uri()
    return not uri.startswith("sqlite:///") or Path(uri.removeprefix("sqlite:///")).exists()


def client_here() -> MlflowClient:
    """MLflow's client of the store here; runs whose process is gone are ended first.

    Raises:
        ConfigError: if there is no store, or it cannot be used.
        RetryError: if it does not answer.
    """
    from evo_rnn.tracking import open_client, sweep, tracking_uri
    from evo_rnn.tracking.store import brief, public

    if not has_store():
        raise ConfigError("there are no runs here yet. Make some: evo-rnn compare sunspots.")
    uri = tracking_uri()
    from mlflow.exceptions import MlflowException

    try:
        sweep(uri)
        return open_client(uri)
    except MlflowException as error:
        raise RetryError(f"the store {public(uri)} should answer but does not: {brief(error)}. Try later.") from None


def runs_of(client: MlflowClient) -> list[Run]:
    """All runs of ours, the newest first."""
    ids = [each.experiment_id for each in client.search_experiments()]
    return list(client.search_runs(ids, "tags.`evo.kind` != ''", max_results=5000, order_by=["start_time DESC"]))


def parent_of(run: Run) -> str:
    """The id of the comparison that a run belongs to; empty if none."""
    return str(run.data.tags.get("mlflow.parentRunId", ""))
