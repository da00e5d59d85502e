import copy
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from ml.errors import DataError
from orchestration.config.monitoring_config import load_monitoring_config
from orchestration.config.settings import PROJECT_ROOT
from orchestration.definitions import build_definitions
from orchestration.runtime.instance import use_instance

PATH = PROJECT_ROOT / "monitoring.yaml"


def with_value(tmp_path: Path, keys: str, value: Any) -> Path:
    """The project's file with another value at dotted keys."""
    document = copy.deepcopy(yaml.safe_load(PATH.read_text("utf-8")))
    *parents, last = keys.split(".")
    place = document
    for key in parents:
        place = place[key]
    place[last] = value
    path = tmp_path / "monitoring.yaml"
    path.write_text(yaml.safe_dump(document), "utf-8")
    return path


def test_the_calendar_never_warns_in_the_projects_file() -> None:
    drift = load_monitoring_config().drift
    for limits in (drift.stability_index, drift.unknown_share):
        assert [limits.of(name) for name in ("rating_year", "rating_month", "rating_decade")] == [None] * 3
    assert drift.stability_index.of("genre1") == 0.25


def test_another_file_by_the_environment(tmp_path: Path, env: pytest.MonkeyPatch) -> None:
    env.setenv("MONITORING_YAML", str(with_value(tmp_path, "slots_changed", 0.33)))
    assert load_monitoring_config().slots_changed == 0.33


@pytest.mark.parametrize(
    ("keys", "value", "reason"),
    [
        ("drift.minimum_rows", 0, "drift.minimum_rows"),
        ("drift.psi", 1, "drift.psi: Extra inputs are not permitted"),
        ("drift.stability_index.overrides.colour", 0.1, "unknown colour; expected some of user_id"),
        ("metric_drop.overrides", {"catalogue_mean_popularity_at_10": 1}, "unknown catalogue_mean_popularity_at_10"),
        ("slots_changed", 70, "slots_changed"),
        ("freshness.nightly.deadline", "six o'clock", "freshness.nightly: Value error.*Invalid cron string"),
        ("freshness.nightly.hours_before", 25, "less than or equal to the smallest cron interval"),
        ("freshness.tables.warn_days", 30, "freshness.tables: Value error, expected warn_days to be less than"),
        ("freshness.tables.warn_days", 0, "freshness.tables.warn_days"),
        ("alerts", {}, "alerts: Extra inputs are not permitted"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, keys: str, value: Any, reason: str) -> None:
    path = with_value(tmp_path, keys, value)
    with pytest.raises(DataError, match=reason) as refused:
        load_monitoring_config(path)
    assert str(refused.value).startswith(str(path))


def test_policies(env: pytest.MonkeyPatch) -> None:
    settings = load_monitoring_config().freshness
    nightly, tables = settings.nightly, settings.tables
    graph = build_definitions().resolve_asset_graph()
    policies = {node.key.to_user_string(): node.freshness_policy for node in graph.asset_nodes if node.freshness_policy}
    assert policies == {
        "run_plan": dg.FreshnessPolicy.cron(nightly.deadline, timedelta(hours=nightly.hours_before), "UTC"),
        "top10_recommendations": dg.FreshnessPolicy.time_window(
            timedelta(days=tables.fail_days), timedelta(days=tables.warn_days)
        ),
    }
    assert nightly.policy("Asia/Tokyo").timezone == "Asia/Tokyo"  # type: ignore[attr-defined]


def test_the_daemon_looks_at_them(env: pytest.MonkeyPatch, tmp_path: Path) -> None:
    env.setenv("DAGSTER_HOME", str(tmp_path / "instance"))
    use_instance()
    with dg.DagsterInstance.get() as instance:
        assert "FRESHNESS_DAEMON" in instance.get_required_daemon_types()
