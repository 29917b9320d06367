"""What Ray costs a generation, and what it brings.

    python benchmarks/bench_ray.py [--quick] [--json]

Wall-clock time, contenders in turn, medians; beside each ratio what is demanded of it. Trust the ratios, and only on a
machine with nothing else to do: the load that was found before and after is printed.

* overhead: one generation of 1,000 chromosomes of 1,000 genes to two workers whose work is next to nothing, against
  `ray.put` of the same matrix.
* batch: the same against one task an individual, by value and by a reference and an index.
* speed-up: an LSTM whose generation takes a worker half a second and more, on two workers against one.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from statistics import median
from typing import Any, TypeVar

import numpy as np
import torch

from evo_rnn.cells import LSTM
from evo_rnn.evaluation.evaluator import LocalEvaluator
from evo_rnn.evaluation.ray_evaluator import RayEvaluator, shards
from evo_rnn.evaluation.ray_pool import RayPool
from evo_rnn.evaluation.ray_session import join_ray
from evo_rnn.network import network
from evo_rnn.tasks.task import Sequences

POPULATION, GENES = 1_000, 1_000
T = TypeVar("T")
ROWS = "evo_rnn.evaluation.probe:rows"


def in_turn(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds on the clock of each call of each contender; the first turn warms up and is not counted."""
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn:
                spent[name].append(time.perf_counter() - start)
    return spent


def row(name: str, ratio: float, wanted: float, most: bool, spent: dict[str, list[float]]) -> dict[str, Any]:
    """One line of the result: `most` says that the ratio should be at most what is wanted."""
    medians = {who: 1e3 * median(times) for who, times in spent.items()}
    met = ratio <= wanted if most else ratio >= wanted
    return {"name": name, "ratio": ratio, "wanted": wanted, "most": most, "met": met, "ms": medians}


def shipping(repeats: int) -> list[dict[str, Any]]:
    """The generation to two workers as one matrix, as tasks, and the bare `put`."""
    import ray

    matrix = np.random.default_rng(0).standard_normal((POPULATION, GENES), dtype=np.float32)
    with RayPool(2) as pool:
        cuts = shards(POPULATION, 128, 2)

        def generation() -> object:
            shared = pool.share(matrix)
            return pool.map(ROWS, [(shared, start, stop) for start, stop in cuts])

        by_value = ray.remote(num_cpus=0.1)(lambda genes: float(genes.sum()))
        by_index = ray.remote(num_cpus=0.1)(lambda genes, index: float(genes[index].sum()))

        def indexed() -> object:
            shared = ray.put(matrix)
            return ray.get([by_index.remote(shared, k) for k in range(POPULATION)])

        near = in_turn({"generation": generation, "put": lambda: ray.put(matrix)}, repeats)
        far = in_turn(
            {
                "generation": generation,
                "task by value": lambda: ray.get([by_value.remote(each) for each in matrix]),
                "task by index": indexed,
            },
            max(repeats // 8, 3),
        )
    ratio = median(near["generation"]) / median(near["put"])
    cheapest = min(median(far["task by value"]), median(far["task by index"]))
    return [
        row(f"overhead, {POPULATION * GENES:,} genes, 2 workers / ray.put", ratio, 6, True, near),
        row("tasks of one individual / one matrix", cheapest / median(far["generation"]), 10, False, far),
    ]


def speed_up(repeats: int) -> dict[str, Any]:
    """A generation on one and on two workers, and here."""
    rng = np.random.default_rng(0)
    data = Sequences(rng.normal(size=(32, 40, 4)), rng.normal(size=(32, 40, 1)), np.ones((32, 40), dtype=bool))
    model = network(LSTM(4, 32), 1)
    local = LocalEvaluator(model, data)
    genes = model.layout.draw(rng, 16 * local.block)
    count = 1
    while True:  # how many fill half a second and a little more
        start = time.process_time()
        local(genes[: count * local.block])
        each = (time.process_time() - start) / count
        if count * each > 0.2 or count == 16:
            break
        count *= 2
    genes = model.layout.draw(rng, 2 * local.block * max(round(0.6 / each / 2), 1))
    one, two = (RayEvaluator(model, data, workers=workers) for workers in (1, 2))
    try:
        spent = in_turn({"1 worker": lambda: one(genes), "2 workers": lambda: two(genes)}, repeats)
    finally:
        one.close()
        two.close()
    ratio = median(a / b for a, b in zip(spent["1 worker"], spent["2 workers"], strict=True))
    return row(
        f"2 workers against 1, {len(genes)} LSTMs, {each * len(genes) / local.block:.2f} s of CPU",
        ratio,
        1.8,
        False,
        spent,
    )


def in_session(cpus: int, measured: Callable[[int], T], repeats: int) -> T:
    """Measure in a Ray session of its own: the idle workers that tasks leave behind would take part in the next one."""
    leave = join_ray("local", cpus=cpus, gpus=False, object_store_memory=300 * 2**20)
    try:
        return measured(repeats)
    finally:
        leave()


def main() -> None:
    """Print the lines, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    parser.add_argument("--json", action="store_true", help="print data only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    before = os.getloadavg()[0]
    repeats = (5, 16) if options.quick else (15, 60)
    rows = [in_session(3, speed_up, repeats[0]), *in_session(8, shipping, repeats[1])]
    load = {"before": before, "after": os.getloadavg()[0]}
    if options.json:
        print(json.dumps({"rows": rows, "load": load, "cores": os.cpu_count()}, indent=1))
        return
    for each in rows:
        figures = ", ".join(f"{who} {ms:.1f} ms" for who, ms in each["ms"].items())
        sign, word = "<=" if each["most"] else ">=", "met" if each["met"] else "NOT MET"
        print(f"{each['name']}: {each['ratio']:.2f} ({sign} {each['wanted']:g}: {word})   {figures}")
    print(f"load {load['before']:.1f} before, {load['after']:.1f} after, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
