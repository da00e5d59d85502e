"""The batches: files that arrived after the base files."""

from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg
import pandas as pd

from ml.data.ingestion import Ingestion, Sorting
from ml.data.manifest import KINDS, Manifest
from ml.data.received import Ingested, Known
from ml.files import digest as digest_of
from ml.files import digest_of_file
from orchestration.assets.common import DOCUMENTS, OWNERS
from orchestration.config.code_versions import code_version
from orchestration.config.data_sets import DATA_SETS
from orchestration.reporting.check_results import check_spec
from orchestration.reporting.failures import without_retry
from orchestration.reporting.materializations import CODE_VERSION, DATA_VERSION, last_materialization
from orchestration.reporting.metadata import SOURCE_MEANING, markdown_table
from orchestration.reporting.recorded_checks import refer_to_latest
from orchestration.resources.raw_data import RawData
from orchestration.resources.storage import STORED, Storage

_COMMON: dict[str, Any] = {"group_name": "raw", "owners": OWNERS, "code_version": code_version(__name__)}
BATCHES = "ingestion_batches"  # the asset that ingests what has arrived
TABLES = {kind: f"ingested_{kind}" for kind in KINDS}  # the assets with the rows of all batches
LEFT = "files_left"  # its metadata: how many files stayed where they arrived, since they wait or cannot be ingested
_CHECK = "all_taken_in"
_LISTED = 20  # files in a sentence, which the webhook gets too


@dg.multi_asset(
    name="ingest_batches",
    partitions_def=DATA_SETS,
    outs={
        BATCHES: dg.AssetOut(
            description="The manifest of the files that were ingested after the base files.",
            kinds={"json"},
            io_manager_key=DOCUMENTS,
            **_COMMON,
        ),
        **{
            name: dg.AssetOut(
                description=f"All ingested rows of {kind}, in the order of their arrival.",
                kinds={"parquet"},
                **_COMMON,
            )
            for kind, name in TABLES.items()
        },
    },
    check_specs=[
        check_spec(
            _CHECK,
            asset=BATCHES,
            description="Every file that arrived was ingested: none was quarantined, waits or has a wrong name.",
        )
    ],
)
def ingest_batches(
    context: dg.AssetExecutionContext,
    raw_data: RawData,
    storage: Storage,
    raw_users: pd.DataFrame,
    raw_movies: pd.DataFrame,
) -> Iterator[Any]:
    """Ingest all files that have arrived; move bad ones to quarantine, with a report."""
    ingestion, sorting = raw_data.ingestion.reusing(rows_stored(context.instance, storage)), Sorting()
    received = ingestion.received
    with without_retry():
        if raw_data.takes_batches:
            ingestion.claim()
            sorting = ingestion.sort(Known(raw_users["user_id"], raw_movies["movie_id"]), claimed_only=True)
            yield _check(sorting)  # before files are moved, so that a crash does not lose it
            manifest = ingestion.settle(sorting)
            tables = {kind: received.read(kind) for kind in KINDS}
        else:
            yield _check(sorting)
            manifest, tables = Manifest(), {kind: received.nothing(kind) for kind in KINDS}
    context.log.info(
        f"{len(sorting.good)} files ingested, {len(sorting.bad)} quarantined, {len(sorting.waiting)} wait, "
        f"{len(sorting.stray)} cannot be ingested"
    )
    yield dg.MaterializeResult(
        asset_key=BATCHES,
        value=manifest.to_dict(),
        data_version=dg.DataVersion(manifest.version(*KINDS)),
        metadata=_facts(ingestion, sorting, manifest),
    )
    refer_to_latest(context.instance, context.partition_key, dg.AssetCheckKey(dg.AssetKey(BATCHES), _CHECK))
    for kind, table in tables.items():
        yield dg.MaterializeResult(
            asset_key=TABLES[kind],
            value=table,
            data_version=dg.DataVersion(received.version(manifest, kind)),
            metadata={"files": len(manifest.of(kind)), SOURCE_MEANING: _meaning(raw_data)},
        )


def rows_stored(
    instance: dg.DagsterInstance, storage: Storage, digest: Callable[[Any], str] = digest_of_file
) -> Callable[[str], Ingested | None]:
    """Return what finds the stored rows of a kind.

    It gives None if they were read by other code or from files with another meaning, or if somebody has changed them.

    Args:
        instance: holds the records of the tables.
        storage: of the data set.
        digest: computes the digest of a file.
    """

    def find(kind: str) -> Ingested | None:
        written = last_materialization(instance, storage.raw_data.dataset, dg.AssetKey(TABLES[kind]))
        if written and _is_reusable(written, storage, digest):
            return Ingested((written.tags or {})[DATA_VERSION], storage.read_table(TABLES[kind]))
        return None

    return find


def _is_reusable(written: dg.AssetMaterialization, storage: Storage, digest: Callable[[Any], str]) -> bool:
    by = (written.tags or {}).get(CODE_VERSION), written.metadata.get(SOURCE_MEANING)
    if by != (code_version(__name__), dg.MetadataValue.text(_meaning(storage.raw_data))):
        return False
    files: Any = written.metadata[STORED].value
    return bool(files == {file: storage.digest(file, digest) for file in files})


def _meaning(raw_data: RawData) -> str:
    return digest_of(raw_data.source.meaning.encode())


def _check(sorting: Sorting) -> dg.AssetCheckResult:
    problems = [f"{each.name} was quarantined: {each.reason}" for each in sorting.bad]
    problems += [f"{each.name} waits: {each.reason}" for each in sorting.waiting]
    problems += [f"{each.name} was not ingested: {each.reason}" for each in sorting.stray]
    if len(problems) > _LISTED:
        problems[_LISTED:] = [f"and {len(problems) - _LISTED} more"]
    return dg.AssetCheckResult(
        asset_key=BATCHES,
        check_name=_CHECK,
        passed=not problems,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(problems) or "Every file that arrived was ingested.",
    )


def _facts(ingestion: Ingestion, sorting: Sorting, manifest: Manifest) -> dict[str, Any]:
    outcomes = {
        "ingested": sorting.good,
        "quarantined": sorting.bad,
        "waits": sorting.waiting,
        "ingested before": sorting.repeated,
    }
    rows = [(each.name, outcome, each.rows, each.reason) for outcome, files in outcomes.items() for each in files]
    rows += [(each.name, "not ingested", 0, each.reason) for each in sorting.stray]
    return {
        "incoming": dg.MetadataValue.path(str(ingestion.incoming)),
        "files_ingested": len(sorting.good),
        "files_quarantined": len(sorting.bad),
        LEFT: len(sorting.waiting) + len(sorting.stray),
        "files_repeated": len(sorting.repeated),
        "files_total": len(manifest.entries),
        "files_withdrawn": sum(entry.withdrawn for entry in manifest.entries),
        **{f"{kind}_ingested": sum(each.rows for each in sorting.good if each.kind == kind) for kind in KINDS},
        "files": markdown_table(pd.DataFrame(rows, columns=["file", "outcome", "rows", "reason"])),
        "files_ignored": ", ".join(ingestion.others()) or "none",
    }
