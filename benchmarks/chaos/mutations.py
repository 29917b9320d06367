"""Six ways (two of them twofold) to break the product on purpose, each of which an ordinary test must notice.

Works on a copy of the tree. A mutation whose text is no longer there is a failure too: it must follow the source.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.chaos.report import Report

ROOT = Path(__file__).resolve().parents[2]
KEPT = ("evo_rnn", "populations", "trainers", "tests", "benchmarks", "ray_configs", "pyproject.toml", "README.md")


@dataclass(frozen=True)
class Mutation:
    """One fault in the source.

    Args:
        file: where.
        old: what stands there, once.
        new: what takes its place.
        test: the ordinary test that must fail.
    """

    file: str
    old: str
    new: str
    test: str


MUTATIONS = {
    "no fsync": Mutation(
        "evo_rnn/atomic.py",
        "        os.fsync(descriptor)\n",
        "",
        "tests/test_checkpoint_faults.py::test_the_file_is_flushed_before_its_name_and_its_name_before_the_promise",
    ),
    "no rename": Mutation(
        "evo_rnn/atomic.py",
        'temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")',
        "path.unlink(missing_ok=True)\n    temporary = path",
        "tests/test_checkpoint_faults.py::test_a_failing_call_leaves_the_previous_file_whole_and_nothing_else",
    ),
    "no deadline": Mutation(
        "evo_rnn/evaluation/ray_pool.py",
        "        return max(self._deadline, _PATIENCE * statistics.median(seen)) if seen else self._deadline\n",
        "        return 1e6\n",
        "tests/test_pool.py::test_a_worker_killed_or_stopped_in_a_call_changes_no_result",
    ),
    "no padding of rows": Mutation(
        "evo_rnn/evaluation/engines/fused_plane.py",
        "    return -(-count // unit) * unit\n",
        "    return count\n",
        "tests/test_engines.py::test_neither_the_slot_nor_the_neighbours_change_a_bit",
    ),
    "no padding of blocks": Mutation(
        "evo_rnn/evaluation/evaluator.py",
        "    padded = np.zeros((engine.chunk, genes.shape[1]), np.float32)",
        "    padded = np.zeros((len(genes), genes.shape[1]), np.float32)",
        "tests/test_chaos.py::test_however_the_work_is_cut_there_is_one_hash_a_problem",
    ),
    "moving timestamp": Mutation(
        "evo_rnn/tracking/delivery.py",
        'Metric(name, value, record["time"], record["step"])',
        'Metric(name, value, __import__("time").time_ns() // 1_000_000, record["step"])',
        "tests/test_tracking.py::test_a_store_that_fails_again_and_again_gets_every_step_exactly_once",
    ),
    "early signal handler": Mutation(
        "evo_rnn/evaluation/ray_surroundings.py",
        "    with _handlers_kept(), _stdout_kept():\n",
        "    with _stdout_kept():\n",
        "tests/test_pool_sessions.py::test_a_private_session_leaves_nothing_behind_and_a_decoy_package_is_not_run",
    ),
    "no sanitising": Mutation(
        "evo_rnn/fitness.py",
        "    return np.where(np.isfinite(loss) & (loss >= 0), loss, np.inf)\n",
        "    return loss\n",
        "tests/test_fitness.py",
    ),
}


def broken(count: int, seed: int, folder: Path) -> Report:  # noqa: ARG001
    """Apply the first `count` mutations one by one; the named test must pass without and fail with each."""
    report, tree = Report(independent=False), folder / "tree"
    tree.mkdir()
    for name in KEPT:
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copyfile
        copy(source, tree / name)
    chosen = dict(list(MUTATIONS.items())[:count])
    whole = _failed(tree, [mutation.test for mutation in chosen.values()])
    report.check("the tests pass on the whole tree", not whole, whole)
    for name, mutation in chosen.items():
        path = tree / mutation.file
        before = path.read_text(encoding="utf-8")
        if not report.check("the text is there", before.count(mutation.old) == 1, f"{name}: {mutation.file}"):
            continue
        path.write_text(before.replace(mutation.old, mutation.new), encoding="utf-8")
        report.injected[name] += 1
        said = _failed(tree, [mutation.test])
        report.check("a test fails", "failed" in said, f"{name}: {mutation.test}: {said}")
        path.write_text(before, encoding="utf-8")
    return report


def _failed(tree: Path, tests: list[str]) -> str:
    """The last line of pytest; empty if all passed."""
    words = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *dict.fromkeys(tests)]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(words, cwd=tree, env=environment, capture_output=True, text=True, check=False, timeout=600)
    return "" if done.returncode == 0 else (done.stdout.strip().splitlines() or [done.stderr[-200:]])[-1]
