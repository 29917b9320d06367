"""What a step of each exact gradient rule costs, in time and in memory, beside the others and beside its own matrix product.

    python benchmarks/bench_gradient.py [--quick] [--json]

A step is the forward pass, the rule's bookkeeping and the backward pass of a plain quadratic loss; float32, one thread, 8
inputs. The contenders of a case take turns, many short ones. A ratio is taken inside each turn, so that other programs, which
come and go, hit both sides; shown are medians and quartiles of CPU time, and medians of wall time behind the bar.

* bptt, hybrid, rtrl: the rules as they are used, chunk by chunk (`handed_over`); bptt over the same steps as hybrid.
* sgemm: D J alone, (S, S) by (S, D) for every sequence, by `torch.bmm`. "hot" repeats one product; "turns" works between two
  arrays, each product reading what the last one wrote, as RTRL must: promises are about "turns", "hot" stands beside it. D is
  orthogonal: J neither grows nor becomes denormal.
* jacrev: RTRL as one would write it, `torch.func.jacrev` of the step by weights and state, and D J + I with a dense I.

All contenders give the same gradient; that is checked before they are timed.
"""

from __future__ import annotations

import os

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler is silent

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from math import ceil
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from evo_rnn.cells import GRU, LSTM, Cell, Elman
from evo_rnn.threads import one_thread
from trainers.gradient import BPTT, RTRL, UORO, Estimator, Hybrid, SnAp
from trainers.gradient.estimator import layout_of, unpacked
from trainers.gradient.slope import handed_over

INPUTS = 8
CELLS: dict[str, Callable[[int, int], Cell]] = {"Elman": Elman, "LSTM": LSTM, "GRU": GRU}
CASES = [("Elman", n, b) for n in (32, 64, 128) for b in (1, 8)]
FOR_INFORMATION = [("LSTM", 32, 1), ("LSTM", 64, 1), ("GRU", 32, 1), ("GRU", 64, 1)]
QUICK = [("Elman", 32, 1), ("Elman", 64, 1), ("Elman", 128, 1)]
RULES: dict[str, Estimator] = {"bptt": BPTT(), "hybrid": Hybrid(), "rtrl": RTRL()}
CLOSE = 1e-4  # relative, float32
MEMORY = """
numbers kept for one sequence, Elman n=64: declared, carried to the next chunk, most at once in one chunk and
in a loop of two (whose states live on until the next are there); growth: 16 chunks over two
rule       chunk    declared     carried        peak  / declared   peak of two    growth"""
WORK = 4e8  # multiply-adds of one turn of RTRL, about
LEAST = 8  # its steps, at least: the first one multiplies zeros that lie nowhere, which is fast


@dataclass(frozen=True)
class Target:
    """A ratio that is promised: of the time of `above` to that of `below`, at least `bound`, or at most."""

    above: str
    below: str
    bound: float
    least: bool = True

    @property
    def ratio(self) -> str:
        """Its name."""
        return f"{self.above} / {self.below}"

    def met(self, value: float) -> bool:
        """Whether a ratio keeps the promise."""
        return value >= self.bound if self.least else value <= self.bound


def targets(cell: str, hidden: int, batch: int) -> list[Target]:
    """What is promised of a case."""
    if cell != "Elman":
        return []
    found = [Target("sgemm turns", "rtrl", 0.5 if hidden >= 64 and batch == 1 else 0.42)]
    if hidden >= 64:
        found.append(Target("rtrl", "hybrid", 7 if hidden == 64 else 25))
    if (hidden, batch) == (64, 1):
        found.append(Target("hybrid", "bptt", 3, least=False))
    if (hidden, batch) == (32, 1):
        found.append(Target("jacrev", "rtrl", 3))
    return found


def gradient(rule: Estimator, cell: Cell, genes: Tensor, x: Tensor) -> Tensor:
    """Of Σ s², (P, D), over all steps of `x (B, t, I)`."""
    theta, (batch, steps) = genes.clone().requires_grad_(), x.shape[:2]
    memory, block = rule.begin(cell, theta, batch), handed_over(rule, cell, steps, batch)
    for part in x.split(block, dim=1):
        states, memory = rule.advance(cell, theta, part, memory)
        states.square().sum().backward()
    assert theta.grad is not None
    return theta.grad


