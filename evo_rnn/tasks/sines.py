"""Superimposed sines, the test of Evolino (Schmidhuber et al. 2007, Training recurrent networks by Evolino, Neural Comp. 19).

The frequencies are those of the authors: 0.2, 0.311, 0.42, 0.51 and 0.74 radians a step, whose ratios are not small whole
numbers, so that the sum hardly repeats itself. The splits follow each other in time, and none is trained on twice.
"""

from __future__ import annotations

import numpy as np

from evo_rnn.errors import ConfigError
from evo_rnn.seeds import generator
from evo_rnn.tasks.task import Sequences, Task, check_least

FREQUENCIES = (0.2, 0.311, 0.42, 0.51, 0.74)  # radians a step


def sines(waves: int = 3, length: int = 300, horizon: int = 1, noise: float = 0.0, seed: int = 0) -> Task:
    """Superimposed sines: input the sum now, target the sum `horizon` steps ahead.

    Args:
        waves: how many sines are added, 2 to 5.
        length: T, steps of each split.
        horizon: how many steps ahead.
        noise: standard deviation of what is added to the inputs, relative to that of the sum.
        seed: of the noise.

    Raises:
        ConfigError: if a setting is too small or too large.
    """
    for name, value, least in (("waves", waves, 2), ("length", length, 10), ("horizon", horizon, 1)):
        check_least(name, value, least)
    if waves > len(FREQUENCIES):
        raise ConfigError(f"waves should be at most {len(FREQUENCIES)} but is {waves}.")
    if not 0 <= noise < np.inf:
        raise ConfigError(f"noise should be 0 or more but is {noise}.")
    time = np.arange(3 * length + horizon)
    clean = sum(np.sin(frequency * time) for frequency in FREQUENCIES[:waves])
    shift, scale = float(np.mean(clean[:length])), float(np.std(clean[:length]))
    values = (clean - shift) / scale
    heard = values + noise * generator(seed, "sines").standard_normal(len(values))

    def split(place: int) -> Sequences:
        now = slice(place * length, (place + 1) * length)
        ahead = values[now.start + horizon : now.stop + horizon]
        inputs = heard[None, now, None]
        counts = np.ones((1, length), dtype=bool)
        return Sequences(inputs, ahead[None, :, None], counts, previous=inputs).washed(min(20, length // 2))

    return Task(
        "sines",
        split(0),
        split(1),
        split(2),
        outputs=1,
        lags=20 if length >= 100 else 4,
        notes=f"{waves} superimposed sines, {horizon} ahead; error = mean squared error / variance of the training part",
        scaling={"x": {"shift": shift, "scale": scale}},
    )
