"""What a champion's numbers mean, as `champion.json` holds it; read with suspicion: anyone may have written it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from evo_rnn.errors import ConfigError, DataError
from evo_rnn.fitness import LOSSES
from evo_rnn.local_file import open_local, quoted, shown
from evo_rnn.shapes import Genes
from evo_rnn.tasks.file import Scaling
from evo_rnn.tasks.table import MISSING_INPUTS

SCHEMA = 1
MAX_CARD = 1 << 20  # bytes
MAX_WEIGHTS = 2 << 30  # bytes
LARGEST = 1 << 16  # the most units that a description may ask for
DEEPEST = 32  # of a description
NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Columns:
    """What a network reads from a table and what it foretells.

    Args:
        inputs: the columns it reads, in its order.
        targets: the columns it predicts, in the order of its outputs.
        horizon: how many rows ahead.
        missing: what an empty cell means: a choice of `read_table`.
    """

    inputs: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    horizon: int = 1
    missing: str = "error"


NO_COLUMNS = Columns()


@dataclass(frozen=True)
class Card:
    """Everything about a champion but its weights.

    Args:
        task: what it learned.
        model: `describe(model)`.
        inputs: I.
        outputs: O.
        columns: where inputs and outputs are found in a table.
        scaling: by column, `shift` and `scale`.
        loss: a name in `LOSSES`.
        genes: D.
        sha256: of the chromosome, see `gene_digest`.
        extra: anything else.
    """

    task: str = ""
    model: Any = field(default_factory=dict)
    inputs: int = 1
    outputs: int = 1
    columns: Columns = NO_COLUMNS
    scaling: Scaling = field(default_factory=dict)
    loss: str = "mse"
    genes: int = 0
    sha256: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


def gene_digest(genes: Genes) -> str:
    """SHA-256 over the bytes of a chromosome (1, D), float32, least significant byte first."""
    return hashlib.sha256(np.ascontiguousarray(genes, dtype="<f4").tobytes()).hexdigest()


def to_json(card: Card) -> dict[str, Any]:
    """The card as JSON has it."""
    return {"schema": SCHEMA, **asdict(card)}


def read(path: Path) -> Card:
    """The card in a file.

    Raises:
        ConfigError: if a newer version of the project wrote it.
        DataError: if it is missing, or is not a card.
    """
    with open_local(path, DataError, "champion's card") as file:
        body = file.read(MAX_CARD + 1)
    try:
        return _parsed(path, body)
    except ConfigError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error).partition("\n")[0][:160]
        raise DataError(f"{shown(path)}: it is not a champion's card ({reason}); copy it from the run again") from None


def _parsed(path: Path, body: bytes) -> Card:
    if len(body) > MAX_CARD:
        raise ValueError(f"it is longer than {MAX_CARD} bytes")
    raw = json.loads(body)
    schema = raw.pop("schema")
    if type(schema) is int and schema > SCHEMA:
        raise ConfigError(f"{shown(path)}: it has schema {schema}, this version reads {SCHEMA}. Update evo-rnn.")
    _want(schema == SCHEMA, "schema", schema)
    columns = raw.pop("columns")
    inputs, targets = (tuple(map(_text, columns.pop(key))) for key in ("inputs", "targets"))
    return _checked(Card(**raw, columns=Columns(inputs, targets, **columns)))


def _checked(card: Card) -> Card:
    columns = card.columns
    _text(card.task)
    _bounded(card.model)
    for name, value in (("inputs", card.inputs), ("outputs", card.outputs), ("horizon", columns.horizon)):
        _want(type(value) is int and 1 <= value <= LARGEST, name, value)
    _want(type(card.genes) is int and card.genes >= 0, "genes", card.genes)
    _want(card.loss in LOSSES, "loss", card.loss)
    _want(columns.missing in MISSING_INPUTS, "missing", columns.missing)
    _want(isinstance(card.extra, dict), "extra", card.extra)
    _want(isinstance(card.scaling, dict), "scaling", card.scaling)
    for name, values in card.scaling.items():
        numbers = [values[key] for key in ("shift", "scale")]
        _want(all(type(n) in (int, float) and math.isfinite(n) for n in numbers) and numbers[1] > 0, name, values)
    width = len(columns.inputs) * (2 if columns.missing == "zero_with_mask" else 1)
    _want(not columns.inputs or (width, len(columns.targets)) == (card.inputs, card.outputs), "columns", columns)
    return card


def _bounded(value: Any, depth: int = 0) -> None:  # noqa: ANN401 (a description)
    """Refuse a description that would take all memory to build."""
    _want(depth < DEEPEST, "depth of the model", depth)
    _want(not isinstance(value, int) or abs(value) <= LARGEST, "a size of the model", value)
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in parts:
        _bounded(part, depth + 1)


def _want(fine: bool, name: str, value: object) -> None:
    if not fine:
        raise ValueError(f"{name} is {quoted(value)}")


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > 1000:
        raise ValueError(f"a name is {quoted(value)}")
    return value
