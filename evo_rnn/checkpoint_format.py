"""The bytes of a checkpoint file: plain safetensors, whose metadata has one entry with a digest over the whole file.

A file begins with 8 bytes (the length of its JSON), then ``MAGIC``, then the SHA-256 in hexadecimal. The digest covers
every byte, its own 64 taken as zeros, so a flipped bit anywhere is found before anything else is believed. With one
metadata entry the same content gives the same bytes; with several, safetensors writes them in random order.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from evo_rnn.errors import ConfigError, DataError

SCHEMA = 1
MAX_BYTES = 8 * 2**30
MAX_HEADER_BYTES = 2**20
DTYPES = ("float32", "float64", "int32", "int64", "uint8", "bool")
MAGIC = rb'{"__metadata__":{"evo_rnn":"{\"sha256\": \"'

_DIGEST = slice(8 + len(MAGIC), 8 + len(MAGIC) + 64)
_ZEROS = b"0" * 64

Arrays = dict[str, NDArray[Any]]
Header = dict[str, Any]


class CorruptCheckpointError(DataError):
    """A checkpoint's bytes are not what was written: exit code 65."""


def encode(arrays: Mapping[str, NDArray[Any]], header: Mapping[str, Any]) -> list[bytes | memoryview]:
    """Return the file in pieces to be written one after the other: what precedes the digest, the digest, the rest.

    Raises:
        ValueError: If an array's name or dtype, or the size of the header or of the whole, is not for ``decode``.
    """
    from safetensors.numpy import save as serialise

    tensors = {}
    for name, array in arrays.items():
        if array.dtype.name not in DTYPES or name == "__metadata__":
            raise ValueError(f"array {name!r} of {array.dtype} cannot be stored: use {', '.join(DTYPES)}")
        # asarray, because ascontiguousarray turns a scalar into a vector.
        tensors[name] = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
    added = {"schema": SCHEMA, "versions": _versions()}
    metadata = json.dumps({"sha256": _ZEROS.decode(), **{k: v for k, v in header.items() if k != "sha256"}, **added})
    body = serialise(tensors, {"evo_rnn": metadata})
    size = int.from_bytes(body[:8], "little")
    if size > MAX_HEADER_BYTES or len(body) > MAX_BYTES:
        raise ValueError(
            f"a checkpoint of {len(body)} bytes with a header of {size}: the limits are {MAX_BYTES} and "
            f"{MAX_HEADER_BYTES}: put long lists into arrays, or use a smaller population"
        )
    if not body.startswith(MAGIC, 8) or body[_DIGEST] != _ZEROS:
        raise ValueError("the installed safetensors lays its header out in another way: install the pinned version")
    view = memoryview(body)
    return [view[: _DIGEST.start], _digest(body), view[_DIGEST.stop :]]


def _digest(body: bytes) -> bytes:
    """Return the SHA-256 of a file whose own digest is taken as zeros, in hexadecimal."""
    view = memoryview(body)
    total = hashlib.sha256(view[: _DIGEST.start])
    total.update(_ZEROS)
    total.update(view[_DIGEST.stop :])
    return total.hexdigest().encode()


@cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("evo-rnn", "numpy", "torch", "deap", "safetensors"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def check_sizes(path: Path, head: bytes, size: int) -> int:
    """Return where the arrays begin, after checking that the file is as long as its JSON says.

    Args:
        path: The file's name, for messages.
        head: Its first ``8 + MAX_HEADER_BYTES`` bytes, or all where it is shorter.
        size: Its size in bytes.

    Raises:
        CorruptCheckpointError: If it is not, or if it does not begin as a checkpoint does.
    """
    start = 8 + int.from_bytes(head[:8], "little")
    if not head.startswith(MAGIC, 8):
        raise corrupt(path, "it does not begin like one")
    if start > len(head):
        raise corrupt(path, f"its header claims {start - 8} bytes, the limit is {MAX_HEADER_BYTES}")
    try:
        tensors = json.loads(head[8:start])
        end = max((tensor["data_offsets"][1] for name, tensor in tensors.items() if name != "__metadata__"), default=0)
        declared = start + end
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise corrupt(path, "its header cannot be read") from error
    if declared != size:
        raise corrupt(path, f"its arrays need {declared} bytes in all, the file has {size}")
    return start


def decode(path: Path, body: bytes, start: int) -> tuple[Arrays, Header]:
    """Return the arrays, writable, and the header of a whole file whose sizes have been checked.

    Args:
        path: The file's name, for messages.
        body: All its bytes.
        start: Where the arrays begin, from ``check_sizes``.

    Raises:
        ConfigError: If the schema is newer than ``SCHEMA``.
        CorruptCheckpointError: If the digest does not fit, or if it does and the file was still not made by ``encode``.
    """
    if body[_DIGEST] != _digest(body):
        raise corrupt(path, "its checksum does not fit its content")
    header = _read_header(path, body[8:start])
    return _read_arrays(path, body), header


def _read_header(path: Path, text: bytes) -> Header:
    """Return the header of a file whose digest fits: it is ours, or newer, or was made on purpose."""
    try:
        header = json.loads(json.loads(text)["__metadata__"]["evo_rnn"])
        schema, writer = int(header["schema"]), dict(header["versions"]).get("evo-rnn", "of its writer")
        del header["sha256"]
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError) as error:
        raise corrupt(path, "its header cannot be read") from error
    if schema > SCHEMA:
        raise ConfigError(
            f"{path} has checkpoint schema {schema}, this version reads up to {SCHEMA}: "
            f"install evo-rnn {writer} or later"
        )
    if schema != SCHEMA:
        raise corrupt(path, f"there is no schema {schema}")
    return cast("Header", header)


def _read_arrays(path: Path, body: bytes) -> Arrays:
    from safetensors import SafetensorError
    from safetensors.numpy import load as deserialise

    try:
        arrays: Arrays = deserialise(body)
    except (SafetensorError, KeyError) as error:  # KeyError: a dtype that numpy does not have
        raise corrupt(path, f"its arrays cannot be read ({error})") from error
    for name, array in arrays.items():
        if array.dtype.name not in DTYPES or (array.dtype == bool and array.view(np.uint8).max(initial=0) > 1):
            raise corrupt(path, f"array {name!r} is not made of {', '.join(DTYPES)}")
    return arrays


def corrupt(path: Path, why: str) -> CorruptCheckpointError:
    """Return the error that names the file, what is wrong with it, and the cure."""
    return CorruptCheckpointError(f"{path} is not a whole checkpoint: {why}: use an earlier one")
