"""The manifests under deploy/, as Kustomize and Dagster's chart put them together."""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from orchestration.config.settings import PROJECT_ROOT

DEPLOY = PROJECT_ROOT / "deploy"
BASE, KUBERAY = DEPLOY / "kubernetes" / "base", DEPLOY / "kuberay"
KUSTOMIZATIONS = (BASE, KUBERAY)
IMAGES = {"recommender-pipeline", "recommender-service", "recommender-app"}
Object = dict[str, Any]


class Pod(NamedTuple):
    """Where a pod comes from.

    Attributes:
        name: of what creates it.
        template: metadata and spec.
    """

    name: str
    template: Object

    @property
    def spec(self) -> Object:
        return dict(self.template["spec"])

    @property
    def labels(self) -> Mapping[str, str]:
        return dict(self.template["metadata"]["labels"])

    @property
    def container(self) -> Object:
        (container,) = self.spec["containers"]
        return dict(container)

    @property
    def env(self) -> dict[str, Object]:
        return {variable["name"]: variable for variable in self.container.get("env", [])}

    @property
    def claims(self) -> dict[str, str]:
        """Claim by the path where it is mounted."""
        volumes = {volume["name"]: volume for volume in self.spec["volumes"]}
        return {
            mount["mountPath"]: volumes[mount["name"]]["persistentVolumeClaim"]["claimName"]
            for mount in self.container["volumeMounts"]
            if "persistentVolumeClaim" in volumes[mount["name"]]
        }


@cache
def read(path: Path) -> Object:
    """A file with one document."""
    return dict(yaml.safe_load(path.read_text("utf-8")))


def kustomization(folder: Path) -> Object:
    return read(folder / "kustomization.yaml")


@cache
def objects(folder: Path) -> list[Object]:
    """What the files that a kustomization lists have, in their order."""
    texts = ((folder / name).read_text("utf-8") for name in kustomization(folder)["resources"])
    return [each for text in texts for each in yaml.safe_load_all(text)]


def of_kind(kind: str) -> list[Object]:
    return [each for folder in KUSTOMIZATIONS for each in objects(folder) if each["kind"] == kind]


def named(kind: str, name: str) -> Object:
    (found,) = [each for each in of_kind(kind) if each["metadata"]["name"] == name]
    return found


def pods() -> list[Pod]:
    """Those of our manifests."""
    return [*_of_deployments(), *ray_pods()]


def _of_deployments() -> Iterator[Pod]:
    for each in of_kind("Deployment"):
        yield Pod(each["metadata"]["name"], each["spec"]["template"])


def ray_pods() -> list[Pod]:
    """Head and workers."""
    spec = named("RayCluster", "recommender-ray")["spec"]
    groups = {"head": spec["headGroupSpec"], **{each["groupName"]: each for each in spec["workerGroupSpecs"]}}
    return [Pod(name, group["template"]) for name, group in groups.items()]


def env_file(path: Path) -> dict[str, str]:
    """The variables of a file as a generator of ConfigMaps reads it."""
    lines = (line for line in path.read_text("utf-8").splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


def generated() -> dict[str, Object]:
    """The generators of ConfigMaps, by the name that they give."""
    return {each["name"]: each for folder in KUSTOMIZATIONS for each in kustomization(folder)["configMapGenerator"]}


def pinned(package: str) -> str:
    """The version in constraints.txt."""
    text = (PROJECT_ROOT / "constraints.txt").read_text("utf-8")
    return re.findall(rf"^{re.escape(package)}==(\S+)$", text, re.MULTILINE)[0]


def port_of(pod: Pod, name: str) -> int:
    return int(next(port["containerPort"] for port in pod.container["ports"] if port["name"] == name))
