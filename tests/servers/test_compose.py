"""deploy/compose.yaml: what a person who starts it relies on. The tests of the servers themselves are beside it."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestration.config.settings import PROJECT_ROOT, Settings

DEPLOY = PROJECT_ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ENDING = {"prepare", "bucket"}  # they end, and have nothing to answer
IN_IMAGE = {"service", "app"}  # their images have health checks
SECRETS = {
    "POSTGRES_PASSWORD",
    "DAGSTER_DB_PASSWORD",
    "MLFLOW_DB_PASSWORD",
    "MLFLOW_ADMIN_PASSWORD",
    "MLFLOW_SECRET_KEY",
}
# Read by other programs than this project's settings.
OTHERS = r"AWS_|MLFLOW_|POSTGRES_|PG|MINIO_|DAGSTER_DB_PASSWORD|MLFLOW_DB_PASSWORD|DAGSTER_CODE_|S3_BUCKET"


def example() -> dict[str, str]:
    lines = (DEPLOY / ".env.example").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))  # type: ignore[misc]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert "network_mode" not in service
    assert "privileged" not in service
    if name not in ENDING | IN_IMAGE:
        assert service["healthcheck"]["test"][0] == "CMD"


def test_no_secret_has_a_value_or_a_default() -> None:
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    used = re.findall(r"\$\{(\w+)([^}]*)\}", text)
    for name, rest in used:
        if name in SECRETS:
            assert rest == ":?set it in deploy/.env", name
    assert {name for name, _ in used} >= SECRETS
    assert {name for name, value in example().items() if not value} >= SECRETS


def test_the_service_asks_for_keys_of_a_file_outside_the_repository() -> None:
    service = SERVICES["service"]
    [name] = service["secrets"]
    assert service["environment"]["SERVE_KEYS_FILE"] == f"/run/secrets/{name}"
    assert COMPOSE["secrets"][name]["file"] == "${SERVE_KEYS_FILE:-./api-keys}"
    assert "/deploy/api-keys" in (PROJECT_ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


def test_every_setting_is_known() -> None:
    known = {name.upper() for name in Settings.model_fields}
    for name, service in SERVICES.items():
        unknown = [key for key in service.get("environment", {}) if key not in known and not re.match(OTHERS, key)]
        assert not unknown, name


def test_volumes_and_files_exist() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (DEPLOY / source).is_file() if source.startswith(".") else source in COMPOSE["volumes"], volume


@pytest.mark.servers
def test_compose_accepts_the_file_and_refuses_the_example(tmp_path: Path) -> None:
    program = shutil.which("docker-compose")
    assert program, "docker-compose is not installed (apt-get install docker-compose)"
    filled = tmp_path / "filled"
    filled.write_text("".join(f"{name}={value or 'x'}\n" for name, value in example().items()))

    def config(env: Path) -> "subprocess.CompletedProcess[str]":
        command = [program, "--file", str(DEPLOY / "compose.yaml"), "--env-file", str(env), "config", "--quiet"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert config(filled).returncode == 0, config(filled).stderr
    refused = config(DEPLOY / ".env.example")
    assert refused.returncode != 0
    assert "set it in deploy/.env" in refused.stderr
