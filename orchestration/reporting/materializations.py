"""What Dagster has recorded of the last time an asset was written."""

import dagster as dg

# Tags of a materialization, by which Dagster tells whether an asset is stale.
CODE_VERSION, DATA_VERSION = "dagster/code_version", "dagster/data_version"
INPUT_VERSION = "dagster/input_data_version/"  # followed by the name of the asset that was read


def last_record(instance: dg.DagsterInstance, partition: str, key: dg.AssetKey) -> dg.EventLogRecord | None:
    """The record of a partition's last materialization of an asset; None before the first."""
    of_partition = dg.AssetRecordsFilter(key, asset_partitions=[partition])
    return next(iter(instance.fetch_materializations(of_partition, limit=1).records), None)


def last_materialization(
    instance: dg.DagsterInstance, partition: str, key: dg.AssetKey
) -> dg.AssetMaterialization | None:
    """A partition's last materialization of an asset; None before the first."""
    record = last_record(instance, partition, key)
    return record.asset_materialization if record else None
