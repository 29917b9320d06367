"""YAML as data and nothing else: the one reader and writer of configurations.

What may stand in a configuration is told in `evo_rnn.yaml_reader`. What is written here reads back unchanged.
"""

from __future__ import annotations

import copy
import datetime
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from evo_rnn.errors import ConfigError
from evo_rnn.local_file import open_local, quoted, recognise, shown
from evo_rnn.yaml_reader import MAX_BYTES, MAX_DEPTH, is_ambiguous, kind_of, one_line, read_value

_KEY = re.compile(r"[^\s=.]+")


def load_yaml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a YAML file that holds one mapping.

    Args:
        path: a local regular file of at most 64 KiB; no URL, symbolic link, pipe or device.

    Returns:
        The mapping, in the file's order; keys are text.

    Raises:
        ConfigError: one line with file, line and column, what came and the cure.
    """
    name = shown(path)
    with open_local(path, ConfigError, "configuration") as file:
        content = b""
        while (part := file.read(MAX_BYTES + 1 - len(content))) and len(content) <= MAX_BYTES:
            content += part
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{name}: the configuration is longer than {MAX_BYTES} bytes; make it shorter")
    if words := recognise(content):
        raise ConfigError(f"{name}: the configuration should be YAML text but is {words}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        came = f"byte 0x{content[error.start]:02x}"
        raise ConfigError(f"{name}:{line}: the text is not UTF-8 ({came}); save the file as UTF-8") from None
    return parse_yaml(text, name)


def parse_yaml(text: str, name: str = "text") -> dict[str, Any]:
    """Read a mapping from YAML text.

    Args:
        text: one YAML document of at most 64 KiB: a mapping, without anchors, aliases or tags, at most 20 deep.
        name: how messages call it.

    Returns:
        The mapping, in the text's order; keys are text.

    Raises:
        ConfigError: one line with name, line and column, what came and the cure.
    """
    value = read_value(text, name)
    if value is None:
        raise ConfigError(f"{name}: the configuration is empty; write at least one key: value")
    if not isinstance(value, dict):
        raise ConfigError(
            f"{name}: the configuration should be a mapping of keys but is {kind_of(value)}; write key: value"
        )
    return value


def dump_yaml(mapping: Mapping[str, Any]) -> str:
    """Write plain data as YAML that `parse_yaml` reads back unchanged.

    Args:
        mapping: dict, list, tuple (read back as a list), text, int (39 digits), float, bool and None, at most 20
            deep; the keys are text.

    Returns:
        Block-style text in the mapping's order, without anchors or tags.

    Raises:
        ConfigError: something is not plain data.
    """
    try:
        text: str = yaml.dump(dict(mapping), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"YAML can hold only plain data but there is {one_line(error)}; convert it first") from None
    return text


def apply_overrides(config: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return a copy of a configuration with some values replaced.

    Args:
        config: nested mappings; not changed.
        overrides: texts `a.b=c`: the path of the key, and its new value as a YAML scalar or in brackets. Mappings on
            the path that are not there are made. A list is replaced as a whole.

    Returns:
        The new configuration.

    Raises:
        ConfigError: an override that cannot be read, or whose path runs through something that is not a mapping.
    """
    result = copy.deepcopy(dict(config))
    for override in overrides:
        path, equals, text = override.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(map(_KEY.fullmatch, keys)) or len(keys) > MAX_DEPTH:
            raise ConfigError(f"override {quoted(override)} should read key=value or section.key=value")
        section = result
        for depth, key in enumerate(keys[:-1], start=1):
            if section.get(key) is None:
                section[key] = {}
            section = section[key]
            if not isinstance(section, dict):
                through = quoted(".".join(keys[:depth]))
                raise ConfigError(
                    f"override {quoted(override)}: {through} is {kind_of(section)}, not a section; set it whole"
                )
        section[keys[-1]] = read_value(text, f"override {quoted(override)}", inline=True)
    return result


class _Dumper(yaml.SafeDumper):
    """Writes without anchors, and quotes any text that some reader of YAML could take for something else."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - the library's signature
        """Write shared objects out in full."""
        return True


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    """Quote text that our own rules would read as something else, and escape what is not printable."""
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise yaml.YAMLError("text with a lone surrogate")
    style = '"' if is_ambiguous(text) or not text.isprintable() else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _represent_mapping(dumper: _Dumper, mapping: Mapping[object, object]) -> yaml.MappingNode:
    """Write a mapping whose keys are text."""
    if wrong := [key for key in mapping if not isinstance(key, str)]:
        raise yaml.YAMLError(f"the key {quoted(wrong[0])}, which is not text")
    return dumper.represent_dict(mapping)


def _refuse(_dumper: _Dumper, value: object) -> yaml.ScalarNode:
    """Refuse what would need a tag, or would be read back as text."""
    raise yaml.YAMLError(f"{type(value).__name__} {quoted(value)}")


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(dict, _represent_mapping)
_Dumper.add_representer(tuple, yaml.SafeDumper.represent_list)
_TAGGED: tuple[type, ...] = (bytes, set, datetime.date, datetime.datetime)
for _kind in _TAGGED:
    _Dumper.add_representer(_kind, _refuse)
