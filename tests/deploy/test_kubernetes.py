"""The manifests under deploy/kubernetes/base and deploy/kuberay, offline."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from upath import UPath

from app.service.api import create_app
from app.service.config import load_serving_config
from orchestration.config.settings import PROJECT_ROOT, Settings
from tests.deploy.dagster_chart import chart_pods, run_job
from tests.deploy.manifests import (
    BASE,
    IMAGES,
    KUSTOMIZATIONS,
    Object,
    Pod,
    env_file,
    generated,
    kustomization,
    named,
    objects,
    of_kind,
    pods,
    port_of,
    read,
)

OLDEST, NEWEST = "1.30", "1.37"  # the first with the preStop hook sleep; the newest whose schemas the package has
OF_OPERATORS = {"RayCluster"}  # not Kubernetes's own
SECRET = re.compile(r"PASSWORD|TOKEN|SECRET|WEBHOOK|STORE_URI|CREDENTIAL|ACCESS_KEY")
OF_LIBRARIES = re.compile(r"HOME|RAY_[A-Z_]+|MLFLOW_[A-Z_]+|DAGSTER_PG_PASSWORD")
OURS = [pytest.param(pod, id=pod.name) for pod in pods()]


@pytest.fixture(scope="module", params=[False, True], ids=["run", "run on ray"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pod:
    """The pod of a run."""
    return Pod("run", run_job(tmp_path_factory.mktemp("run"), request.param)["spec"]["template"])


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("folder", KUSTOMIZATIONS, ids=lambda folder: folder.name)
def test_every_object_is_valid_for_kubernetes(folder: Path, version: str) -> None:
    for each in objects(folder):
        if each["kind"] not in OF_OPERATORS:
            kubernetes_validate.validate(each, version, strict=True)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_the_pods_of_dagster_are_valid_for_kubernetes(run: Pod, version: str) -> None:
    for pod in (*chart_pods(), run):
        kubernetes_validate.validate(_as_object(pod), version, strict=True)


def test_a_wrong_field_is_found() -> None:
    wrong = json.loads(json.dumps(named("Deployment", "recommender-service")))
    wrong["spec"]["template"]["spec"]["containers"][0]["livenessprobe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, NEWEST, strict=True)


def _as_object(pod: Pod) -> Object:
    return {"apiVersion": "v1", "kind": "Pod", **pod.template}


@pytest.mark.parametrize("folder", KUSTOMIZATIONS, ids=lambda folder: folder.name)
def test_a_kustomization_names_the_files_and_images_that_there_are(folder: Path) -> None:
    given = kustomization(folder)
    files = [name for each in given["configMapGenerator"] for name in (*each.get("files", []), *each.get("envs", []))]
    assert {"kustomization.yaml", *given["resources"], *files} == {path.name for path in folder.iterdir()}
    version = re.search(r'^version = "(.+)"$', (PROJECT_ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert version
    assert {each["newTag"] for each in given["images"]} == {version[1]}
    texts = "".join((folder / name).read_text("utf-8") for name in given["resources"])
    assert {each["name"] for each in given["images"]} == set(re.findall(r"image: (\S+)", texts)) <= IMAGES


@pytest.mark.parametrize("folder", KUSTOMIZATIONS, ids=lambda folder: folder.name)
@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_builds_it(folder: Path) -> None:
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=True)
    built = list(yaml.safe_load_all(done.stdout))
    assert len(built) == len(objects(folder)) + len(kustomization(folder)["configMapGenerator"])
    for each in built:
        if each["kind"] not in OF_OPERATORS:
            kubernetes_validate.validate(each, NEWEST, strict=True)
        assert each["kind"] == "Namespace" or each["metadata"]["namespace"] == "recommender"
    images = re.findall(r"image: (\S+)", done.stdout)
    assert images
    assert all(re.fullmatch(r"recommender-[a-z]+:[0-9.]+", image) for image in images)


@pytest.mark.parametrize("pod", OURS)
def test_pods_have_no_rights_and_limited_resources(pod: Pod) -> None:
    _require_confined(pod)
    assert pod.spec["automountServiceAccountToken"] is False
    assert pod.spec["enableServiceLinks"] is False
    assert pod.container["image"] in IMAGES  # Kustomize sets the tag


def test_dagsters_pods_have_no_rights_and_limited_resources(run: Pod) -> None:
    for pod in (*chart_pods(), run):
        _require_confined(pod)
    assert run.spec["enableServiceLinks"] is False
    assert re.fullmatch(r"recommender-pipeline:[0-9.]+", run.container["image"])


def _require_confined(pod: Pod) -> None:
    """What the Pod Security Standard ``restricted`` asks for, which the namespace enforces, and more."""
    of_pod, of_container = pod.spec["securityContext"], pod.container["securityContext"]
    assert (of_pod["runAsNonRoot"], of_pod["runAsUser"], of_pod["seccompProfile"]) == (
        True,
        10001,
        {"type": "RuntimeDefault"},
    )
    assert of_container == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    for kind in ("requests", "limits"):
        assert set(pod.container["resources"][kind]) == {"cpu", "memory"}
    volumes = {volume["name"]: volume for volume in pod.spec["volumes"]}
    scratch = next(mount for mount in pod.container["volumeMounts"] if mount["mountPath"] == "/tmp")
    assert volumes[scratch["name"]]["emptyDir"]["sizeLimit"]
    assert not any("hostPath" in volume for volume in volumes.values())


def test_the_namespace_refuses_pods_with_rights() -> None:
    (namespace,) = of_kind("Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_secrets_are_only_referred_to_and_the_pages_create_each(run: Pod) -> None:
    assert not of_kind("Secret")
    names = set()
    for pod in (*pods(), *chart_pods(), run):
        for name, variable in pod.env.items():
            if SECRET.search(name) and "value" in variable:
                pytest.fail(f"{pod.name}: {name} has its value in the file")
            names |= {variable["valueFrom"]["secretKeyRef"]["name"]} if _is_secret(variable) else set()
        names |= {source["secretRef"]["name"] for source in pod.container.get("envFrom", []) if "secretRef" in source}
        names |= {volume["secret"]["secretName"] for volume in pod.spec["volumes"] if "secret" in volume}
    assert [name for name in env_file(BASE / "pipeline.env") if SECRET.search(name)] == []
    assert names == {
        "recommender-postgresql",
        "recommender-pipeline",
        "recommender-service-keys",
        "recommender-dagster",
        "recommender-mlflow",
        "recommender-ray",
    }
    pages = "".join((PROJECT_ROOT / "docs" / page).read_text("utf-8") for page in ("kubernetes.md", "cluster.md"))
    assert {name for name in names if f"create secret generic {name} " not in pages} == set()


def _is_secret(variable: Object) -> bool:
    return "secretKeyRef" in variable.get("valueFrom", {})


@pytest.mark.parametrize("pod", OURS)
def test_variables_are_settings_with_valid_values(pod: Pod) -> None:
    _require_settings({name: variable.get("value", "") for name, variable in pod.env.items()})


def test_variables_of_the_pipeline_are_settings_with_valid_values(run: Pod) -> None:
    found = env_file(BASE / "pipeline.env") | {name: each.get("value", "") for name, each in run.env.items()}
    _require_settings({name: value for name, value in found.items() if name not in {"DAGSTER_HOME", "RAY_HEAD"}})


def _require_settings(variables: dict[str, str]) -> None:
    own = {name: value for name, value in variables.items() if name.lower() in Settings.model_fields}
    assert [name for name in variables if name not in own and not OF_LIBRARIES.fullmatch(name)] == []
    Settings(_env_file=None, **{name.lower(): value for name, value in own.items() if value})


def test_ports_are_those_of_the_settings() -> None:
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    by_name = {pod.name: pod for pod in pods()}
    for name in ("serve", "app", "mlflow", "metrics"):
        pod = by_name[f"recommender-{'service' if name == 'serve' else name}"]
        assert port_of(pod, "http") == defaults[f"{name}_port"]
        given = pod.env.get(f"{name.upper()}_PORT", {"value": str(defaults[f"{name}_port"])})
        assert given["value"] == str(defaults[f"{name}_port"])
    service = named("Service", "recommender-mlflow")
    tracking = env_file(BASE / "pipeline.env")["MLFLOW_TRACKING_URI"]
    assert tracking == f"http://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"


def test_no_service_sets_a_setting_by_its_name() -> None:
    """Kubernetes gives pods <NAME>_PORT=tcp://... of every Service, unless enableServiceLinks is false."""
    made = {f"{each['metadata']['name'].upper().replace('-', '_')}_PORT" for each in of_kind("Service")}
    made |= {"MOVIE_RECOMMENDER_PORT", "DAGSTER_DAGSTER_WEBSERVER_PORT"}  # of the chart
    assert not made & {name.upper() for name in Settings.model_fields}


