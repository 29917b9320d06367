"""Fixtures that several test files share."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID"):
    os.environ.pop(name, None)  # a developer's own settings must not reach the tests, nor the tests that server
if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # a shell starts a job in the background so, and children inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database with its tables: making one takes 2 s, copying it 0.03 s."""
    from evo_rnn.tracking import open_client

    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    open_client(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="module")
def ray_session() -> Iterator[None]:
    """One private Ray session for the module, which every pool of this process joins: starting one takes 8 s."""
    from evo_rnn.evaluation.ray_session import join_ray

    leave = join_ray("local", cpus=8, gpus=False, object_store_memory=100 * 2**20)
    yield
    leave()


@pytest.fixture
def new_store(migrated_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """Make a fresh store in a directory of its own, which becomes the working directory, and return its URI."""
    monkeypatch.chdir(tmp_path)
    for key in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.delenv(key, raising=False)

    def make(name: str = "mlflow.db") -> str:
        shutil.copyfile(migrated_database, tmp_path / name)
        return f"sqlite:///{tmp_path / name}"

    return make
