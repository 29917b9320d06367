"""What every comparison shows beside the networks: persistence and lagged regression, judged by the same loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from evo_rnn.fitness import LOSSES, batch
from evo_rnn.shapes import Array
from evo_rnn.tasks.task import Sequences, Task

RAREST = 1e-3  # no baseline calls a class less likely, so that one surprise is not an infinite loss
STEPS = 10  # counted training steps a coefficient that a regression needs to be worth showing
ROWS = 10_000  # steps regressed at a time: memory does not grow with the series


def baselines(task: Task) -> dict[str, dict[str, float]]:
    """Loss of each baseline on training, validation, test and each span: {"persistence": {"train": 0.3, ...}, ...}.

    A regression needs to know the target of each step; where the loss asks for a whole sequence there is none.
    """
    if not LOSSES[task.loss].causal:
        return {"persistence": persistence(task)}
    return {"persistence": persistence(task), "lagged_regression": lagged_regression(task)}


def persistence(task: Task) -> dict[str, float]:
    """The loss of each split when nothing is expected to change.

    The answer is what was last known of the target. Where a task has no such thing it is the mean of the counted
    training targets; for classes, how frequent each is among them.
    """
    answers = _answers(task)
    usual = _as_output(task, answers[task.train.counts].mean(axis=0))

    def answer(data: Sequences) -> Array:
        if data.previous.size and not LOSSES[task.loss].classes:
            return data.previous
        return np.broadcast_to(usual, (*data.counts.shape, task.outputs))

    return _losses(task, answer)


def lagged_regression(task: Task) -> dict[str, float]:
    """The loss of each split for least squares from the last `task.lags` inputs, with an intercept.

    All input columns enter; before the start they are zero. It is fitted in float64 on the counted training steps.
    Where there would be less than ten steps a coefficient, fewer lags are used, but one at least. Classes are regressed
    as indicators, the answers clipped to probabilities. On the sunspot task this is the AR(12) of the literature.
    """
    return _losses(task, lagged_answers(task))


def lagged_answers(task: Task) -> Callable[[Sequences], Array]:
    """The fitted lagged regression: outputs (B, T, O) for sequences, 0 at the steps that do not count."""
    lags = max(1, min(task.lags, (task.train.counted // STEPS - 1) // task.inputs))
    weights = _least_squares(task, lags)

    def answer(data: Sequences) -> Array:
        outputs = np.zeros((*data.counts.shape, task.outputs))
        for b, t, rows in _regressors(data, lags):
            outputs[b, t] = _as_output(task, rows @ weights)
        return outputs

    return answer


def _least_squares(task: Task, lags: int) -> Array:
    """Weights (lags * I + 1, O): the triangular factor of all rows is kept, so any number of rows fits in memory."""
    answers = _answers(task)
    width = lags * task.inputs + 1
    triangle: Array = np.empty((0, width + task.outputs))
    for b, t, rows in _regressors(task.train, lags):
        more = np.hstack([rows, answers[b, t]])
        triangle = np.asarray(np.linalg.qr(np.vstack([triangle, more]), mode="r"))
    weights: Array = np.linalg.lstsq(triangle[:, :width], triangle[:, width:], rcond=None)[0]
    return weights


def _regressors(data: Sequences, lags: int) -> Iterator[tuple[Array, Array, Array]]:
    """Indices (N,) of sequence and step, and the rows (N, lags * I + 1) that predict there, for every counted step."""
    padded = np.pad(data.inputs, ((0, 0), (lags - 1, 0), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, lags, axis=1)  # (B, T, I, lags)
    sequence, step = np.nonzero(data.counts)
    for start in range(0, len(step), ROWS):
        b, t = sequence[start : start + ROWS], step[start : start + ROWS]
        yield b, t, np.hstack([windows[b, t].reshape(len(t), -1), np.ones((len(t), 1))])


def _answers(task: Task) -> Array:
    """The training targets (B, T, O); classes as indicators."""
    if not LOSSES[task.loss].classes:
        return task.train.targets
    return np.eye(task.outputs)[task.train.targets[..., 0].astype(np.int64)]


def _as_output(task: Task, answer: Array) -> Array:
    """What a network would have to output to say `answer`: for classes the logarithm of their probabilities."""
    return np.log(np.clip(answer, RAREST, 1)) if LOSSES[task.loss].classes else answer


def _losses(task: Task, answer: Callable[[Sequences], Array]) -> dict[str, float]:
    loss = LOSSES[task.loss]
    return {name: float(loss(torch.tensor(answer(data))[None], batch(data))[0]) for name, data in task.splits.items()}
