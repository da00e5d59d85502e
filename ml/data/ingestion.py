"""Take in files that arrive after the base files: validated whole, counted once, the bad ones put aside.

A file passes from the incoming directory to ``pending`` there, so that whoever delivers can write the same name again.
From there it passes to the received files and their manifest, or to ``quarantine`` with a report, or it stays and waits
for the users or movies that it refers to.
"""

import datetime as dt
import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from ml.data import movielens
from ml.data.manifest import KINDS, MOVIES, RATINGS, USERS, Entry, Manifest, kind_and_date
from ml.errors import DataError
from ml.files import sync, write_atomically

PENDING, QUARANTINE = "pending", "quarantine"
_DAY = dt.timedelta(days=1)
_MEANT = re.compile(rf"({'|'.join(KINDS)})-", re.IGNORECASE)  # begins names that are meant as batches
_EXPECTED = "a file of its own with a name such as ratings-2003-03-01.dat"
_READERS = {USERS: movielens.read_users, MOVIES: movielens.read_movies, RATINGS: movielens.read_rerated}
_IDS = {USERS: "user_id", MOVIES: "movie_id"}


@dataclass(frozen=True)
class Known:
    """Ids that ratings may refer to, beside ingested ones; int."""

    users: pd.Series
    movies: pd.Series


