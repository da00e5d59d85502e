"""What Dagster's chart and its run launcher make of our values; the chart itself is not in any Python package."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from dagster._core.storage.dagster_run import DagsterRun
from dagster_k8s import K8sRunLauncher
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.job import construct_dagster_k8s_job

from tests.deploy.manifests import DEPLOY, Object, Pod, read

VALUES, RAY_VALUES = (DEPLOY / "kubernetes" / "dagster" / name for name in ("values.yaml", "ray-values.yaml"))
RUN_ARGUMENTS = ["dagster", "api", "execute_run", "{}"]  # the launcher gives such
_KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{name: none, cluster: {server: "https://127.0.0.1:1"}}]
contexts: [{name: none, context: {cluster: none, user: none}}]
current-context: none
users: [{name: none, user: {}}]
"""


@cache
def values(with_ray: bool = False) -> Object:
    """The values, merged as Helm does: maps deeply, lists as a whole."""
    own = read(VALUES)
    return _merged(own, read(RAY_VALUES)) if with_ray else own


def _merged(below: Any, above: Any) -> Any:
    if isinstance(below, Mapping) and isinstance(above, Mapping):
        return {name: _merged(below.get(name), above.get(name, below.get(name))) for name in {**below, **above}}
    return above


def code_location() -> Object:
    (deployment,) = values()["dagster-user-deployments"]["deployments"]
    return dict(deployment)


def chart_pods() -> list[Pod]:
    """Webserver, daemon and code location, as the chart's templates put them together."""
    server, daemon, code = values()["dagsterWebserver"], values()["dagsterDaemon"], code_location()
    return [_pod("webserver", server), _pod("daemon", daemon), _pod("code", code)]


def _pod(name: str, given: Mapping[str, Any]) -> Pod:
    container = {
        "name": name,
        "image": ":".join(str(given.get("image", {}).get(part, "of-the-chart")) for part in ("repository", "tag")),
        **{part: given[part] for part in ("env", "resources", "securityContext", "volumeMounts")},
        "envFrom": [
            *({"configMapRef": each} for each in given.get("envConfigMaps", [])),
            *({"secretRef": each} for each in given.get("envSecrets", [])),
        ],
    }
    if "httpGet" in (probe := given.get("readinessProbe", {})):
        container["readinessProbe"] = probe
    spec = {"securityContext": given["podSecurityContext"], "volumes": given["volumes"], "containers": [container]}
    return Pod(name, {"metadata": {"labels": given["labels"]}, "spec": spec})


def run_job(folder: Path, with_ray: bool = False) -> Object:
    """The Job that Dagster creates for a run, made by its own code.

    Args:
        folder: for a file of the client, which connects to nothing.
        with_ray: whether runs compute on the Ray cluster.
    """
    config = folder / "kubeconfig"
    config.write_text(_KUBECONFIG, "utf-8")
    launcher = K8sRunLauncher(
        service_account_name="dagster",
        instance_config_map="dagster-instance",
        postgres_password_secret=values()["global"]["postgresqlSecretName"],
        dagster_home=values()["global"]["dagsterHome"],
        job_namespace="recommender",
        load_incluster_config=False,
        kubeconfig_file=str(config),
        **launcher_config(with_ray),
    )
    run = DagsterRun("recommender_pipeline", run_id="8d5f0b3e-1f3a-4c35-9c3b-2f1d8a7e6b54")
    context = K8sContainerContext.create_for_run(run, launcher, include_run_tags=False)
    image = code_location()["image"]
    job = construct_dagster_k8s_job(
        job_config=context.get_k8s_job_config(f"{image['repository']}:{image['tag']}", launcher),
        args=RUN_ARGUMENTS,
        job_name="dagster-run",
        user_defined_k8s_config=context.run_k8s_config,
        pod_name="dagster-run",
        component="run_worker",
    )
    from kubernetes.client import ApiClient

    return dict(ApiClient().sanitize_for_serialization(job))


def launcher_config(with_ray: bool) -> Object:
    """What the chart writes for the run launcher into its dagster.yaml."""
    given = values(with_ray)["runLauncher"]["config"]["k8sRunLauncher"]
    names = {"containerConfig": "container_config", "podSpecConfig": "pod_spec_config"}
    names |= {"podTemplateSpecMetadata": "pod_template_spec_metadata", "jobSpecConfig": "job_spec_config"}
    return {
        "image_pull_policy": given["imagePullPolicy"],
        "fail_pod_on_run_failure": given["failPodOnRunFailure"],
        "env_config_maps": [each["name"] for each in given["envConfigMaps"]],
        "env_secrets": [each["name"] for each in given["envSecrets"]],
        "env_vars": given["envVars"],
        **{name: given[name] for name in ("labels", "resources", "volumes")},
        "volume_mounts": given["volumeMounts"],
        "security_context": given["securityContext"],
        "run_k8s_config": {names[name]: value for name, value in given["runK8sConfig"].items()},
    }
