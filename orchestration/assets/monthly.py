"""Each user's top 10 movies in any month of the data. The published tables stay as they are.

The tables are shown as an asset, but built by a job of their own for a chosen range of months: materializing all
assets does not include them, and does not ask for months.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import dagster as dg
from pydantic import Field, ValidationInfo, field_validator

from ml.checks import Finding
from ml.evaluation.stability import slots_changed
from ml.features.tables import months_of
from ml.files import write_atomically
from orchestration.assets.common import OWNERS, TRANSIENT
from orchestration.compute.resource import Compute
from orchestration.config.data_sets import DATA_SETS
from orchestration.config.recipes_in_force import reference_models
from orchestration.reporting.check_results import refuse, together
from orchestration.reporting.metadata import SETTINGS
from orchestration.resources.storage import Storage, as_parquet
from orchestration.steps.top_lists import Lists, SearchConfig, rank
from orchestration.tracking.registered_version import RegisteredVersion
from orchestration.tracking.resource import Tracking

MONTHLY = "monthly_top10"  # the asset
MONTHLY_RECOMMENDATIONS = "monthly_recommendations"  # the job
RANK_MONTHS = "rank_months"  # its op
_FOLDER = "monthly"  # among the tables
_FORMAT = "%Y-%m"
MONTHS = dg.DynamicPartitionsDefinition(name="months")  # those of the ratings, added by the job
_DATA_SET, _MONTH = "data_set", "month"  # dimensions of the partitions


@dataclass(frozen=True)
class _Table:
    """A model's table of one month, not yet written.

    Attributes:
        file: its name among the tables.
        data: the Parquet file.
        shown: metadata.
    """

    file: str
    data: bytes
    shown: Mapping[str, Any]


monthly_top10 = dg.AssetSpec(
    MONTHLY,
    description="Up to ten unseen movies per user and month, by each model's champion. Launch the job "
    f"`{MONTHLY_RECOMMENDATIONS}` with the first and the last month; it publishes nothing.",
    group_name="recommendations",
    owners=OWNERS,
    kinds={"keras", "mlflow", "parquet"},
    partitions_def=dg.MultiPartitionsDefinition({_DATA_SET: DATA_SETS, _MONTH: MONTHS}),
    deps=["ratings", "top10_recommendations"],
)


class MonthsConfig(SearchConfig):
    """The months to rank for, and how lists are found."""

    first: str = Field(description="First month, such as 2000-04.")
    last: str = Field(description="Last month, such as 2000-06, inclusive.")

    @field_validator("first", "last")
    @classmethod
    def _is_a_month(cls, month: str) -> str:
        if not re.fullmatch(r"[0-9]{4}-(0[1-9]|1[0-2])", month):
            raise ValueError("expected a month such as 2000-04")
        return month

    @field_validator("last")
    @classmethod
    def _is_not_before_the_first(cls, last: str, info: ValidationInfo) -> str:
        if last < info.data.get("first", last):
            raise ValueError(f"expected a month not before {info.data['first']}, the first one")
        return last

    def chosen(self, months: Sequence[str]) -> list[str]:
        """Those of the months that were chosen.

        Args:
            months: all months of the data.

        Raises:
            dagster.Failure: the first or the last one is not among them. The step is not retried.
        """
        for month in (self.first, self.last):
            if month not in months:
                raise dg.Failure(
                    f"{month} is outside the range of the ratings; expected a month from {months[0]} to {months[-1]}",
                    allow_retries=False,
                )
        return [month for month in months if self.first <= month <= self.last]

    @property
    def search(self) -> dict[str, Any]:
        """How lists are found."""
        return self.model_dump(include={*SearchConfig.model_fields})


@dg.op(name=RANK_MONTHS, retry_policy=TRANSIENT)
def rank_months(
    context: dg.OpExecutionContext, config: MonthsConfig, storage: Storage, compute: Compute, tracking: Tracking
) -> None:
    """Rank with each model's champion for all months, and write the tables once all have passed their audit."""
    _require_times(storage)
    champions, ratings = _champions(tracking), storage.read_table("ratings")
    in_data = months_of(ratings)
    months = config.chosen(in_data)
    ranking = config.ranking(ratings, *map(_moment, months))
    shared: dict[str, Any] = {SETTINGS: config.search, "months_of_run": f"{months[0]} to {months[-1]}"}
    tables: list[Sequence[_Table]] = []  # of each model, one a month
    for model, champion in champions.items():
        if champion:
            own, audit = _tables(storage, rank(context, compute, tracking, champion, ranking), months)
            refuse(MONTHLY, audit.named(f"top_lists_{model}"))
            tables.append(own)
        else:
            shared[f"{model}.skipped"] = "no champion, therefore no table"
    context.instance.add_dynamic_partitions(str(MONTHS.name), in_data)
    for month, *of_month in zip(months, *tables, strict=True):
        shown = {**_written(storage, of_month), **shared}
        partition = dg.MultiPartitionKey({_DATA_SET: tracking.dataset, _MONTH: month})
        context.log_event(dg.AssetMaterialization(MONTHLY, metadata=shown, partition=partition))


@dg.job(
    name=MONTHLY_RECOMMENDATIONS,
    partitions_def=DATA_SETS,
    description="Top-10 tables by the champions for a range of months, in one run; publishes nothing.",
)
def monthly_recommendations() -> None:
    """One run for all months, since the first month costs more than further ones."""
    rank_months()


def _require_times(storage: Storage) -> None:
    if not storage.raw_data.format.description.has_times:
        raise dg.Failure(
            f"{storage.raw_data.dataset}: ratings have no time, so there are no months to rank for", allow_retries=False
        )


def _champions(tracking: Tracking) -> dict[str, RegisteredVersion | None]:
    """Each model's champion. Raises dagster.Failure if no model has one."""
    champions = {model: tracking.champion(model) for model in reference_models()}
    if not any(champions.values()):
        raise dg.Failure(
            f"data set {tracking.dataset}: none of {', '.join(champions)} has a champion to rank with; expected at "
            "least one. Publish one first (make run, or the job recommender_pipeline), or launch the partition of a "
            "data set that has one",
            allow_retries=False,
        )
    return champions


def _moment(month: str) -> tuple[int, int]:
    """Year and month of a partition."""
    first = datetime.strptime(month, _FORMAT)
    return first.year, first.month


def _tables(
    storage: Storage, ranked: Sequence[tuple[Lists, Finding]], months: Sequence[str]
) -> tuple[list[_Table], Finding]:
    """A model's lists of consecutive months as files, each compared with the month before, and the audit of all."""
    tables = []
    before: Lists | None = None
    for month, (lists, _) in zip(months, ranked, strict=True):
        file = f"{_FOLDER}/top10_{lists.version.model}_{month}.parquet"
        changed = slots_changed(before.table, lists.table) if before else math.nan
        changes = {} if math.isnan(changed) else {"slots_changed": changed}
        shown = lists.described(storage.tables / file, seconds_of_run=lists.seconds, **changes)
        tables.append(_Table(file, as_parquet(lists.table), shown))
        before = lists
    return tables, together("top_lists", {month: audit for month, (_, audit) in zip(months, ranked, strict=True)})


def _written(storage: Storage, tables: Sequence[_Table]) -> dict[str, Any]:
    """Write a month's tables; gives their metadata."""
    shown: dict[str, Any] = {}
    for table in tables:
        write_atomically(storage.tables / table.file, table.data)
        shown |= table.shown
    return shown | storage.stored(*(table.file for table in tables))
