"""The values for Dagster's chart: what Dagster's own packages say of them."""

import re
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from dagster._cli.api import api_cli
from dagster._config import process_config
from dagster._core.run_coordinator import QueuedRunCoordinator
from dagster_k8s import K8sRunLauncher

from orchestration.config.settings import PROJECT_ROOT
from tests.deploy.dagster_chart import RUN_ARGUMENTS, VALUES, code_location, launcher_config, run_job, values
from tests.deploy.manifests import BASE, env_file, kustomization, pinned


def test_the_instance_queues_runs_with_the_limits_of_dagster_yaml(tmp_path: Path) -> None:
    extra, daemon = dict(values()["additionalInstanceConfig"]), values()["dagsterDaemon"]
    own: dict[str, Any] = yaml.safe_load((PROJECT_ROOT / "dagster.yaml").read_text("utf-8"))
    assert extra["concurrency"] == own["concurrency"]
    assert extra["nux"] == own["nux"]
    assert values()["telemetry"] == own["telemetry"]
    assert daemon["runMonitoring"]["enabled"] is own["run_monitoring"]["enabled"]
    # With it, the chart writes run_coordinator with max_concurrent_runs: -1, which Dagster refuses beside concurrency.
    assert daemon["runCoordinator"] == {"enabled": False}
    written = {
        **extra,
        "telemetry": values()["telemetry"],
    }  # what the chart writes, but for PostgreSQL and the launcher
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(written), "utf-8")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        found = instance.get_concurrency_config()
        assert isinstance(instance.run_coordinator, QueuedRunCoordinator)
        assert found.run_queue_config
        assert found.run_queue_config.max_concurrent_runs == 1
        assert found.pool_config.default_pool_limit == own["concurrency"]["pools"]["default_limit"]


def test_the_run_launchers_config_is_valid() -> None:
    for with_ray in (False, True):
        given = {"service_account_name": "dagster", "instance_config_map": "dagster-instance", "dagster_home": "/x"}
        done = process_config(K8sRunLauncher.config_type(), {**given, **launcher_config(with_ray)})
        assert done.success, done.errors


def test_a_run_has_resources_of_its_own_and_the_volumes_of_the_code_location(tmp_path: Path) -> None:
    pod = run_job(tmp_path)["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert container["resources"] == values()["runLauncher"]["config"]["k8sRunLauncher"]["resources"]
    assert pod["metadata"]["labels"]["recommender/role"] == "run"
    assert container["volumeMounts"] == code_location()["volumeMounts"]
    assert pod["spec"]["volumes"] == code_location()["volumes"]
    assert container["args"] == RUN_ARGUMENTS
    assert "command" not in container
    assert pod["spec"]["hostname"]  # of writer.json: another one for every run would be refused


def test_a_run_waits_for_its_container_as_long_as_dagster_does() -> None:
    waits = values()["dagsterDaemon"]["runMonitoring"]["startTimeoutSeconds"]
    assert int(env_file(BASE / "pipeline.env")["RUN_START_SECONDS"]) == waits


def test_the_code_location_starts_with_options_that_dagster_has() -> None:
    grpc = api_cli.commands["grpc"]
    given = ["-h", "0.0.0.0", "-p", str(code_location()["port"]), *code_location()["dagsterApiGrpcArgs"]]
    context = grpc.make_context("grpc", [*given], resilient_parsing=True)
    assert context.args == []
    assert "orchestration.definitions" in given
    assert (PROJECT_ROOT / "orchestration" / "definitions.py").is_file()


def test_images_and_versions_are_pinned() -> None:
    image = code_location()["image"]
    tags = {each["name"]: each["newTag"] for each in kustomization(BASE)["images"]}
    assert tags[image["repository"]] == image["tag"]
    assert not re.search(r"tag:\s*latest", VALUES.read_text("utf-8"))
    chart = pinned("dagster")  # charts have the versions of Dagster
    for path in (VALUES, PROJECT_ROOT / "docs" / "kubernetes.md"):
        assert re.findall(r"--version (\S+)", path.read_text("utf-8")) == [chart], path.name


def test_secrets_come_from_outside_the_chart() -> None:
    given = values()
    assert given["generatePostgresqlPasswordSecret"] is False
    assert given["generateCeleryConfigSecret"] is False
    assert given["postgresql"]["enabled"] is False
    assert not given["postgresql"]["postgresqlPassword"]


def test_the_webserver_listens_where_its_probe_asks() -> None:
    server = values()["dagsterWebserver"]
    assert server["readinessProbe"]["httpGet"]["port"] == server["service"]["port"] >= 1024  # not root
