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

import pandas as pd

from ml.data.formats import Format, require_until, today
from ml.data.incoming import MEANT, batches, name_on_arrival, obstacle, shown, visible
from ml.data.manifest import KINDS, RATINGS, Manifest, parsed_name
from ml.data.received import IDS, Ingested, Known, Received
from ml.errors import DataError
from ml.files import sync, write_atomically
from ml.schema import Id

PENDING, QUARANTINE = "pending", "quarantine"
_DAY = dt.timedelta(days=1)


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


@dataclass(frozen=True)
class Ingestion:
    """Move files from an incoming directory to the received files.

    Attributes:
        incoming: directory where files arrive.
        received: the files that were ingested; others of the same format arrive.
        today: returns the current date, UTC.
    """

    incoming: Path
    received: Received
    today: Callable[[], dt.date] = today

    def reusing(self, earlier: Callable[[str], Ingested | None]) -> "Ingestion":
        """Return the same with rows that were read earlier, see ``Received``."""
        return replace(self, received=self.received.reusing(earlier))

    @property
    def _form(self) -> Format:
        return self.received.form

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
        sorting = Sorting(stray=self.stray())
        arrivals = self._arrivals(claimed_only)
        if not arrivals:
            self.received.require_complete()
            return sorting
        seen, ids = self.received.manifest.digests, self.received.ids(known)
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
                ids[arrival.kind] |= set(table[IDS[arrival.kind]])
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
        manifest = self.received.manifest
        if sorting.good:
            manifest = manifest.with_ingestion(
                ((each.kind, each.date, each.digest, each.rows, Path(each.name).suffix) for each in sorting.good),
                self._form.name,
            )
            for entry, arrival in zip(manifest.of_last_ingestion(), sorting.good, strict=True):
                write_atomically(self.received.folder / entry.file, arrival.path.read_bytes())
            manifest.save(self.received.folder)
        for arrival in (*sorting.good, *sorting.repeated):
            arrival.path.unlink()
        return manifest

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
        date, tomorrow = dt.date.fromisoformat(arrival.date), self.today() + _DAY
        if date > tomorrow:
            raise DataError(f"{arrival.path}: found a future date in its name, expected {tomorrow} or earlier")
        table = self.received.parse(arrival.kind, arrival.path)
        if arrival.kind == RATINGS:
            last, which = min((date + _DAY, "the day after the file's date"), (tomorrow, "tomorrow"))
            require_until(self._form.files[RATINGS].place(arrival.path), table, last, which)
        return table

    def _require_known(self, arrival: Arrival, table: pd.DataFrame, ids: dict[str, set[Id]]) -> None:
        if arrival.kind != RATINGS:
            return
        for kind in (kind for kind in ids if kind in self._form.files):
            column, file = IDS[kind], self._form.files[kind].name
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


def _refused(arrival: Arrival, error: DataError) -> Arrival:
    return replace(arrival, reason=str(error).replace(str(arrival.path), arrival.name))
