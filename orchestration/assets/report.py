"""A report about the data, as an HTML page."""

from typing import Any

import dagster as dg
import pandas as pd

from ml.data.blocks import Blocks
from ml.files import write_atomically
from orchestration.assets.common import LAST, OWNERS
from orchestration.config.code_versions import code_version
from orchestration.config.data_sets import DATA_SETS
from orchestration.reporting.metadata import drawing, figures
from orchestration.resources.storage import Storage

_FILE = "data_report.html"


@dg.asset(
    group_name="report",
    partitions_def=DATA_SETS,
    kinds={"matplotlib", "html"},
    owners=OWNERS,
    code_version=code_version(__name__),
    op_tags=LAST,
)
def data_report(
    storage: Storage, users: pd.DataFrame, movies: pd.DataFrame, ratings: Blocks
) -> dg.MaterializeResult[Any]:
    """The data in charts on one page: ratings, months, the long tail, movies by genre and year, users."""
    from ml.exploration.report import key_pictures, page, sections
    from ml.exploration.statistics import RatingCounts, totals

    fields = storage.raw_data.format.description.fields
    counts = RatingCounts.of(ratings)
    found, parts = totals(users, movies, counts), sections(users, movies, counts, fields)
    path = storage.tables / _FILE
    write_atomically(path, page(storage.raw_data.dataset, found, parts).encode())
    return dg.MaterializeResult(
        metadata={
            "path": dg.MetadataValue.path(str(path)),
            **{name: drawing(name.replace("_", " "), svg) for name, svg in key_pictures(movies, counts).items()},
            **figures(found),
            **storage.stored(_FILE),
        }
    )
