"""What a run rebuilds, and why."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import pandas as pd
from pydantic import Field

from orchestration.assets.common import OWNERS, PRIORITY
from orchestration.config.data_sets import DATA_SETS
from orchestration.config.launch_config import LaunchConfig
from orchestration.reporting.check_results import on_time, on_time_spec
from orchestration.reporting.confirmation import confirm
from orchestration.reporting.metadata import markdown_table

RUN_PLAN = "run_plan"  # part of every run
_FIRST = {PRIORITY: "1"}  # shown before anything else happens


class RunPlanConfig(LaunchConfig):
    """The plan of the run, made before its launch."""

    reasons: dict[str, str] = Field(default={}, description="Assets that the run rebuilds, and why.")
    up_to_date: list[str] = Field(default=[], description="Assets that stay as they are.")
    checks: dict[str, list[str]] = Field(default={}, description="Names of the checks of up-to-date assets, by asset.")

    @property
    def summary(self) -> str:
        """The plan in a sentence."""
        stale, total = len(self.reasons), len(self.reasons) + len(self.up_to_date)
        if not total:
            return "Launched by hand: all selected assets are rebuilt."
        if not stale:
            return f"Nothing has changed: all {total} assets are up to date."
        return f"{stale} of {total} assets are rebuilt; the others are up to date."


@dg.asset(
    name=RUN_PLAN,
    partitions_def=DATA_SETS,
    group_name="operations",
    kinds={"dagster"},
    owners=OWNERS,
    op_tags=_FIRST,
    check_specs=[on_time_spec(RUN_PLAN, "A run has started by the deadline of monitoring.yaml.")],
)
def run_plan(context: dg.AssetExecutionContext, config: RunPlanConfig) -> Iterator[Any]:
    """What the run rebuilds and why, and what stays as it is since nothing that it depends on has changed.

    Part of every planned run: of the schedule, of the sensor arrivals, of make run.
    """
    context.log.info(config.summary)
    assets, checks = list(map(dg.AssetKey, config.up_to_date)), _check_keys(config.checks)
    confirmed = confirm(context.instance, context.partition_key, assets, checks)
    if confirmed:
        context.log.info(f"Confirmed, since an earlier run failed before it reached them: {', '.join(confirmed)}")
    reasons = pd.DataFrame({"asset": list(config.reasons), "rebuilt because": list(config.reasons.values())})
    yield dg.MaterializeResult(
        metadata={
            "summary": config.summary,
            "assets_rebuilt": len(config.reasons),
            "assets_up_to_date": len(config.up_to_date),
            "assets_confirmed": len(confirmed),
            "reasons": markdown_table(reasons),
            "up_to_date": dg.MetadataValue.json(config.up_to_date),
        },
    )
    yield on_time(RUN_PLAN)


def _check_keys(checks: Mapping[str, list[str]]) -> list[dg.AssetCheckKey]:
    return [dg.AssetCheckKey(dg.AssetKey(asset), name) for asset, names in checks.items() for name in names]
