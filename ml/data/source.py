"""Resolve where raw data comes from. Nothing else decides that."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ml import schema
from ml.data.datasets import Dataset
from ml.data.download import fetch
from ml.data.formats import Format
from ml.data.movielens import MOVIELENS_1M, MOVIELENS_CSV, READERS, recognized
from ml.data.synthetic import SIZES, write_synthetic
from ml.data.synthetic_shapes import SHAPES, write_shape
from ml.data.tables_format import table_format
from ml.errors import DataError

SYNTHETIC_SEED = 42
GENERATED = (*SIZES, *SHAPES)  # names of generated data


@dataclass(frozen=True)
class Source:
    """Where raw data comes from.

    Attributes:
        spec: the name of a data set of datasets.yaml, or one of ``GENERATED``, such as ``synthetic``;
            anything else is the path of a directory with the files of a MovieLens.
        described: the data sets of datasets.yaml by name.
        root: directory that their paths are relative to.
    """

    spec: str
    described: Mapping[str, Dataset] = field(default_factory=dict)
    root: Path = Path()

    @property
    def dataset(self) -> str:
        """Return the data set's name; each data set has its own tables, experiments and models.

        The name of a directory's data set is the directory's, in lowercase letters, digits, ``.``, ``_`` and ``-``.

        Raises:
            DataError: the directory has no usable name, or that of generated data or of a table of datasets.yaml.
        """
        if self.is_name:
            return self.spec
        name = re.sub(r"[^a-z0-9._-]+", "-", Path(self.spec).resolve().name.lower()).strip("-.")
        taken = name in GENERATED or (name in self.described and self.described[name].reader == "table")
        if not name or taken:
            raise DataError(f"{self.spec}: a data set cannot be named {name!r}; rename the directory")
        return name

    @property
    def is_name(self) -> bool:
        """Return whether it is a name and not a directory."""
        return self.spec in self.described or self.spec in GENERATED

    @property
    def known_size(self) -> schema.DatasetSize:
        """Return what is known of the data set's size; of a directory, what is known of its name."""
        if self.spec in SIZES:
            size = SIZES[self.spec]
            return schema.DatasetSize(size.users, size.movies, size.ratings, tuple(size.field_dims.values()))
        if shape := SHAPES.get(self.spec):
            return schema.DatasetSize(shape.users, shape.movies, shape.ratings)
        if not (dataset := self.described.get(self.dataset)):
            return schema.DatasetSize()
        expect = dataset.expect
        return schema.DatasetSize(expect.users, expect.items, expect.ratings, expect.values)

    def prepare(self, cache: Path) -> Path:
        """Return the directory of the raw files; download or generate them under ``cache`` if needed.

        Raises:
            DataError: the download failed (``OfflineError``: offline).
        """
        if self.spec in GENERATED:
            directory = cache / self.spec
            if shape := SHAPES.get(self.spec):
                write_shape(directory, shape, seed=SYNTHETIC_SEED)
            else:
                write_synthetic(directory, SIZES[self.spec], seed=SYNTHETIC_SEED)
            return directory
        if not (dataset := self.described.get(self.spec)):
            return Path(self.spec)
        if dataset.archive:
            return fetch(cache / self.spec, dataset.archive, READERS[dataset.reader].names)
        return self.root / dataset.path if dataset.path else self.root

    @property
    def meaning(self) -> str:
        """Return what datasets.yaml says of the meaning of the files, as text; empty of a directory or generated data.

        Where the files are and how many rows they have is not part of it.
        """
        dataset = self.described.get(self.spec)
        return dataset.model_dump_json(exclude={"path", "archive", "expect"}) if dataset else ""

    @property
    def format(self) -> Format:
        """Return the format of the raw files; that of a directory is recognized by its files.

        Raises:
            DataError: the directory is missing, or has the files of no format.
        """
        if self.spec in SIZES:
            return MOVIELENS_1M
        if self.spec in SHAPES:
            return MOVIELENS_CSV
        if dataset := self.described.get(self.spec):
            return _format_of(self.spec, dataset)
        directory = Path(self.spec)
        if directory.is_dir() and (dataset := self.described.get(self.dataset)):
            return _format_of(self.dataset, dataset)
        try:
            return recognized(directory)
        except DataError as error:
            names = ", ".join((*self.described, *GENERATED))
            raise DataError(
                f"{error}; set MOVIELENS_DIR to such a directory, or DATASET to one of the data sets {names}"
            ) from error


def _format_of(name: str, dataset: Dataset) -> Format:
    if dataset.reader == "table":
        return table_format(name, dataset)
    form = READERS[dataset.reader]
    liked = None if dataset.liked == "all" else dataset.liked
    if liked == form.description.liked:
        return form
    return replace(form, description=replace(form.description, liked=liked))
