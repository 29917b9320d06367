"""What MLflow is given when all else is done: the champion as a model that can be served, and the view of the UI."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from evo_rnn.champion import save
from evo_rnn.champion_card import NO_COLUMNS, Columns
from evo_rnn.network import Model
from evo_rnn.shapes import Genes
from evo_rnn.tasks.task import Task
from evo_rnn.tracking import MlflowTracker, write_view
from evo_rnn.tracking.models import log_model, save_model
from trainers.experiments.methods import METHODS
from trainers.experiments.outcome import Comparison, TrialRecord


def publish(
    tracker: MlflowTracker,
    run: str,
    model: Model,
    task: Task,
    genes: Genes,
    columns: Columns = NO_COLUMNS,
    methods: Iterable[str] = (),
) -> None:
    """Give the run its champion as an MLflow model, `runs:/<run>/model`, and save the view that the UI opens on.

    Args:
        tracker: where the run is.
        run: the tracker's id of it.
        model: what the genes are the weights of.
        task: what it learned.
        genes: (1, D).
        columns: of the user's table, where there is one.
        methods: labels that the view folds into one row each.
    """
    with tempfile.TemporaryDirectory() as folder:
        saved = save(Path(folder) / "champion", model, np.array(genes), task, columns=columns)
        made = save_model(Path(folder) / "model", saved)
        tracker.artifact(run, made, "model")
        log_model(tracker, run, made)
    tracker.with_client(lambda client: write_view(client, tracker.experiment_id, folded=tuple({*METHODS, *methods})))


def leader(found: Comparison) -> TrialRecord:
    """The trial with the best champion, by its validation loss."""
    return min(found.trials, key=lambda trial: (trial.result["validation_loss"], trial.seed))
