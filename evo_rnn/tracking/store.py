"""Opening the MLflow store: which one, quietly, one process at a time, and with errors that say the cure."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from evo_rnn.errors import ConfigError, DiskError

if TYPE_CHECKING:
    from mlflow import MlflowClient

SQLITE = "sqlite:///"
EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",  # else the UI asks what kind of experiment this is
    "mlflow.experiment.primaryMetric.name": "final/test_loss",
    "mlflow.experiment.primaryMetric.greaterIsBetter": "False",
}
ROOM = 32 * 2**20  # bytes that a new database and its first runs need
REFUSED = {"PERMISSION_DENIED", "UNAUTHENTICATED"}


@dataclass(frozen=True)
class Store:
    """A client of a reachable MLflow store, and the id of the experiment in it."""

    client: MlflowClient
    experiment_id: str


def tracking_uri(uri: str = "") -> str:
    """Return the URI of the store: `uri`, else MLFLOW_TRACKING_URI, else `mlflow.db` in the working directory.

    Raises:
        ConfigError: it is a directory of the old file store, which MLflow 3 no longer writes.
    """
    wanted = uri or os.environ.get("MLFLOW_TRACKING_URI", "")
    if not wanted:
        # MLflow itself would silently choose such a directory over the database, and then refuse it.
        if any(Path("mlruns").glob("[0-9]*/meta.yaml")):
            raise ConfigError(
                "the tracking store should be a database, but ./mlruns here is an old MLflow file store. Convert it "
                "with `mlflow migrate-filestore`, or set MLFLOW_TRACKING_URI=sqlite:///mlflow.db to leave it alone."
            )
        wanted = SQLITE + "mlflow.db"
    if wanted.startswith(SQLITE):
        return SQLITE + str(Path(wanted.removeprefix(SQLITE)).absolute())
    if urlsplit(wanted).scheme in ("", "file"):
        raise ConfigError(
            f"the tracking URI should be sqlite:///FILE or http://HOST:PORT but is {wanted!r}, MLflow's old file "
            "store. Give the path of a database, for example sqlite:///mlflow.db."
        )
    return wanted


def is_remote(uri: str) -> bool:
    """Whether the store is an MLflow server."""
    return urlsplit(uri).scheme in ("http", "https")


def public(uri: str) -> str:
    """Return the URI without a user's name and password, for messages."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else uri


def private(uri: str) -> str:
    """Return MLFLOW_TRACKING_URI, with its user's name and password, where `uri` is the public form of it; or `uri`."""
    known = os.environ.get("MLFLOW_TRACKING_URI", "")
    return known if public(known) == uri else uri


def brief(error: BaseException) -> str:
    """Return the first line of an error, not too long and without a user's name and password, for messages."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    line = re.sub(r"//[^/@\s]*@", "//", line)
    return line if len(line) < 160 else line[:157] + "..."


def quieten() -> None:
    """Set MLflow's defaults for a program of ours: no telemetry, no chatter, short requests.

    A user's own environment variables win. A server that is away must not hold a request for minutes (MLflow's default:
    7 retries, 246 s); the outbox does the retrying.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")


def open_client(uri: str) -> MlflowClient:
    """Return a client of the store at `uri`; a new SQLite file is made by one process at a time.

    Raises:
        ConfigError: the file cannot be used: no such directory, not a database, or another MLflow's schema.
    """
    quieten()
    path = Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else Path()
    if path.name:
        _check_file(path)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it prints what it also raises
    for name in ("mlflow", "alembic"):  # now, because the import itself sets levels
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger(name).level))
    with _one_at_a_time(path.parent) if path.name else contextlib.nullcontext():
        if path.name and not path.exists():
            _make(path)
        try:
            client = MlflowClient(tracking_uri=uri)
            if not is_remote(uri):
                client.search_experiments(max_results=1)  # the store is opened, and made, by its first use
        except MlflowException as error:
            if "out-of-date database schema" not in str(error):
                raise
            raise ConfigError(
                f"the tracking store should have the schema of this MLflow, but {public(uri)} has another one. Back it "
                f"up, then run `mlflow db upgrade {public(uri)}`."
            ) from error
    return client


def open_store(uri: str, experiment: str, tags: Mapping[str, str] = EXPERIMENT_TAGS) -> Store:
    """Open the store and find or make the experiment, with its tags.

    Raises:
        ConfigError: as `open_client`; or the experiment was deleted, or the server refuses this user.
        DiskError: there is no room for it.
        Exception: whatever the client raises while the store cannot be reached.
    """
    from mlflow.exceptions import MlflowException

    client = open_client(uri)
    try:
        found = client.get_experiment_by_name(experiment)
        if found is None:
            try:
                return Store(client, str(client.create_experiment(experiment, tags=dict(tags))))
            except MlflowException as error:  # another process may have made it in between
                if "disk" in str(error):  # SQLite's words: disk I/O error; database or disk is full
                    raise DiskError(f"{public(uri)}: {brief(error)}. Make room and try again.") from error
            found = client.get_experiment_by_name(experiment)
        if found is None:
            raise ConfigError(f"the experiment {experiment!r} can be neither found nor made in {public(uri)}.")
    except MlflowException as error:
        if getattr(error, "error_code", "") not in REFUSED:
            raise
        raise ConfigError(
            f"the tracking server {public(uri)} refuses this user: set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN."
        ) from error
    if found.lifecycle_stage != "active":
        raise ConfigError(
            f"the experiment {experiment!r} should be active but was deleted. Restore it with `mlflow experiments "
            f"restore --experiment-id {found.experiment_id}`, or choose another name."
        )
    for key, value in tags.items():
        if found.tags.get(key) != value:
            client.set_experiment_tag(found.experiment_id, key, value)
    return Store(client, str(found.experiment_id))


def _check_file(path: Path) -> None:
    """Raise before SQLAlchemy tries for minutes to open what cannot be opened."""
    cure = "Set MLFLOW_TRACKING_URI=sqlite:///FILE to a file in a directory of yours."
    if not path.parent.is_dir():
        raise ConfigError(f"the tracking store should lie in a directory, but there is no {path.parent}. {cure}")
    if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise ConfigError(f"the tracking store {path} should be writable but is not. {cure}")
    if path.is_dir():
        raise ConfigError(f"the tracking store should be a file, but {path} is a directory. {cure}")
    if path.exists():
        with path.open("rb") as file:
            start = file.read(16)
        if start and start != b"SQLite format 3\0":
            raise ConfigError(f"the tracking store should be an SQLite database, but {path} is another file. {cure}")
    elif shutil.disk_usage(path.parent).free < ROOM:
        raise DiskError(f"the tracking store {path} needs {ROOM >> 20} MiB of free space. Make room and try again.")


def _make(path: Path) -> None:
    """Make the database whole or not at all: a half-made schema could be neither used nor mended."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        MlflowClient(tracking_uri=f"{SQLITE}{new}").search_experiments(max_results=1)
        new.replace(path)
    except (MlflowException, OSError) as error:
        raise DiskError(
            f"the tracking store {path} could not be made: {brief(error)}. Make room and try again."
        ) from error
    finally:
        for left in path.parent.glob(f"{new.name}*"):
            left.unlink(missing_ok=True)


@contextlib.contextmanager
def _one_at_a_time(directory: Path) -> Iterator[None]:
    """Hold the lock of a directory: three processes that make one SQLite file at once all fail (MLflow 3.17).

    The directory itself is locked, so no lock file is left beside the database. A file system without locks does
    without.
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
