"""Where a pipeline's results lie under its home directory, a local path or any fsspec URL."""

from upath import UPath


def tables_directory(home: UPath, dataset: str) -> UPath:
    """Directory of a data set's tables."""
    return home / "tables" / dataset


def bundle_path(home: UPath, dataset: str, model: str) -> UPath:
    """The bundle of the model version whose top-10 table is published."""
    return home / "models" / dataset / f"{model}.zip"


def published_datasets(home: UPath) -> list[str]:
    """Data sets with a published model, sorted."""
    models = home / "models"
    return sorted(path.name for path in models.iterdir() if path.is_dir()) if models.is_dir() else []


def published_models(home: UPath, dataset: str) -> list[str]:
    """Models of a data set that are published, sorted."""
    folder = home / "models" / dataset
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(name.removesuffix(".zip") for name in names if name.endswith(".zip") and not name.startswith("."))
