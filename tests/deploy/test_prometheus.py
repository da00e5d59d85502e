"""The files for Prometheus: what they ask for is exported, and the alerts fire when they should."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.service.config import load_serving_config
from orchestration.config.settings import PROJECT_ROOT, Settings
from orchestration.exporter.catalog import CATALOG, EVALUATED
from tests.deploy.exported import exported, problems

FOLDER = PROJECT_ROOT / "deploy" / "prometheus"
ALERTS, CONFIG = FOLDER / "alerts.yaml", FOLDER / "prometheus.yaml"
CASES = sorted(Path(__file__).parent.glob("alerts_cases*.yaml"))
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(ALERTS.read_text("utf-8"))["groups"] for rule in group["rules"]
]
_LABEL = re.compile(r"\$labels\.(\w+)")


def promtool(*arguments: str) -> None:
    """Run Prometheus's own tool; skip the test where it is not there."""
    if (tool := shutil.which("promtool")) is None:
        pytest.skip("promtool is not there; it is in Debian's package prometheus")
    done = subprocess.run([tool, *arguments], capture_output=True, text=True, check=False, cwd=FOLDER)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_what_is_exported_and_tells_what_to_do(rule: dict[str, Any]) -> None:
    assert problems(rule["expr"]) == []
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert set(rule["annotations"]) == {"summary", "description"}
    labels = {label for name in exported() if name in rule["expr"] for label in exported()[name]}
    assert set(_LABEL.findall(str(rule["annotations"]))) <= labels


def test_unknown_names_are_found() -> None:
    assert problems("recommender_pipeline_unheard == 0") == ["recommender_pipeline_unheard"]
    assert problems('rate(recommender_requests_total{code=~"5.."}[5m])') == ["recommender_requests_total: ['code']"]
    assert problems("recommender_requests > 1") == ["recommender_requests"]
    assert problems("1 > 0") == ["no metric"]


def test_every_alert_is_tried() -> None:
    tests = [test for path in CASES for test in yaml.safe_load(path.read_text("utf-8"))["tests"]]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    fires = {case["alertname"] for case in cases if case.get("exp_alerts")}
    quiet = {case["alertname"] for case in cases if not case.get("exp_alerts")}
    names = {rule["alert"] for rule in RULES}
    assert fires == quiet == names


def test_rules_and_configuration_are_valid() -> None:
    promtool("check", "rules", str(ALERTS))
    promtool("check", "config", str(CONFIG))


def test_the_key_of_the_service_can_be_switched_on(tmp_path: Path) -> None:
    commented = re.compile(r"^( *)# (authorization:|  credentials_file: \w+)$", re.MULTILINE)
    text, count = commented.subn(r"\1\2", CONFIG.read_text("utf-8"))
    assert count == 2
    [job] = [job for job in yaml.safe_load(text)["scrape_configs"] if "authorization" in job]
    assert job["job_name"] == "recommender-service"
    for name, content in {
        "prometheus.yaml": text,
        "alerts.yaml": ALERTS.read_text("utf-8"),
        "service_key": "key",
    }.items():
        (tmp_path / name).write_text(content)
    promtool("check", "config", str(tmp_path / "prometheus.yaml"))


def test_alerts_fire_when_they_should() -> None:
    promtool("test", "rules", *map(str, CASES))


def test_the_page_lists_all_metrics_and_alerts() -> None:
    page = (PROJECT_ROOT / "docs" / "monitoring.md").read_text("utf-8")
    named = set(re.findall(r"`(\w+)`", page))
    assert {name for name in CATALOG if not name.startswith(EVALUATED)} <= named
    assert {rule["alert"] for rule in RULES} == set(re.findall(r"^\| ((?:Pipeline|Service)\w+) \|", page, re.MULTILINE))


def test_targets_are_where_the_servers_are_by_default() -> None:
    jobs = {job["job_name"]: job for job in yaml.safe_load(CONFIG.read_text("utf-8"))["scrape_configs"]}
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    targets = {name: job["static_configs"][0]["targets"] for name, job in jobs.items()}
    assert targets == {
        "recommender-pipeline": [f"{defaults['metrics_host']}:{defaults['metrics_port']}"],
        "recommender-service": [f"{defaults['serve_host']}:{defaults['serve_port']}"],
    }
    named = {name for rule in RULES for name in re.findall(r'job="([\w-]+)"', rule["expr"])}
    assert named == set(jobs)


def test_refreshes_are_looked_at_over_several_polls() -> None:
    [rule] = [rule for rule in RULES if rule["alert"] == "ServiceRefreshFailing"]
    [minutes] = re.findall(r"\[(\d+)m\]", rule["expr"])
    assert int(minutes) * 60 >= 4 * load_serving_config(PROJECT_ROOT / "serving.yaml").refresh_seconds