def naive(cell: Cell, genes: Tensor, x: Tensor) -> Tensor:
    """The same by RTRL as one would write it, for one sequence."""

    def step(theta: Tensor, s: Tensor, now: Tensor) -> tuple[Tensor, Tensor]:
        after = cell.step(unpacked(cell, theta[None]), now[None], s[None, None])[0, 0]
        return after, after

    jacobians = torch.func.jacrev(step, argnums=(0, 1), has_aux=True)
    theta, s, influence = genes[0], x.new_zeros(cell.state), x.new_zeros(cell.state, genes.shape[1])
    total = torch.zeros_like(theta)
    with torch.no_grad():
        for now in x.unbind(dim=1):
            (immediate, d), s = jacobians(theta, s, now)
            influence = d @ influence + immediate
            total += 2 * s @ influence
    return total[None]


def products(hot: bool, d: Tensor, influence: Tensor, other: Tensor, count: int) -> None:
    """So many D J, either the same one or each of the last."""
    for _ in range(count):
        torch.bmm(d, influence, out=other)
        if not hot:
            influence, other = other, influence


def contenders(cell: Cell, batch: int) -> dict[str, tuple[Callable[[], object], int]]:
    """What is timed, and its steps a call; after a check that all rules agree."""
    size, state = layout_of(cell).size, cell.state
    genes = torch.randn(1, size) / state**0.5
    steps = 2 * max(state, 16)
    chunk, wanted = handed_over(RULES["rtrl"], cell, steps, batch), max(LEAST, WORK / (state**2 * size * batch))
    few = min(steps, chunk * ceil(wanted / chunk))  # whole chunks
    x = torch.randn(batch, steps, INPUTS)
    calls: dict[str, tuple[Callable[[], object], int]] = {}
    for name, rule in RULES.items():
        count = few if name == "rtrl" else steps
        calls[name] = (partial(gradient, rule, cell, genes, x[:, :count]), count)
    if state <= 32 and batch == 1:
        calls["jacrev"] = (partial(naive, cell, genes, x[:, :few]), few)
    agree(calls, {count: gradient(BPTT(), cell, genes, x[:, :count]) for count in (few, steps)})
    d = torch.linalg.qr(torch.randn(batch, state, state))[0]
    first, second = torch.randn(2, batch, state, size).unbind()
    for name in ("sgemm hot", "sgemm turns"):
        calls[name] = (partial(products, name == "sgemm hot", d, first, second, few), few)
    return calls


def agree(calls: dict[str, tuple[Callable[[], Any], int]], references: dict[int, Tensor]) -> None:
    """Stop unless every contender's gradient is the reference's."""
    for name, (call, count) in calls.items():
        reference = references[count]
        error = float((call() - reference).norm() / reference.norm())
        if not error < CLOSE:
            raise SystemExit(f"{name} differs from bptt by {error:.1e} over {count} steps: times would mean nothing.")


def timed(calls: dict[str, tuple[Callable[[], object], int]], turns: int) -> dict[str, list[tuple[float, float]]]:
    """CPU and wall seconds of a step, turn by turn; the first turn warms up."""
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for turn in range(turns + 1):
        for name, (call, steps) in calls.items():
            cpu, wall = time.thread_time(), time.perf_counter()
            call()
            found = (time.thread_time() - cpu) / steps, (time.perf_counter() - wall) / steps
            if turn:
                spent[name].append(found)
    return spent


