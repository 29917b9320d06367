"""The Add task: which rules carry credit over nine steps, and which only look as if they did.

    python benchmarks/add_task.py [--steps 60000] [--every 1] [--rules rtrl hybrid ...] [--json]

Input x_t is a fair coin, and the target y_t = 0.5 + 0.5 x_{t-5} - 0.25 x_{t-9} is a probability. The network sees (x, 1 - x)
and answers with two values, whose softmax is compared with (y, 1 - y) by cross entropy. It sees only the coin of now, so each
of the two delays that it does not remember costs a known amount: the floors, in closed form.

One sequence, read once and never cut; SGD moves the weights at every step (`--every k`: every k steps, by the sum of k
gradients). A tanh Elman network of 32 units; recurrent weights begin orthogonal, others normal with deviation
1 / sqrt(fan-in), biases 0. Seeds are rows of one population: each has its own weights, stream and signs.

Claims for the last 5,000 of 60,000 steps: exact rules end within 0.015 of the floor, SnAp-1 at least 0.02 above them, and the
immediate term alone (`elman_rule`) at least 0.04 above them.

Task: Marschall, Cho and Savin 2020, A unified framework of online learning algorithms, JMLR 21 (their Add task, with
probabilities as targets).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from statistics import mean

import numpy as np
import torch
from torch import Tensor

from evo_rnn.cells import Elman
from evo_rnn.network import Network, network
from evo_rnn.seeds import generator
from evo_rnn.threads import one_thread
from trainers.gradient import RTRL, UORO, ElmanRule, Estimator, Hybrid, SnAp

HIDDEN, DELAYS, WEIGHTS, LAST = 32, (5, 9), (0.5, -0.25), 5000
EXACT, SNAP_GAP, IMMEDIATE_GAP = 0.015, 0.02, 0.04  # what is claimed
PIECE = 1000  # steps of the stream that are made at once


@dataclass(frozen=True)
class Outcome:
    """How one rule did, seed by seed.

    Args:
        loss: mean over the last steps, in nats.
        own: the same of a network that remembers both delays: the floor of this very piece of the stream.
        seconds: CPU seconds of all seeds together.
    """

    rule: str
    loss: list[float]
    own: list[float]
    seconds: float


def entropy(p: float) -> float:
    """Of a coin that falls on 1 with probability p, in nats."""
    return -sum(q * math.log(q) for q in (p, 1 - p) if q > 0)


def floor(known: tuple[bool, bool]) -> float:
    """The least mean cross entropy of a network that remembers the delays that are `known`, in closed form."""
    total = 0.0
    for seen in product((0, 1), repeat=sum(known)):
        given = iter(seen)
        coins = [next(given) if each else 0.5 for each in known]
        total += entropy(0.5 + sum(w * x for w, x in zip(WEIGHTS, coins, strict=True)))
    return total / (1 << sum(known))


def stream(seeds: int, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Pieces of inputs and targets (P, 1, t, 2), row p by seed p; before the first step all coins are 0."""
    longest = max(DELAYS)
    coins = [generator(seed, "add task") for seed in range(seeds)]
    past = np.zeros((seeds, longest), dtype=np.float32)
    for start in range(0, steps, PIECE):
        count = min(PIECE, steps - start)
        new = np.stack([each.integers(0, 2, count) for each in coins]).astype(np.float32)
        x = np.concatenate([past, new], axis=1)
        y = 0.5 + sum(w * x[:, longest - d : longest - d + count] for w, d in zip(WEIGHTS, DELAYS, strict=True))
        past = x[:, -longest:]
        yield tuple(torch.from_numpy(np.stack([v, 1 - v], axis=-1)[:, None]) for v in (new, y))  # type: ignore[misc]


def drawn(net: Network, seeds: int) -> Tensor:
    """Chromosomes (P, D), row p by seed p."""
    rows = []
    for seed in range(seeds):
        draw = generator(seed, "weights")
        weights = {}
        for leaf in net.layout.leaves:
            value = np.zeros(leaf.shape)
            if len(leaf.shape) > 1:
                value = draw.normal(size=leaf.shape) / math.sqrt(leaf.shape[1])
            if leaf.name == "cell.recurrent":
                value = np.linalg.qr(draw.normal(size=leaf.shape))[0]
            weights[leaf.name] = torch.from_numpy(value.astype(np.float32))[None]
        rows.append(net.layout.pack(weights))
    return torch.cat(rows)


def signs_of_each(seeds: int) -> Callable[[int, str, int, int, int], Tensor]:
    """Signs (P, B, S) for UORO, a row's own ones."""

    def signs(seed: int, word: str, step: int, batch: int, count: int) -> Tensor:
        heads = generator(seed, word, generation=step).integers(0, 2, size=(seeds, batch, count), dtype="int8")
        return torch.from_numpy(heads) * 2 - 1

    return signs


