"""The top 10 movies of every user for any months of the data, beside the published tables, which stay as they are."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import dagster as dg

from ml.checks import Finding
from ml.evaluation.stability import slots_changed
from orchestration.assets.common import MODELS, OWNERS, TRANSIENT
from orchestration.checks import blocking_by_model, require, together
from orchestration.code_versions import code_version
from orchestration.freshness import SETTINGS
from orchestration.metadata import figures
from orchestration.registered_version import RegisteredVersion
from orchestration.resources.storage import Storage, as_parquet, write_atomically
from orchestration.resources.tracking import Tracking
from orchestration.toplists import Lists, SearchConfig, rank

# Else Dagster says in every process that backfill policies are in beta; the tests would show a change.
warnings.filterwarnings("ignore", "Parameter `backfill_policy`", dg.BetaWarning)

MONTHLY = "monthly_top10"
_FOLDER = "monthly"  # among the tables
_FORMAT = "%Y-%m"
# MovieLens-1M was rated from April 2000 to February 2003; the end does not count.
MONTHS = dg.MonthlyPartitionsDefinition(start_date="2000-04", end_date="2003-03", fmt=_FORMAT)


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


@dg.asset(
    name=MONTHLY,
    group_name="recommendations",
    owners=OWNERS,
    retry_policy=TRANSIENT,
    code_version=code_version(__name__, "orchestration.toplists"),
    kinds={"keras", "mlflow", "parquet"},
    partitions_def=MONTHS,
    # One run makes any range of months, since a further month costs less than the first.
    backfill_policy=dg.BackfillPolicy.single_run(),
    # The ratings are read when it is known that there are champions to rank by.
    deps=["ratings", "top10_recommendations"],
    check_specs=blocking_by_model(MONTHLY, "top_lists", MODELS),
)
def monthly_top10(
    context: dg.AssetExecutionContext, config: SearchConfig, storage: Storage, tracking: Tracking
) -> Iterator[Any]:
    """Up to ten unseen movies for every user in each chosen month, by each model's champion; publishes nothing."""
    months = context.partition_keys
    champions = _champions(tracking)
    ranking = config.ranking(storage.read_table("ratings"), *map(_moment, months))
    metadata: dict[str, Any] = {SETTINGS: config.model_dump(), "months_of_run": f"{months[0]} to {months[-1]}"}
    tables: list[Sequence[_Table]] = []  # of each model, one a month
    for model, champion in champions.items():
        if champion:
            own, audit = _tables(storage, rank(context, tracking, champion, ranking), months)
            tables.append(own)
        else:
            audit = Finding("top_lists", True, {"champion": "none"})
            metadata[f"{model}.skipped"] = "it has no champion, hence no table"
        yield from require(MONTHLY, audit.named(f"top_lists_{model}"))
    for month, *of_month in zip(months, *tables, strict=True):
        context.add_asset_metadata(_written(storage, of_month), partition_key=month)
    yield dg.MaterializeResult(metadata=metadata)


def _champions(tracking: Tracking) -> dict[str, RegisteredVersion | None]:
    """Each model's champion. Raises dagster.Failure where no model has one."""
    champions = {model: tracking.champion(model) for model in MODELS}
    if not any(champions.values()):
        raise dg.Failure(
            f"data set {tracking.dataset}: none of {', '.join(MODELS)} has a champion to rank by; expected one at "
            "least. Publish one first (make run, or the job recommender_pipeline), or set the source of raw_data to a "
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
    """A model's lists of consecutive months as files, each compared with the month before; and the audit of all."""
    tables = []
    before: Lists | None = None
    for month, (lists, _) in zip(months, ranked, strict=True):
        file = f"{_FOLDER}/top10_{lists.version.model}_{month}.parquet"
        changes = figures({"slots_changed": slots_changed(before.table, lists.table)} if before else {})
        shown = lists.described(storage.tables / file, seconds_of_run=lists.seconds, **changes)
        tables.append(_Table(file, as_parquet(lists.table), shown))
        before = lists
    return tables, together("top_lists", {month: audit for month, (_, audit) in zip(months, ranked, strict=True)})


def _written(storage: Storage, tables: Sequence[_Table]) -> dict[str, Any]:
    """Write a month's tables; gives the metadata of all."""
    shown: dict[str, Any] = {}
    for table in tables:
        write_atomically(storage.tables / table.file, table.data)
        shown |= table.shown
    return shown | storage.stored(*(table.file for table in tables))
