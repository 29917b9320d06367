"""From YAML text to plain data by the stream of parse events: nothing is resolved, constructed or shared.

The library's scanner and parser are used and nothing above them. No tag is ever looked up and no object is built but
dict, list, text, numbers, truth values and None. Plain scalars follow the core schema of YAML 1.2
(https://yaml.org/spec/1.2.2/#103-core-schema): `no`, `on`, dates and 12:30:45 are text, and `1e-3` is a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from evo_rnn.errors import ConfigError
from evo_rnn.local_file import quoted

MAX_BYTES = 64 * 2**10
MAX_DEPTH = 20
MAX_DIGITS = 39
"""The most digits of an integer: 128 bits, as a random seed may have."""

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"([-+]?)\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_NOT_TEXT = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_value(text: str, name: str, inline: bool = False) -> Any:  # noqa: ANN401 - it is whatever the text holds
    """Return the one document of a text, None if it is empty.

    Args:
        text: YAML of at most 64 KiB, without anchors, aliases or tags, at most 20 deep.
        name: how messages call it.
        inline: whether a list or a mapping must be written in brackets.

    Raises:
        ConfigError: one line with name, line and column, what came and the cure.
    """
    _refuse_characters(text, name)
    events = yaml.parse(text, Loader=_LOADER)
    try:
        value = None
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                if event.tags:
                    raise ConfigError(f"{_place(event, name)}: tags are not allowed; remove the %TAG line")
                value = _node(next(events), events, name, 1, inline)
                next(events)  # the document's end
                break
        if not isinstance(another := next(events, yaml.StreamEndEvent()), yaml.StreamEndEvent):
            raise ConfigError(f"{_place(another, name)}: there should be one document; remove the second (after ---)")
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{_syntax(error, name)}; check indentation (spaces, no tabs), colons, brackets and quotation marks"
        ) from None
    return value


def _refuse_characters(text: str, name: str) -> None:
    """Refuse text that is too long or that cannot be YAML."""
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError:
        raise ConfigError(f"{name}: the text cannot be written as UTF-8; remove the broken characters") from None
    if size > MAX_BYTES:
        raise ConfigError(f"{name}: the configuration is longer than {MAX_BYTES} bytes; make it shorter")
    if found := _NOT_TEXT.search(text):
        line, column = text.count("\n", 0, found.start()) + 1, found.start() - text.rfind("\n", 0, found.start())
        what = "a NUL character (binary data, or UTF-16)" if found[0] == "\0" else f"the character {quoted(found[0])}"
        raise ConfigError(f"{name}:{line}:{column}: there is {what}, which is not text; save the file as UTF-8 text")


def _node(event: yaml.Event, events: Iterator[yaml.Event], name: str, depth: int, inline: bool = False) -> Any:  # noqa: ANN401
    """Return the value that begins with this event."""
    if isinstance(event, yaml.AliasEvent):
        raise ConfigError(
            f"{_place(event, name)}: aliases (*name) are not allowed; write the value out, or quote the text"
        )
    if not isinstance(event, (yaml.ScalarEvent, yaml.CollectionStartEvent)):
        raise ConfigError(f"{_place(event, name)}: there is no value here; write one")
    if event.anchor is not None:
        raise ConfigError(
            f"{_place(event, name)}: anchors (&name) are not allowed; write the value out, or quote the text"
        )
    if event.tag is not None:
        raise ConfigError(f"{_place(event, name)}: tags (!name) are not allowed; remove it, or quote the text")
    if isinstance(event, yaml.ScalarEvent):
        return _scalar(event, name) if event.implicit[0] else event.value
    if inline and not event.flow_style:
        raise ConfigError(
            f"{name}: the value should be a scalar, [a, b] or {{a: b}}; write it in brackets, or quote it"
        )
    if depth > MAX_DEPTH:
        raise ConfigError(f"{_place(event, name)}: the nesting is deeper than {MAX_DEPTH}; make it flatter")
    if isinstance(event, yaml.MappingStartEvent):
        return _mapping(events, name, depth)
    items = []
    while not isinstance(event := next(events), yaml.SequenceEndEvent):
        items.append(_node(event, events, name, depth + 1))
    return items


def _mapping(events: Iterator[yaml.Event], name: str, depth: int) -> dict[str, Any]:
    """Return the mapping whose start was just read."""
    mapping: dict[str, Any] = {}
    lines: dict[str, int] = {}
    while not isinstance(event := next(events), yaml.MappingEndEvent):
        key = _node(event, events, name, depth + 1)
        if not isinstance(key, str):
            raise ConfigError(f"{_place(event, name)}: a key should be text but is {kind_of(key)}; put it in quotes")
        if key in mapping:
            twice = f"{_place(event, name)}: the key {quoted(key)} stands here and on line {lines[key]}"
            raise ConfigError(f"{twice}; keep one of the two")
        lines[key] = _mark(event)[0]
        mapping[key] = _node(next(events), events, name, depth + 1)
    return mapping


def _scalar(event: yaml.ScalarEvent, name: str) -> str | int | float | bool | None:
    """Return the value of a plain scalar by the YAML 1.2 core schema."""
    text: str = event.value
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.fullmatch(text):
        digits = text.lstrip("+-")
        if len(digits) > 1 and digits[0] == "0":
            cure = "write a number without leading zeros, and text in quotes"
            raise ConfigError(
                f"{_place(event, name)}: {quoted(text)} is octal to some readers and decimal to others; {cure}"
            )
        if len(digits) > MAX_DIGITS:
            raise ConfigError(
                f"{_place(event, name)}: the integer {quoted(text)} is too large; write a smaller one, or quote it"
            )
        return int(text)
    if _BASED.fullmatch(text) and len(text) <= MAX_DIGITS:
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        number = float(text)
        if abs(number) == float("inf"):
            raise ConfigError(
                f"{_place(event, name)}: the number {quoted(text)} is too large; write .inf if infinity is meant"
            )
        return number
    if _SPECIAL.fullmatch(text):
        return float(text.replace(".", ""))
    return text


def _place(event: yaml.Event, name: str) -> str:
    """Return file:line:column of an event, counted from 1."""
    line, column = _mark(event)
    return f"{name}:{line}:{column}"


def _mark(event: yaml.Event) -> tuple[int, int]:
    """Return the line and the column of an event, counted from 1."""
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)


def is_ambiguous(text: str) -> bool:
    """Return whether a plain scalar of this text would be read as something other than text."""
    return text in _NULL or text in _BOOL or any(form.fullmatch(text) for form in (_INT, _BASED, _FLOAT, _SPECIAL))


def _syntax(error: yaml.YAMLError, name: str) -> str:
    """Return a parser's complaint in one line."""
    mark = getattr(error, "problem_mark", None)
    place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark is not None else name
    return f"{place}: this is not YAML: {one_line(getattr(error, 'problem', None) or error)}"


def one_line(error: object) -> str:
    """Return a complaint without line breaks, escaped and clipped."""
    text = " ".join(str(error).split())[:160]
    return text if text.isprintable() else repr(text)


def kind_of(value: object) -> str:
    """Return what a value is, in words."""
    words = {dict: "a mapping", list: "a list", str: "text", bool: "a truth value", type(None): "nothing"}
    kind = words.get(type(value), "a number")
    return kind if isinstance(value, (dict, list)) or value is None else f"{kind} ({quoted(value)})"
