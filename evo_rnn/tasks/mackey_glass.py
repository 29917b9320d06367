"""The Mackey-Glass series (Mackey and Glass 1977, Oscillation and chaos in physiological control systems, Science).

x'(t) = beta x(t - tau) / (1 + x(t - tau)^n) - gamma x(t). With tau = 17, the usual choice since Farmer 1982, the motion
is mildly chaotic. As in Jaeger 2001 (GMD report 148) every sequence starts from its own constant history near 1.2, so
sequences are different stretches of one attractor.
"""

from __future__ import annotations

import numpy as np

from evo_rnn.seeds import generator
from evo_rnn.shapes import Array
from evo_rnn.tasks.task import SPLITS, Sequences, Task, check_least

BETA, GAMMA = 0.2, 0.1  # and n = 10


def mackey_glass(
    length: int = 500, sequences: int = 1, seed: int = 0, horizon: int = 6, tau: int = 17, transient: int = 1000
) -> Task:
    """The Mackey-Glass task: input x(t), target x(t + horizon), one step a time unit.

    Args:
        length: T, steps of a sequence, of which the first tau + 1 do not count.
        sequences: B, how many sequences each split has.
        seed: of the histories, from which all follows.
        horizon: how many time units ahead; 6 and 84 are the usual ones.
        tau: the delay, in time units.
        transient: time units that are dropped before a sequence begins.

    Raises:
        ConfigError: if a setting is too small.
    """
    least = {"sequences": (sequences, 1), "horizon": (horizon, 1), "tau": (tau, 1), "transient": (transient, 0)}
    for name, (value, smallest) in {"length": (length, tau + 3), **least}.items():
        check_least(name, value, smallest)
    history = [1.2 + 0.2 * (generator(seed, "mackey_glass", part).random(sequences) - 0.5) for part in SPLITS]
    series = integrate(np.concatenate(history), transient + length + horizon, tau)[transient:]
    shift, scale = series[:length, :sequences].mean(), series[:length, :sequences].std()
    values = ((series - shift) / scale).T[..., None]

    def split(place: int) -> Sequences:
        own = values[place * sequences : (place + 1) * sequences]
        now, ahead = own[:, :length], own[:, horizon:]
        return Sequences(now, ahead, np.ones((sequences, length), dtype=bool), previous=now).washed(tau + 1)

    return Task(
        "mackey_glass",
        split(0),
        split(1),
        split(2),
        outputs=1,
        lags=tau + 1,
        notes=f"Mackey-Glass, tau = {tau}, {horizon} ahead; error = mean squared error / variance of the training part",
        scaling={"x": {"shift": float(shift), "scale": float(scale)}},
    )


def integrate(history: Array, steps: int, tau: int = 17, substeps: int = 10) -> Array:
    """x(1), ..., x(steps) of shape (steps, N) from N constant histories (N,), by fourth-order Runge-Kutta.

    One delay after the other (the method of steps): within one, what the delayed value drives is known beforehand. Half
    way between two grid points the delayed value is read off the cubic through both values and both slopes.
    """
    delay, step = tau * substeps, 1.0 / substeps
    past = np.tile(history, (delay + 1, 1))
    slope = np.zeros_like(past)
    grid = [past[-1:]]
    while sum(map(len, grid)) <= steps * substeps:
        half = (past[:-1] + past[1:]) / 2 + step / 8 * (slope[:-1] - slope[1:])
        drive, between = _production(past), _production(half)
        now = np.empty_like(past)
        now[0] = past[-1]
        for k in range(delay):
            now[k + 1] = _runge_kutta(now[k], drive[k], between[k], drive[k + 1], step)
        grid.append(now[1:])
        past, slope = now, drive - GAMMA * now
    return np.concatenate(grid)[substeps::substeps][:steps]


def _production(delayed: Array) -> Array:
    square = delayed * delayed
    fourth = square * square
    tenth = fourth * fourth * square  # products are the same bits on every machine, powers are not
    driven: Array = BETA * delayed / (1 + tenth)
    return driven


def _runge_kutta(x: Array, first: Array, between: Array, last: Array, step: float) -> Array:
    a = first - GAMMA * x
    b = between - GAMMA * (x + step / 2 * a)
    c = between - GAMMA * (x + step / 2 * b)
    d = last - GAMMA * (x + step * c)
    return x + step / 6 * (a + 2 * b + 2 * c + d)
