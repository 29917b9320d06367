"""Faults for real. Each scenario is bounded in time, ends by itself and is repeated by its seed.

python benchmarks/chaos                        every scenario, in full
python benchmarks/chaos workers --count 30     one of them, with fewer faults
python benchmarks/chaos --list
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)

from benchmarks.chaos.report import Report  # noqa: E402
from benchmarks.chaos.scenarios import SCENARIOS  # noqa: E402


def main() -> int:
    """Run the scenarios that were asked for, each in a process group of its own; 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="python benchmarks/chaos", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"of {', '.join(SCENARIOS)}")
    parser.add_argument("--count", type=int, default=0, help="how many faults; a full run has its own number")
    parser.add_argument("--seed", type=int, default=0, help="of the schedule of faults")
    parser.add_argument("--list", action="store_true", help="say what there is, and stop")
    parser.add_argument("--inside", metavar="FILE", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if strange := set(given.scenarios) - set(SCENARIOS):
        parser.error(f"no such scenario: {', '.join(sorted(strange))}. There are {', '.join(SCENARIOS)}.")
    if given.list:
        for name, scenario in SCENARIOS.items():
            print(f"{name:<12} {scenario.count:>7}  {scenario.summary}")
        return 0
    if given.inside:
        inside(given.scenarios[0], given.count, given.seed, Path(given.inside))
        return 0
    failed = False
    for name in given.scenarios or SCENARIOS:
        count = given.count or SCENARIOS[name].count
        report = outside(name, count, given.seed)
        print(report.row(name), flush=True)
        for line in report.failures[:20]:
            print(f"    FAILED (seed {given.seed}, count {count}) {line}", flush=True)
        failed |= bool(report.failures)
    return int(failed)


def inside(name: str, count: int, seed: int, target: Path) -> None:
    """Run one scenario here, in an empty working directory."""
    os.environ["PYTHONPATH"] = str(ROOT)
    folder = target.parent / "work"
    folder.mkdir()
    os.chdir(folder)
    before = time.monotonic()
    report = SCENARIOS[name].run(count, seed, folder)
    report.seconds = time.monotonic() - before
    report.save(target)


def outside(name: str, count: int, seed: int) -> Report:
    """Run one scenario in a process that is ended, with all that it started, when it hangs: that is a failure too."""
    limit, before = SCENARIOS[name].seconds(count), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as place:
        target = Path(place) / "report.json"
        words = [name, "--count", str(count), "--seed", str(seed), "--inside", str(target)]
        process = subprocess.Popen([sys.executable, __file__, *words], start_new_session=True)
        code: object = "none"
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = f"none within {limit:.0f} s"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if code == 0 and target.exists():
            return Report.load(target)
    lost = Report(seconds=time.monotonic() - before)
    lost.check("ends by itself", False, f"exit code {code}")
    return lost


if __name__ == "__main__":
    sys.exit(main())
