"""The Ray cluster of deploy/kuberay, and how runs join it."""

import shlex
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from pydantic import BaseModel
from ray.scripts.scripts import start

from orchestration.config.compute_config import ComputeConfig, load_compute_config
from tests.deploy.dagster_chart import RUN_ARGUMENTS, run_job
from tests.deploy.manifests import KUBERAY, Object, Pod, named, pinned, port_of, ray_pods

NAME = "recommender-ray"


class Forbidding(BaseModel, extra="forbid"):
    """Fields of KubeRay's API ray.io/v1 that we use; its CRD is not in any Python package."""


class HeadGroup(Forbidding):
    serviceType: str  # noqa: N815
    rayStartParams: dict[str, str]  # noqa: N815
    template: dict[str, Any]


class WorkerGroup(Forbidding):
    groupName: str  # noqa: N815
    replicas: int
    minReplicas: int  # noqa: N815
    maxReplicas: int  # noqa: N815
    rayStartParams: dict[str, str]  # noqa: N815
    template: dict[str, Any]


class ClusterSpec(Forbidding):
    rayVersion: str  # noqa: N815
    headGroupSpec: HeadGroup  # noqa: N815
    workerGroupSpecs: list[WorkerGroup]  # noqa: N815


@pytest.fixture
def spec() -> ClusterSpec:
    cluster = named("RayCluster", NAME)
    assert cluster["apiVersion"] == "ray.io/v1"
    return ClusterSpec(**cluster["spec"])


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> ComputeConfig:
    monkeypatch.delenv("COMPUTE", raising=False)
    return load_compute_config(KUBERAY / "compute.yaml")


@pytest.fixture
def run(tmp_path: Path) -> Pod:
    """The pod of a run that computes on the cluster."""
    return Pod("run", run_job(tmp_path, with_ray=True)["spec"]["template"])


def _command(run: Pod) -> list[str]:
    shell, option, script = run.container["command"]
    assert (shell, option) == ("/bin/bash", "-c")
    return shlex.split(script)


def test_pods_are_valid_for_kubernetes() -> None:
    for pod in ray_pods():
        template = {**pod.template, "metadata": {"name": "node", **pod.template["metadata"]}}
        kubernetes_validate.validate({"apiVersion": "v1", "kind": "Pod", **template}, "1.37", strict=True)


def test_ray_has_the_version_and_the_options(spec: ClusterSpec) -> None:
    assert spec.rayVersion == pinned("ray")
    options = {option for parameter in start.params for option in parameter.opts}
    for group in (spec.headGroupSpec, *spec.workerGroupSpecs):
        assert {f"--{name}" for name in group.rayStartParams} <= options


def test_the_cluster_is_large_enough_for_compute_yaml(spec: ClusterSpec, config: ComputeConfig) -> None:
    (workers,) = spec.workerGroupSpecs
    cpus = int(workers.rayStartParams["num-cpus"])
    assert (workers.replicas, cpus) == (config.workers, config.cpus_per_worker)
    assert workers.minReplicas == workers.maxReplicas == workers.replicas
    spare = int(spec.headGroupSpec.rayStartParams["num-cpus"])
    assert spare >= 1  # for Ray's own tasks; see RayEngine
    for pod, promised in zip(ray_pods(), (spare, cpus), strict=True):
        assert int(pod.container["resources"]["requests"]["cpu"]) == promised


def test_runs_find_the_head_and_join_without_processors(run: Pod, config: ComputeConfig) -> None:
    head = ray_pods()[0]
    # KubeRay names the head's Service after the cluster.
    assert config.address == run.env["RAY_HEAD"]["value"] == f"{NAME}-head-svc:{port_of(head, 'gcs-server')}"
    assert config.compute == "ray"
    command = _command(run)
    joined, then = command[: command.index("&&")], command[command.index("&&") + 1 :]
    assert joined[:2] == ["ray", "start"]
    assert "--address=$RAY_HEAD" in joined
    assert "--num-cpus=0" in joined
    start.make_context("start", joined[2:], resilient_parsing=True)
    assert then == ["exec", "$0", "$@"]  # Dagster's command, which follows as arguments
    assert run.container["args"] == RUN_ARGUMENTS


def test_all_nodes_have_one_image_one_token_and_one_storage(run: Pod, config: ComputeConfig) -> None:
    nodes = [run, *ray_pods()]
    for pod in nodes:
        assert pod.container["image"].split(":")[0] == "recommender-pipeline"
        assert pod.env["RAY_AUTH_MODE"]["value"] == "token"
        assert pod.env["RAY_AUTH_TOKEN"]["valueFrom"] == {"secretKeyRef": {"name": NAME, "key": "auth_token"}}
        assert pod.claims[str(config.storage)] == NAME
    assert {"/data": "recommender-home"}.items() <= run.claims.items()
    assert all("/data" not in pod.claims for pod in ray_pods())  # who reaches Ray can run code there


def test_only_nodes_of_ray_reach_each_other(run: Pod) -> None:
    policy: Object = named("NetworkPolicy", NAME)["spec"]
    label = policy["podSelector"]["matchLabels"]
    assert policy["ingress"] == [{"from": [{"podSelector": {"matchLabels": label}}]}]
    for pod in (run, *ray_pods()):
        assert label.items() <= pod.labels.items()


def test_shared_memory_fits_into_the_containers(run: Pod) -> None:
    for pod in (run, *ray_pods()):
        memory = next(each["emptyDir"] for each in pod.spec["volumes"] if each.get("emptyDir", {}).get("medium"))
        assert _bytes(memory["sizeLimit"]) < _bytes(pod.container["resources"]["limits"]["memory"])
    given = next(each for each in _command(run) if each.startswith("--object-store-memory="))
    size = next(each["emptyDir"]["sizeLimit"] for each in run.spec["volumes"] if each["name"] == "ray-memory")
    assert int(given.split("=")[1]) < _bytes(size)


def _bytes(quantity: str) -> int:
    units = {"Mi": 2**20, "Gi": 2**30}
    return int(quantity[:-2]) * units[quantity[-2:]]


def test_probes_ask_ports_that_ray_opens(spec: ClusterSpec) -> None:
    for pod, group in zip(ray_pods(), (spec.headGroupSpec, *spec.workerGroupSpecs), strict=True):
        assert port_of(pod, "node-manager") == int(group.rayStartParams["node-manager-port"])
        for kind in ("startup", "readiness", "liveness"):
            assert port_of(pod, pod.container[f"{kind}Probe"]["tcpSocket"]["port"])
