"""The feature map, the encoded interactions and their split."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import chain
from typing import Any

import dagster as dg
import pandas as pd
from pydantic import Field

from ml import checks, schema
from ml.data.blocks import Blocks, BlockWriter
from ml.data.history import BASE, base_rows, history
from ml.features import splits
from ml.features.feature_map import FeatureMap
from ml.features.sides import Sides, encode_ratings, telling_rows
from ml.features.tables import preprocess_ratings
from orchestration.assets.common import DOCUMENTS, ENCODED, OWNERS
from orchestration.config.code_versions import code_version
from orchestration.config.data_sets import DATA_SETS
from orchestration.config.launch_config import LaunchConfig
from orchestration.reporting.check_results import blocking, checks_last, require
from orchestration.reporting.metadata import SETTINGS, counts_metadata, markdown_table
from orchestration.resources.raw_data import RawData
from orchestration.resources.storage import Storage

_COMMON: dict[str, Any] = {"group_name": "features", "owners": OWNERS, "code_version": code_version(__name__)}


@dg.asset(
    **_COMMON,
    partitions_def=DATA_SETS,
    kinds={"pandas", "json"},
    io_manager_key=DOCUMENTS,
    check_specs=blocking("feature_map", "cardinalities", "indices_kept"),
)
@checks_last
def feature_map(
    raw_data: RawData,
    raw_users: pd.DataFrame,
    raw_movies: pd.DataFrame,
    raw_ratings: Blocks,
    ingested_users: pd.DataFrame,
    ingested_movies: pd.DataFrame,
    ingested_ratings: pd.DataFrame,
) -> Iterator[Any]:
    """The encoders: the vocabulary of every feature, as one JSON document. Ingested values are appended.

    Fitted once and stored with every model; everything downstream only transforms. No index ever changes.
    """
    form = raw_data.format
    users = form.prepare_users(history(raw_users, ingested_users), raw_users)
    movies = form.prepare_movies(history(raw_movies, ingested_movies), raw_movies)
    came = chain((block.assign(ingestion_batch=BASE) for block in raw_ratings), [ingested_ratings])
    ratings = telling_rows(preprocess_ratings(block) for block in came)
    grown = FeatureMap.grow(users, movies, ratings, form.description)
    fitted = FeatureMap.grow(base_rows(users), base_rows(movies), base_rows(ratings), form.description)
    yield from require(
        "feature_map",
        checks.cardinalities(fitted.names, fitted.field_dims, raw_data.known_size.field_dims),
        checks.indices_kept(fitted.values, grown.values),
    )
    yield dg.MaterializeResult(value=grown.to_dict(), metadata=_sizes(fitted, grown))


def _sizes(fitted: FeatureMap, grown: FeatureMap) -> dict[str, Any]:
    """How many values each feature has, in the base files and with all batches."""
    sizes = {"feature": grown.names, "size": grown.field_dims, "in base files": fitted.field_dims}
    return {
        "embedded_values": sum(grown.field_dims),
        "values_of_batches": sum(grown.field_dims) - sum(fitted.field_dims),
        **{f"{name}_values": size for name, size in zip(grown.names, grown.field_dims, strict=True)},
        "field_dims": markdown_table(pd.DataFrame(sizes)),
    }


@dg.asset(
    **_COMMON,
    partitions_def=DATA_SETS,
    kinds={"pandas", "parquet"},
    check_specs=blocking("encoded_interactions", "row_count", "complete", "indices_in_range"),
    deps=["interactions"],  # whose checks come first
)
@checks_last
def encoded_interactions(
    storage: Storage, users: pd.DataFrame, movies: pd.DataFrame, ratings: Blocks, feature_map: dict[str, Any]
) -> Iterator[Any]:
    """Every interaction with its values as indices of the feature map, with label, rating and timestamp; same order."""
    encoders = FeatureMap.from_dict(feature_map)
    sides, missing, in_range = Sides.of(encoders, users, movies), [], []
    with storage.writer(ENCODED) as table:
        for block in ratings:
            encoded = encode_ratings(block, sides, encoders)
            table.append(encoded)
            missing.append(checks.complete(encoded))
            in_range.append(checks.indices_in_range(encoded, encoders.names, encoders.field_dims))
        yield from require(
            ENCODED, checks.row_count(table.rows, len(ratings)), checks.added(missing), checks.added(in_range)
        )
        yield dg.MaterializeResult(value=table)


_SPLIT = {
    "train_interactions": "Interactions to learn from, shuffled; the last ones are kept for the validation loss.",
    "test_interactions": "Interactions to measure on; no model, feature or baseline learns from them.",
}


class SplitConfig(LaunchConfig):
    """Details of the split. Which split it is, the partition says."""

    test_share: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Share of the rows to test on; default: 0.1 on the paper split, else 0.2.",
    )
    seed: int = Field(default=42, ge=0, description="Seed of the random split and of the order of the training rows.")


@dg.multi_asset(
    name="split_interactions",
    partitions_def=DATA_SETS,
    outs={
        name: dg.AssetOut(
            description=text,
            kinds={"pandas", "parquet"},
            metadata={SETTINGS: SplitConfig().model_dump()},
            **_COMMON,
        )
        for name, text in _SPLIT.items()
    },
    check_specs=blocking("train_interactions", "whole_split", "both_labels"),
)
@checks_last
def split_interactions(
    config: SplitConfig, storage: Storage, raw_data: RawData, encoded_interactions: Blocks
) -> Iterator[Any]:
    """Split the encoded interactions 80:20, or as configured."""
    if raw_data.split == splits.TEMPORAL and not raw_data.format.description.has_times:
        raise dg.Failure(
            f"{raw_data.data_set.name}: ratings have no time, so they cannot be split by it; name their column as "
            "ratings.timestamp in datasets.yaml, or use another split",
            allow_retries=False,
        )
    rows = pd.DataFrame({name: encoded_interactions.column(name) for name in splits.USED})
    positions = splits.split_positions(rows, raw_data.split, config.test_share, config.seed)
    with ExitStack() as stack:
        tables, labels = {}, {}
        for name, own in zip(_SPLIT, positions, strict=True):
            tables[name] = stack.enter_context(storage.writer(name))
            labels[name] = _write(tables[name], encoded_interactions.gathered(own, storage.scratch))
        train, test = labels.values()
        expected = splits.splittable(rows, raw_data.split)
        yield from require(
            "train_interactions",
            checks.whole_split(train.index.to_numpy(), test.index.to_numpy(), expected),
            checks.both_labels(train, raw_data.format.description.liked is None),
        )
        for name, table in tables.items():
            shown = {"split": raw_data.split, "labels": counts_metadata(labels[name]), SETTINGS: config.model_dump()}
            # Dagster's own data version does not depend on the settings of the split.
            version = dg.DataVersion(table.finish())
            yield dg.MaterializeResult(asset_key=name, value=table, data_version=version, metadata=shown)


def _write(table: BlockWriter, blocks: Iterable[pd.DataFrame]) -> pd.Series:
    """Write blocks and return the labels, by the row's position."""
    labels = []
    for block in blocks:
        table.append(block)
        labels.append(block.set_index("row")[schema.LABEL])
    return pd.concat(labels)
