"""`evo-rnn doctor`: looks at this installation and says what works, what does not, and what to do."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PACKAGES = ("torch", "ray", "mlflow", "deap", "numpy", "pandas", "pyarrow", "pydantic")


def examine(*, as_json: bool) -> None:
    """Print one line a check; exit 75 if one that a run needs has failed."""
    checks: tuple[tuple[str, Callable[[], str]], ...] = (
        ("python", lambda: platform.python_version()),
        ("packages", _packages),
        ("machine", _machine),
        ("gpu", _gpu),
        ("disk", _disk),
        ("evaluation", _evaluation),
        ("tracking", _tracking),
        ("ray", _ray),
    )
    rows: list[dict[str, Any]] = []
    for name, check in checks:
        try:
            rows.append({"name": name, "ok": True, "says": check()})
        except Exception as error:
            rows.append({"name": name, "ok": False, "says": " ".join(str(error).split()) or type(error).__name__})
        if not as_json:
            sys.stdout.write(f"{'ok  ' if rows[-1]['ok'] else 'FAIL'} {name:<11} {rows[-1]['says']}\n")
            sys.stdout.flush()
    if as_json:
        print(json.dumps(rows))
    if not all(row["ok"] for row in rows):
        raise SystemExit(75)


def _packages() -> str:
    try:
        return ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    except PackageNotFoundError as error:
        raise RuntimeError(f"{error.name} is not installed. Install the project again: pip install -e .") from None


def _machine() -> str:
    import psutil

    memory = psutil.virtual_memory().total / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GiB of memory, {platform.system()} {platform.machine()}"


def _gpu() -> str:
    import torch

    names = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
    return ", ".join(names) or "none; evaluation runs on the CPU"


def _disk() -> str:
    free = shutil.disk_usage(".").free / 2**30
    if free < 1:
        raise RuntimeError(f"{free:.2f} GiB free here. Make room: runs and checkpoints need some.")
    return f"{free:.0f} GiB free here"


def _evaluation() -> str:
    import time

    import numpy as np
    import torch

    from evo_rnn.cells import Elman
    from evo_rnn.evaluation.evaluator import LocalEvaluator
    from evo_rnn.network import network
    from evo_rnn.tasks import TASKS

    torch.set_num_threads(1)
    task = TASKS["sunspots"]()
    model = network(Elman(task.inputs, 5), task.outputs)
    evaluator = LocalEvaluator(model, task.train)
    genes = model.layout.draw(np.random.default_rng(0), 512)
    evaluator(genes)
    start = time.perf_counter()
    evaluator(genes)
    return f"{512 / (time.perf_counter() - start):,.0f} passes a second (sunspots, 41 genes, one thread)"


def _tracking() -> str:
    from pathlib import Path

    from evo_rnn.tracking import open_client, tracking_uri
    from evo_rnn.tracking.store import public

    uri = tracking_uri()
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        return f"{public(uri)} is made by the first run"
    runs = open_client(uri).search_experiments(max_results=1000)
    return f"{public(uri)} answers, {len(runs)} experiments"


def _ray() -> str:
    import time

    from evo_rnn.evaluation.ray_pool import RayPool

    start = time.perf_counter()
    with RayPool(1) as pool:
        pool.map("evo_rnn.evaluation.probe:echo", [(1,)])
        ready = time.perf_counter() - start
        start = time.perf_counter()
        pool.map("evo_rnn.evaluation.probe:echo", [(k,) for k in range(100)])
        trip = (time.perf_counter() - start) / 100
    return f"a worker answered after {ready:.1f} s; a round trip takes {1e3 * trip:.1f} ms"