def test_the_probes_of_the_service_are_its_routes(tmp_path: Path) -> None:
    app = create_app(UPath(tmp_path), None, load_serving_config(BASE / "serving.yaml"))
    routes = {getattr(route, "path", None) for route in app.routes}
    pod = next(pod for pod in pods() if pod.name == "recommender-service")
    probes = {kind: pod.container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")}
    assert probes == {"startup": "/healthz", "readiness": "/readyz", "liveness": "/healthz"}
    assert set(probes.values()) <= routes


def test_the_service_answers_to_its_names_on_the_cluster() -> None:
    hosts = load_serving_config(BASE / "serving.yaml").hosts
    name = named("Service", "recommender-service")["metadata"]["name"]
    assert {name, f"{name}.recommender.svc.cluster.local"} <= set(hosts)
    pod = next(pod for pod in pods() if pod.name == "recommender-service")
    # Kubernetes's probes and Prometheus call a pod by its address, and SERVE_HOST is always accepted.
    assert pod.env["SERVE_HOST"]["valueFrom"] == {"fieldRef": {"fieldPath": "status.podIP"}}


def test_mlflow_and_streamlit_know_their_options_and_probes() -> None:
    from mlflow.cli import server
    from mlflow.server.security_utils import is_health_endpoint
    from streamlit.config import get_config_options
    from streamlit.web.server.starlette import starlette_routes

    by_name = {pod.name: pod.container for pod in pods()}
    mlflow, app = by_name["recommender-mlflow"], by_name["recommender-app"]
    server.make_context("server", list(mlflow["args"]), resilient_parsing=True)
    assert is_health_endpoint(mlflow["readinessProbe"]["httpGet"]["path"])
    options = {each.removeprefix("--").split("=")[0] for each in app["args"]}
    assert options <= set(get_config_options())
    health = starlette_routes.create_health_routes(None, None)  # a route needs its arguments only to answer
    assert app["readinessProbe"]["httpGet"]["path"] in {route.path for route in health}
    assert (PROJECT_ROOT / app["command"][-1]).is_file()


def test_what_objects_refer_to_exists(run: Pod) -> None:
    claims = {each["metadata"]["name"] for each in of_kind("PersistentVolumeClaim")}
    for pod in (*pods(), *chart_pods(), run):
        volumes = pod.spec["volumes"]
        assert {
            each["persistentVolumeClaim"]["claimName"] for each in volumes if "persistentVolumeClaim" in each
        } <= claims
        maps = {each["configMap"]["name"] for each in volumes if "configMap" in each}
        maps |= {each["configMapRef"]["name"] for each in pod.container.get("envFrom", []) if "configMapRef" in each}
        assert maps <= set(generated())
        assert {each["name"] for each in pod.container["volumeMounts"]} <= {each["name"] for each in volumes}
    deployments = {each["metadata"]["name"]: each for each in of_kind("Deployment")}
    for each in of_kind("Service"):
        pod = Pod(each["metadata"]["name"], deployments[each["metadata"]["name"]]["spec"]["template"])
        assert each["spec"]["selector"].items() <= pod.labels.items()
        assert port_of(pod, each["spec"]["ports"][0]["targetPort"])
    for kind in ("HorizontalPodAutoscaler", "PodDisruptionBudget"):
        for each in of_kind(kind):
            assert each["metadata"]["name"] in deployments
    for each in deployments.values():
        assert each["spec"]["selector"]["matchLabels"].items() <= each["spec"]["template"]["metadata"]["labels"].items()
    assert named("HorizontalPodAutoscaler", "recommender-service")["spec"]["scaleTargetRef"]["name"] in deployments
    assert "replicas" not in deployments["recommender-service"]["spec"]  # applying it again would undo the autoscaler


def test_config_maps_that_dagsters_values_name_keep_their_names() -> None:
    assert generated()["recommender-pipeline"]["options"] == {"disableNameSuffixHash": True}
    assert read(KUSTOMIZATIONS[1] / "kustomization.yaml")["generatorOptions"] == {"disableNameSuffixHash": True}


def test_network_policies_select_pods_that_there_are(run: Pod) -> None:
    everything = [*pods(), *chart_pods(), run]
    policies = of_kind("NetworkPolicy")
    for policy in policies:
        selected = [pod for pod in everything if _selects(policy["spec"]["podSelector"], pod)]
        assert selected or policy["metadata"]["name"] == "recommender-ray", policy["metadata"]["name"]
        for rule in policy["spec"].get("ingress", []):
            for peer in rule["from"]:
                if "podSelector" in peer and policy["metadata"]["name"] != "recommender-ray":
                    assert any(_selects(peer["podSelector"], pod) for pod in everything), policy["metadata"]["name"]
            for port in (each["port"] for each in rule.get("ports", []) if isinstance(each["port"], str)):
                assert all(port_of(pod, port) for pod in selected)
    deny = named("NetworkPolicy", "recommender-deny")["spec"]
    assert "ingress" not in deny
    assert all(_selects(deny["podSelector"], pod) for pod in pods())


def _selects(selector: dict[str, Any], pod: Pod) -> bool:
    exact = selector.get("matchLabels", {}).items() <= pod.labels.items()
    return exact and all(pod.labels.get(each["key"]) in each["values"] for each in selector.get("matchExpressions", []))


def test_only_pods_of_the_pipeline_write_to_its_home(run: Pod) -> None:
    writing = set()
    for pod in (*pods(), *chart_pods(), run):
        mounts = {each["mountPath"]: each for each in pod.container["volumeMounts"]}
        if pod.claims.get("/data") and not mounts["/data"].get("readOnly"):
            writing.add(pod.name)
    assert writing == {"code", "run"}
