"""What was measured of a version before it was published."""

import json

from upath import UPath

from ml.errors import DataError
from ml.files import read_parquet
from ml.published.locations import archived_record_path, top_lists_path


def version_metrics(home: UPath, dataset: str, model: str, version: str) -> dict[str, float]:
    """Metrics of a version by name; none where they were not written down. Raises DataError."""
    record = archived_record_path(home, dataset, model, version)
    if not record.exists():
        return {}
    try:
        metrics: dict[str, float] = json.loads(record.read_bytes())["metrics"]
        return {name: float(value) for name, value in metrics.items()}
    except (AttributeError, ValueError, TypeError, LookupError) as error:
        raise DataError(f"{record}: found no metrics of a version ({error!r}); publish it anew (make run)") from error


def published_metrics(home: UPath, dataset: str, model: str) -> dict[str, float]:
    """The same of the version whose table is published; none where there is no row. Raises DataError."""
    versions = read_parquet(top_lists_path(home, dataset, model), ["model_version"])["model_version"]
    return version_metrics(home, dataset, model, str(versions.iloc[0])) if len(versions) else {}
