"""What a run says of itself."""

from typing import Any

import dagster as dg
import pandas as pd
from pydantic import Field

from orchestration.assets.common import OWNERS
from orchestration.config.launch_config import LaunchConfig
from orchestration.reporting.confirmation import confirm
from orchestration.reporting.metadata import markdown_table

RUN_PLAN = "run_plan"  # part of every run


class RunPlanConfig(LaunchConfig):
    """What the run makes, as it was planned before the launch."""

    reasons: dict[str, str] = Field(default={}, description="Assets that the run rebuilds, and why.")
    fresh: list[str] = Field(default=[], description="Assets that stay as they are.")
    checks: dict[str, list[str]] = Field(default={}, description="Names of the checks of assets that stay, by asset.")


_FIRST = {"dagster/priority": "1"}  # shown before anything else happens


def run_plan_asset(expected: dg.FreshnessPolicy) -> dg.AssetsDefinition:
    """The asset that every run materializes first.

    Args:
        expected: by when a night's run must have materialized it; even a night in which nothing is stale does.
    """

    @dg.asset(
        name=RUN_PLAN,
        group_name="operations",
        kinds={"dagster"},
        owners=OWNERS,
        op_tags=_FIRST,
        freshness_policy=expected,
    )
    def run_plan(context: dg.AssetExecutionContext, config: RunPlanConfig) -> dg.MaterializeResult[None]:
        """What the run makes anew and why, and what stays as it is, since nothing that it comes from has changed.

        Part of every run that was planned: by the schedule, by the sensor of arrivals, by make run.
        """
        anew, total = len(config.reasons), len(config.reasons) + len(config.fresh)
        if not total:
            summary = "Launched by hand: all assets that were selected are made anew."
        elif anew:
            summary = f"{anew} of {total} assets are made anew; nothing has changed for the others."
        else:
            summary = f"Nothing has changed: all {total} assets stay as they are."
        context.log.info(summary)
        checks = [
            dg.AssetCheckKey(dg.AssetKey(asset), name) for asset, names in config.checks.items() for name in names
        ]
        confirmed = confirm(context.instance, [dg.AssetKey(asset) for asset in config.fresh], checks)
        if confirmed:
            context.log.info(f"Confirmed, since a run failed before it got there: {', '.join(confirmed)}")
        rows = pd.DataFrame({"asset": list(config.reasons), "made anew because": list(config.reasons.values())})
        facts: dict[str, Any] = {
            "summary": summary,
            "assets_made_anew": anew,
            "assets_unchanged": len(config.fresh),
            "assets_confirmed": len(confirmed),
        }
        return dg.MaterializeResult(
            metadata={**facts, "reasons": markdown_table(rows), "unchanged": dg.MetadataValue.json(config.fresh)}
        )

    return run_plan
