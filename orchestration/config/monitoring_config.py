"""monitoring.yaml, validated."""

from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

import dagster as dg
from dagster._utils.schedules import get_latest_completed_cron_tick  # Dagster has no public name for it
from dagster_shared.check import CheckError
from pydantic import BaseModel, Field, model_validator

from ml.errors import DataError
from ml.evaluation.drift_findings import DriftThresholds
from ml.evaluation.stability import MetricLimits
from ml.schema import FIELD_NAMES
from ml.settings_file import read_settings
from orchestration.config.data_sets import described
from orchestration.config.settings import settings


class NightlyDeadline(BaseModel, frozen=True, extra="forbid"):
    """When the nightly run must have started."""

    deadline: str = Field(description="Cron expression in the schedule's time zone.")
    hours_before: float = Field(gt=0, description="How long before the deadline a run of the same night may start.")

    @model_validator(mode="after")
    def _dagster_accepts_it(self) -> "NightlyDeadline":
        try:
            dg.FreshnessPolicy.cron(self.deadline, timedelta(hours=self.hours_before))
        except CheckError as error:
            raise ValueError(str(error)) from error
        return self

    def lateness(self, last: datetime, now: datetime) -> dg.AssetCheckSeverity | None:
        """How late an asset is that every nightly run materializes; None if it is in time.

        Args:
            last: when it was last materialized.
            now: the present, in the schedule's time zone.
        """
        deadline = get_latest_completed_cron_tick(self.deadline, now, str(now.tzinfo))
        return dg.AssetCheckSeverity.ERROR if last < deadline - timedelta(hours=self.hours_before) else None


class TablesWindow(BaseModel, frozen=True, extra="forbid"):
    """How long the tables may stay as they are."""

    warn_days: int = Field(ge=1, description="Days after which the check on_time warns.")
    fail_days: int = Field(ge=1, description="Days after which they count as overdue; more than warn_days.")

    @model_validator(mode="after")
    def _warns_first(self) -> "TablesWindow":
        if self.warn_days >= self.fail_days:
            raise ValueError("expected warn_days to be less than fail_days")
        return self

    def lateness(self, last: datetime, now: datetime) -> dg.AssetCheckSeverity | None:
        """How late tables are that were last published at a moment; None if they are in time."""
        if now - last >= timedelta(days=self.fail_days):
            return dg.AssetCheckSeverity.ERROR
        return dg.AssetCheckSeverity.WARN if now - last >= timedelta(days=self.warn_days) else None


class Freshness(BaseModel, frozen=True, extra="forbid"):
    """When assets count as overdue."""

    nightly: NightlyDeadline
    tables: TablesWindow


class MonitoringConfig(BaseModel, frozen=True, extra="forbid"):
    """The settings of monitoring.yaml."""

    drift: DriftThresholds
    metric_drop: MetricLimits
    slots_changed: float = Field(gt=0, le=1, description="Share of top-10 slots that may change with a publication.")
    freshness: Freshness


def load_monitoring_config(path: Path | None = None) -> MonitoringConfig:
    """Read and validate monitoring.yaml. Raises DataError naming file and field."""
    path = path or settings().monitoring_yaml
    config = read_settings(path, MonitoringConfig)
    _require_known_features(path, config.drift)
    return config


def _require_known_features(path: Path, drift: DriftThresholds) -> None:
    """Raise DataError if a limit is of a feature that no data set has."""
    known = {*FIELD_NAMES, *(name for entry in described().values() for name in entry.own_features)}
    for key, limits in (("stability_index", drift.stability_index), ("unknown_share", drift.unknown_share)):
        if unknown := sorted(set(limits.overrides) - known):
            raise DataError(
                f"{path}: drift.{key}.overrides: unknown {', '.join(unknown)}; expected features of a data set: "
                f"{', '.join(sorted(known))}"
            )


@cache
def monitoring() -> MonitoringConfig:
    """The settings of monitoring.yaml, read once per process. Raises DataError."""
    return load_monitoring_config()
