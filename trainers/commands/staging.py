"""What travels to a cluster: one config and, where it names one, its data file. Nothing else of this directory does."""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from evo_rnn.errors import ConfigError, DataError
from evo_rnn.local_file import open_local, shown
from trainers.experiments.config import Config

LARGEST = 500 * 2**20  # bytes that Ray takes in a working directory
JOBS = "~/evo-rnn-jobs"  # on the head: what jobs write stays there, so that a run can be resumed


@dataclass(frozen=True)
class Parcel:
    """A directory to upload, with `inputs/DIGEST/` in it.

    Args:
        folder: the directory.
        config: the path of the config in it.
    """

    folder: Path
    config: str


def pack(config: Config, source: str, folder: Path, *, many: bool) -> Parcel:
    """Write the config and its data file under a name that is their digest, so that two jobs never share one by chance.

    Args:
        config: as the cluster should resolve it.
        source: what the user called it.
        folder: an empty directory.
        many: whether it is a comparison.

    Raises:
        DataError: the data file cannot be read.
        ConfigError: it is too large for a job.
    """
    from trainers.commands.plan import config_text

    data = str(config.task.get("path", ""))
    stage, name = folder / "data", _plain(Path(data).name)
    digest = hashlib.sha256()
    if data:
        with open_local(data, DataError, "data file") as file, stage.open("wb") as copy:
            shutil.copyfileobj(file, copy)
        if stage.stat().st_size > LARGEST:
            raise ConfigError(
                f"{shown(data)}: a job takes at most {LARGEST >> 20} MiB of data but the file is larger: copy it to the "
                "head of the cluster and start evo-rnn run there"
            )
        with stage.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    digest.update(config_text(config, many=many).encode())
    place = Path("inputs") / digest.hexdigest()[:12]
    (folder / place).mkdir(parents=True)
    if data:
        stage.rename(folder / place / name)
        config = config.model_copy(update={"task": config.task | {"path": str(place / name)}})
    path = place / f"{_plain(Path(source).stem)}.yaml"
    (folder / path).write_text(config_text(config, many=many), encoding="utf-8")
    return Parcel(folder, str(path))


def command(python: str, directory: str, words: list[str]) -> str:
    """The shell command of a job: its inputs go where jobs work, and our program replaces the shell.

    Args:
        python: the interpreter on the head.
        directory: where the job works there; `~` is the home directory there.
        words: of the command line of evo-rnn.
    """
    head, slash, rest = directory.partition("/")
    place = f'"$HOME"{slash}{shlex.quote(rest) if rest else ""}' if head == "~" else shlex.quote(directory)
    program = shlex.join([python, "-m", "trainers.cli", *words])
    copy = f"if [ -d inputs ]; then cp -R inputs {place}/; fi"
    return f"umask 077 && mkdir -p {place} && {copy} && cd {place} && exec {program}"


def _plain(name: str) -> str:
    """A file's name in letters that no shell and no archive minds."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[-60:] or "experiment"
