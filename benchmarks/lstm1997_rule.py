"""The learning rule of Hochreiter and Schmidhuber 1997, appendix A.1, by hand for many trials at once, one row each.

The package's estimator (`trainers.gradient.lstm1997`) serves any cell and takes milliseconds a symbol; these experiments
need millions of symbols. So its equations are written out here for `MemoryBlocks` with a `Logistic` readout and numpy:
`Online` changes the weights after every symbol, `AtEnd` after every sequence whose only error is at its end. Weights go
in and out as chromosomes, and the tests hold both to the estimator's own steps within 1e-12.

With u = [x_t, y(t-1), 1], i and o the gates, s the net input's logistic function, g = 4 s - 2, h(c) = tanh(c / 2):
e = (target - y) y (1 - y),   e_c = o h'(c) Σ_k w_kc e_k,   ΔW_g = e_c Σ_t i g' u,   ΔW_i = Σ_block e_c Σ_t g i' u,
ΔW_o = o' (Σ_block h(c) Σ_k w_kc e_k) u,   ΔW_k = e_k y_c,   all times the learning rate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from evo_rnn.cells import MemoryBlocks
from evo_rnn.network import Logistic, Network

Values = NDArray[np.float64]
Numbers = NDArray[np.int64]
Rows = NDArray[np.bool_]  # which rows


def blocks(inputs: int, outputs: int, count: int, size: int, biases: str) -> Network:
    """A network of the paper: memory blocks, and logistic outputs that have a bias if all units have one."""
    cell = MemoryBlocks(inputs, count, size, biases=biases)
    return Network(cell, Logistic(cell.hidden, outputs, bias=biases == "all"))


@dataclass
class Weights:
    """What P networks know, as the equations want it.

    Args:
        hidden: (P, N, M + 1) links of the rows [i | o | g] from u; the last is the bias.
        biased: (N,) 1.0 where there is a bias.
        out: (P, O, H + 1) links of the outputs from cells; the last is the bias.
        out_biased: whether there is one.
    """

    hidden: Values
    biased: Values
    out: Values
    out_biased: bool

    def kept(self, rows: Rows) -> Weights:
        """Those rows alone."""
        return Weights(self.hidden[rows], self.biased, self.out[rows], self.out_biased)


def unpacked(network: Network, genes: Values) -> Weights:
    """The weights of chromosomes (P, D)."""
    named = {name: value.numpy() for name, value in network.layout.unpack(torch.from_numpy(genes)).items()}
    sizes = _rows(network.cell)
    bias = [named.get(f"cell.bias_{kind}", np.zeros((len(genes), size))) for kind, size in sizes.items()]
    biased = [np.full(size, float(f"cell.bias_{kind}" in named)) for kind, size in sizes.items()]
    links = [named["cell.input"], named["cell.recurrent"], np.concatenate(bias, axis=1)[..., None]]
    out = named["readout.weight"]
    own = named.get("readout.bias", np.zeros(out.shape[:2]))
    return Weights(
        np.concatenate(links, axis=2),
        np.concatenate(biased),
        np.concatenate([out, own[..., None]], axis=2),
        "readout.bias" in named,
    )


def packed(network: Network, weights: Weights) -> Values:
    """Chromosomes (P, D) of the weights."""
    inputs = network.cell.inputs
    named = {
        "cell.input": weights.hidden[:, :, :inputs],
        "cell.recurrent": weights.hidden[:, :, inputs:-1],
        "readout.weight": weights.out[:, :, :-1],
        "readout.bias": weights.out[:, :, -1],
    }
    first = 0
    for kind, size in _rows(network.cell).items():
        named[f"cell.bias_{kind}"] = weights.hidden[:, first : first + size, -1]
        first += size
    leaves = {leaf.name for leaf in network.layout.leaves}
    found = {name: torch.from_numpy(np.ascontiguousarray(each)) for name, each in named.items() if name in leaves}
    genes: Values = network.layout.pack(found).numpy()
    return genes


def _rows(cell: object) -> dict[str, int]:
    assert isinstance(cell, MemoryBlocks)
    return {"i": cell.blocks, "o": cell.blocks, "g": cell.hidden}


def logistic(net: Values) -> Values:
    """1 / (1 + exp(-net)), which cannot overflow as a tanh."""
    y = np.tanh(0.5 * net)
    y *= 0.5
    y += 0.5
    return np.asarray(y)


class Online:
    """P networks whose weights change after every symbol."""

    def __init__(self, network: Network, genes: Values) -> None:
        assert isinstance(network.cell, MemoryBlocks)
        self.cell, self.w = network.cell, unpacked(network, genes)
        people, inputs, hidden = len(genes), network.cell.inputs, network.cell.hidden
        self.u = np.zeros((people, inputs + network.cell.state - hidden + 1))  # [x | h | i | o | 1]
        self.heard = np.zeros((people, 2, 1, self.u.shape[1]))  # u of this step, as input gates and as cells hear it
        self.c, self.hc = np.zeros((people, hidden)), np.zeros((people, hidden))
        self.slope, self.trace = np.zeros((people, 2, hidden)), np.zeros((people, 2, hidden, self.u.shape[1]))

    def keep(self, rows: Rows) -> None:
        """Go on with those rows alone."""
        self.w = self.w.kept(rows)
        for name in ("u", "heard", "c", "hc", "slope", "trace"):
            setattr(self, name, getattr(self, name)[rows])

    def step(self, x: Values, new: Rows) -> None:
        """One tick on inputs (P, I), from nothing where a `new (P,)` string begins; traces gather."""
        cell, u = self.cell, self.u
        first, gates, size = cell.inputs, cell.inputs + cell.hidden, cell.blocks
        if new.any():
            for each in (u, self.c, self.trace):
                each[new] = 0.0
        u[:, :first], u[:, -1] = x, 1.0
        self.heard[:, 0, 0] = u
        self.heard[:, 1, 0] = u
        self.heard[:, 1, 0, -1] = self.w.biased[-1]
        s = logistic(np.matmul(self.w.hidden, u[:, :, None])[:, :, 0])
        i = s[:, :size].repeat(cell.block_size, axis=1)
        g = 4 * s[:, 2 * size :] - 2
        self.slope[:, 0] = g * i * (1 - i)
        self.slope[:, 1] = i * (1 - 0.25 * g * g)  # g' = 4 s (1 - s)
        self.trace += self.slope[:, :, :, None] * self.heard
        self.c += i * g
        self.hc = np.tanh(0.5 * self.c)
        u[:, gates:-1] = s[:, : 2 * size]
        u[:, first:gates] = s[:, size : 2 * size].repeat(cell.block_size, axis=1) * self.hc

    def outputs(self) -> Values:
        """The outputs (P, O) now."""
        return logistic(np.matmul(self.w.out, self._read()[:, :, None])[:, :, 0])

    def learn(self, targets: Values, outputs: Values, rate: float) -> None:
        """Change the weights by the error of `outputs (P, O)` to `targets (P, O)`."""
        cell, size = self.cell, self.cell.blocks
        e = rate * (targets - outputs) * outputs * (1 - outputs)
        back = np.matmul(e[:, None], self.w.out[:, :, :-1])[:, 0]
        o = self.u[:, -1 - size : -1]
        self.w.out += e[:, :, None] * self._read()[:, None]
        gate = (back * self.hc).reshape(len(e), size, -1).sum(axis=2) * o * (1 - o)
        e_c = back * o.repeat(cell.block_size, axis=1) * 0.5 * (1 - self.hc * self.hc)
        change = e_c[:, None, :, None] * self.trace
        hidden = self.w.hidden
        hidden[:, :size] += change[:, 0].reshape(len(e), size, cell.block_size, -1).sum(axis=2)
        hidden[:, size : 2 * size] += gate[:, :, None] * self.heard[:, 0]
        hidden[:, 2 * size :] += change[:, 1]

    def _read(self) -> Values:
        first = self.cell.inputs
        bias = np.full((len(self.u), 1), float(self.w.out_biased))
        return np.concatenate([self.u[:, first : first + self.cell.hidden], bias], axis=1)


class AtEnd:
    """P networks whose weights change after every sequence: within one they stand still, so steps are taken together.

    The loop over time is bare: tanh in place of the logistic function, s = (1 + a) / 2, with the halves in the weights.
    """

    def __init__(self, network: Network, genes: Values) -> None:
        assert isinstance(network.cell, MemoryBlocks)
        self.cell, self.w = network.cell, unpacked(network, genes)

    def keep(self, rows: Rows) -> None:
        """Go on with those rows alone."""
        self.w = self.w.kept(rows)

    def sweep(self, x: Values, last: Numbers, targets: Values, rate: float) -> Values:
        """The outputs (P, O) at step `last (P,)` of x (T, P, I); weights change by their error to targets (P, O)."""
        a, hc, y = self._forward(x)
        rows, size = np.arange(len(last)), self.cell.blocks
        o = 0.5 + 0.5 * a[last, rows, size : 2 * size]
        end = hc[last, rows]
        wide = o.repeat(self.cell.block_size, axis=1)
        read = np.concatenate([wide * end, np.full((len(rows), 1), float(self.w.out_biased))], axis=1)
        outputs = logistic(np.matmul(self.w.out, read[:, :, None])[:, :, 0])
        e = rate * (targets - outputs) * outputs * (1 - outputs)
        back = np.matmul(e[:, None], self.w.out[:, :, :-1])[:, 0]
        self.w.out += e[:, :, None] * read[:, None]
        gate = (back * end).reshape(len(e), size, -1).sum(axis=2) * o * (1 - o)
        e_c = back * wide * 0.5 * (1 - end * end)
        heard = self._heard(x, y)
        self.w.hidden[:, size : 2 * size] += gate[:, :, None] * heard[last, rows][:, None]
        self._trace(a, e_c, heard, last)
        return outputs

    def _forward(self, x: Values) -> tuple[Values, Values, Values]:
        """Tanh of half the net inputs (T, P, N), h(c) (T, P, H), and what was heard, [2 h | a_i | a_o], (T + 1, P, M)."""
        cell, size = self.cell, self.cell.blocks
        (steps, people), inputs, hidden = x.shape[:2], self.cell.inputs, self.w.hidden
        u = hidden[:, :, inputs:-1]
        links = 0.25 * u
        base = 0.5 * hidden[:, :, -1] + links[:, :, cell.hidden :].sum(axis=2)
        wide = np.matmul(0.5 * hidden[:, None, :, :inputs], x.transpose(1, 0, 2)[..., None])[..., 0]
        a = np.ascontiguousarray(wide.transpose(1, 0, 2)) + base
        hc, y = np.empty((steps, people, cell.hidden)), np.zeros((steps + 1, people, u.shape[2]))
        y[0, :, cell.hidden :] = -1.0  # gates begin at 0
        blocked, net = (people, size, cell.block_size), np.empty((people, hidden.shape[1], 1))
        c, moved = np.zeros(blocked), np.empty(blocked)
        i, o, squashed = a[:, :, :size, None], a[:, :, size : 2 * size, None], hc.reshape(steps, *blocked)
        for t, now in enumerate(a):
            np.matmul(links, y[t, :, :, None], out=net)
            now += net[:, :, 0]
            np.tanh(now, out=now)
            np.multiply(i[t] + 1, now[:, 2 * size :].reshape(blocked), out=moved)  # i g = (1 + a_i) / 2 times 2 a_g
            np.add(c, moved, out=c)
            np.tanh(0.5 * c, out=squashed[t])
            y[t + 1, :, : cell.hidden] = ((o[t] + 1) * squashed[t]).reshape(people, -1)
            y[t + 1, :, cell.hidden :] = now[:, : 2 * size]
        return a, hc, y

    def _heard(self, x: Values, y: Values) -> Values:
        """U (T, P, M + 1)."""
        hidden = self.cell.hidden
        one = np.ones((*x.shape[:2], 1))
        return np.concatenate([x, 0.5 * y[:-1, :, :hidden], 0.5 + 0.5 * y[:-1, :, hidden:], one], axis=2)

    def _trace(self, a: Values, e_c: Values, heard: Values, last: Numbers) -> None:
        """Add e_c Σ_t i g' u and Σ_block e_c Σ_t g i' u, over the steps up to the last."""
        cell, size = self.cell, self.cell.blocks
        i = (0.5 + 0.5 * a[:, :, :size]).repeat(cell.block_size, axis=2)
        half = a[:, :, 2 * size :]  # g / 2
        there = (np.arange(len(a))[:, None] <= last)[..., None] * e_c
        credit_i = (2 * half * i * (1 - i) * there).reshape(*a.shape[:2], size, -1).sum(axis=3)
        credit_g = i * (1 - half * half) * there
        credit = np.concatenate([credit_i, credit_g], axis=2)
        change = np.matmul(credit.transpose(1, 2, 0), heard.transpose(1, 0, 2))
        self.w.hidden[:, :size] += change[:, :size]
        change[:, size:, -1] *= self.w.biased[-1]
        self.w.hidden[:, 2 * size :] += change[:, size:]
