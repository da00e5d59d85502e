"""What a command's arguments choose among."""

from ml.errors import DataError
from ml.published.champions import published_datasets
from orchestration.config.settings import settings


def published_data_set(name: str) -> str:
    """Return the published data set of this name, or if it is empty the only one. Raises DataError."""
    names = published_datasets(settings().home)
    if not name and len(names) == 1:
        return names[0]
    if name not in names:
        raise DataError(f"DATASET={name!r}; expected one of {', '.join(names) or 'none yet: nothing is published'}")
    return name
