"""A champion as an MLflow model. MLflow copies this file beside the weights and runs the copy; nothing is unpickled.

It is code, so it is short: everything else is in `evo_rnn.champion`, which the environment must have installed.
"""

from __future__ import annotations

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

from evo_rnn.champion import Champion, load


class ServedChampion(PythonModel):  # type: ignore[misc]  # MLflow asks for this base class
    """Inputs (B, T, I) float32 in, outputs (B, T, O) float32 out, in the scaled units of the task."""

    champion: Champion

    def load_context(self, context: PythonModelContext) -> None:
        """Read the champion that the model was saved with."""
        self.champion = load(context.artifacts["champion"])

    def predict(self, model_input: np.ndarray) -> np.ndarray:  # MLflow knows the bare name only
        """The outputs for each sequence, all of one length; any length will do."""
        return self.champion.predict(model_input)


set_model(ServedChampion())
