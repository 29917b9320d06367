"""Champions on the disk: what is read is what was saved, nothing in it can run, and MLflow serves the same numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evo_rnn import champion as champions
from evo_rnn.cells import GRU, LSTM, Cell, Elman, Stack
from evo_rnn.champion import Champion, Columns, columns_of, load, predict_table, save
from evo_rnn.description import describe
from evo_rnn.errors import ConfigError, DataError, DiskError
from evo_rnn.evaluation.evaluator import LocalEvaluator
from evo_rnn.network import Network, network
from evo_rnn.tasks.file import from_file
from evo_rnn.tasks.sunspots import sunspots
from evo_rnn.tasks.task import Task
from evo_rnn.tracking import MlflowTracker
from evo_rnn.tracking.models import log_model, save_model

ELMAN = network(Elman(1, 5), 1)
SUNSPOTS = columns_of("sunspots", {})
# MLflow 3.17 at its import and on SQLAlchemy 2.1.
quiet = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning",
    "ignore:.*type hint.*:UserWarning",
)


@pytest.fixture(scope="module")
def task() -> Task:
    return sunspots()


def genes_of(model: Network, seed: int = 0) -> Any:
    return model.layout.draw(np.random.default_rng(seed), 1)


@pytest.fixture
def saved(tmp_path: Path, task: Task) -> Path:
    return save(tmp_path / "best", ELMAN, genes_of(ELMAN), task, columns=SUNSPOTS, extra={"method": "ga", "seed": 3})


@pytest.mark.parametrize("cell", [Elman(1, 5), LSTM(1, 3, peepholes=True), Stack((GRU(1, 4), Elman(4, 2)))], ids=str)
def test_what_is_loaded_is_what_was_saved_bit_for_bit(cell: Cell, tmp_path: Path, task: Task) -> None:
    model = network(cell, 1)
    genes = genes_of(model)
    found = load(save(tmp_path / "a", model, genes, task, columns=SUNSPOTS, extra={"seed": 3}))
    assert found.model == model
    assert found.genes.tobytes() == genes.tobytes()
    assert (found.card.task, found.card.loss, found.card.extra) == ("sunspots", "mse", {"seed": 3})
    assert found.card.columns == Columns(("sunspots",), ("sunspots",), 1)
    assert dict(found.card.scaling) == {name: dict(values) for name, values in task.scaling.items()}


def test_its_outputs_are_those_whose_loss_was_reported(saved: Path, task: Task) -> None:
    evaluator = LocalEvaluator(ELMAN, task.test)
    found = load(saved)
    outputs = found.predict(task.test.inputs)
    assert outputs.tobytes() == evaluator.predict(found.genes)[0].tobytes()
    errors = (outputs.astype(np.float64) - task.test.targets)[task.test.counts]
    assert np.square(errors).mean() == pytest.approx(evaluator(found.genes)[0], rel=1e-12)


def test_one_torch_thread_computes_and_as_many_as_before_are_left(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = LocalEvaluator.predict

    def spied(self: LocalEvaluator, genes: Any) -> Any:
        seen.append(torch.get_num_threads())
        return real(self, genes)

    monkeypatch.setattr(LocalEvaluator, "predict", spied)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        load(saved).predict(np.zeros((1, 3, 1)))
        assert (seen, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("length", [1, 2, 50])
def test_any_length_will_do_and_later_inputs_change_nothing_before(saved: Path, length: int) -> None:
    inputs = np.random.default_rng(2).normal(size=(3, 60, 1))
    outputs = load(saved).predict(inputs[:, :length])
    assert outputs.shape == (3, length, 1)
    np.testing.assert_allclose(outputs, load(saved).predict(inputs)[:, :length], rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 1), (2, 3, 2), (0, 3, 1), (2, 0, 1)])
def test_inputs_of_another_shape_are_refused(saved: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="inputs should have"):
        load(saved).predict(np.zeros(shape))


def test_every_gene_has_a_name(saved: Path) -> None:
    found = load(saved)
    named = {(link.leaf, link.index): value for link, value in found.named()}
    leaves = found.model.layout.unpack(torch.from_numpy(found.genes))
    assert len(named) == found.card.genes == 41
    assert all(float(leaves[leaf][0][index]) == value for (leaf, index), value in named.items())


def test_any_safetensors_reader_finds_the_leaves(saved: Path) -> None:
    from safetensors.numpy import load_file

    arrays = load_file(saved / champions.WEIGHTS)
    assert {"genes", "readout.weight", "readout.bias"} < set(arrays)
    assert arrays["readout.weight"].shape == (1, 5)


def test_a_chromosome_of_another_network_is_not_saved(tmp_path: Path, task: Task) -> None:
    with pytest.raises(ValueError, match=r"genes should have shape \(1, 41\)"):
        save(tmp_path / "a", ELMAN, np.zeros((2, 41), np.float32), task)
    assert not (tmp_path / "a").exists()


def test_a_place_that_cannot_be_written_is_a_disk_error(tmp_path: Path, task: Task) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="cannot write a champion to"):
        save(tmp_path / "file" / "a", ELMAN, genes_of(ELMAN), task)


def changed(*keys: str, value: Any) -> Callable[[Path], None]:
    """Set one key of the card, however deep."""

    def change(directory: Path) -> None:
        card = json.loads((directory / champions.CARD).read_text())
        inner = card
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value
        (directory / champions.CARD).write_text(json.dumps(card))

    return change


def written(name: str, body: bytes) -> Callable[[Path], None]:
    def change(directory: Path) -> None:
        (directory / name).write_bytes(body)

    return change


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def flipped(directory: Path) -> None:
    body = bytearray((directory / champions.WEIGHTS).read_bytes())
    body[-1] ^= 1
    (directory / champions.WEIGHTS).write_bytes(body)


def linked(directory: Path) -> None:
    (directory / champions.CARD).rename(directory / "elsewhere.json")
    (directory / champions.CARD).symlink_to("elsewhere.json")


RUBBISH = {
    "no card": lambda directory: (directory / champions.CARD).unlink(),
    "no weights": lambda directory: (directory / champions.WEIGHTS).unlink(),
    "empty card": written(champions.CARD, b""),
    "no JSON": written(champions.CARD, b"{'schema': 1}"),
    "another JSON": written(champions.CARD, b"[1, 2]"),
    "another text": written(champions.CARD, b"\xff\xfe{\x00}\x00"),
    "huge card": written(champions.CARD, b'{"schema": 1, "extra": "' + b"x" * (1 << 20) + b'"}'),
    "deep card": written(champions.CARD, b"[" * 100_000),
    "a pickle": written(champions.WEIGHTS, b"\x80\x04cposix\nsystem\n(S'touch bad'\ntR."),
    "a flipped bit": flipped,
    "a link": linked,
    "unknown key": changed("surprise", value=1),
    "no schema": changed("schema", value=None),
    "newer schema": changed("schema", value=2),
    "unknown kind": changed("model", "cell", "kind", value="os.system"),
    "not a network": changed("model", value={"kind": "Elman", "inputs": 1, "hidden": 5}),
    "no model": changed("model", value=7),
    "other network": changed("model", "cell", "hidden", value=6),
    "other inputs": changed("inputs", value=2),
    "other outputs": changed("outputs", value=2),
    "a network of fractions": changed(
        "model", value={**describe(ELMAN), "cell": {"kind": "Elman", "inputs": 1.5, "hidden": 5}}
    ),
    "endless network": changed("model", "cell", "hidden", value=10**12),
    "text for a size": changed("model", "cell", "hidden", value="5"),
    "a fraction of a unit": changed("model", "cell", "hidden", value=5.5),
    "deep model": changed("model", value=nested(500)),
    "other weights": changed("sha256", value="0" * 64),
    "no loss": changed("loss", value="__import__"),
    "horizon 0": changed("columns", "horizon", value=0),
    "columns that are numbers": changed("columns", "inputs", value=[1]),
    "too many columns": changed("columns", "inputs", value=["a", "b"]),
    "endless scale": changed("scaling", "sunspots", "scale", value=float("inf")),
    "no scale": changed("scaling", "sunspots", value={}),
    "scale 0": changed("scaling", "sunspots", "scale", value=0),
}


@pytest.mark.parametrize("spoil", RUBBISH.values(), ids=RUBBISH)
def test_rubbish_is_refused_in_one_line(spoil: Callable[[Path], None], saved: Path) -> None:
    spoil(saved)
    with pytest.raises((ConfigError, DataError)) as error:
        load(saved)
    assert len(str(error.value).splitlines()) == 1
    assert len(str(error.value)) < 600


def test_a_description_too_large_for_memory_is_refused_before_it_is_built(saved: Path) -> None:
    changed("model", "cell", "hidden", value=100_000)(saved)
    changed("model", "readout", "inputs", value=100_000)(saved)
    with pytest.raises(DataError, match="a size of the model is '100000'"):
        load(saved)


def test_a_table_is_answered_row_by_row_in_its_own_units(tmp_path: Path) -> None:
    rows = np.random.default_rng(3).normal(50, 7, size=(80, 3))
    path = tmp_path / "plant.csv"
    path.write_text("time,valve,load,pressure\n" + "".join(f"t{i},{a},{b},{c}\n" for i, (a, b, c) in enumerate(rows)))
    settings: dict[str, Any] = {"target": "pressure", "inputs": ["load", "valve"], "horizon": 3}
    task = from_file(path, **settings)
    model = network(Elman(2, 4), 1)
    found = load(save(tmp_path / "a", model, genes_of(model), task, columns=columns_of("file", settings)))
    table = predict_table(found, path)
    assert list(table) == ["pressure_in_3"]
    assert table["pressure_in_3"].shape == (80,)
    steps = task.test.inputs.shape[1]  # the task ends 3 rows earlier, because later targets are not known
    scaled = LocalEvaluator(model, task.test).predict(found.genes)[0, 0, :, 0]
    shift, scale = task.scaling["pressure"]["shift"], task.scaling["pressure"]["scale"]
    np.testing.assert_allclose(table["pressure_in_3"][:steps], scaled * scale + shift, rtol=1e-6)


def test_the_sunspot_champion_answers_a_file_with_that_column(saved: Path, tmp_path: Path, task: Task) -> None:
    scale, shift = task.scaling["sunspots"]["scale"], task.scaling["sunspots"]["shift"]
    values = task.test.inputs[0, :40, 0] * scale + shift
    (tmp_path / "new.csv").write_text("year,sunspots\n" + "".join(f"{i},{v:.9f}\n" for i, v in enumerate(values)))
    table = predict_table(load(saved), tmp_path / "new.csv")
    expected = load(saved).predict(task.test.inputs[:, :40])[0, :, 0] * scale + shift
    np.testing.assert_allclose(table["sunspots_in_1"], expected, atol=1e-4)


def test_gaps_are_treated_as_in_training(tmp_path: Path) -> None:
    lines = [f"{np.sin(i):.6f}," if i % 7 else "," for i in range(90)]
    path = tmp_path / "gaps.csv"
    path.write_text("x,y\n" + "".join(f"{line}{np.cos(i):.6f}\n" for i, line in enumerate(lines)))
    settings: dict[str, Any] = {"target": "y", "inputs": "x", "missing": "zero_with_mask"}
    task = from_file(path, **settings)
    model = network(Elman(2, 3), 1)
    found = load(save(tmp_path / "a", model, genes_of(model), task, columns=columns_of("file", settings)))
    assert predict_table(found, path)["y_in_1"].shape == (90,)


def test_a_champion_without_columns_says_so(tmp_path: Path, task: Task) -> None:
    found = load(save(tmp_path / "a", ELMAN, genes_of(ELMAN), task))
    with pytest.raises(ConfigError, match="no columns"):
        predict_table(found, tmp_path / "data.csv")
    assert columns_of("adding", {"length": 20}) == Columns()


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")


@quiet
@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("length", [11, pytest.param(3, marks=pytest.mark.nightly)])
def test_mlflow_serves_the_numbers_of_our_own_loader_for_any_length(length: int, saved: Path, tmp_path: Path) -> None:
    model = save_model(tmp_path / "model", saved)
    assert not list(model.rglob("*.pkl"))
    assert str(Path.cwd()) not in (model / "MLmodel").read_text()  # no path of this machine is given away
    found = load(model)  # our own loader knows MLflow's directory as well
    inputs = np.random.default_rng(length).normal(size=(2, length, 1)).astype(np.float32)
    asked, answered = tmp_path / "in.json", tmp_path / "out.json"
    asked.write_text(json.dumps({"inputs": inputs.tolist()}))
    command = [sys.executable, "-m", "mlflow", "models", "predict", "-m", str(model), "--env-manager", "local"]
    command += ["-i", str(asked), "-t", "json", "-o", str(answered)]
    subprocess.run(command, env=os.environ | {"PYTHONWARNINGS": "default"}, timeout=120, check=True)
    answers = np.array(json.loads(answered.read_text())["predictions"], dtype=np.float32)
    np.testing.assert_array_equal(answers, found.predict(inputs))


@quiet
@pytest.mark.usefixtures("strict")
def test_a_logged_champion_is_found_by_run_and_by_model(
    saved: Path, tmp_path: Path, new_store: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    uri = new_store()
    model = save_model(tmp_path / "model", saved)
    tracker = MlflowTracker("sunspots", uri)
    run = tracker.start("ga: elman/5 - seed 0", params={"method": "ga"}, tags={})
    tracker.artifact(run, model, "champion")
    logged = log_model(tracker, run, model)
    found = tracker.mlflow_run_id(run)
    tracker.finish(run)
    tracker.close()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    inputs = np.ones((2, 7, 1), np.float32)
    for place in (logged, f"runs:/{found}/champion"):
        np.testing.assert_array_equal(mlflow.pyfunc.load_model(place).predict(inputs), load(saved).predict(inputs))
    (entry,) = mlflow.MlflowClient(uri).search_logged_models([tracker.experiment_id])
    assert (entry.model_uri, entry.name, entry.source_run_id) == (logged, "ga-elman-5-seed-0", found)
    assert mlflow.MlflowClient(uri).get_run(found).outputs.model_outputs[0].model_id == entry.model_id


@quiet
def test_a_server_that_is_away_costs_the_models_tab_only(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = save_model(tmp_path / "model", saved)
    tracker = MlflowTracker("sunspots", "http://127.0.0.1:9")  # nobody listens on the discard port
    run = tracker.start("ga", params={}, tags={})
    tracker.artifact(run, model, "champion")
    monkeypatch.setattr(tracker, "with_client", lambda work: MlflowTracker.with_client(tracker, work, timeout=0.5))
    assert log_model(tracker, run, model) == ""
    tracker.finish(run)
    tracker.close(timeout=0.5)
    assert list(tmp_path.glob(".evo-rnn/tracking/*/spool/*/*/MLmodel"))  # it waits for the server


def test_nothing_that_is_read_can_hold_code(saved: Path) -> None:
    assert {path.suffix for path in saved.iterdir()} == {".json", ".safetensors"}
    assert isinstance(load(saved), Champion)
