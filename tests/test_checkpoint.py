"""A checkpoint comes back bit for bit or is refused before anything in it is believed."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from evo_rnn import checkpoint, checkpoint_format
from evo_rnn.checkpoint import Checkpoints, CorruptCheckpointError, load, save
from evo_rnn.checkpoint_format import DTYPES
from evo_rnn.errors import ConfigError, DataError

ARRAYS = hnp.arrays(st.sampled_from(DTYPES), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9), st.lists
)
RESERVED = {"sha256", "schema", "versions"}


def population(step: int, size: int = 4096) -> dict[str, np.ndarray[Any, Any]]:
    return {"genes": np.full((size,), step, np.float32), "loss": np.array(float(step))}


def refused(path: Path) -> str:
    with pytest.raises(CorruptCheckpointError) as caught:
        load(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def sealed(path: Path, text: str, data: bytes = b"") -> Path:
    """Write a file made on purpose: any JSON behind the magic, with a digest that fits."""
    form = checkpoint_format
    head = text.encode()
    head += b" " * (-len(head) % 8)
    body = len(head).to_bytes(8, "little") + head + data
    digest = form._digest(body)
    path.write_bytes(body[: form._DIGEST.start] + digest + body[form._DIGEST.stop :])
    return path


def head(tensors: str = "", **metadata: object) -> str:
    inner = {"sha256": "0" * 64, "schema": 1, "versions": {}, **metadata}
    return json.dumps({"__metadata__": {"evo_rnn": json.dumps(inner)}}, separators=(",", ":"))[:-1] + tensors + "}"


# What comes back ------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=150)
@given(st.dictionaries(TEXT, ARRAYS, max_size=4), st.dictionaries(st.text(max_size=5), JSON, max_size=3))
def test_every_bit_of_every_array_and_the_header_come_back(
    tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, np.ndarray[Any, Any]], header: dict[str, Any]
) -> None:
    path = tmp_path_factory.mktemp("round") / "checkpoint"
    save(path, arrays, header)
    found, its_header = load(path)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].shape == array.shape
        assert found[name].dtype == array.dtype
        assert found[name].tobytes() == array.tobytes()
        assert found[name].flags.writeable
    assert its_header.pop("schema") == 1
    assert its_header.pop("versions")["numpy"] == np.__version__
    assert its_header == {key: value for key, value in header.items() if key not in RESERVED}


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24.0).reshape(4, 6)[::2, ::-3],
        np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
        np.arange(3, dtype=">f8"),
        np.array(7, dtype=">i4"),
        np.broadcast_to(np.float32(2), (3, 3)),
        np.array([0x7FF8000000000001, 0x7FF0000000000123, 0xFFF8DEADBEEF0000, 1 << 63], np.uint64).view(np.float64),
        np.zeros((3, 0, 2), np.int32),
        np.array(True),
    ],
)
def test_strides_byte_order_nan_payloads_and_empty_shapes_are_kept(tmp_path: Path, array: np.ndarray[Any, Any]) -> None:
    save(tmp_path / "c", {"a": array}, {})
    found = load(tmp_path / "c")[0]["a"]
    assert found.shape == array.shape
    assert found.tobytes() == array.astype(array.dtype.newbyteorder("<")).tobytes()


def test_the_same_content_gives_the_same_bytes_and_any_safetensors_reader_opens_it(tmp_path: Path) -> None:
    from safetensors import safe_open

    for name in ("a", "b"):
        save(tmp_path / name, {**population(3), "z": np.ones(2, bool)}, {"loss": float("inf"), "note": 'ä"\\'})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with safe_open(tmp_path / "a", framework="np") as file:
        assert sorted(file.keys()) == ["genes", "loss", "z"]
        assert json.loads(file.metadata()["evo_rnn"])["note"] == 'ä"\\'


def test_a_file_of_schema_1_is_readable_for_ever(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(base64.b64decode(SCHEMA_1))
    arrays, header = load(tmp_path / "old")
    assert arrays["genes"].tolist() == [[0.5, -1.25], [3.0, 0.0]]
    assert arrays["step"] == 7
    assert header["seed"] == 3
    assert header["schema"] == 1


def test_what_cannot_be_stored_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    path = tmp_path / "c"
    for array in (np.zeros(2, np.float16), np.zeros(2, complex), np.array(["a"]), np.array([None]), np.zeros(2, "i2")):
        with pytest.raises(ValueError, match="float32, float64"):
            save(path, {"a": array}, {})
    with pytest.raises(ValueError, match="__metadata__"):
        save(path, {"__metadata__": np.zeros(1)}, {})
    with pytest.raises(ValueError, match="limits"):
        save(path, {}, {"log": "x" * 2**20})
    with pytest.raises(TypeError):
        save(path, {}, {"model": object()})
    assert list(tmp_path.iterdir()) == []


# What is refused ------------------------------------------------------------------------------------------------------


def test_every_flipped_bit_and_every_lost_tail_is_detected(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "c"
    save(path, {"genes": rng.standard_normal((7, 9)), "mask": np.ones(5, bool)}, {"seed": 1})
    whole = path.read_bytes()
    for position in rng.choice(8 * len(whole), 400, replace=False):
        body = bytearray(whole)
        body[position // 8] ^= 1 << (position % 8)
        path.write_bytes(body)
        refused(path)
    for size in [0, 1, 7, 8, *rng.choice(len(whole), 100, replace=False)]:
        path.write_bytes(whole[:size])
        refused(path)
    path.write_bytes(whole + b"\0")
    refused(path)


def test_a_header_that_lies_about_sizes_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    path = sealed(tmp_path / "c", head(',"a":{"dtype":"F64","shape":[1000000000000],"data_offsets":[0,8000000000000]}'))
    assert "need 8000000000" in refused(path)
    with path.open("wb") as file:
        file.write((2**62).to_bytes(8, "little") + checkpoint_format.MAGIC)
    assert "header claims" in refused(path)
    with path.open("wb") as file:
        file.truncate(2**40)  # a terabyte that takes no room on the disk
    with pytest.raises(DataError, match="limit"):
        load(path)


@pytest.mark.parametrize(
    ("tensors", "data"),
    [
        (',"a":{"dtype":"F16","shape":[4],"data_offsets":[0,8]}', bytes(8)),
        (',"a":{"dtype":"BF16","shape":[4],"data_offsets":[0,8]}', bytes(8)),
        (',"a":{"dtype":"F64","shape":[2],"data_offsets":[0,8]}', bytes(8)),
        (',"a":{"dtype":"F64","shape":[-1],"data_offsets":[0,8]}', bytes(8)),
        (',"a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}', bytes(8)),
        (
            ',"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]}'
            ',"b":{"dtype":"U8","shape":[],"data_offsets":[0,1]}',
            b"1",
        ),
        (',"a":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}', b"\x01\x02"),
        (',"a":{"dtype":"U8","shape":[1],"data_offsets":[0,"1"]}', b"1"),
        (',"a":{"dtype":"U8","shape":[1],"data_offsets":[0,Infinity]}', b"1"),
        (',"a":{"dtype":"U8","shape":[1]}', b"1"),
        (',"a":[]', b""),
        (',"a":' + "[" * 100_000, b""),
        (',"a":' + "9" * 10_000, b""),
    ],
)  # fmt: skip
def test_a_file_made_on_purpose_gets_no_further_than_one_gone_wrong(tmp_path: Path, tensors: str, data: bytes) -> None:
    refused(sealed(tmp_path / "c", head(tensors), data))


@pytest.mark.parametrize("schema", [0, -1, "x", None, [], float("inf"), "9" * 5000])
def test_a_schema_that_never_was_is_refused(tmp_path: Path, schema: object) -> None:
    refused(sealed(tmp_path / "c", head(schema=schema)))


def test_a_newer_schema_names_the_version_to_install_and_is_left_alone(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path)
    kept.write(1, population(1), {})
    newer = sealed(tmp_path / "step-000000000002.safetensors", head(schema=2, step=2, versions={"evo-rnn": "9.1"}))
    with pytest.raises(ConfigError, match=r"schema 2.*install evo-rnn 9\.1"):
        kept.latest()
    assert newer.exists()


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "absent", tmp_path / "absent" / "c", Path("/dev/zero")):
        with pytest.raises(DataError, match=str(path)) as caught:
            load(path)
        assert not isinstance(caught.value, CorruptCheckpointError)


def test_nothing_here_unpickles(tmp_path: Path) -> None:
    import pickle

    (tmp_path / "c").write_bytes(pickle.dumps(population(1)))
    refused(tmp_path / "c")
    for module in (checkpoint, checkpoint_format):
        source = Path(str(module.__file__)).read_text()
        assert not any(word in source for word in ("pickle", "np.load", "torch.load", "eval("))


SCHEMA_1 = (
    "QAEAAAAAAAB7Il9fbWV0YWRhdGFfXyI6eyJldm9fcm5uIjoie1wic2hhMjU2XCI6IFwiN2I4NmZhZmE1ZTI4YjljNjcyN2MzMmIxMThjY2U5Nz"
    "A1NDBlOTg3YzlmZmYyMzQxNmUyODI2ZWMwMzdhZDI0ZlwiLCBcInNlZWRcIjogMywgXCJzY2hlbWFcIjogMSwgXCJ2ZXJzaW9uc1wiOiB7XCJl"
    "dm8tcm5uXCI6IFwiMC4xLjBcIiwgXCJudW1weVwiOiBcIjIuNC42XCJ9fSJ9LCJzdGVwIjp7ImR0eXBlIjoiSTY0Iiwic2hhcGUiOltdLCJkYX"
    "RhX29mZnNldHMiOlswLDhdfSwiZ2VuZXMiOnsiZHR5cGUiOiJGMzIiLCJzaGFwZSI6WzIsMl0sImRhdGFfb2Zmc2V0cyI6WzgsMjRdfX0gIAcA"
    "AAAAAAAAAAAAPwAAoL8AAEBAAAAAAA=="
)
