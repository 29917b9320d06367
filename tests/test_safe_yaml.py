"""YAML as data: what is written reads back, plain scalars mean what they seem to, and nothing else gets in."""

from __future__ import annotations

import copy
import math
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from evo_rnn import yaml_reader
from evo_rnn.errors import ConfigError
from evo_rnn.safe_yaml import apply_overrides, dump_yaml, load_yaml, parse_yaml
from tests.bad_files import YAML_GOOD, YAML_TEXTS

FUZZ = settings(max_examples=500, deadline=None)
TRAPS = ["no", "on", "1e-3", "017", "0x1F", "12:30:45", "2020-01-31", "null", "~", "", "<<", "=", "1_000", "*a", "&b"]
TRAPS += ["!c", ".inf", "true", "- a", "a: b", "#c", "'", '"', "\\", "\x85", "\u2028", "\ufeff", "\x07", " a ", "a\nb"]
TRAPS += ["\U0001f600", "\xad", "\ue000", "\ufffe", "\U0001ffff"]
TEXT = st.one_of(st.sampled_from(TRAPS), st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**64), 2**64), st.floats(allow_nan=False), TEXT,
)  # fmt: skip
PLAIN = st.dictionaries(
    TEXT,
    st.recursive(
        SCALARS, lambda x: st.one_of(st.lists(x, max_size=4), st.dictionaries(TEXT, x, max_size=4)), max_leaves=12
    ),
    max_size=5,
)


def same(a: object, b: object) -> bool:
    """Equal in value and in type, to the leaves; True is not 1, and order counts."""
    return repr(a) == repr(b)


@settings(max_examples=300, deadline=None)
@given(PLAIN)
def test_what_is_written_reads_back_with_its_types_and_order_here_and_elsewhere(data: dict[str, Any]) -> None:
    text = dump_yaml(data)
    assert same(parse_yaml(text), data)
    assert same(yaml.safe_load(text), data)


def test_shared_objects_are_written_out_and_tuples_read_back_as_lists() -> None:
    shared = [1, 2]
    assert parse_yaml(dump_yaml({"a": shared, "b": shared, "c": (1, 2)})) == {"a": shared, "b": shared, "c": shared}
    assert math.isnan(parse_yaml(dump_yaml({"a": math.nan}))["a"])


@pytest.mark.parametrize(
    "value", [object(), {1, 2}, Path("a"), b"bytes", {1: 2}, "\ud800", date(2020, 1, 31), np.float64(1)]
)
def test_only_plain_data_is_written(value: object) -> None:
    with pytest.raises(ConfigError, match="plain data"):
        dump_yaml({"a": value})


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("1e-3", 0.001),
        ("1E5", 1e5),
        (".5", 0.5),
        ("-2.", -2.0),
        ("+3", 3),
        ("0", 0),
        ("-0.0", -0.0),
        ("0x1F", 31),
        ("0o17", 15),
        ("-.inf", -math.inf),
        ("true", True),
        ("False", False),
        ("no", "no"),
        ("NO", "NO"),
        ("yes", "yes"),
        ("on", "on"),
        ("off", "off"),
        ("y", "y"),
        ("12:30:45", "12:30:45"),
        ("2020-01-31", "2020-01-31"),
        ("1_000", "1_000"),
        ("1.2.3", "1.2.3"),
        ("=", "="),
        ("'017'", "017"),
        ('"1e-3"', "1e-3"),
        ("null", None),
        ("~", None),
        ("", None),
        ("[1, no, 2e0]", [1, "no", 2.0]),
        ("{a: [], b: {}}", {"a": [], "b": {}}),
        ("http://host:5000/a#b", "http://host:5000/a#b"),
        ("|\n  two\n  lines\n", "two\nlines\n"),
    ],
)
def test_a_scalar_means_what_it_seems_to(text: str, want: object) -> None:
    assert same(parse_yaml(f"key: {text}"), {"key": want})


def test_keys_that_yaml_once_took_for_truth_values_stay_text() -> None:
    assert parse_yaml("on: 1\nno: 2\ny: 3\n") == {"on": 1, "no": 2, "y": 3}


def test_a_good_file_is_read_with_or_without_mark_and_carriage_returns(tmp_path: Path) -> None:
    path, want = tmp_path / "a.yaml", {"task": "sunspots", "method": {"name": "ga"}, "seeds": [1, 2]}
    for content in (YAML_GOOD, "\ufeff" + YAML_GOOD, YAML_GOOD.replace("\n", "\r\n"), "---\n" + YAML_GOOD + "...\n"):
        path.write_bytes(content.encode())
        assert load_yaml(path) == load_yaml(str(path)) == want


