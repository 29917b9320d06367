"""Losses, shares and the one function from loss to fitness, against their stated semantics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from evo_rnn.fitness import FLOOR, LOSSES, batch, ranking, reciprocal, sanitise, tolerances
from evo_rnn.tasks.task import Sequences

HOSTILE = [0.0, -0.0, 5e-324, FLOOR / 2, FLOOR, 2 * FLOOR, 1.0, 1e300, -1.0, np.nan, np.inf, -np.inf]
losses = arrays(np.float64, st.integers(0, 12), elements=st.one_of(st.sampled_from(HOSTILE), st.floats()))
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


def valid(loss: Any) -> Any:
    return np.isfinite(loss) & (loss >= 0)


def example(classes: bool, seed: int = 0, networks: int = 4, *, causal: bool = True) -> tuple[torch.Tensor, Sequences]:
    """Outputs (4, 3, 6, 2) and data of which about half the steps count; the first ones for a loss of whole sequences."""
    random = np.random.default_rng(seed)
    targets = random.integers(2, size=(3, 6, 1)).astype(float) if classes else random.normal(size=(3, 6, 2))
    counts = random.random((3, 6)) < 0.5
    counts[0, 0], counts[1, 1] = True, False
    if not causal:
        targets[:, 1:], counts = 0, ~np.sort(~counts, axis=1)
    return torch.tensor(random.normal(size=(networks, 3, 6, 2))), Sequences(np.zeros((3, 6, 1)), targets, counts)


# --- from loss to fitness -------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(losses)
def test_sanitised_losses_are_not_negative_and_invalid_ones_are_infinite(loss: Any) -> None:
    clean = sanitise(loss)
    assert clean.dtype == np.float64
    assert not np.isnan(clean).any()
    np.testing.assert_array_equal(clean, np.where(valid(loss), loss, np.inf))
    np.testing.assert_array_equal(sanitise(clean), clean)


@settings(deadline=None)
@given(losses)
def test_fitness_is_one_over_the_loss_but_never_above_one_over_the_floor(loss: Any) -> None:
    fitness = reciprocal(loss)
    expected = [1 / max(x, FLOOR) if valid(x) else 0.0 for x in loss.tolist()]
    np.testing.assert_array_equal(fitness, np.array(expected, dtype=np.float64))
    assert np.isfinite(fitness.sum())


@settings(deadline=None)
@given(losses)
def test_any_valid_network_is_fitter_than_any_invalid_one(loss: Any) -> None:
    fitness = reciprocal(loss)
    assert (fitness[valid(loss)] > 0).all()
    assert (fitness[~valid(loss)] == 0).all()


def test_the_largest_float_is_a_valid_loss_and_still_has_some_fitness() -> None:
    assert reciprocal(np.array([np.finfo(np.float64).max]))[0] > 0


@settings(deadline=None)
@given(losses)
def test_the_ranking_is_by_fitness_then_loss_then_index(loss: Any) -> None:
    fitness, clean = reciprocal(loss), sanitise(loss)
    by_hand = sorted(range(len(loss)), key=lambda k: (-fitness[k], clean[k], k))
    assert ranking(loss).tolist() == by_hand


def test_losses_below_the_floor_tie_in_fitness_but_not_in_rank() -> None:
    loss = np.array([FLOOR / 2, FLOOR / 4, FLOOR / 2, np.nan])
    assert len(set(reciprocal(loss)[:3])) == 1
    assert ranking(loss).tolist() == [1, 0, 2, 3]


@settings(deadline=None)
@given(losses)
def test_nothing_here_changes_its_argument(loss: Any) -> None:
    before = loss.copy()
    sanitise(loss), reciprocal(loss), ranking(loss)
    np.testing.assert_array_equal(loss, before)


# --- losses ---------------------------------------------------------------------------------------------------------


def test_mse_is_the_mean_over_the_counted_steps_and_all_outputs() -> None:
    outputs, data = example(classes=False)
    expected = [((y.numpy() - data.targets)[data.counts] ** 2).mean() for y in outputs]
    np.testing.assert_allclose(LOSSES["mse"](outputs, batch(data)), expected, rtol=1e-14)


def test_cross_entropy_equals_torch_nn() -> None:
    outputs, data = example(classes=True)
    classes = torch.tensor(data.targets[data.counts][:, 0]).long()
    counted = outputs[:, torch.tensor(data.counts)]
    expected = [torch.nn.functional.cross_entropy(y, classes).item() for y in counted]
    np.testing.assert_allclose(LOSSES["cross_entropy"](outputs, batch(data)), expected, rtol=1e-13)


@every_loss
@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 99), poison=st.sampled_from([np.nan, np.inf, -np.inf, 1e300]))
def test_steps_that_do_not_count_cannot_matter(loss: Any, seed: int, poison: float) -> None:
    outputs, data = example(loss.classes, seed, causal=loss.causal)
    clean = loss(outputs, batch(data))
    outputs[:, torch.tensor(~data.counts)] = poison
    data.targets[~data.counts] = poison
    assert torch.equal(loss(outputs, batch(data)), clean)


@every_loss
@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 99), row=st.integers(0, 3), pick=st.integers(0, 17), poison=st.sampled_from([np.nan, np.inf])
)
def test_a_broken_output_at_a_counted_step_invalidates_that_network_alone(
    loss: Any, seed: int, row: int, pick: int, poison: float
) -> None:
    outputs, data = example(loss.classes, seed, causal=loss.causal)
    clean = sanitise(loss(outputs, batch(data)).numpy())
    places = np.argwhere(data.counts)
    b, t = places[pick % len(places)]
    outputs[row, b, t, 0] = poison
    broken = sanitise(loss(outputs, batch(data)).numpy())
    assert broken[row] == np.inf
    others = np.arange(len(clean)) != row
    np.testing.assert_array_equal(broken[others], clean[others])


@every_loss
def test_unknown_targets_that_do_not_count_leave_slopes_finite(loss: Any) -> None:
    outputs, data = example(loss.classes, causal=loss.causal)
    data.targets[~data.counts] = np.nan
    outputs.requires_grad_()
    loss(outputs, batch(data)).sum().backward()
    assert outputs.grad is not None
    assert outputs.grad.isfinite().all()
    assert outputs.grad[:, torch.tensor(data.counts)].abs().min() > 0
    assert not outputs.grad[:, torch.tensor(~data.counts)].any()


@every_loss
def test_the_total_is_the_loss_times_the_counted_steps(loss: Any) -> None:
    outputs, data = example(loss.classes, causal=loss.causal)
    np.testing.assert_allclose(loss.total(outputs, batch(data)), loss(outputs, batch(data)) * data.counted, rtol=1e-14)


# --- what is learned ------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(arrays(np.float64, array_shapes(min_dims=1, max_dims=1, max_side=9), elements=st.floats(-3, 3)))
def test_the_learned_share_is_the_share_of_counted_steps_within_tolerance(errors: Any) -> None:
    assume(np.abs(np.abs(errors) - 1).min() > 1e-9)
    time = len(errors)
    counts = np.arange(time + 1) < time  # the last step does not count and is perfect
    data = Sequences(np.zeros((1, time + 1, 1)), np.zeros((1, time + 1, 1)), counts[None])
    outputs = torch.tensor([*errors, 0.0]).view(1, 1, -1, 1)
    share = LOSSES["mse"].share(outputs, batch(data), torch.tensor([1.0]))
    assert share.item() == pytest.approx((np.abs(errors) <= 1).mean())


def test_a_step_is_learned_when_every_output_is_within_its_own_tolerance() -> None:
    data = Sequences(np.zeros((1, 2, 1)), np.zeros((1, 2, 2)), np.ones((1, 2), dtype=bool))
    outputs = torch.tensor([[0.5, 5.0], [0.5, 50.0]])[None, None]
    assert LOSSES["mse"].share(outputs, batch(data), torch.tensor([1.0, 10.0])).item() == 0.5


def test_a_class_is_learned_when_its_output_is_the_largest() -> None:
    outputs, data = example(classes=True)
    share = LOSSES["cross_entropy"].share(outputs, batch(data), torch.zeros(2))
    right = outputs.argmax(dim=3).numpy() == data.targets[..., 0]
    np.testing.assert_allclose(share, right[:, data.counts].mean(axis=1))


@every_loss
def test_a_broken_network_has_learned_nothing(loss: Any) -> None:
    outputs, data = example(loss.classes, causal=loss.causal)
    assert loss.share(outputs * np.nan, batch(data), torch.full((2,), 9.0)).tolist() == [0, 0, 0, 0]


def test_the_tolerance_is_in_standard_deviations_of_each_counted_target() -> None:
    _, data = example(classes=False)
    expected = [0.25 * data.targets[data.counts][:, k].std() for k in range(2)]
    np.testing.assert_allclose(tolerances(data, 0.25), expected)


def test_data_without_a_counted_step_are_refused() -> None:
    with pytest.raises(ValueError, match="counts should be True"):
        Sequences(np.zeros((1, 2, 1)), np.zeros((1, 2, 1)), np.zeros((1, 2), dtype=bool))
