"""Ingest files that arrive after the base files: validate each completely, count it once, quarantine invalid ones.

A file is moved from the incoming directory to its subdirectory ``pending``, so that the sender can reuse the name. From
there it goes to the received files and their manifest, or to ``quarantine`` with a report, or it waits in ``pending``
for the users or movies that it refers to.
"""

import datetime as dt
import hashlib
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from ml.data.formats import Format, require_until, today
from ml.data.history import BASE
from ml.data.incoming import MEANT, batches, name_on_arrival, obstacle, shown, visible
from ml.data.manifest import KINDS, MOVIES, RATINGS, USERS, Entry, Manifest, parsed_name
from ml.data.movielens import MOVIELENS_1M
from ml.errors import DataError
from ml.files import sync, write_atomically
from ml.schema import Id

PENDING, QUARANTINE = "pending", "quarantine"
_DAY = dt.timedelta(days=1)
_IDS = {USERS: "user_id", MOVIES: "movie_id"}


@dataclass(frozen=True)
class Known:
    """Ids of the base files that ratings may refer to, each a Series of int or str."""

    users: pd.Series
    movies: pd.Series


@dataclass(frozen=True)
class Arrival:
    """A file that has arrived.

    Attributes:
        path: current location.
        name: name on arrival.
        kind: users, movies or ratings.
        date: date in its name, YYYY-MM-DD.
        digest: SHA-256 of its bytes.
        rows: number of lines, if it could be read.
        reason: why it is not ingested.
    """

    path: Path
    name: str
    kind: str
    date: str
    digest: str
    rows: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Stray:
    """An entry of the incoming directory that is named like a batch and cannot be ingested.

    Attributes:
        name: printable name.
        reason: what is wrong, and what was expected.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class Ingested:
    """Rows that ``Ingestion.read`` returned earlier.

    Attributes:
        version: of the batches that they come from, see ``Ingestion.version``.
        rows: the table.
    """

    version: str
    rows: pd.DataFrame


@dataclass
class Sorting:
    """What to do with the files that have arrived.

    Attributes:
        good: to ingest, in this order.
        bad: to quarantine.
        waiting: refer to users or movies that are not known yet.
        repeated: already ingested.
        stray: cannot be ingested, and stay in place.
    """

    good: list[Arrival] = field(default_factory=list)
    bad: list[Arrival] = field(default_factory=list)
    waiting: list[Arrival] = field(default_factory=list)
    repeated: list[Arrival] = field(default_factory=list)
    stray: list[Stray] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """Return whether nothing has arrived."""
        return not (self.good or self.bad or self.waiting or self.repeated or self.stray)


class Ingestion:
    """Move files from an incoming directory to the received files.

    Args:
        incoming: directory where files arrive.
        received: directory of ingested files, with the manifest.
        form: format of the base files, which batches have too.
        today: returns the current date, UTC.
        earlier: returns the rows of a kind that were read earlier by this code, so that only new files are parsed.
    """

    def __init__(
        self,
        incoming: Path,
        received: Path,
        form: Format = MOVIELENS_1M,
        today: Callable[[], dt.date] = today,
        earlier: Callable[[str], Ingested | None] = lambda kind: None,
    ) -> None:
        self.incoming, self.received, self._form, self._today = incoming, received, form, today
        self._earlier = earlier

    def reusing(self, earlier: Callable[[str], Ingested | None]) -> "Ingestion":
        """Return the same with rows that were read earlier, see the class."""
        return Ingestion(self.incoming, self.received, self._form, self._today, earlier)

    @property
    def manifest(self) -> Manifest:
        """Return the manifest of ingested files.

        Raises:
            DataError: it is damaged, or its files have another format than the base files.
        """
        manifest = Manifest.load(self.received)
        if manifest.entries and manifest.form != self._form.name:
            raise DataError(
                f"{self.received}: the ingested files are {manifest.form} files, the base files {self._form.name} "
                "files; rename the directory of the base files"
            )
        return manifest

    def others(self) -> list[str]:
        """Return the names in the incoming directory that are not batches; they are ignored."""
        return [shown(path) for path in visible(self.incoming) if path.is_file() and not MEANT.match(path.name)]

    def stray(self) -> list[Stray]:
        """Return entries of the incoming directory that are named like batches and cannot be ingested."""
        found = (
            (path, obstacle(path, path.name, self._form)) for path in visible(self.incoming) if MEANT.match(path.name)
        )
        return [Stray(shown(path), problem) for path, problem in found if problem]

    def arrived(self) -> str:
        """Return names, sizes and times of files not claimed yet, as text; empty if there are none."""
        meant = (path for path in visible(self.incoming) if MEANT.match(path.name))
        stats = [(shown(path), path.lstat()) for path in meant]
        return " ".join(f"{name}:{stat.st_size}:{stat.st_mtime_ns}" for name, stat in stats)

    def claim(self) -> None:
        """Move arrived files to ``pending``, where nobody else writes. Raises OSError."""
        pending = self.incoming / PENDING
        for path in batches(self.incoming, self._form):
            pending.mkdir(exist_ok=True)
            target = pending / path.name
            path.rename(pending / f"{path.name}.{uuid.uuid4().hex[:8]}" if target.exists() else target)

    def sort(self, known: Known, claimed_only: bool = False) -> Sorting:
        """Decide what to do with the files that have arrived, without changing anything.

        Args:
            known: ids of the base files.
            claimed_only: ignore files that are not claimed yet.

        Raises:
            DataError: the manifest or a received file is damaged.
        """
        manifest, sorting = self.manifest, Sorting(stray=self.stray())
        arrivals = self._arrivals(claimed_only)
        if not arrivals:
            self._require_received(manifest)
            return sorting
        seen = manifest.digests
        ids = self._ids(known)
        for arrival in arrivals:
            if arrival.digest in seen:
                sorting.repeated.append(arrival)
                continue
            try:
                table = self._read(arrival)
            except DataError as error:
                sorting.bad.append(_refused(arrival, error))
                continue
            if arrival.kind in ids:
                ids[arrival.kind] |= set(table[_IDS[arrival.kind]])
            try:
                self._require_known(arrival, table, ids)
            except DataError as error:
                sorting.waiting.append(_refused(arrival, error))
                continue
            seen.add(arrival.digest)
            sorting.good.append(replace(arrival, rows=len(table)))
        return sorting

    def settle(self, sorting: Sorting) -> Manifest:
        """Carry out a sorting of ``pending``; the manifest is replaced atomically.

        Raises:
            OSError: a file cannot be written or moved; files that were not settled stay in place.
        """
        for arrival in sorting.bad:
            self._quarantine(arrival)
        manifest = self.manifest
        if sorting.good:
            manifest = manifest.with_ingestion(
                ((each.kind, each.date, each.digest, each.rows, Path(each.name).suffix) for each in sorting.good),
                self._form.name,
            )
            for entry, arrival in zip(manifest.of_last_ingestion(), sorting.good, strict=True):
                write_atomically(self.received / entry.file, arrival.path.read_bytes())
            manifest.save(self.received)
        for arrival in (*sorting.good, *sorting.repeated):
            arrival.path.unlink()
        return manifest

    def read(self, kind: str) -> pd.DataFrame:
        """Return all ingested rows: the base file's columns, ingestion_batch (int32, the number) and date (str).

        Without files of users, the rows of users are those who have rated, by batch.

        Raises:
            DataError: a received file is missing or was changed.
        """
        if kind not in self._form.files:
            return self.read(RATINGS)[[*self.nothing(kind)]].drop_duplicates(ignore_index=True)
        manifest = self.manifest
        paths = {entry: self._checked(entry) for entry in manifest.of(kind)}
        tables = self._reusable(kind, manifest)
        last = tables[0]["ingestion_batch"].max() if tables else BASE
        tables += [
            self._read_file(kind, path).assign(ingestion_batch=np.int32(entry.sequence), date=entry.date)
            for entry, path in paths.items()
            if entry.sequence > last
        ]
        return pd.concat(tables, ignore_index=True) if tables else self.nothing(kind)

    def _reusable(self, kind: str, manifest: Manifest) -> list[pd.DataFrame]:
        """Return the rows that were read earlier, if they are those of the first batches that count now."""
        earlier = self._earlier(kind)
        if earlier is None or earlier.rows.empty:
            return []
        last = int(earlier.rows["ingestion_batch"].max())
        return [earlier.rows] if earlier.version == manifest.version(kind, until=last) else []

    def nothing(self, kind: str) -> pd.DataFrame:
        """Return an empty table with the columns that ``read`` returns for this kind."""
        types = {**self._form.dtypes(kind), "ingestion_batch": "int32", "date": "str"}
        return pd.DataFrame({name: pd.Series(dtype=of) for name, of in types.items()})

    def version(self, manifest: Manifest, kind: str) -> str:
        """Return a digest of the batches that a kind's rows come from."""
        return manifest.version(kind if kind in self._form.files else RATINGS)

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
        ids = self._ids(known, without=sequence)
        ratings = self.read(RATINGS)
        for kind, column in ((kind, _IDS[kind]) for kind in _IDS if kind in self._form.files):
            lost = ratings[(ratings["ingestion_batch"] != sequence) & ~ratings[column].isin(ids[kind])]
            if len(lost):
                number, value = lost[["ingestion_batch", column]].iloc[0]
                raise DataError(
                    f"only batch {sequence} has {column} {value}, which ratings of batch {number} refer to; "
                    f"withdraw batch {number} first"
                )
        manifest.save(self.received)
        return manifest

    def _ids(self, known: Known, without: int = BASE) -> dict[str, set[Id]]:
        """Return the ids of users and movies in the base files and in all batches but one. Raises DataError."""
        ids = {USERS: set(known.users.tolist()), MOVIES: set(known.movies.tolist())}
        for kind, own in ids.items():
            rows = self.read(kind)
            own |= set(rows.loc[rows["ingestion_batch"] != without, _IDS[kind]])
        return ids

    def _arrivals(self, claimed_only: bool) -> list[Arrival]:
        paths = batches(self.incoming / PENDING, self._form, name_on_arrival)
        if not claimed_only:
            paths += batches(self.incoming, self._form)
        found = []
        for path in paths:
            name = name_on_arrival(path)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            kind, date, _ = parsed_name(name) or ("", "", "")
            found.append(Arrival(path, name, kind, date, digest))
        return sorted(found, key=lambda arrival: (KINDS.index(arrival.kind), arrival.date, arrival.digest))

    def _read(self, arrival: Arrival) -> pd.DataFrame:
        """Read and validate a file. Raises DataError."""
        date, tomorrow = dt.date.fromisoformat(arrival.date), self._today() + _DAY
        if date > tomorrow:
            raise DataError(f"{arrival.path}: found a future date in its name, expected {tomorrow} or earlier")
        table = self._read_file(arrival.kind, arrival.path)
        if arrival.kind == RATINGS:
            last, which = min((date + _DAY, "the day after the file's date"), (tomorrow, "tomorrow"))
            require_until(self._form.files[RATINGS].place(arrival.path), table, last, which)
        return table

    def _read_file(self, kind: str, path: Path) -> pd.DataFrame:
        return self._form.read_file(kind, path, may_repeat=kind == RATINGS)

    def _require_known(self, arrival: Arrival, table: pd.DataFrame, ids: dict[str, set[Id]]) -> None:
        if arrival.kind != RATINGS:
            return
        for kind in (kind for kind in ids if kind in self._form.files):
            column, file = _IDS[kind], self._form.files[kind].name
            known = table[column].isin(ids[kind])
            expected = f"a {column} of {file} or a {kind} batch"
            self._form.files[RATINGS].place(arrival.path).require(known, table[column], expected)

    def _quarantine(self, arrival: Arrival) -> None:
        folder = self.incoming / QUARANTINE
        target = folder / arrival.name
        if target.exists():
            target = folder / f"{arrival.name}.{arrival.digest[:8]}"
        report = {"file": arrival.name, "sha256": arrival.digest, "reason": arrival.reason}
        write_atomically(folder / f"{target.name}.json", json.dumps(report, indent=1, ensure_ascii=False).encode())
        arrival.path.replace(target)
        sync(folder)

    def _require_received(self, manifest: Manifest) -> None:
        """Raise DataError if a received file that counts is missing or was changed."""
        for entry in manifest.entries:
            if not entry.withdrawn:
                self._checked(entry)

    def _checked(self, entry: Entry) -> Path:
        path = self.received / entry.file
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != entry.digest:
            raise DataError(f"{path}: missing or changed since it was ingested; restore it from a backup")
        return path


def _refused(arrival: Arrival, error: DataError) -> Arrival:
    return replace(arrival, reason=str(error).replace(str(arrival.path), arrival.name))
