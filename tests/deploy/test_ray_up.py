"""deploy/ray-up.yaml, by the checks of Ray's own cluster launcher."""

from typing import Any

import pytest
import yaml
from jsonschema import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.deploy.manifests import DEPLOY


@pytest.fixture
def config() -> dict[str, Any]:
    return dict(yaml.safe_load((DEPLOY / "ray-up.yaml").read_text("utf-8")))


def test_ray_accepts_it(config: dict[str, Any]) -> None:
    prepared = prepare_config(config)
    validate_config(prepared)
    (machine,) = prepared["available_node_types"].values()
    assert machine["min_workers"] == machine["max_workers"] == len(config["provider"]["worker_ips"])


def test_ray_refuses_a_key_that_it_does_not_know(config: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="head_start_commands"):
        validate_config(prepare_config({**config, "head_start_commands": []}))


def test_every_node_asks_for_the_token(config: dict[str, Any]) -> None:
    for commands in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        (start,) = [command for command in commands if "ray start" in command]
        assert start.startswith("RAY_AUTH_MODE=token ")
        assert "--num-cpus=" in start
    assert "~/.ray/auth_token" in config["file_mounts"]
