"""What is in ray_configs: each file is what it says it is, by Ray's own schema where Ray has one."""

from __future__ import annotations

import json
import os
import re
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from evo_rnn.safe_yaml import load_yaml
from trainers.experiments.config import compute_section

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "ray_configs"
COMPUTE = ("in_process", "laptop", "one_gpu", "multi_gpu")
LAUNCHER = ("cluster-local", "aws", "gcp")
KUBERAY = "kuberay-rayjob"


def read(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8")))


def checked(config: dict[str, Any]) -> dict[str, Any]:
    from ray.autoscaler._private.util import prepare_config, validate_config

    whole = prepare_config(config)
    validate_config(whole)
    return dict(whole)


def test_every_file_is_of_a_known_kind_and_says_first_what_it_is_for() -> None:
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == {*COMPUTE, *LAUNCHER, KUBERAY}
    for path in CONFIGS.glob("*.yaml"):
        assert re.match(r"# [A-Z].*[.:]", path.read_text(encoding="utf-8").splitlines()[0]), path.name


@pytest.mark.parametrize("name", COMPUTE)
def test_the_files_for_one_machine_are_compute_sections(name: str) -> None:
    assert compute_section(load_yaml(CONFIGS / f"{name}.yaml"), name)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", LAUNCHER)
def test_rays_own_schema_takes_the_launcher_files_and_finds_a_misspelt_key(name: str) -> None:
    assert checked(read(name))["cluster_name"].startswith("evo-rnn-")
    with pytest.raises(Exception, match="idle_timeout"):
        checked(read(name) | {"idle_timeout_minute": 5})


@pytest.mark.parametrize("name", LAUNCHER)
def test_every_node_has_the_token_alone_to_itself_and_starts_with_authentication(name: str) -> None:
    config = read(name)
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"  # noqa: S105 (a path)
    assert any("chmod 600 ~/.ray/auth_token" in line for line in config["setup_commands"])
    for role in ("head", "worker"):
        (start,) = [line for line in config[f"{role}_start_ray_commands"] if "ray start" in line]
        assert start.startswith("RAY_AUTH_MODE=token ")
    assert "--dashboard-host=127.0.0.1" in " ".join(config["head_start_ray_commands"])


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_rented_workers_are_spot_and_go_when_idle_and_the_head_is_neither(name: str) -> None:
    config = read(name)
    head, worker = (config["available_node_types"][kind] for kind in ("head", "worker"))
    spot = re.compile("spot", re.IGNORECASE)
    assert (bool(spot.search(json.dumps(head))), bool(spot.search(json.dumps(worker)))) == (False, True)
    assert (config["idle_timeout_minutes"], worker["min_workers"], head["resources"]) == (5, 0, {"CPU": 0})


def test_the_ray_that_nodes_install_is_one_that_the_project_takes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "ray[default]>=2.60,<3" in project["project"]["dependencies"]
    texts = [(CONFIGS / f"{name}.yaml").read_text(encoding="utf-8") for name in (*LAUNCHER, KUBERAY)]
    named = set(re.findall(r"(?:ray\[default\]==|ray:|rayVersion: \"|evo-rnn:)(\d+\.\d+\.\d+)", " ".join(texts)))
    assert len(named) == 1
    assert named.pop().split(".")[:2] == version("ray").split(".")[:2]


def test_the_kubernetes_job_has_the_structure_that_kuberay_wants() -> None:
    config = read(KUBERAY)
    assert (config["apiVersion"], config["kind"]) == ("ray.io/v1", "RayJob")
    spec, cluster = config["spec"], config["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    (group,) = cluster["workerGroupSpecs"]
    assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    assert set(yaml.safe_load(spec["runtimeEnvYAML"])) == {"env_vars"}
    pods = [cluster["headGroupSpec"]["template"]["spec"], group["template"]["spec"]]
    assert len({each["image"] for pod in pods for each in pod["containers"]}) == 1
    for pod in pods:
        mounted = {mount["name"] for each in pod["containers"] for mount in each["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_the_kubernetes_jobs_command_is_one_of_ours() -> None:
    from trainers.commands.request import Request

    words = read(KUBERAY)["spec"]["entrypoint"].split("evo-rnn run ")[1].split()
    compute = Request(words[0], words[1:]).config().compute
    assert (compute.address, compute.workers, compute.allow_unauthenticated) == ("auto", 8, False)


def closed(schema: Any) -> Any:
    """The schema with unknown keys refused, as the server's strict validation does."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: closed(value) for key, value in schema.items()}
    loose = "properties" not in schema or schema.get("x-kubernetes-preserve-unknown-fields")
    return strict if loose else {"additionalProperties": False, **strict}


@pytest.mark.skipif("KUBERAY_CRD" not in os.environ, reason="KUBERAY_CRD names no ray.io_rayjobs.yaml")
def test_the_kubernetes_job_fits_kuberays_definition() -> None:
    import jsonschema

    definition = yaml.safe_load(Path(os.environ["KUBERAY_CRD"]).read_text(encoding="utf-8"))
    (schema,) = [each["schema"]["openAPIV3Schema"] for each in definition["spec"]["versions"] if each["name"] == "v1"]
    schema["properties"]["metadata"] = {"type": "object"}
    jsonschema.validate(read(KUBERAY), closed(schema))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(read(KUBERAY) | {"spec": read(KUBERAY)["spec"] | {"ttlSeconds": 1}}, closed(schema))
