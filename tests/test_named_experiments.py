"""Every named experiment is run for real, by every one of its methods, for a few passes."""

from __future__ import annotations

import math

import pytest
import torch

from trainers.commands.plan import entrants
from trainers.experiments.builders import model_of, rules_of, task_of, trainer_of
from trainers.experiments.config import resolve
from trainers.experiments.methods import METHODS
from trainers.experiments.named import NAMED
from trainers.experiments.trial import slices


@pytest.mark.parametrize("name", NAMED)
def test_every_method_of_a_named_experiment_works_on_it(name: str) -> None:
    torch.set_num_threads(1)
    config = resolve({**NAMED[name], "budget": {"passes": 30}}, name)
    task = task_of(config)
    model = model_of(config, task)
    methods, notes = entrants(config, model)
    assert "random" in methods
    assert not notes, "a named experiment asks for nothing that cannot be had"
    for method in methods.values():
        *_, last = slices(trainer_of(method, task), model, task, rules_of(config, many=True), 0)
        assert math.isfinite(last.result["test_loss"])


def test_a_comparison_has_enough_seeds_for_a_winner() -> None:
    """Nine seeds can give one of eight methods the victory; with fewer nobody could win."""
    for name, config in NAMED.items():
        assert resolve(config, name).seeds >= 9 or len(config["methods"]) < 8


def test_the_control_is_left_out_where_torch_has_no_twin_and_random_search_is_always_there() -> None:
    config = resolve({"task": "sunspots", "model": {"cell": "indrnn"}, "methods": ["ga", "torch"]})
    methods, notes = entrants(config, model_of(config, task_of(config)))
    assert list(methods) == ["ga", "random"]
    assert notes == ["torch is left out: torch.nn has no twin of IndRNN(inputs=1, hidden=5, activation='relu')."]
    assert METHODS["random"].family == "evolution"


@pytest.mark.parametrize("label", ["ga", "memetic", "evolino"])
def test_evolution_beats_the_lagged_regression_on_the_sunspots_of_training_and_validation(label: str) -> None:
    """A check of sanity: the classical AR(12) has 0.132 and 0.130 there."""
    config = resolve(NAMED["sunspots"], "sunspots")
    task = task_of(config)
    *_, last = slices(
        trainer_of(config.methods[label], task), model_of(config, task), task, rules_of(config, many=True), 0
    )
    assert last.result["train_loss"] < 0.132
    assert last.result["validation_loss"] < 0.130
