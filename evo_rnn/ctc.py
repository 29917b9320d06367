"""Connectionist temporal classification (Graves, Fernández, Gomez and Schmidhuber 2006, ICML 23): labels without places.

A network sees T steps and should say a shorter string of labels; when it says each one is its own affair. At every step it
gives one value a class, class 0 being the blank (no label). A path is one class a step; merging its repeats and then
dropping its blanks gives the string that it spells, and p(string) = sum over its paths of prod_t y_t[class at t].

In `Sequences` the string of a sequence is its targets (B, T, 1) that are not 0, in order, wherever among the counted steps
they stand; its length in steps is the number of counted steps, which come before all others. The loss "ctc" is the sum over
sequences of -log p(string), divided by the number of counted steps of all of them: nats a step.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from evo_rnn.errors import DataError
from evo_rnn.shapes import Array, check_shape

BLANK = 0


def surprise(outputs: Tensor, targets: Tensor, counts: Tensor) -> Tensor:
    """-log p(string) in nats (P, B) of outputs (P, B, T, O), targets (B, T, 1) and counts (B, T).

    Raises:
        DataError: if the targets hold something else than labels, a string does not fit into its steps, or steps that
            count come after one that does not.
    """
    strings, lengths, steps = _checked(targets, counts, outputs.shape[3])
    people = len(outputs)
    told = torch.where(counts[..., None], outputs, 0.0)  # other steps cannot matter, not even as NaN
    scores = torch.log_softmax(told.flatten(0, 1), dim=2).transpose(0, 1)  # (T, P B, O)
    nats = torch.nn.functional.ctc_loss(
        scores, strings.repeat(people, 1), steps.repeat(people), lengths.repeat(people), BLANK, "none"
    )
    return nats.clamp(min=0).view(people, -1)  # rounding may take a certain string's probability above 1


def spelled(outputs: Tensor, counts: Tensor) -> Tensor:
    """The string (P, B, T) that the likeliest path of outputs (P, B, T, O) spells, zeros after it.

    This is best path decoding: exact for the path, not always the likeliest string.
    """
    path = outputs.argmax(dim=3)
    new = torch.ones_like(path, dtype=torch.bool)
    new[..., 1:] = path[..., 1:] != path[..., :-1]
    return _packed(path, new & (path != BLANK) & counts)


def right(outputs: Tensor, targets: Tensor, counts: Tensor) -> Tensor:
    """Which sequences are spelled without an error, (P, B) bool; none that has a broken output."""
    strings, _, _ = _checked(targets, counts, outputs.shape[3])
    sound = (outputs.isfinite().all(dim=3) | ~counts).all(dim=2)
    return (spelled(outputs, counts) == strings).all(dim=2) & sound


def greedy(outputs: Array | Tensor, counts: Array | Tensor) -> list[list[int]]:
    """The string of labels of each sequence that the likeliest path spells.

    Args:
        outputs: (B, T, O) of one network.
        counts: (B, T) bool, the steps that count.

    Raises:
        ValueError: if a shape does not fit.
    """
    check_shape(outputs, "outputs", ("B", "T", "O"), "Give the outputs of one network.")
    check_shape(counts, "counts", tuple(outputs.shape[:2]))
    said, heard = (
        each if isinstance(each, Tensor) else torch.tensor(np.ascontiguousarray(each)) for each in (outputs, counts)
    )
    return _lists(spelled(said[None], heard)[0])


def label_strings(targets: Array | Tensor, counts: Array | Tensor) -> list[list[int]]:
    """The string of labels of each sequence of targets (B, T, 1), as `greedy` gives them.

    Raises:
        ValueError: if a shape does not fit.
    """
    check_shape(targets, "targets", ("B", "T", 1), "Labels are one number a step.")
    check_shape(counts, "counts", tuple(targets.shape[:2]))
    meant, heard = (
        each if isinstance(each, Tensor) else torch.tensor(np.ascontiguousarray(each)) for each in (targets, counts)
    )
    labels = meant[..., 0].long()
    return _lists(_packed(labels, (labels != BLANK) & heard))


def edit_distance(said: Sequence[int], meant: Sequence[int]) -> int:
    """The fewest insertions, deletions and substitutions from one string to the other (Levenshtein 1966)."""
    columns = np.arange(len(meant) + 1)
    row, wanted = columns, np.array(meant, dtype=np.int64)
    for count, label in enumerate(said, start=1):
        best = np.minimum(row[1:] + 1, row[:-1] + (wanted != label))  # leave the label out, or say it for another one
        best = np.concatenate([[count], best])
        row = np.minimum.accumulate(best - columns) + columns  # or put in what was meant
    return int(row[-1])


def label_error_rate(said: Sequence[Sequence[int]], meant: Sequence[Sequence[int]]) -> float:
    """Edit distances of all strings, summed, a label that was meant: 0 is perfect, saying nothing is 1, it can be more.

    Raises:
        ValueError: if there are not as many strings as were meant, or no label was.
    """
    labels = sum(map(len, meant))
    if len(said) != len(meant) or not labels:
        raise ValueError(
            f"said should have {len(meant)} strings and meant at least one label but there are {len(said)} strings and "
            f"{labels} labels. Give both for the same sequences."
        )
    return sum(edit_distance(one, other) for one, other in zip(said, meant, strict=True)) / labels


def _packed(labels: Tensor, kept: Tensor) -> Tensor:
    """The labels (..., T) that are kept, moved to the front in their order, zeros after them."""
    place = torch.where(kept, kept.cumsum(dim=-1) - 1, labels.shape[-1])
    room = labels.new_zeros(*labels.shape[:-1], labels.shape[-1] + 1)  # the last place takes what is not kept
    return room.scatter(-1, place, labels)[..., :-1]


def _lists(strings: Tensor) -> list[list[int]]:
    return [[label for label in string if label != BLANK] for string in strings.tolist()]


def _checked(targets: Tensor, counts: Tensor, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Strings (B, T), how many labels each has (B,), and how many steps there are for it (B,)."""
    check_shape(targets, "targets", (*counts.shape, 1), "CTC takes one label a step, or 0.")
    labels = torch.where(counts, targets[..., 0], 0.0)
    known = (labels == labels.floor()) & (labels >= 0) & (labels < classes)
    strings = _packed(torch.where(known, labels, 0.0).long(), counts & (labels != BLANK))
    lengths, steps = (strings != BLANK).sum(dim=1), counts.sum(dim=1)
    twins = ((strings[:, 1:] == strings[:, :-1]) & (strings[:, 1:] != BLANK)).sum(dim=1)
    gaps = counts[:, 1:] & ~counts[:, :-1]
    if not (known.all() and (lengths + twins <= steps).all()) or gaps.any():
        raise DataError(_complaint(labels, known, gaps, torch.stack([lengths, twins, steps]), classes))
    return strings, lengths, steps


def _complaint(labels: Tensor, known: Tensor, gaps: Tensor, sizes: Tensor, classes: int) -> str:
    """What is wrong with the first sequence that cannot be learned."""
    length, twins, steps = sizes
    strange, broken = ~known.all(dim=1), gaps.any(dim=1)
    b = int((strange | broken | (length + twins > steps)).nonzero()[0])
    if strange[b]:
        label = labels[b][~known[b]][0].item()
        return (
            f"sequence {b}: targets should be 0 or a label from 1 to {classes - 1} but one is {label:g}. "
            "Number the labels from 1 and give the task one output more than labels."
        )
    if broken[b]:
        step = int(gaps[b].nonzero()[0]) + 1
        return (
            f"sequence {b}: the steps that count should come before all others but step {step} counts after one that "
            "does not. Cut the sequence where it should begin; a washout cannot be used."
        )
    return (
        f"sequence {b}: its {length[b]} labels should fit into the steps that count and need {length[b] + twins[b]}, with "
        f"a blank between each of {twins[b]} pairs of equal neighbours, but {steps[b]} count. Give it more steps or fewer "
        "labels."
    )
