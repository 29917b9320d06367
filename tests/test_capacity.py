"""How many workers pay off: the sum of the pieces, the advice in words, and both commands."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evo_rnn.errors import ConfigError
from evo_rnn.evaluation.costs import Costs, Wire, advice, efficiency, generation
from trainers import cli
from trainers.commands.capacity import job_of, measure
from trainers.commands.request import Request

COSTS = Costs(blocks=64, block=0.1, driver=0.01, size=4_000_000, put=0.002, trip=0.001, dispatch=0.0002, start=5.0)
FREE = {"driver": 0.0, "size": 0, "put": 0.0, "trip": 0.0, "dispatch": 0.0, "start": 0.0}
seconds = st.floats(0, 10)


def called(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["evo-rnn", *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    said = capsys.readouterr()
    return int(stop.value.code or 0), said.out, said.err


def test_costless_workers_are_perfect_until_the_blocks_are_shared_out() -> None:
    costs, wire = Costs(64, 0.1, **FREE), Wire(straggler=0.0, node=10_000)  # type: ignore[arg-type]
    for workers in (1, 2, 4, 16, 64):
        assert efficiency(costs, workers, wire) == pytest.approx(1)
    assert generation(costs, 65, wire) == generation(costs, 64, wire) == pytest.approx(0.1)
    assert generation(costs, 33, wire) == pytest.approx(0.2), "one of them has two blocks"


def test_a_generation_by_hand() -> None:
    wire = Wire(latency=0.001, bandwidth=1e6, node=4, straggler=0.0)
    assert generation(COSTS, 0, wire) == pytest.approx(6.41)
    assert generation(COSTS, 4, wire) == pytest.approx(0.01 + 0.002 + 4 * 0.0002 + 0.001 + 1.6)
    assert generation(COSTS, 500, wire) == generation(COSTS, 64, wire), "who has nothing to do is not asked"
    assert generation(COSTS, 12, wire) == pytest.approx(0.0154 + 2 * 0.001 + 2 * 4.0 + 0.6)
    remote = 2 * 0.001 + 1 * 4.0
    assert generation(COSTS, 8, wire) == pytest.approx(0.01 + 0.002 + 8 * 0.0002 + 0.001 + remote + 0.8)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5000), seconds, seconds, seconds, seconds, st.integers(1, 10_000))
def test_workers_never_beat_their_number_and_stragglers_and_slow_links_never_help(
    blocks: int, block: float, driver: float, trip: float, dispatch: float, workers: int
) -> None:
    costs = Costs(blocks, block + 1e-6, driver, 1_000_000, 0.0, trip, dispatch, 0.0)
    best = Wire(0.0, 1e12, 10_000, 0.0)
    assert 0 < efficiency(costs, workers, best) <= 1 + 1e-9
    for worse in (Wire(0.1, 1e12, 16, 0.0), Wire(0.0, 1e6, 16, 0.0), Wire(0.0, 1e12, 10_000, 0.3)):
        assert generation(costs, workers, worse) >= generation(costs, workers, best)


@pytest.mark.parametrize(
    ("costs", "cores", "workers", "why"),
    [
        (COSTS, 4, 4, r"4 workers take .* bounded by the 4 cores.* paid back after 2 generations"),
        (Costs(2, 0.1, **FREE), 8, 2, "bounded by the 2 blocks"),  # type: ignore[arg-type]
        (Costs(1, 5.0, 0, 0, 0.01, 0, 0, 5), 8, 0, "fits one block.* Take workers: 0"),
        (Costs(9, 1e-5, 0, 0, 0.01, 0.001, 0, 5), 8, 0, r"takes 0\.09 ms, sharing it out at least 11 ms"),
        (Costs(9, 1.0, 0, 0, 0.01, 0.001, 0, 5), 1, 0, "one core"),
    ],
)
def test_the_advice_says_how_many_and_why(costs: Costs, cores: int, workers: int, why: str) -> None:
    found, words = advice(costs, cores, Wire(node=cores, straggler=0.0))
    assert found == workers
    assert re.search(why, words), words


@pytest.mark.parametrize(
    ("part", "value"), [("blocks", 0), ("blocks", 1.5), ("block", -1), ("put", float("nan")), ("trip", "1")]
)
def test_costs_that_are_none_are_refused_by_name(part: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"costs: {part} should be"):
        Costs(**(vars(COSTS) | {part: value}))


def test_simulate_prints_a_table_and_data_from_given_costs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "costs.json"
    path.write_text(json.dumps({"job": "a job", "costs": vars(COSTS)}), encoding="utf-8")
    code, out, _ = called(capsys, monkeypatch, "simulate", "--costs", str(path), "--bandwidth", "1", "--node", "8")
    assert code == 0
    assert "a job" in out
    assert "10,000" in out
    assert "More than 64 workers have nothing to do" in out
    code, out, _ = called(capsys, monkeypatch, "simulate", "--costs", str(path), "--json")
    data = json.loads(out)
    assert [row["workers"] for row in data["table"]][-1] == 10_000
    for row in data["table"]:
        assert row["seconds"] == generation(COSTS, row["workers"], Wire(**data["network"]))


@pytest.mark.parametrize("content", ["", "[]", '{"costs": {}}', '{"costs": 3}', '{"costs": {"blocks": 1}}'])
def test_a_file_without_costs_is_refused_in_one_line(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "costs.json"
    path.write_text(content, encoding="utf-8")
    code, _, err = called(capsys, monkeypatch, "simulate", "--costs", str(path))
    assert (code, err.count("\n")) == (2, 1)
    assert "doctor --benchmark --json" in err
    assert called(capsys, monkeypatch, "simulate", "--costs", str(tmp_path / "none"))[0] == 2


@pytest.mark.parametrize("words", [["--bandwidth", "0"], ["--straggler", "-1"], ["--node", "0"], ["--latency", "nan"]])
def test_a_network_that_cannot_be_is_refused(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = called(capsys, monkeypatch, "simulate", *words)
    assert code == 2
    assert words[0].strip("-") in err


def test_only_one_evolution_can_be_timed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, err = called(capsys, monkeypatch, "doctor", "--benchmark", "sunspots", "--method", "bptt")
    assert code == 2
    assert "--method ga" in err
    assert called(capsys, monkeypatch, "doctor", "sunspots")[0] == 2


def test_a_job_is_the_first_generation_of_its_config() -> None:
    job = job_of(Request("sunspots", ("method.population=30", "model.hidden=4"), method="ga"))
    assert job.genes.shape == (30, job.model.layout.size)
    assert "30 chromosomes" in job.words


@pytest.mark.nightly
@pytest.mark.ray
@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_the_prediction_is_near_what_is_measured_on_one_and_two_workers() -> None:
    job = job_of(Request("sunspots", ("method.population=2000", "model.hidden=16"), method="ga"))
    costs, seen = measure(job, check=(1, 2))
    assert costs.blocks > 8
    for workers, took in seen.items():
        assert 0.1 < generation(costs, workers, Wire()) / took < 4  # the machine may be busy with others
