"""Read what was ingested after the base files: the received files, in the order of their manifest."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from ml.data.formats import Format
from ml.data.history import BASE
from ml.data.manifest import MOVIES, RATINGS, USERS, Entry, Manifest
from ml.data.movielens import MOVIELENS_1M
from ml.errors import DataError
from ml.schema import Id

IDS = {USERS: "user_id", MOVIES: "movie_id"}  # the columns that ratings refer to


@dataclass(frozen=True)
class Known:
    """Ids of the base files that ratings may refer to, each a Series of int or str."""

    users: pd.Series
    movies: pd.Series


@dataclass(frozen=True)
class Ingested:
    """Rows that ``Received.read`` returned earlier.

    Attributes:
        version: of the batches that they come from, see ``Received.version``.
        rows: the table.
    """

    version: str
    rows: pd.DataFrame


@dataclass(frozen=True)
class Received:
    """The files that were ingested.

    Attributes:
        folder: holds the files and their manifest.
        form: format of the base files, which these files have too.
        earlier: returns the rows of a kind that were read earlier by this code, so that only new files are parsed.
    """

    folder: Path
    form: Format = MOVIELENS_1M
    earlier: Callable[[str], Ingested | None] = lambda kind: None

    @property
    def manifest(self) -> Manifest:
        """Return the manifest of the files.

        Raises:
            DataError: it is damaged, or the files have another format than the base files.
        """
        manifest = Manifest.load(self.folder)
        if manifest.entries and manifest.form != self.form.name:
            raise DataError(
                f"{self.folder}: the ingested files are {manifest.form} files, the base files {self.form.name} "
                "files; rename the directory of the base files"
            )
        return manifest

    def read(self, kind: str) -> pd.DataFrame:
        """Return all ingested rows: the base file's columns, ingestion_batch (int32, the number) and date (str).

        Without files of users, the rows of users are those who have rated, by batch.

        Raises:
            DataError: a file is missing or was changed; or as for ``manifest``.
        """
        if kind not in self.form.files:
            return self.read(RATINGS)[[*self.nothing(kind)]].drop_duplicates(ignore_index=True)
        manifest = self.manifest
        paths = {entry: self._checked(entry) for entry in manifest.of(kind)}
        tables = self._reusable(kind, manifest)
        last = tables[0]["ingestion_batch"].max() if tables else BASE
        tables += [
            self.parse(kind, path).assign(ingestion_batch=np.int32(entry.sequence), date=entry.date)
            for entry, path in paths.items()
            if entry.sequence > last
        ]
        return pd.concat(tables, ignore_index=True) if tables else self.nothing(kind)

    def _reusable(self, kind: str, manifest: Manifest) -> list[pd.DataFrame]:
        """Return the rows that were read earlier, if they are those of the first batches that count now."""
        earlier = self.earlier(kind)
        if earlier is None or earlier.rows.empty:
            return []
        last = int(earlier.rows["ingestion_batch"].max())
        return [earlier.rows] if earlier.version == manifest.version(kind, until=last) else []

    def nothing(self, kind: str) -> pd.DataFrame:
        """Return an empty table with the columns that ``read`` returns for this kind."""
        types = {**self.form.dtypes(kind), "ingestion_batch": "int32", "date": "str"}
        return pd.DataFrame({name: pd.Series(dtype=of) for name, of in types.items()})

    def parse(self, kind: str, path: Path) -> pd.DataFrame:
        """Read and validate a file of a batch, received or not: the base file's columns. Raises DataError."""
        return self.form.read_file(kind, path, may_repeat=kind == RATINGS)

    def version(self, manifest: Manifest, kind: str) -> str:
        """Return a digest of the batches that a kind's rows come from."""
        return manifest.version(kind if kind in self.form.files else RATINGS)

    def ids(self, known: Known, without: int = BASE) -> dict[str, set[Id]]:
        """Return the ids of users and movies in the base files and in all batches but one. Raises DataError."""
        ids = {USERS: set(known.users.tolist()), MOVIES: set(known.movies.tolist())}
        for kind, own in ids.items():
            rows = self.read(kind)
            own |= set(rows.loc[rows["ingestion_batch"] != without, IDS[kind]])
        return ids

    def withdraw(self, sequence: int, known: Known) -> Manifest:
        """Undo a batch: its rows no longer count, and its content may be ingested again. Its file stays in place.

        Args:
            sequence: number of the batch.
            known: ids of the base files.

        Raises:
            NotFoundError: the batch does not exist.
            DataError: it is already withdrawn, or ratings of another batch refer to users or movies that only this
                batch has; or as for ``read``.
        """
        manifest = self.manifest.without(sequence)
        ids = self.ids(known, without=sequence)
        ratings = self.read(RATINGS)
        for kind, column in ((kind, IDS[kind]) for kind in IDS if kind in self.form.files):
            lost = ratings[(ratings["ingestion_batch"] != sequence) & ~ratings[column].isin(ids[kind])]
            if len(lost):
                number, value = lost[["ingestion_batch", column]].iloc[0]
                raise DataError(
                    f"only batch {sequence} has {column} {value}, which ratings of batch {number} refer to; "
                    f"withdraw batch {number} first"
                )
        manifest.save(self.folder)
        return manifest

    def reusing(self, earlier: Callable[[str], Ingested | None]) -> "Received":
        """Return the same with rows that were read earlier, see the class."""
        return replace(self, earlier=earlier)

    def require_complete(self) -> None:
        """Raise DataError if a file that counts is missing or was changed; or as for ``manifest``."""
        for entry in self.manifest.entries:
            if not entry.withdrawn:
                self._checked(entry)

    def _checked(self, entry: Entry) -> Path:
        path = self.folder / entry.file
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != entry.digest:
            raise DataError(f"{path}: missing or changed since it was ingested; restore it from a backup")
        return path
