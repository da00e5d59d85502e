"""Where a pipeline's tables are under its home, a local directory or any fsspec URL."""

from upath import UPath

from ml.errors import NotFoundError


def checked_name(name: str) -> str:
    """Require that a name of a data set, model or version can be part of a path. Raises NotFoundError."""
    if not name or name.startswith(".") or any(char in "/\\" or not char.isprintable() for char in name):
        raise NotFoundError(f"{name!r} is no name; expected one without / and \\ that does not begin with a dot")
    return name


def tables_directory(home: UPath, dataset: str) -> UPath:
    """Directory of a data set's tables."""
    return home / "tables" / checked_name(dataset)


def exported_table_path(home: UPath, dataset: str, model: str) -> UPath:
    """The copy of the champion's top-10 table for readers that need a fixed path.

    This project's own readers use the champion's files themselves (``ml.published.champions``).
    """
    return tables_directory(home, dataset) / f"top10_{checked_name(model)}.parquet"
