"""Where a pipeline's results lie under its home directory, a local path or any fsspec URL."""

from upath import UPath

from ml.errors import NotFoundError

ARCHIVE = "archive"
ARCHIVED_BUNDLE = "bundle.zip"
ARCHIVED_RECORD = "version.json"


def checked_name(name: str) -> str:
    """A name of a data set, model or version that is to be part of a path. Raises NotFoundError where it cannot be."""
    if not name or name.startswith(".") or any(char in "/\\" or not char.isprintable() for char in name):
        raise NotFoundError(f"{name!r} is no name; expected one without / and \\ that does not begin with a dot")
    return name


def tables_directory(home: UPath, dataset: str) -> UPath:
    """Directory of a data set's tables."""
    return home / "tables" / checked_name(dataset)


def top_lists_path(home: UPath, dataset: str, model: str) -> UPath:
    """The published top-10 table of a model; its rows name their version."""
    return tables_directory(home, dataset) / f"top10_{checked_name(model)}.parquet"


def archive_directory(home: UPath, dataset: str, model: str) -> UPath:
    """Where published versions are kept, each in a directory of its number."""
    return home / ARCHIVE / checked_name(dataset) / checked_name(model)


def archived_bundle_path(home: UPath, dataset: str, model: str, version: str) -> UPath:
    """The bundle of a version; written before the version's table is published."""
    return archive_directory(home, dataset, model) / checked_name(version) / ARCHIVED_BUNDLE


def archived_record_path(home: UPath, dataset: str, model: str, version: str) -> UPath:
    """What is known of a version, as JSON: who it is, and under ``metrics`` what was measured of it."""
    return archive_directory(home, dataset, model) / checked_name(version) / ARCHIVED_RECORD


def bundle_path(home: UPath, dataset: str, model: str) -> UPath:
    """The bundle of the model version whose top-10 table is published."""
    return home / "models" / checked_name(dataset) / f"{checked_name(model)}.zip"


def published_datasets(home: UPath) -> list[str]:
    """Data sets with a published model, sorted."""
    models = home / "models"
    return sorted(path.name for path in models.iterdir() if path.is_dir()) if models.is_dir() else []


def published_models(home: UPath, dataset: str) -> list[str]:
    """Models of a data set that are published, sorted."""
    folder = home / "models" / checked_name(dataset)
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(name.removesuffix(".zip") for name in names if name.endswith(".zip") and not name.startswith("."))


def chosen_dataset(home: UPath, dataset: str | None) -> str:
    """The published data set of this name, or the only one.

    Raises:
        NotFoundError: nothing is published, not this one, or several are and none was named.
    """
    datasets = published_datasets(home)
    if not datasets:
        raise NotFoundError(f"no model is published under {home}; run the pipeline first (make run)")
    if dataset is None and len(datasets) > 1:
        raise NotFoundError(
            f"several data sets are published under {home}: {', '.join(datasets)}; choose one (--dataset)"
        )
    if dataset is not None and dataset not in datasets:
        raise NotFoundError(f"no model of data set {dataset!r} is published; there are data sets {', '.join(datasets)}")
    return dataset or datasets[0]
