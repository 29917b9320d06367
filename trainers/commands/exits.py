"""How a command ends: one line for every error, and an exit code that a scheduler understands.

Exit codes: 0 done, 2 a config or an option is wrong, 65 data is wrong, 70 a bug, 74 the disk refused, 75 try again,
130 interrupted, 143 terminated; 129 the terminal was closed, 141 nobody reads the output any more.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from types import FrameType
from typing import NoReturn

import typer

_signals: list[int] = []  # that came; Ray turns our SystemExit into another one when it waits


def run_to_its_end(app: typer.Typer) -> NoReturn:
    """Run the command that was typed; turn every error into one line and its exit code."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup has it ignored
            signal.signal(number, _stop)
    code = exit_code(app)
    refused = False
    try:
        sys.stdout.flush()
    except OSError as error:
        code, refused = code or _unexpected(error), True
    if refused or _reader_gone():
        # What is left is for nobody: or Python tries again when it ends, complains, and exits with 120.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _stop(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    """Unwind, so that runs are ended as KILLED and no process is left, and exit with 128 + the number."""
    _signals.append(number)
    raise SystemExit(128 + number)


def exit_code(app: typer.Typer) -> int:
    """Run the command that was typed, and return its exit code."""
    from evo_rnn.errors import ConfigError, DataError, DiskError, RetryError

    try:
        command = typer.main.get_command(app)  # not `app()`, which has its own mind about Ctrl-C and closed pipes
        with command.make_context("evo-rnn", sys.argv[1:] or ["--help"]) as context:
            command.invoke(context)
    except (ConfigError, DataError, DiskError, RetryError) as error:
        return _say(_with_cure(str(error), error), error.exit_code)
    except SystemExit as stop:
        if _signals or stop.code == signal.SIGTERM:  # Ray's own handler, while it starts, exits with the bare number
            return _say(_with_cure("stopped by a signal", stop), 128 + (_signals or [signal.SIGTERM])[0])
        return stop.code if isinstance(stop.code, int) else 0
    except typer.Exit as stop:
        return stop.exit_code
    except KeyboardInterrupt as stop:
        return _say(_with_cure("interrupted", stop), 130)
    except Exception as error:
        return _unexpected(error)
    return 0


def _unexpected(error: Exception) -> int:
    import errno

    if hasattr(error, "format_message"):  # click's own usage errors
        message = str(error.format_message()).removesuffix(".")
        stop = "" if message.endswith("?") else "."
        return _say(f"{message}{stop} See: {_help_for(error)}", getattr(error, "exit_code", 2))
    if isinstance(error, BrokenPipeError) and _reader_gone():
        return 128 + signal.SIGPIPE
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO):
        text = f"{error.filename or 'the disk'}: {error.strerror}. Make room and try again."
        return _say(_with_cure(text, error), 74)
    traceback.print_exception(error)
    return _say(_with_cure(f"this is a bug, please report it: {type(error).__name__}: {error}", error), 70)


def _with_cure(message: str, error: BaseException) -> str:
    """The message, and how to go on after it where training was stopped by it."""
    cures = [note for note in getattr(error, "__notes__", ()) if note.startswith("Go on with")]
    return f"{message.removesuffix('.')}. {cures[0]}" if cures else message


def _help_for(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.command_path if context else 'evo-rnn'} --help"


def _reader_gone() -> bool:
    """Whether standard output is a pipe that nobody reads."""
    import select

    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    except (OSError, ValueError):  # no file behind it
        return False


def _say(message: str, code: int) -> int:
    line = " ".join(message.split())
    sys.stderr.write(f"evo-rnn: {line}\n")
    return code
