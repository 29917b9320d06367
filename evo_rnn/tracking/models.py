"""A champion in MLflow's form: a directory that `mlflow models predict` understands, and its place in the UI."""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from evo_rnn import champion
from evo_rnn.tracking.mlflow_store import MlflowTracker
from evo_rnn.tracking.store import quieten

if TYPE_CHECKING:
    from mlflow import MlflowClient

REQUIREMENTS = ("evo-rnn", "mlflow", "numpy", "safetensors", "torch")
SERVING = Path(champion.__file__).with_name("serving.py")
REFUSED = re.compile(r"[\s/:.%'\"-]+")
LONGEST = 250  # characters of a parameter of a model
STEPS = 3  # of the input example


def save_model(path: str | os.PathLike[str], saved: str | os.PathLike[str]) -> Path:
    """Make an MLflow model, a new directory `path`, of the champion in the directory `saved`, and return `path`.

    The model is a pyfunc from code (`evo_rnn/serving.py`) with a signature: float32 (-1, -1, I) to (-1, -1, O). It
    holds no pickle.

    Raises:
        ConfigError: or `DataError`, as `evo_rnn.champion.load`.
    """
    card = champion.load(saved).card
    quieten()
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as directory:
        warnings.simplefilter("ignore")  # of MLflow about its own type hints, at its import
        _save(Path(path), Path(shutil.copytree(saved, Path(directory) / champion.WITHIN.name)), card)
    return Path(path)


def _save(path: Path, saved: Path, card: champion.Card) -> None:
    import mlflow.pyfunc
    import numpy as np
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # now, because the import itself sets levels
    kind = np.dtype(np.float32)
    read, written = (Schema([TensorSpec(kind, (-1, -1, size))]) for size in (card.inputs, card.outputs))
    mlflow.pyfunc.save_model(
        path,
        python_model=str(SERVING),
        artifacts={"champion": str(saved)},
        signature=ModelSignature(read, written),
        input_example=np.zeros((1, STEPS, card.inputs), np.float32),
        pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in REQUIREMENTS],
        metadata={"task": card.task, "sha256_genes": card.sha256},
    )
    about = Model.load(str(path))
    flavor = about.flavors["python_function"]
    flavor["model_code_path"] = SERVING.name  # MLflow wrote this machine's paths, and reads the last part only
    flavor["artifacts"]["champion"]["uri"] = flavor["artifacts"]["champion"]["path"]
    about.save(str(path / "MLmodel"))


def log_model(tracker: MlflowTracker, run: str, model: str | os.PathLike[str], name: str = "") -> str:
    """Show a model that `save_model` made in the UI's Models tab, and return its URI, `models:/m-...`.

    It is called `name`, by default as the run is; characters that MLflow refuses become `-`.

    It needs the server at once, so call it when all else is done. Where the server is away the answer is empty; the
    copy that `tracker.artifact(run, model, "champion")` sends later serves as `runs:/<run id>/champion` all the same.
    """
    made: list[str] = []
    tracker.with_client(lambda client: made.append(_log(client, tracker.mlflow_run_id(run), Path(model), name)))
    return made[0] if made else ""


def _log(client: MlflowClient, run_id: str, model: Path, name: str) -> str:
    """Make the LoggedModel with explicit ids: `mlflow.pyfunc.log_model` would use the process's active run and URI."""
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    run = client.get_run(run_id)
    name = REFUSED.sub("-", name or run.info.run_name or "champion").strip("-")
    params = {key: value[:LONGEST] for key, value in run.data.params.items()}
    entry = client.create_logged_model(run.info.experiment_id, name, run_id, params=params, model_type="rnn")
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(shutil.copytree(model, Path(directory) / "model"))
        about = Model.load(str(copy))
        about.run_id, about.model_id, about.artifact_path = run_id, entry.model_id, entry.artifact_location
        about.model_uuid = entry.model_id
        about.save(str(copy / "MLmodel"))
        client.log_model_artifacts(entry.model_id, str(copy))
    client.finalize_logged_model(entry.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(entry.model_id, step=0)])
    return f"models:/{entry.model_id}"
