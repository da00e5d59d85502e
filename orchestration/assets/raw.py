"""The raw files as typed tables."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from ml import checks
from ml.data.download import OfflineError
from ml.data.manifest import MOVIES, RATINGS, USERS
from ml.errors import DataError
from orchestration.assets.common import OWNERS, TRANSIENT
from orchestration.config.code_versions import code_version
from orchestration.config.data_sets import DATA_SETS
from orchestration.reporting.check_results import blocking, checks_last, require
from orchestration.reporting.metadata import SOURCE_FILE, counts_metadata
from orchestration.resources.raw_data import RawData

_CODE_VERSION = code_version(__name__)
_KINDS = {"raw_users": USERS, "raw_movies": MOVIES, "raw_ratings": RATINGS}
_NAMES = {
    "raw_users": "Users as in their file, every line validated; without such a file, the users who have rated.",
    "raw_movies": "Movies as in their file, every line validated: title with its year, genres joined by |.",
    "raw_ratings": "Ratings as in their file, in its order, every line validated: known user and movie, stars.",
}


@dg.multi_asset(
    name="raw_movielens",
    partitions_def=DATA_SETS,
    outs={
        name: dg.AssetOut(
            description=text,
            group_name="raw",
            kinds={"parquet"},
            owners=OWNERS,
            code_version=_CODE_VERSION,
            metadata={SOURCE_FILE: _KINDS[name]},
        )
        for name, text in _NAMES.items()
    },
    check_specs=[spec for name in _NAMES for spec in blocking(name, "row_count", "unique_keys")],
    retry_policy=TRANSIENT,
)
@checks_last
def raw_movielens(context: dg.AssetExecutionContext, raw_data: RawData) -> Iterator[Any]:
    """Read the files together, since ratings must refer to known users and movies."""
    try:
        directory, form = raw_data.checked(), raw_data.format
        digests, raw = raw_data.digests(directory), form.read(directory)
    except DataError as error:
        raise dg.Failure(str(error), allow_retries=isinstance(error, OfflineError)) from error
    context.log.info(
        f"{len(raw.ratings):,} ratings of data set {raw_data.dataset} read from {directory} ({form.name} files)"
    )
    size = raw_data.known_size
    expected = (size.users, size.movies, size.ratings)
    keys = (["user_id"], ["movie_id"], ["user_id", "movie_id"])
    tables = dict(zip(_NAMES, (raw.users, raw.movies, raw.ratings), strict=True))
    for (name, table), rows, key in zip(tables.items(), expected, keys, strict=True):
        yield from require(name, checks.row_count(len(table), rows), checks.unique_keys(table, key))
    source: dict[str, Any] = {"format": form.name, "directory": dg.MetadataValue.path(str(directory))}
    distributions = {"raw_ratings": {"ratings": counts_metadata(raw.ratings["rating"])}}
    for name, table in tables.items():
        yield dg.MaterializeResult(
            asset_key=name,
            value=table,
            data_version=dg.DataVersion(f"{_CODE_VERSION}-{digests[_KINDS[name]]}"),
            metadata={**source, SOURCE_FILE: digests[_KINDS[name]], **distributions.get(name, {})},
        )
