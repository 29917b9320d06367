"""How fast a population is evaluated, beside what anyone would write.

    python benchmarks/bench_evaluation.py [--quick] [--json]

One thread, CPU time (other programs do not count), contenders in turn, medians. Trust the ratios, not the milliseconds.

* fused: the engine that "auto" takes, over a whole population, block by block.
* bmm: the whole population at once, one `torch.baddbmm` and one `torch.bmm` a step, `torch.tanh` and `torch.sigmoid`.
* list: as with DEAP, one individual at a time: list, tensor, `vector_to_parameters`, torch.nn layer, Linear.
* one at a time (sunspots): the same without the list, with the loss; the fused side is the whole `LocalEvaluator`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import vector_to_parameters

from evo_rnn.cells import GRU, LSTM, Elman
from evo_rnn.evaluation.engines import engine_for
from evo_rnn.evaluation.evaluator import LocalEvaluator
from evo_rnn.network import Network, network
from evo_rnn.tasks.sunspots import sunspots

INPUTS, OUTPUTS, SAMPLE = 4, 1, 4  # SAMPLE individuals are timed one at a time, and their cost scaled to all
CASES: list[tuple[str, int, int, int, int, float, float]] = [  # cell, H, P, B, T, at least x bmm, at least x list
    ("Elman", 16, 256, 16, 50, 1.7, 4),
    ("Elman", 16, 256, 64, 50, 1.7, 4),
    ("Elman", 32, 256, 16, 50, 1.7, 4),
    ("Elman", 32, 256, 64, 30, 1.7, 4),
    ("Elman", 64, 128, 16, 30, 1.7, 4),
    ("Elman", 64, 128, 64, 30, 1.7, 4),
    ("LSTM", 32, 128, 64, 20, 1.5, 3),
    ("LSTM", 64, 64, 64, 20, 1.5, 3),
    ("GRU", 32, 128, 64, 20, 1.5, 3),
    ("GRU", 64, 64, 64, 20, 1.5, 3),
    ("Elman", 8, 1024, 1, 100, 1.0, 15),
    ("Elman", 64, 256, 1, 50, 0.9, 1),
]
LAYERS: dict[str, Any] = {"Elman": (Elman, nn.RNN), "LSTM": (LSTM, nn.LSTM), "GRU": (GRU, nn.GRU)}


def interleaved(calls: dict[str, Callable[[], object]], repeats: int, least: float = 0.03) -> dict[str, float]:
    """Median CPU seconds of a call of each contender; they take turns, each for at least `least` seconds a turn."""
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            count, start = 0, time.process_time()
            while count == 0 or time.process_time() - start < least:
                call()
                count += 1
            if turn:  # the first turn warms up
                spent[name].append((time.process_time() - start) / count)
    return {name: median(times) for name, times in spent.items()}


def bmm_elman(w: dict[str, Tensor], x: Tensor) -> list[Tensor]:
    """Hidden values (P, B, H) of every step."""
    h, steps = torch.zeros(len(w["cell.bias"]), x.shape[0], w["cell.recurrent"].shape[2]), []
    for now in x.unbind(1):
        driven = torch.baddbmm(w["cell.bias"][:, None], now.expand(len(h), -1, -1), w["cell.input"].mT)
        h = torch.tanh(torch.baddbmm(driven, h, w["cell.recurrent"].mT))
        steps.append(h)
    return steps


def bmm_lstm(w: dict[str, Tensor], x: Tensor) -> list[Tensor]:
    """Hidden values (P, B, H) of every step."""
    h, steps = torch.zeros(len(w["cell.bias"]), x.shape[0], w["cell.recurrent"].shape[2]), []
    c = h
    for now in x.unbind(1):
        driven = torch.baddbmm(w["cell.bias"][:, None], now.expand(len(h), -1, -1), w["cell.input"].mT)
        i, f, g, o = torch.baddbmm(driven, h, w["cell.recurrent"].mT).chunk(4, dim=2)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        steps.append(h)
    return steps


def bmm_gru(w: dict[str, Tensor], x: Tensor) -> list[Tensor]:
    """Hidden values (P, B, H) of every step."""
    h, steps = torch.zeros(len(w["cell.bias"]), x.shape[0], w["cell.recurrent"].shape[2]), []
    for now in x.unbind(1):
        driven = torch.baddbmm(w["cell.bias"][:, None], now.expand(len(h), -1, -1), w["cell.input"].mT).chunk(3, dim=2)
        echoed = torch.bmm(h, w["cell.recurrent"].mT).chunk(3, dim=2)
        r, z = torch.sigmoid(driven[0] + echoed[0]), torch.sigmoid(driven[1] + echoed[1])
        n = torch.tanh(driven[2] + r * (echoed[2] + w["cell.reset_bias"][:, None]))
        h = n + z * (h - n)
        steps.append(h)
    return steps


BMM = {"Elman": bmm_elman, "LSTM": bmm_lstm, "GRU": bmm_gru}


def bmm(cell: str, model: Network, genes: Tensor, x: Tensor) -> Tensor:
    """Outputs (P, T, B, O)."""
    w = dict(model.layout.unpack(genes))
    states = torch.stack(BMM[cell](w, x), dim=1).flatten(1, 2)
    return torch.baddbmm(w["readout.bias"][:, None], states, w["readout.weight"].mT)


def one_by_one(layer: nn.Module, readout: nn.Module, individuals: list[Any], x: Tensor) -> list[Tensor]:
    """Outputs (B, T, O) of each individual: a list of numbers, or a tensor."""
    parameters = [*layer.parameters(), *readout.parameters()]
    answers = []
    for individual in individuals:
        vector_to_parameters(torch.as_tensor(individual), parameters)
        answers.append(readout(layer(x)[0]))
    return answers


def individuals(
    kind: Callable[..., nn.Module], inputs: int, hidden: int, count: int
) -> tuple[nn.Module, nn.Module, Tensor]:
    """A torch.nn layer, a readout, and `count` random parameter vectors of both."""
    layer, readout = kind(inputs, hidden, batch_first=True), nn.Linear(hidden, OUTPUTS)
    size = sum(p.numel() for p in (*layer.parameters(), *readout.parameters()))
    return layer, readout, torch.randn(count, size) / hidden**0.5


def run_case(case: tuple[str, int, int, int, int, float, float], repeats: int) -> dict[str, Any]:
    """One row of the table."""
    name, hidden, population, batch, steps, least_bmm, least_list = case
    cell, layer_kind = LAYERS[name]
    model = network(cell(INPUTS, hidden), OUTPUTS)
    x = torch.randn(batch, steps, INPUTS)
    engine = engine_for(model, x)
    genes = torch.from_numpy(model.layout.draw(np.random.default_rng(0), population))
    blocks = nn.functional.pad(genes, (0, 0, 0, -population % engine.block)).chunk(-(-population // engine.block))
    layer, readout, vectors = individuals(layer_kind, INPUTS, hidden, SAMPLE)
    lists = vectors.tolist()
    seconds = interleaved(
        {
            "fused": lambda: [engine(block) for block in blocks],
            "bmm": lambda: bmm(name, model, genes, x),
            "list": lambda: one_by_one(layer, readout, lists, x),
        },
        repeats,
    )
    seconds["list"] *= population / SAMPLE
    ratios = {other: seconds[other] / seconds["fused"] for other in ("bmm", "list")}
    return {
        "case": f"{name} H={hidden} P={population} B={batch} T={steps}",
        "net_steps_per_s": population * batch * steps / seconds["fused"],
        "ratios": ratios,
        "targets": {"bmm": least_bmm, "list": least_list},
    }


def run_sunspots(population: int, repeats: int) -> dict[str, Any]:
    """Elman 5 on the sunspot training years: chromosomes in, losses out."""
    data = sunspots().train
    model = network(Elman(1, 5), 1)
    evaluator = LocalEvaluator(model, data)
    genes = model.layout.draw(np.random.default_rng(0), population)
    layer, readout, vectors = individuals(nn.RNN, 1, 5, SAMPLE)
    x, y = (torch.as_tensor(a, dtype=torch.float32) for a in (data.inputs, data.targets))
    counts = torch.as_tensor(data.counts)
    seconds = interleaved(
        {
            "fused": lambda: evaluator(genes),
            "one at a time": lambda: [
                float((answer - y)[counts].square().mean()) for answer in one_by_one(layer, readout, list(vectors), x)
            ],
            "champion": lambda: evaluator(genes[:1]),
        },
        repeats,
    )
    passes = population / seconds["fused"]
    return {
        "case": f"sunspots Elman 5 P={population}",
        "passes_per_s": passes,
        "champion_ms": 1e3 * seconds["champion"],
        "ratios": {"one at a time": passes * seconds["one at a time"] / SAMPLE},
        "targets": {"one at a time": 10},
    }


def line(row: dict[str, Any]) -> str:
    """One row as text: the figure, then each ratio with its target."""
    figure = (
        f"{row['passes_per_s']:,.0f} passes/s"
        if "passes_per_s" in row
        else f"{row['net_steps_per_s']:,.0f} net-steps/s"
    )
    champion = f"  one champion {row['champion_ms']:.2f} ms" if "champion_ms" in row else ""
    ratios = "  ".join(
        f"{name} x{row['ratios'][name]:<6.1f}(>= {least:g}: {'yes' if row['ratios'][name] >= least else 'NO'})"
        for name, least in row["targets"].items()
    )
    return f"{row['case']:32} {figure:>24}  {ratios}{champion}"


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer cases and repeats")
    parser.add_argument("--json", action="store_true", help="print data only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    repeats, cases = (3, CASES[3:11:3]) if options.quick else (7, CASES)
    rows = []
    with torch.no_grad():
        jobs: list[Callable[[], dict[str, Any]]] = [partial(run_case, case, repeats) for case in cases]
        jobs += [partial(run_sunspots, count, repeats) for count in (100, 1000)]
        for job in jobs:
            rows.append(job())
            if not options.json:
                print(line(rows[-1]), flush=True)
    if options.json:
        print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