def rules(seeds: int) -> dict[str, tuple[Estimator, float]]:
    """Each rule and its rate. UORO's is lower: its noise grows with the rate, and already at 0.001 it learns nothing."""
    return {
        "rtrl": (RTRL(), 0.02),
        "hybrid": (Hybrid(), 0.02),
        "snap": (SnAp(order=1), 0.02),
        "elman_rule": (ElmanRule(), 0.02),
        "uoro": (UORO(signs=signs_of_each(seeds)), 0.0003),
    }


def surprise(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy (P, t) of outputs (P, 1, t, 2) against probabilities."""
    return -(targets * torch.log_softmax(outputs, dim=3)).sum(dim=(1, 3))


def learned(name: str, estimator: Estimator, rate: float, seeds: int, steps: int, every: int) -> Outcome:
    """Learn along the stream."""
    losses, floors, begun = [], [], time.thread_time()
    with one_thread():
        for loss, least in learning(estimator, rate, seeds, steps, every):
            losses.append(loss)
            floors.append(least)
    found, own = (torch.cat(each, dim=1)[:, -LAST:].double().mean(dim=1).tolist() for each in (losses, floors))
    return Outcome(name, found, own, time.thread_time() - begun)


def learning(estimator: Estimator, rate: float, seeds: int, steps: int, every: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Loss (P, t) of each chunk, before the weights moved, and the entropy of its targets, the least it could be."""
    net = network(Elman(2, HIDDEN), 2)
    genes = drawn(net, seeds).requires_grad_()
    optimizer = torch.optim.SGD([genes], lr=rate)
    memory = estimator.begin(net.cell, net.recurrent(genes), batch=1)
    for inputs, targets in stream(seeds, steps):
        for x, y in zip(inputs.split(every, dim=2), targets.split(every, dim=2), strict=True):
            states, memory = estimator.advance(net.cell, net.recurrent(genes), x, memory)
            loss = surprise(net.read(genes, states), y)
            optimizer.zero_grad()
            loss.sum().backward()
            optimizer.step()
            yield loss.detach(), torch.special.entr(y).sum(dim=(1, 3))


def line(found: Outcome) -> str:
    """One row of the table: the mean, each seed, and each seed above the floor of its own last steps."""
    above = [loss - own for loss, own in zip(found.loss, found.own, strict=True)]
    return (
        f"{found.rule:12}{mean(found.loss):8.4f}   {'  '.join(f'{v:.4f}' for v in found.loss)}   "
        f"{'  '.join(f'{v:+.4f}' for v in above)}   {found.seconds:7.0f} s"
    )


def claims(found: dict[str, Outcome], least: float) -> list[tuple[str, bool]]:
    """What is claimed, and whether it is so for every seed (the first) or for the means."""
    exact = [each for name, each in found.items() if name in ("rtrl", "hybrid")]
    said = [
        (f"{each.rule} within {EXACT} of {least:.4f}, every seed", max(abs(v - least) for v in each.loss) <= EXACT)
        for each in exact
    ]
    for name, gap in (("snap", SNAP_GAP), ("elman_rule", IMMEDIATE_GAP)):
        if exact and name in found:
            worse = min(v - e for each in exact for v, e in zip(found[name].loss, each.loss, strict=True))
            said.append((f"{name} worse than exact by {gap}, every seed: least {worse:.4f}", worse >= gap))
    return said


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60_000)
    parser.add_argument("--every", type=int, default=1, help="steps between two steps of the optimizer")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rules", nargs="+", choices=list(rules(1)), default=list(rules(1)))
    parser.add_argument("--json", action="store_true", help="print data only")
    options = parser.parse_args()
    least, rates = floor((True, True)), rules(options.seeds)
    if not options.json:
        words = {"none": (False, False), "t-5": (True, False), "t-9": (False, True), "both": (True, True)}
        floors = ", ".join(f"{word} {floor(known):.4f}" for word, known in words.items())
        print(f"floors of what is remembered: {floors}\nload {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        print("rule            mean   each seed                above its own stream's floor     CPU time", flush=True)
    found = {}
    for name in options.rules:
        found[name] = learned(name, *rates[name], options.seeds, options.steps, options.every)
        if not options.json:
            print(line(found[name]), flush=True)
    if options.json:
        print(json.dumps([vars(each) for each in found.values()], indent=1))
        return
    for said, met in claims(found, least):
        print(f"{'met    ' if met else 'NOT MET'} {said}")
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
