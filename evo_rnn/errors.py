"""The errors a user can cause or must act on, each with the exit code that the command line returns for it.

An error says what was wanted by its name, what came, and the cure, in one line. The codes follow BSD sysexits where it
has one, so that systemd and Kubernetes restart policies can tell "mend the file" from "try again".
"""

from __future__ import annotations


class ConfigError(ValueError):
    """A configuration, an option or an argument is wrong: exit code 2."""

    exit_code = 2


class DataError(ValueError):
    """A user's data file cannot be used as it is: exit code 65."""

    exit_code = 65


class DiskError(OSError):
    """The disk refused a write that the run needs: exit code 74."""

    exit_code = 74


class RetryError(RuntimeError):
    """The machine or the cluster failed, not the job: the same command may succeed later, exit code 75."""

    exit_code = 75