def test_just_deep_enough_is_read_and_one_deeper_is_not() -> None:
    assert parse_yaml("a: " + "[" * 19 + "]" * 19)
    with pytest.raises(ConfigError, match="deeper than 20"):
        parse_yaml("a: " + "[" * 20 + "]" * 20)


@pytest.mark.parametrize("name", YAML_TEXTS)
def test_without_the_fast_parser_the_same_texts_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_reader, "_LOADER", yaml.SafeLoader)
    text = YAML_TEXTS[name][0]
    if isinstance(text, str):
        with pytest.raises(ConfigError):
            parse_yaml(text)


@pytest.mark.parametrize(
    "key", ["a: b\n", "- ", "[a],", "? ", "{a: b},", "'x' ", "\n", "#", "&a ", "%a\n", "--- ", "a:\n "]
)
@pytest.mark.parametrize("start", ["", "a: [", "a: {"])
def test_no_text_within_the_limit_costs_much(key: str, start: str) -> None:
    text = start + key * ((yaml_reader.MAX_BYTES - len(start)) // len(key))
    before = time.process_time()
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text)
    assert time.process_time() - before < 1
    assert str(caught.value).isprintable()


def test_overrides_replace_add_and_leave_the_argument_alone() -> None:
    config = {"method": {"name": "ga", "seeds": [1]}, "empty": None}
    before = copy.deepcopy(config)
    texts = ["method.name=bptt", "method.rate=1e-3", "new.deep.key=[1, no]", "empty.a=true", "method.seeds=[2, 3]",
             "uri=http://h:1/a=b", "text='017'", "none=", "map={a: 1}", "method.name=memetic"]  # fmt: skip
    assert apply_overrides(config, texts) == {
        "method": {"name": "memetic", "seeds": [2, 3], "rate": 0.001},
        "empty": {"a": True},
        "new": {"deep": {"key": [1, "no"]}},
        "uri": "http://h:1/a=b",
        "text": "017",
        "none": None,
        "map": {"a": 1},
    }
    assert config == before


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("", "key=value"),
        ("a", "key=value"),
        ("=1", "key=value"),
        ("a..b=1", "key=value"),
        (".a=1", "key=value"),
        ("a b=1", "key=value"),
        (".".join("a" * 21) + "=1", "key=value"),
        ("name.x=1", "'name' is text"),
        ("list.0=1", "'list' is a list"),
        ("deep.number.x=1", "'deep.number' is a number"),
        ("a=[1", "not YAML"),
        ("a=b: c", "not YAML|brackets"),
        ("a=- b", "brackets"),
        ("a=*b", "alias"),
        ("a=!b c", "tags"),
        ("a=017", "octal"),
        ("a=b\n---\nc", "one document"),
        ("a=\ud800", "UTF-8"),
    ],
)
def test_a_bad_override_is_refused_in_one_line(override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        apply_overrides({"name": "x", "list": [1], "deep": {"number": 1}}, [override])
    assert str(caught.value).isprintable()


def survives(text: str) -> None:
    """Only our refusal, in one line, may come out; what is read is plain and can be written again."""
    value, refusal = {}, ""
    try:
        value = parse_yaml(text)
    except ConfigError as error:
        refusal = str(error)
    assert refusal.isprintable()
    assert same(parse_yaml(dump_yaml({"root": value})), {"root": value})


FRAGMENTS = ["a: ", "b: ", "\n", "\n  ", "- ", "[", "]", "{", "}", ", ", ": ", "? ", "&x ", "*x", "!t ", "!!int ", "'"]
FRAGMENTS += [
    '"',
    "|",
    ">",
    "#",
    "%YAML 1.2\n",
    "---",
    "...",
    "<<: ",
    "017",
    "1e-3",
    "1e999",
    "no",
    "\t",
    "\\",
    "\ufeff",
]


@FUZZ
@given(st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=3)), max_size=25).map("".join))
def test_arbitrary_text_gives_a_mapping_or_a_refusal(text: str) -> None:
    survives(text)
    survives(YAML_GOOD + text)


@FUZZ
@given(content=st.binary(max_size=120), start=st.integers(0, len(YAML_GOOD)), length=st.integers(0, 20))
def test_arbitrary_bytes_give_a_mapping_or_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, start: int, length: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    good = YAML_GOOD.encode()
    for whole in (content, good[:start] + content[:10] + good[start + length :]):
        path.write_bytes(whole)
        refusal = ""
        try:
            load_yaml(path)
        except ConfigError as error:
            refusal = str(error)
        assert refusal.isprintable()
