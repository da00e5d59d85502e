"""What has arrived after the base files."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pandas as pd

from ml.data.ingestion import Ingestion, Known, Sorting, nothing_ingested
from ml.data.manifest import KINDS, Manifest
from ml.errors import DataError
from orchestration.assets.common import DOCUMENTS, OWNERS
from orchestration.config.code_versions import code_version
from orchestration.reporting.metadata import markdown_table
from orchestration.resources.raw_data import RawData

_COMMON: dict[str, Any] = {"group_name": "raw", "owners": OWNERS, "code_version": code_version(__name__)}
BATCHES = "ingestion_batches"  # the asset that takes in what has arrived
LEFT = "files_left"  # its metadata: how many files stayed where they were, waiting or not to be taken
_CHECK = "all_taken_in"
_TOLD = 20  # files in a sentence, which the webhook gets too


@dg.multi_asset(
    name="ingest_batches",
    outs={
        BATCHES: dg.AssetOut(
            description="The manifest of the files that were taken in after the base files.",
            kinds={"json"},
            io_manager_key=DOCUMENTS,
            **_COMMON,
        ),
        **{
            f"ingested_{kind}": dg.AssetOut(
                description=f"All rows of {kind} that were ingested, in the order in which they came.",
                kinds={"parquet"},
                **_COMMON,
            )
            for kind in KINDS
        },
    },
    check_specs=[
        dg.AssetCheckSpec(
            _CHECK,
            asset=BATCHES,
            description="No file that arrived was put aside, waits for another or lies where it cannot be taken.",
        )
    ],
)
def ingest_batches(
    context: dg.AssetExecutionContext, raw_data: RawData, raw_users: pd.DataFrame, raw_movies: pd.DataFrame
) -> Iterator[Any]:
    """Take in all files that have arrived; put bad ones aside with a report."""
    ingestion, sorting = raw_data.ingestion, Sorting()
    try:
        if raw_data.takes_batches:
            ingestion.claim()
            sorting = ingestion.sort(Known(raw_users["user_id"], raw_movies["movie_id"]), claimed_only=True)
            yield _check(sorting)  # before anything is moved, so that it is not lost with this process
            manifest = ingestion.settle(sorting)
            tables = {kind: ingestion.read(kind) for kind in KINDS}
        else:
            yield _check(sorting)
            manifest, tables = Manifest(), {kind: nothing_ingested(kind) for kind in KINDS}
    except DataError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    context.log.info(
        f"{len(sorting.good)} files taken in, {len(sorting.bad)} put aside, {len(sorting.waiting)} wait, "
        f"{len(sorting.stray)} cannot be taken"
    )
    yield dg.MaterializeResult(
        asset_key=BATCHES,
        value=manifest.to_dict(),
        data_version=dg.DataVersion(manifest.version(*KINDS)),
        metadata=_facts(ingestion, sorting, manifest),
    )
    for kind, table in tables.items():
        yield dg.MaterializeResult(
            asset_key=f"ingested_{kind}",
            value=table,
            data_version=dg.DataVersion(manifest.version(kind)),
            metadata={"files": len(manifest.of(kind))},
        )


def _check(sorting: Sorting) -> dg.AssetCheckResult:
    told = [f"{each.name} was put aside: {each.reason}" for each in sorting.bad]
    told += [f"{each.name} waits: {each.reason}" for each in sorting.waiting]
    told += [f"{each.name} was not taken: {each.reason}" for each in sorting.stray]
    if len(told) > _TOLD:
        told[_TOLD:] = [f"and {len(told) - _TOLD} more"]
    return dg.AssetCheckResult(
        asset_key=BATCHES,
        check_name=_CHECK,
        passed=not told,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(told) or "Every file that arrived was taken in.",
    )


def _facts(ingestion: Ingestion, sorting: Sorting, manifest: Manifest) -> dict[str, Any]:
    fates = {
        "taken in": sorting.good,
        "put aside": sorting.bad,
        "waits": sorting.waiting,
        "taken in before": sorting.repeated,
    }
    rows = [(each.name, fate, each.rows, each.reason) for fate, files in fates.items() for each in files]
    rows += [(each.name, "was not taken", 0, each.reason) for each in sorting.stray]
    return {
        "incoming": dg.MetadataValue.path(str(ingestion.incoming)),
        "files_taken_in": len(sorting.good),
        "files_put_aside": len(sorting.bad),
        LEFT: len(sorting.waiting) + len(sorting.stray),
        "files_repeated": len(sorting.repeated),
        "files_in_all": len(manifest.entries),
        "files_withdrawn": sum(entry.withdrawn for entry in manifest.entries),
        **{f"{kind}_ingested": sum(each.rows for each in sorting.good if each.kind == kind) for kind in KINDS},
        "files": markdown_table(pd.DataFrame(rows, columns=["file", "fate", "rows", "reason"])),
        "left_alone": ", ".join(ingestion.others()) or "none",
    }