@dataclass(frozen=True)
class Arrival:
    """A file that has arrived.

    Attributes:
        path: where it lies.
        name: that it arrived with.
        kind: users, movies or ratings.
        date: of its name.
        digest: SHA-256 of its bytes.
        rows: its lines, where it could be read.
        reason: why it is not taken in.
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
    """Something in the incoming directory that is meant as a batch, by its name, and cannot be taken.

    Attributes:
        name: as it can be shown.
        reason: what is wrong, and what was expected.
    """

    name: str
    reason: str


@dataclass
class Sorting:
    """What is to become of the files that have arrived.

    Attributes:
        good: to be taken in, in this order.
        bad: to be put aside.
        waiting: refer to users or movies that are not known yet.
        repeated: were taken in before.
        stray: cannot be taken, and lie where they are.
    """

    good: list[Arrival] = field(default_factory=list)
    bad: list[Arrival] = field(default_factory=list)
    waiting: list[Arrival] = field(default_factory=list)
    repeated: list[Arrival] = field(default_factory=list)
    stray: list[Stray] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """Whether nothing has arrived."""
        return not (self.good or self.bad or self.waiting or self.repeated or self.stray)


class Ingestion:
    """The way of files from an incoming directory to the received ones.

    Args:
        incoming: where files arrive.
        received: where those taken in are kept, with the manifest.
        today: gives the day that it is, UTC.
    """

    def __init__(self, incoming: Path, received: Path, today: Callable[[], dt.date] = movielens.today) -> None:
        self.incoming, self.received, self._today = incoming, received, today

    @property
    def manifest(self) -> Manifest:
        """What was taken in. Raises DataError."""
        return Manifest.load(self.received)

    def others(self) -> list[str]:
        """Names in the incoming directory that are not meant as batches; they are left alone."""
        return [_shown(path) for path in _visible(self.incoming) if path.is_file() and not _MEANT.match(path.name)]

    def stray(self) -> list[Stray]:
        """What lies in the incoming directory, is meant as a batch and cannot be taken."""
        found = ((path, _obstacle(path, path.name)) for path in _visible(self.incoming) if _MEANT.match(path.name))
        return [Stray(_shown(path), obstacle) for path, obstacle in found if obstacle]

    def arrived(self) -> str:
        """Names, sizes and times of what was not claimed yet, or cannot be; empty where there is nothing."""
        meant = (path for path in _visible(self.incoming) if _MEANT.match(path.name))
        stats = [(_shown(path), path.lstat()) for path in meant]
        return " ".join(f"{name}:{stat.st_size}:{stat.st_mtime_ns}" for name, stat in stats)

    def claim(self) -> None:
        """Move what has arrived to ``pending``, where nobody else writes. Raises OSError."""
        pending = self.incoming / PENDING
        for path in _batches(self.incoming):
            pending.mkdir(exist_ok=True)
            target = pending / path.name
            path.rename(pending / f"{path.name}.{uuid.uuid4().hex[:8]}" if target.exists() else target)

    def sort(self, known: Known, claimed_only: bool = False) -> Sorting:
        """Look at what has arrived, and change nothing.

        Args:
            known: ids of the base files.
            claimed_only: leave out what is not claimed yet.

        Raises:
            DataError: the manifest or a received file is damaged.
        """
        manifest, sorting = self.manifest, Sorting(stray=self.stray())
        seen = manifest.digests
        ids = {USERS: set(known.users.tolist()), MOVIES: set(known.movies.tolist())}
        for kind in ids:
            ids[kind] |= set(self.read(kind)[_IDS[kind]])
        for arrival in self._arrivals(claimed_only):
            if arrival.digest in seen:
                sorting.repeated.append(arrival)
                continue
            try:
                table = _read(arrival, self._today())
            except DataError as error:
                sorting.bad.append(_refused(arrival, error))
                continue
            if arrival.kind in ids:
                ids[arrival.kind] |= set(table[_IDS[arrival.kind]])
            try:
                _require_known(arrival, table, ids)
            except DataError as error:
                sorting.waiting.append(_refused(arrival, error))
                continue
            seen.add(arrival.digest)
            sorting.good.append(replace(arrival, rows=len(table)))
        return sorting

    def settle(self, sorting: Sorting) -> Manifest:
        """Do what a sorting of ``pending`` says; the manifest changes at once or not at all.

        Raises:
            OSError: a file cannot be written or moved; what was not settled stays where it is.
        """
        for arrival in sorting.bad:
            self._quarantine(arrival)
        manifest = self.manifest
        if sorting.good:
            manifest = manifest.with_ingestion((each.kind, each.date, each.digest, each.rows) for each in sorting.good)
            for entry, arrival in zip(manifest.of_last_ingestion(), sorting.good, strict=True):
                write_atomically(self.received / entry.file, arrival.path.read_bytes())
            manifest.save(self.received)
        for arrival in (*sorting.good, *sorting.repeated):
            arrival.path.unlink()
        return manifest

    def read(self, kind: str) -> pd.DataFrame:
        """All rows that batches brought, as the base file's, with batch (int32, its number) and date (str).

        Raises:
            DataError: a received file is missing or is not what was taken in.
        """
        tables = [
            _READERS[kind](self._checked(entry)).assign(ingestion_batch=np.int32(entry.sequence), date=entry.date)
            for entry in self.manifest.of(kind)
        ]
        return pd.concat(tables, ignore_index=True) if tables else nothing_ingested(kind)

    def withdraw(self, sequence: int, known: Known) -> Manifest:
        """Undo a batch: its rows count no more, and its content may come again. Its file stays where it is.

        Args:
            sequence: its number.
            known: ids of the base files.

        Raises:
            NotFoundError: there is no such batch.
            DataError: it is withdrawn already, or ratings of another batch refer to users or movies that it alone
                brought; or as of ``read``.
        """
        manifest = self.manifest.without(sequence)
        ids = {USERS: set(known.users.tolist()), MOVIES: set(known.movies.tolist())}
        for kind, own in ids.items():
            rows = self.read(kind)
            own |= set(rows.loc[rows["ingestion_batch"] != sequence, _IDS[kind]])
        ratings = self.read(RATINGS)
        for kind, column in _IDS.items():
            lost = ratings[(ratings["ingestion_batch"] != sequence) & ~ratings[column].isin(ids[kind])]
            if len(lost):
                number, value = lost[["ingestion_batch", column]].iloc[0]
                raise DataError(
                    f"batch {sequence} alone brought {column} {value}, which ratings of batch {number} refer to; "
                    f"withdraw batch {number} first"
                )
        manifest.save(self.received)
        return manifest

    def _arrivals(self, claimed_only: bool) -> list[Arrival]:
        paths = _batches(self.incoming / PENDING, _name)
        if not claimed_only:
            paths += _batches(self.incoming)
        found = []
        for path in paths:
            name = _name(path)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found.append(Arrival(path, name, *(kind_and_date(name) or ("", "")), digest))
        return sorted(found, key=lambda arrival: (KINDS.index(arrival.kind), arrival.date, arrival.digest))

    def _quarantine(self, arrival: Arrival) -> None:
        folder = self.incoming / QUARANTINE
        target = folder / arrival.name
        if target.exists():
            target = folder / f"{arrival.name}.{arrival.digest[:8]}"
        report = {"file": arrival.name, "sha256": arrival.digest, "reason": arrival.reason}
        write_atomically(folder / f"{target.name}.json", json.dumps(report, indent=1, ensure_ascii=False).encode())
        arrival.path.replace(target)
        sync(folder)

    def _checked(self, entry: Entry) -> Path:
        path = self.received / entry.file
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != entry.digest:
            raise DataError(f"{path}: missing or not as it was taken in; restore it from a backup")
        return path


def nothing_ingested(kind: str) -> pd.DataFrame:
    """What ``Ingestion.read`` gives where nothing was taken in: no rows, the columns of the kind."""
    types = {**movielens.DTYPES[kind], "ingestion_batch": "int32", "date": "str"}
    return pd.DataFrame({name: pd.Series(dtype=of) for name, of in types.items()})


def _visible(folder: Path) -> list[Path]:
    """What lies in a directory, without names that begin with a dot: those are of files that are being written."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []


