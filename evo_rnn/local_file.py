"""The outer door for files that users hand over: local regular files only, opened without following or waiting.

A URL would go to the network, a FIFO or a device would hang or never end, a symbolic link may point anywhere: all are
refused before anything is read. Messages are one line whatever the file's name or content holds.
"""

from __future__ import annotations

import os
import re
import stat
from io import FileIO
from pathlib import Path
from typing import NoReturn, TypeAlias

from evo_rnn.errors import ConfigError, DataError

Refusal: TypeAlias = type[ConfigError] | type[DataError]

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe (FIFO)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_SIGNATURES = (
    (b"\x1f\x8b", "a gzip archive: decompress it first"),
    (b"PK\x03\x04", "a zip archive or an Excel workbook: unpack it, or save the sheet as CSV"),
    (b"PK\x05\x06", "an empty zip archive: give another file"),
    (b"BZh91AY&SY", "a bzip2 archive: decompress it first"),
    (b"\xfd7zXZ\x00", "an xz archive: decompress it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive: decompress it first"),
    (b"PAR1", "a Parquet file: name it .parquet"),
    (b"ARROW1", "an Arrow file: save it as Parquet or CSV"),
    (b"\x89PNG", "a PNG picture: give another file"),
    (b"\xff\xd8\xff", "a JPEG picture: give another file"),
    (b"%PDF-", "a PDF document: give another file"),
    (b"\x89HDF", "an HDF5 file: save it as Parquet or CSV"),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file: save it as CSV"),
    (b"SQLite format 3", "an SQLite database: save the table as CSV"),
    (b"\x93NUMPY", "a NumPy array: save it as CSV"),
    (b"\x7fELF", "a program: give another file"),
    (b"\xff\xfe", "text in UTF-16 or UTF-32: save it as UTF-8"),
    (b"\xfe\xff", "text in UTF-16: save it as UTF-8"),
    (b"\x00\x00\xfe\xff", "text in UTF-32: save it as UTF-8"),
)


def shown(name: str | os.PathLike[str], limit: int = 200) -> str:
    """Return a file's name for a one-line message: escaped where it is not printable, clipped if long."""
    text = os.fspath(name)
    if len(text) > limit:
        text = f"{text[: limit // 2]}...{text[-limit // 2 :]}"
    return text if text.isprintable() else repr(text)


def quoted(value: object, limit: int = 40) -> str:
    """Return a value in quotes for a one-line message, escaped and clipped to about `limit` characters."""
    text = str(value)
    return repr(text if len(text) <= limit else f"{text[:limit]}...")


def recognise(head: bytes) -> str:
    """Return what a file's first bytes say it is, with the cure, or an empty text if they say nothing."""
    return next((words for signature, words in _SIGNATURES if head.startswith(signature)), "")


def open_local(path: str | os.PathLike[str], refusal: Refusal, what: str) -> FileIO:
    """Open a local regular file for reading bytes, or refuse it without waiting and without reading.

    Args:
        path: the file. The last part of the path may not be a symbolic link; directories above it may.
        refusal: the error to raise.
        what: what the file should be, for the message, such as "data file".

    Returns:
        The open file; the caller closes it.

    Raises:
        ConfigError: or `DataError`, as `refusal` says: it is a URL, a link, a directory, a pipe, a device, not there,
            or not readable.
    """
    name = shown(path)
    text = os.fspath(path)
    if not text or "\0" in text:
        raise refusal(f"the {what} should be a local file but its name is {quoted(text)}; give a path")
    if _URL.match(text):
        raise refusal(f"{name}: the {what} should be a local file but is a URL; download it and give its path")
    try:
        _refuse_kind(os.lstat(text).st_mode, text, refusal, what)
        descriptor = os.open(text, _FLAGS)
    except OSError as error:
        _explain(error, name, refusal, what)
    file = FileIO(descriptor, "rb")
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # swapped between the look and the opening
        file.close()
        raise refusal(f"{name}: the {what} should be a regular file; copy the data into one")
    return file


def _refuse_kind(mode: int, text: str, refusal: Refusal, what: str) -> None:
    """Refuse anything but a regular file by what `lstat` says of it."""
    if stat.S_ISREG(mode):
        return
    if stat.S_ISLNK(mode):
        target = Path(text).readlink()
        cure = f"give the path it points to ({shown(target)})" if Path(text).exists() else "it points to nothing"
        raise refusal(f"{shown(text)}: the {what} should be a regular file but is a symbolic link; {cure}")
    kind = next((words for test, words in _KINDS if test(mode)), "something else")
    raise refusal(f"{shown(text)}: the {what} should be a regular file but is {kind}; copy the data into a file")


def _explain(error: OSError, name: str, refusal: Refusal, what: str) -> NoReturn:
    """Turn the system's refusal to open a file into ours."""
    if isinstance(error, (ConfigError, DataError)):
        raise error
    if isinstance(error, FileNotFoundError):
        raise refusal(f"{name}: there is no such {what}; check the path") from None
    reason = (error.strerror or "unknown reason").lower()
    raise refusal(f"{name}: the {what} cannot be opened: {reason}; check the path and its permissions") from None
