"""Resolve where raw data comes from. Nothing else decides that."""

import re
from dataclasses import dataclass
from pathlib import Path

from ml import schema
from ml.data.download import fetch_movielens
from ml.data.formats import Format
from ml.data.movielens import MOVIELENS_1M, recognized
from ml.data.synthetic import SIZES, write_synthetic
from ml.errors import DataError

OFFICIAL = "ml-1m"
SYNTHETIC_SEED = 42
_NAMES = ", ".join((OFFICIAL, *SIZES))


@dataclass(frozen=True)
class Source:
    """Where raw data comes from.

    Attributes:
        spec: ``ml-1m`` for the official archive, ``synthetic`` or ``synthetic-small`` for generated data; anything else
            is the path of a directory with the files of a MovieLens.
    """

    spec: str

    @property
    def dataset(self) -> str:
        """Return the data set's name; each data set has its own tables, experiments and models.

        The name of a directory's data set is the directory's, in lowercase letters, digits, ``.``, ``_`` and ``-``.

        Raises:
            DataError: the directory is named like a generated data set, or has no usable name.
        """
        if self._is_name:
            return self.spec
        name = re.sub(r"[^a-z0-9._-]+", "-", Path(self.spec).resolve().name.lower()).strip("-.")
        if not name or name in SIZES:
            raise DataError(f"{self.spec}: a data set cannot be named {name!r}; rename the directory")
        return name

    @property
    def known_size(self) -> schema.DatasetSize | None:
        """Return the expected size of the data set; None if unknown."""
        if self.dataset == OFFICIAL:
            return schema.MOVIELENS_1M
        if self.spec not in SIZES:
            return None
        size = SIZES[self.spec]
        return schema.DatasetSize(size.users, size.movies, size.ratings, tuple(size.field_dims.values()))

    def prepare(self, cache: Path) -> Path:
        """Return the directory of the raw files; download or generate them under ``cache`` if needed.

        Raises:
            DataError: the download failed (``OfflineError``: offline).
        """
        if self.spec in SIZES:
            directory = cache / self.spec
            directory.mkdir(parents=True, exist_ok=True)
            write_synthetic(directory, SIZES[self.spec], seed=SYNTHETIC_SEED)
            return directory
        if self.spec == OFFICIAL:
            return fetch_movielens(cache / OFFICIAL)
        return Path(self.spec)

    @property
    def format(self) -> Format:
        """Return the format of the raw files; that of a directory is recognized by its files.

        Raises:
            DataError: the directory is missing, or has the files of no format.
        """
        directory = Path(self.spec)
        if self._is_name or (self.dataset == OFFICIAL and directory.is_dir()):
            return MOVIELENS_1M
        try:
            return recognized(directory)
        except DataError as error:
            raise DataError(f"{error}; set MOVIELENS_DIR to such a directory, or to one of {_NAMES}") from error

    @property
    def _is_name(self) -> bool:
        return self.spec == OFFICIAL or self.spec in SIZES
