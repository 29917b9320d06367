"""`evo-rnn job`: what became of a job on a cluster, its output, and its end."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from evo_rnn.errors import RetryError
from trainers.commands.gateway import Gateway, answers, client, reach

LOST = 60.0  # seconds without an answer after which a cluster counts as lost
BYTES_A_SECOND = 200_000  # of a log that is read again and again
NOISE = ("Running entrypoint for job ", "job_manager.py:")
STOPPED = 143  # as a program ends that SIGTERM ended
Write = Callable[[str], Any]


def status(job: str, address: str, *, as_json: bool) -> None:
    """Print the state of a job in one line."""
    gateway = reach(address)
    found = info(client(gateway), gateway, job)
    row = _row(found)
    sys.stdout.write((json.dumps(row) if as_json else _line(row)) + "\n")


def listed(address: str, *, as_json: bool) -> None:
    """Print all jobs of ours, the newest first."""
    gateway = reach(address)
    jobs = client(gateway)
    with answers(gateway):
        every = [each for each in jobs.list_jobs() if "evo-rnn" in (each.metadata or {})]
    rows = [_row(each) for each in sorted(every, key=lambda each: -(each.start_time or 0))]
    text = "\n".join(map(_line, rows)) or f"There are no jobs of evo-rnn on {gateway.url}."
    sys.stdout.write((json.dumps(rows) if as_json else text) + "\n")


def logs(job: str, address: str, *, follow: bool) -> None:
    """Print what a job has printed; with `follow` until it ends, and then exit with its code."""
    gateway = reach(address)
    jobs = client(gateway)
    if follow:
        raise SystemExit(followed(jobs, gateway, job, sys.stdout.write))
    info(jobs, gateway, job)
    with answers(gateway, job):
        sys.stdout.write(_readable(jobs.get_job_logs(job)))


def stop(job: str, address: str) -> None:
    """End a job and wait until it has ended.

    Raises:
        RetryError: it has not within half a minute.
    """
    gateway = reach(address)
    jobs = client(gateway)
    found = info(jobs, gateway, job)
    if found.status.is_terminal():
        sys.stdout.write(f"{job} has ended before: {_line(_row(found))}\n")
        return
    with answers(gateway, job):
        jobs.stop_job(job)
    end = time.monotonic() + 30.0
    while not (found := info(jobs, gateway, job)).status.is_terminal():
        if time.monotonic() > end:
            raise RetryError(f"{job} should stop but has not within 30 s. Try again.")
        time.sleep(0.5)
    sys.stdout.write(_line(_row(found)) + "\n")


def info(jobs: Any, gateway: Gateway, job: str) -> Any:  # noqa: ANN401 (Ray's own)
    """Ray's record of a job.

    Raises:
        ConfigError: there is no such job.
        RetryError: the cluster does not answer.
    """
    with answers(gateway, job):
        return jobs.get_job_info(job)


def exit_code(found: Any) -> int:  # noqa: ANN401
    """What a job that has ended returned; 75 when it was the machine that ended it."""
    if found.status == "SUCCEEDED":
        return 0
    if found.status == "STOPPED":
        return STOPPED
    code = found.driver_exit_code
    return 75 if code is None else 128 - code if code < 0 else int(code)  # negative: ended by that signal


def followed(jobs: Any, gateway: Gateway, job: str, write: Write) -> int:  # noqa: ANN401
    """Hand on what a job prints until it ends; return its exit code.

    The log is read anew each time, the less often the longer it is: so a broken connection loses and doubles nothing.

    Raises:
        RetryError: the cluster has not answered for a minute.
    """
    shown, heard = 0, time.monotonic()
    while True:
        try:
            found = info(jobs, gateway, job)
            text = _log(jobs, gateway, job)
            heard = time.monotonic()
        except RetryError as error:
            if time.monotonic() - heard > LOST:
                raise RetryError(
                    f"{error}; the job may go on: evo-rnn job status {job} --address {gateway.url}"
                ) from None
            time.sleep(2.0)
            continue
        ended = found.status.is_terminal()
        whole = len(text) if ended else text.rfind("\n") + 1  # no half lines
        write(_readable(text[shown:whole]))
        sys.stdout.flush()
        shown = max(shown, whole)
        if ended:
            return exit_code(found)
        time.sleep(1.0 + len(text) / BYTES_A_SECOND)


def _log(jobs: Any, gateway: Gateway, job: str) -> str:  # noqa: ANN401
    """The log so far; empty while the head has none to give."""
    try:
        with answers(gateway, job):
            return str(jobs.get_job_logs(job) or "")
    except RetryError as error:
        if "refuses what it was asked" in str(error):
            return ""
        raise


def _readable(text: str) -> str:
    """Without Ray's own remarks."""
    return "".join(line for line in text.splitlines(keepends=True) if not any(noise in line[:80] for noise in NOISE))


def _row(found: Any) -> dict[str, Any]:  # noqa: ANN401
    ended = found.status.is_terminal()
    began, end = found.start_time or 0, found.end_time or 0
    seconds = ((end if ended and end else 1000 * time.time()) - began) / 1000 if began else 0.0
    row = {"job_id": found.submission_id, "status": str(found.status.value), "seconds": round(seconds, 1)}
    return row | ({"exit_code": exit_code(found)} if ended else {})


def _line(row: dict[str, Any]) -> str:
    code = f", exit code {row['exit_code']}" if "exit_code" in row else ""
    return f"{row['job_id']}: {row['status'].lower()}, {row['seconds']:.0f} s{code}"
