"""The house itself: floors, README, configs, licences of what is shipped."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from evo_rnn.safe_yaml import load_yaml, parse_yaml
from populations.algorithms import ALGORITHMS
from populations.topology import MUTATIONS
from trainers.experiments.config import resolve
from trainers.experiments.methods import METHODS
from trainers.experiments.named import NAMED

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_floors_are_in_a_line() -> None:
    linter = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([linter], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert "2 kept, 0 broken" in done.stdout, done.stdout + done.stderr


def test_an_evaluation_worker_imports_the_ground_floor_alone() -> None:
    others = "('populations', 'trainers', 'deap', 'ray', 'mlflow')"
    code = f"import evo_rnn.evaluation.shard, sys; print([m for m in sys.modules if m.split('.')[0] in {others}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"


def test_the_readme_has_exactly_two_commands_that_start_from_nothing() -> None:
    part = README.split("<!-- commands -->")[1].split("<!-- end -->")[0]
    commands = [line for line in part.splitlines() if line.startswith("python3 ")]
    begin = "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && "
    assert commands == [begin + ".venv/bin/evo-rnn compare sunspots", begin + ".venv/bin/pytest"]


def test_the_python_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    space: dict[str, object] = {}
    for code in blocks("python"):
        exec(code, space)  # noqa: S102 (our own README)
    out = capsys.readouterr().out
    assert "seeds" in out.splitlines()[0]
    assert out.splitlines()[-1].startswith("3 300")


def test_the_loop_of_the_gradient_page_runs() -> None:
    page = (ROOT / "docs" / "gradient.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    space: dict[str, Any] = {}
    exec(code, space)  # noqa: S102 (our own page)
    assert space["loss"] < 0.2


def test_the_gradient_page_lists_every_rule_with_its_traits() -> None:
    from trainers.gradient import ESTIMATORS

    page = (ROOT / "docs" / "gradient.md").read_text(encoding="utf-8")
    rows = {
        row[0].strip("`"): row
        for row in re.findall(r"^\| (`\w+`) \|.*?\| (\w*) ?\| (\w*) ?\| ([\w, ]*?) ?\| .*$", page, re.M)
    }
    assert set(rows) == set(ESTIMATORS)
    for name, (_, exact, unbiased, local) in rows.items():
        traits = ESTIMATORS[name]().traits
        near = [
            word for word, is_local in (("time", traits.local_in_time), ("space", traits.local_in_space)) if is_local
        ]
        assert (exact == "yes", unbiased == "yes", local) == (traits.exact, traits.unbiased, ", ".join(near)), name


def test_the_yaml_of_the_readme_is_a_config() -> None:
    (text,) = blocks("yaml")
    config = resolve(parse_yaml(text), "README")
    assert set(config.methods) == {"ga", "bptt", "lamarck"}
    assert config.stop.learned == 95


def test_the_commands_of_the_readme_exist() -> None:
    from typer.main import get_command

    from trainers.cli import app

    known = get_command(app).commands  # type: ignore[attr-defined]
    lines = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("evo-rnn")]
    assert len(lines) == 10
    for line in lines:
        words = shlex.split(line, comments=True)
        options = {opt for parameter in known[words[1]].params for opt in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in words if word.startswith("-")} <= options


def test_the_yaml_and_the_searches_of_the_engine_page_are_those_that_there_are() -> None:
    page = (ROOT / "docs" / "engine.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert resolve(parse_yaml(text), "engine.md").method["every"] == 10
    named = set(re.findall(r"`(\w+)`", page.split("## Searches")[1].split("`evo-rnn run")[0]))
    assert set(ALGORITHMS) <= named


@pytest.mark.parametrize("name", NAMED)
def test_every_named_experiment_is_a_config(name: str) -> None:
    config = resolve(NAMED[name], name)
    assert config.methods


def test_the_pictures_of_the_readme_are_there() -> None:
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (ROOT / picture).read_bytes().startswith(b"\x89PNG"), picture


def test_the_packages_are_the_three_floors() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["evo_rnn", "populations", "trainers"]
    assert project["project"]["requires-python"] == ">=3.11"


def test_help_needs_nothing_heavy() -> None:
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom trainers.cli import app\n"
        "assert CliRunner().invoke(app, ['compare', '--help']).exit_code == 0\n"
        "print([m for m in ('torch', 'ray', 'mlflow', 'pandas', 'numpy', 'matplotlib', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_example_is_a_config_that_runs(path: Path) -> None:
    from trainers.experiments.builders import model_of, rules_of, task_of, trainer_of
    from trainers.experiments.trial import slices

    config = resolve({**load_yaml(path), "budget": {"passes": 30}}, path.name)
    task = task_of(config)
    for method in (config.methods or {"": config.method}).values():
        *_, last = slices(trainer_of(method, task), model_of(config, task), task, rules_of(config, many=True), 0)
        assert last.result["test_loss"] > 0


def test_the_example_of_an_own_cell_runs() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "own_cell.py"], capture_output=True, text=True, timeout=240, check=True
    )
    assert re.findall(r"^(ga|rtrl): test loss 0\.\d+, budget of 5000 passes spent$", done.stdout, re.MULTILINE)


def test_the_page_on_topology_says_what_is_so(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "topology.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert resolve(parse_yaml(text), "topology.md").model.cell == "graph"
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(code, "topology.md", "exec"), {})  # noqa: S102
    assert "tanh" in capsys.readouterr().out
    settings = METHODS["topology"].settings()
    for name in (
        *MUTATIONS,
        "crossover",
        "start",
        "skip",
        "weight_sets",
        "effort",
        "hurdles",
        "keep",
        "survival",
        "lag",
    ):
        assert f"`{name}" in page
        assert name in settings
