"""What graphs and their search cost, as ratios inside one run.

    python benchmarks/bench_topology.py

1. Training 32 weight sets of a cell against training one (B = 16, H = 8, T = 50, forward and backward).
2. A weight set of a graph against torch.nn.LSTM of the same size (P = 128, B = 10, H = 8, T = 50), each divided by its
   multiply-adds a step, so that small cells are not flattered.
3. A search on sunspots: genomes trained a CPU second, and the share of the time that is not training.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import islice
from statistics import median

import torch
from torch import Tensor, nn

from evo_rnn.cells import LSTM
from evo_rnn.cells.named_graphs import GRAPHS, graph
from evo_rnn.network import Network, network
from evo_rnn.tasks import TASKS
from populations.topology.settings import Settings
from trainers.inner import Inner
from trainers.topology import Topology

INPUTS, HIDDEN, STEPS = 12, 8, 50


def seconds(call: Callable[[], object]) -> float:
    """CPU seconds of a call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def interleaved(first: Callable[[], object], second: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Medians of both, measured in turn."""
    first(), second()
    pairs = [(seconds(first), seconds(second)) for _ in range(rounds)]
    return median(a for a, _ in pairs), median(b for _, b in pairs)


def training(net: Network, count: int, batch: int) -> Callable[[], None]:
    """One gradient of `count` weight sets."""
    genes = torch.randn(count, net.layout.size, requires_grad=True)
    x = torch.randn(batch, STEPS, INPUTS)

    def once() -> None:
        genes.grad = None
        net.predict(genes, x).square().sum().backward()

    return once


def of_torch(layer: nn.LSTM, x: Tensor) -> Callable[[], None]:
    """Ten gradients of torch's own layer, as one is too short to be measured."""

    def ten() -> None:
        for _ in range(10):
            layer(x)[0].square().sum().backward()

    return ten


def multiply_adds(net: Network) -> int:
    """Of the matrices of a cell, a step."""
    return sum(leaf.full for leaf in net.cell.leaves() if len(leaf.shape) > 1)


def main() -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--trainings", type=int, default=40, help="of the search")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print("cell              32 weight sets / 1    a weight set / nn.LSTM    the same a multiply-add")
    layer, x = nn.LSTM(INPUTS, HIDDEN, batch_first=True), torch.randn(10, STEPS, INPUTS)
    whole = multiply_adds(network(graph("lstm", INPUTS, HIDDEN), 1))
    for name in GRAPHS:
        net = network(graph(name, INPUTS, HIDDEN), 1)
        many, one = interleaved(training(net, 32, 16), training(net, 1, 16), asked.rounds)
        ours, theirs = interleaved(training(net, 128, 10), of_torch(layer, x), asked.rounds)
        ratio = ours / 128 / (theirs / 10)
        print(f"{name:16}  {many / one:16.2f}    {ratio:22.2f}    {ratio * whole / multiply_adds(net):23.2f}")
    task = TASKS["sunspots"]()
    search = Topology(Settings(population=16), training=Inner())
    steps = list(islice(search.train(network(LSTM(1, 4), 1), task, 0), asked.trainings))
    outside, inside = steps[-1].checkpoint()["loop"][:2]
    print(f"\na search on sunspots: {asked.trainings / inside:.2f} trainings a CPU second of training,")
    print(f"{100 * outside / (outside + inside):.1f} % of the time outside training, {steps[-1].passes:,.0f} passes")


if __name__ == "__main__":
    main()