def spread(values: Iterable[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, middle, high = quantiles(list(values), n=4, method="inclusive")
    return {"median": middle, "low": low, "high": high}


def speed(case: tuple[str, int, int], turns: int) -> dict[str, Any]:
    """One case: microseconds a step of every contender, and the ratios."""
    kind, hidden, batch = case
    spent = timed(contenders(CELLS[kind](INPUTS, hidden), batch), turns)
    promised = {target.ratio: target for target in targets(*case)}
    shown = {"rtrl / hybrid", "hybrid / bptt", "sgemm turns / rtrl", "sgemm hot / rtrl"} | promised.keys()
    ratios = {}
    for name in sorted(shown):
        above, below = (spent[each] for each in name.split(" / "))
        found = spread(a[0] / b[0] for a, b in zip(above, below, strict=True))
        found["wall"] = median(a[1] / b[1] for a, b in zip(above, below, strict=True))
        if name in promised:
            target = promised[name]
            found |= {"bound": target.bound, "least": target.least, "met": target.met(found["median"])}
        ratios[name] = found
    micro = {name: 1e6 * median(cpu for cpu, _ in values) for name, values in spent.items()}
    share = sum(cpu for each in spent.values() for cpu, _ in each) / sum(w for each in spent.values() for _, w in each)
    return {"case": f"{kind} n={hidden} B={batch}", "us": micro, "ratios": ratios, "cpu_share": share}


def peak(call: Callable[[], object]) -> int:
    """The most bytes that torch had allocated during a call, beyond those before it."""
    call()  # what is made once stays out
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        call()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        seen.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    moves = sorted(
        (e["ts"], e["args"]["Bytes"], e["args"]["Total Allocated"]) for e in events if e["name"] == "[memory]"
    )
    return int(max(total for _, _, total in moves) - (moves[0][2] - moves[0][1]))


def memory(name: str, rule: Estimator, cell: Cell) -> dict[str, Any]:
    """Declared and measured numbers of one sequence, and the same over sixteen times as many steps."""
    genes, chunk = torch.randn(1, layout_of(cell).size) / cell.state**0.5, handed_over(rule, cell, 10**6, 1)
    if name == "bptt":
        chunk = 2 * cell.state
    x = torch.randn(1, 16 * chunk, INPUTS)

    def walk(steps: int) -> None:
        theta = genes.clone().requires_grad_()
        kept = rule.begin(cell, theta, 1)
        for part in x[:, :steps].split(steps if name == "bptt" else chunk, dim=1):
            states, kept = rule.advance(cell, theta, part, kept)
            states.square().sum().backward()

    theta = genes.clone().requires_grad_()
    _, kept = rule.advance(cell, theta, x[:, :chunk], rule.begin(cell, theta, 1))
    arrays = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in kept.values()}
    once, twice, often = (peak(partial(walk, count * chunk)) // 4 for count in (1, 2, 16))
    return {
        "rule": name,
        "chunk": chunk,
        "declared": rule.storage(cell, chunk),
        "carried": sum(arrays.values()) // 4,
        "peak": once,
        "peak_of_two": twice,
        "growth": often / twice,
    }


def line(row: dict[str, Any]) -> str:
    """One case as text."""
    times = "  ".join(f"{name} {value:.0f}" for name, value in row["us"].items())
    lines = [f"{row['case']}: microseconds of CPU a step: {times}  (CPU {row['cpu_share']:.0%} of wall)"]
    for name, found in row["ratios"].items():
        verdict = ""
        if "met" in found:
            sign = ">=" if found["least"] else "<="
            verdict = f"{sign} {found['bound']:g}: {'met' if found['met'] else 'NOT MET'}"
        numbers = f"{found['median']:7.2f}  [{found['low']:.2f}, {found['high']:.2f}] | {found['wall']:.2f}"
        lines.append(f"    {name:20} {numbers:36} {verdict}")
    return "\n".join(lines)


def memory_line(row: dict[str, Any]) -> str:
    """One row of the table of memory as text."""
    return (
        f"{row['rule']:10}{row['chunk']:6}{row['declared']:12,}{row['carried']:12,}{row['peak']:12,}"
        f"{row['peak'] / row['declared']:12.2f}{row['peak_of_two']:14,}{row['growth']:10.2f}"
    )


def main() -> None:
    """Print the tables, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer cases and turns")
    parser.add_argument("--json", action="store_true", help="print data only")
    options = parser.parse_args()
    say: Callable[..., None] = (lambda *_, **__: None) if options.json else print
    torch.manual_seed(0)
    turns, cases = (7, QUICK) if options.quick else (15, CASES + FOR_INFORMATION)
    load, rows, kept = [os.getloadavg()[0]], [], []
    with one_thread():
        say(f"load {load[0]:.1f} on {os.cpu_count()} cores; {turns} turns; median [quartiles] | wall")
        for case in cases:
            rows.append(speed(case, turns))
            say(line(rows[-1]), flush=True)
        say(
            "\nnumbers kept for one sequence, Elman n=64: declared, carried to the next chunk, most at once in one chunk and"
        )
        say("in a loop of two (whose states live on until the next are there); growth: 16 chunks over two")
        say("rule       chunk    declared     carried        peak  / declared   peak of two    growth")
        for name, rule in (RULES | {"snap": SnAp(), "uoro": UORO()}).items():
            kept.append(memory(name, rule, Elman(INPUTS, 64)))
            say(memory_line(kept[-1]), flush=True)
    load.append(os.getloadavg()[0])
    missed = [f"{row['case']} {name}" for row in rows for name, r in row["ratios"].items() if not r.get("met", True)]
    say(f"\nload {load[-1]:.1f}; not met: {', '.join(missed) or 'none'}")
    if options.json:
        print(json.dumps({"load": load, "speed": rows, "memory": kept}, indent=1))


if __name__ == "__main__":
    main()
