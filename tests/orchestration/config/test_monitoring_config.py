import copy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
import yaml

from ml.errors import DataError
from orchestration.config.monitoring_config import NightlyDeadline, TablesWindow, load_monitoring_config
from orchestration.config.settings import PROJECT_ROOT

SHOP = """
datasets:
  shop:
    reader: table
    liked: all
    ratings: {path: orders.csv, user: customer, item: sku}
    items: {path: products.csv, key: sku, features: {brand: categorical, tags: multivalued}}
"""
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
        ("drift.stability_index.overrides.colour", 0.1, "unknown colour; expected features of a data set: age, "),
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


def test_limits_may_name_features_of_an_own_data_set(tmp_path: Path, env: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop.yaml").write_text(SHOP, "utf-8")
    env.setenv("DATASETS_YAML", str(tmp_path / "shop.yaml"))
    path = with_value(tmp_path, "drift.stability_index.overrides", {"brand": 0.5, "tags2": None, "zip": None})
    limits = load_monitoring_config(path).drift.stability_index
    assert (limits.of("brand"), limits.of("tags2"), limits.of("country")) == (0.5, None, 0.25)
    path = with_value(tmp_path, "drift.stability_index.overrides", {"tags": 0.5})
    with pytest.raises(DataError, match=r"unknown tags; expected features of a data set: .*tags1, tags2, tags3"):
        load_monitoring_config(path)


def test_a_nightly_run_is_late_from_its_deadline_on() -> None:
    nightly = NightlyDeadline(deadline="0 6 * * *", hours_before=4)
    vienna = ZoneInfo("Europe/Vienna")
    last = datetime(2003, 3, 1, 3, tzinfo=vienna)
    for now, late in (
        (datetime(2003, 3, 1, 7, tzinfo=vienna), False),
        (datetime(2003, 3, 2, 5, 59, tzinfo=vienna), False),
        (datetime(2003, 3, 2, 6, 1, tzinfo=vienna), True),
    ):
        assert nightly.lateness(last, now) == (dg.AssetCheckSeverity.ERROR if late else None)
    # 05:30 in Vienna's winter is 04:30 UTC: there, the deadline of the 2nd has not passed yet
    assert nightly.lateness(last, datetime(2003, 3, 2, 5, 30, tzinfo=UTC)) is None
    # four hours before the deadline is early enough, five are not
    now = datetime(2003, 3, 1, 7, tzinfo=vienna)
    assert nightly.lateness(datetime(2003, 3, 1, 2, tzinfo=vienna), now) is None
    assert nightly.lateness(datetime(2003, 3, 1, 1, tzinfo=vienna), now) == dg.AssetCheckSeverity.ERROR


def test_old_tables_warn_first() -> None:
    tables, last = TablesWindow(warn_days=14, fail_days=30), datetime(2003, 3, 1, tzinfo=UTC)
    found = [tables.lateness(last, last + timedelta(days=days)) for days in (13.9, 14, 29.9, 30)]
    assert found == [None, dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR]
