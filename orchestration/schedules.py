"""When the job runs by itself."""

import dagster as dg

from orchestration.jobs import pipeline
from orchestration.settings import Settings


def nightly() -> dg.ScheduleDefinition:
    """The whole job every night, running unless somebody turns it off."""
    settings = Settings()
    return dg.ScheduleDefinition(
        name="nightly",
        job=pipeline,
        cron_schedule=settings.schedule_cron,
        execution_timezone=settings.schedule_timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Retrains and republishes everything.",
    )