def _batches(folder: Path, name_of: Callable[[Path], str] = lambda path: path.name) -> list[Path]:
    """Regular files named as batches are; ``name_of`` says by which name a file has arrived."""
    return [path for path in _visible(folder) if not _obstacle(path, name_of(path))]


def _obstacle(path: Path, name: str) -> str:
    """Why something cannot be taken, and what was expected; empty where it can."""
    if path.is_symlink():
        problem = "it is a link"
    elif path.is_dir():
        problem = "it is a directory"
    elif not path.is_file():
        problem = "it is no regular file"
    elif not kind_and_date(name):
        problem = "its name has another form, or a date that is in no calendar"
    elif not os.access(path, os.R_OK):
        problem = "it may not be read"
    else:
        return ""
    return f"{problem}; expected {_EXPECTED} (while it is written, one that begins with a dot)"


def _shown(path: Path) -> str:
    """A file's name as text in one line, whatever bytes it is of."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in path.name)


def _name(path: Path) -> str:
    """The name that a pending file arrived with."""
    return path.name.partition(".dat")[0] + ".dat"


def _read(arrival: Arrival, today: dt.date) -> pd.DataFrame:
    """The file's rows. Raises DataError."""
    date, tomorrow = dt.date.fromisoformat(arrival.date), today + _DAY
    if date > tomorrow:
        raise DataError(f"{arrival.path}: found a date in its name that is to come, expected one until {tomorrow}")
    table = _READERS[arrival.kind](arrival.path)
    if arrival.kind == RATINGS:
        last, which = min((date + _DAY, "the day after the file's date"), (tomorrow, "tomorrow"))
        movielens.require_until(arrival.path, table, last, which)
    return table


def _require_known(arrival: Arrival, table: pd.DataFrame, ids: dict[str, set[int]]) -> None:
    if arrival.kind != RATINGS:
        return
    for kind, column in _IDS.items():
        known: Collection[int] = ids[kind]
        movielens.require(
            arrival.path, table[column].isin(known), table[column], f"a {column} of {kind}.dat or a {kind} batch"
        )


def _refused(arrival: Arrival, error: DataError) -> Arrival:
    return replace(arrival, reason=str(error).replace(str(arrival.path), arrival.name))
