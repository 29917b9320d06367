"""A champion on the disk: its weights and everything that is needed to use it again, and nothing that can run code.

A directory with two files. `champion.safetensors` holds the chromosome and the same weights by the name of their leaf,
for any reader of that format. `champion.json` says which network they are of and what the network's numbers mean:
columns, scaling, horizon, loss. Each gene's name follows from the description (`Champion.named`).

    save("best", model, genes, task, columns=columns_of("sunspots", {}))
    champion = load("best")
    champion.predict(inputs)                        # (B, T, I) -> (B, T, O), as the evaluators do
    predict_table(champion, "data.csv")             # {"sunspots_in_1": (T,)}
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evo_rnn import atomic, champion_card, checkpoint
from evo_rnn.champion_card import NO_COLUMNS, NOTHING, Card, Columns, gene_digest
from evo_rnn.description import build, describe
from evo_rnn.errors import ConfigError, DataError, DiskError
from evo_rnn.evaluation.evaluator import LocalEvaluator
from evo_rnn.layout import Link
from evo_rnn.local_file import shown
from evo_rnn.network import Model, Network
from evo_rnn.shapes import Array, Genes, check_shape
from evo_rnn.tasks.file import inputs_from_file, unscale
from evo_rnn.tasks.task import Sequences, Task
from evo_rnn.threads import one_thread

__all__ = ["Card", "Champion", "Columns", "columns_of", "load", "predict_table", "save"]

WEIGHTS, CARD = "champion.safetensors", "champion.json"
WITHIN = Path("artifacts", "champion")  # the place of both files in an MLflow model
GENES = "genes"  # the chromosome's name among the leaves, which all have a dot in theirs


@dataclass(frozen=True, eq=False)
class Champion:
    """A network with its weights.

    Args:
        model: what the chromosome is the weights of.
        genes: (1, D) float32.
        card: what its numbers mean.
    """

    model: Model
    genes: Genes
    card: Card = field(default_factory=Card)

    def predict(self, inputs: Array) -> Array:
        """Outputs (B, T, O) float32 on inputs (B, T, I), of any length, in the scaled units of the task.

        The same engine, block and slot as in training: on the task's own inputs these are the outputs whose loss was
        reported, bit for bit.

        Raises:
            ValueError: if the inputs have another shape, or there are none.
        """
        wanted = self.card.inputs
        check_shape(inputs, "inputs", ("B", "T", wanted), "The last axis holds the network's inputs.")
        if not inputs.size:
            raise ValueError(f"inputs should have a sequence and a step at least but have shape {inputs.shape}.")
        shape = inputs.shape[:2]
        asked = np.zeros((*shape, 1))  # nothing is compared with it
        data = Sequences(np.asarray(inputs, dtype=np.float64), asked, np.ones(shape, dtype=bool))
        with one_thread():
            outputs: Array = LocalEvaluator(self.model, data).predict(self.genes)[0]
        return outputs

    def named(self) -> list[tuple[Link, float]]:
        """Every gene, in order: the link it is the weight of, and the weight."""
        return list(zip(self.model.layout.links(), self.genes[0].tolist(), strict=True))


def save(
    directory: str | os.PathLike[str],
    model: Model,
    genes: Genes,
    task: Task,
    *,
    columns: Columns = NO_COLUMNS,
    extra: Mapping[str, Any] = NOTHING,
) -> Path:
    """Write a champion; each file is whole or not there. The directory, which it returns, is made if absent.

    Args:
        directory: where; a champion that is there is replaced.
        model: what the chromosome is the weights of.
        genes: (1, D).
        task: what it learned; its name, scaling and loss are kept, its data are not.
        columns: the columns of a table that it reads and predicts, and how far ahead: see `columns_of`.
        extra: anything else that JSON can hold: method, seed, losses.

    Raises:
        DiskError: if the disk refuses.
        ValueError: if the chromosome is of another network.
    """
    check_shape(genes, GENES, (1, model.layout.size), "A champion is one chromosome of this network.")
    genes = np.ascontiguousarray(genes, dtype=np.float32)
    card = _describe(model, genes, task, columns, extra)
    directory = Path(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        checkpoint.save(
            directory / WEIGHTS,
            {GENES: genes, **_leaves(model, genes)},
            {"kind": "champion", "sha256_genes": card.sha256},
        )
        atomic.replace(directory / CARD, [(json.dumps(champion_card.to_json(card), indent=2) + "\n").encode()])
    except DiskError:
        raise
    except OSError as error:
        raise DiskError(f"cannot write a champion to {shown(directory)}: {error.strerror or error}") from error
    return directory


def load(directory: str | os.PathLike[str]) -> Champion:
    """Read a champion and check that all of it fits together.

    Args:
        directory: where `save` wrote it, or an MLflow model that holds it (`evo_rnn.tracking.models`).

    Raises:
        ConfigError: if a newer version of the project wrote it, or it names a network that is not known.
        DataError: if a file is missing, is not a champion's, or is not what was written.
    """
    directory = Path(directory)
    if (directory / "MLmodel").is_file():
        directory = directory / WITHIN
    card = champion_card.read(directory / CARD)
    arrays, _ = checkpoint.load(directory / WEIGHTS, max_bytes=champion_card.MAX_WEIGHTS)
    here = shown(directory)
    try:
        model = build(card.model)
        fits = model.layout.size == card.genes and _ends(model) == (card.inputs, card.outputs)
    except ConfigError as error:
        raise ConfigError(f"{here}: {error}") from None
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        raise DataError(f"{here}: its description is not one of a network: {error}; save the champion again") from None
    genes = arrays.pop(GENES, np.empty(0, np.float32))
    if not fits or genes.shape != (1, card.genes) or genes.dtype != np.float32 or gene_digest(genes) != card.sha256:
        raise DataError(f"{here}: {CARD} and {WEIGHTS} do not belong together; copy both from one run")
    leaves = _leaves(model, genes)
    if leaves.keys() != arrays.keys() or any(leaves[name].tobytes() != arrays[name].tobytes() for name in leaves):
        raise DataError(f"{here}: the leaves in {WEIGHTS} are not its chromosome's; save the champion again")
    return Champion(model, genes, card)


def columns_of(task: str, settings: Mapping[str, Any]) -> Columns:
    """The columns that a task reads and predicts, from its name and its settings; none where it is no table.

    Args:
        task: a name in `evo_rnn.tasks.TASKS`.
        settings: what the task was made with, as `from_file` takes them.
    """
    if task == "sunspots":
        return Columns(("sunspots",), ("sunspots",))
    if task != "file":
        return NO_COLUMNS
    targets = _names(settings["target"])
    inputs = _names(settings.get("inputs", ())) or targets
    return Columns(inputs, targets, int(settings.get("horizon", 1)), str(settings.get("missing", "error")))


def predict_table(champion: Champion, path: str | os.PathLike[str]) -> dict[str, Array]:
    """What the champion says at every row of a CSV or Parquet file, in the units of the data.

    Returns:
        One column (T,) a target, called `<target>_in_<horizon>`: entry t is made from rows 0 ... t and foretells the
        target of row t + horizon. The first few are made with little to go by.

    Raises:
        ConfigError: if the champion was not trained on a table.
        DataError: if the file cannot be used.
    """
    card, columns = champion.card, champion.card.columns
    if not columns.inputs:
        raise ConfigError(
            f"predict should have a champion that was trained on a table but this one learned {card.task!r}, which has "
            "no columns. Use Champion.predict on an array."
        )
    inputs = inputs_from_file(path, columns.inputs, card.scaling, columns.missing)
    outputs = unscale(champion.predict(inputs)[0].astype(np.float64), card.scaling, columns.targets)
    return {f"{name}_in_{columns.horizon}": outputs[:, i] for i, name in enumerate(columns.targets)}


def _describe(model: Model, genes: Genes, task: Task, columns: Columns, extra: Mapping[str, Any]) -> Card:
    return Card(
        task=task.name,
        model=describe(model),
        inputs=task.inputs,
        outputs=task.outputs,
        columns=columns,
        scaling={name: dict(values) for name, values in task.scaling.items()},
        loss=task.loss,
        genes=model.layout.size,
        sha256=gene_digest(genes),
        extra=dict(extra),
    )


def _names(columns: str | Sequence[str]) -> tuple[str, ...]:
    return (columns,) if isinstance(columns, str) and columns else tuple(dict.fromkeys(columns))


def _ends(model: Network) -> tuple[int, int]:
    """I and O."""
    return model.cell.inputs, model.readout.outputs


def _leaves(model: Model, genes: Genes) -> dict[str, Array]:
    """The weights (*shape) of a chromosome (1, D), by the name of their leaf."""
    weights = model.layout.unpack(torch.from_numpy(genes))
    return {name: np.ascontiguousarray(value[0].numpy()) for name, value in weights.items()}
