"""Store the manifest: which files were ingested after the base files, in which order."""

import datetime as dt
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ml.errors import DataError, NotFoundError
from ml.files import write_atomically

USERS, MOVIES, RATINGS = "users", "movies", "ratings"
KINDS = (USERS, MOVIES, RATINGS)  # ingestion order, since ratings refer to the others
_FILE = "manifest.json"
_VERSION = 3
_FIRST_FORM = "MovieLens-1M"  # of all manifests that do not name theirs
# Homes of earlier releases: the file's name, versions, and a key that was renamed since.
_EARLIER_FILE, _EARLIER_VERSIONS, _EARLIER_KEYS = "ledger.json", (1, 2), {"intake": "ingestion"}


@dataclass(frozen=True)
class Entry:
    """An ingestion batch: one ingested file.

    Attributes:
        sequence: number of the batch, from 1.
        ingestion: number of the ingestion, from 1; one ingestion reads all files that have arrived.
        kind: users, movies or ratings.
        date: date in its name, YYYY-MM-DD.
        digest: SHA-256 of its bytes.
        rows: number of rows.
        withdrawn: whether it no longer counts; its number is not reused.
        suffix: the end of its name, by its format.
    """

    sequence: int
    ingestion: int
    kind: str
    date: str
    digest: str
    rows: int
    withdrawn: bool = False
    suffix: str = ".dat"

    def __post_init__(self) -> None:
        """Validate. Raises ValueError for anything that ingestion never writes, such as a kind with a path in it."""
        numbers = all(type(number) is int and number >= 0 for number in (self.sequence, self.ingestion, self.rows))
        name = parsed_name(f"{self.kind}-{self.date}{self.suffix}") == (self.kind, self.date, self.suffix)
        if not (numbers and name and re.fullmatch("[0-9a-f]{64}", self.digest) and type(self.withdrawn) is bool):
            raise ValueError(f"{self!r} is not a valid entry")

    @property
    def file(self) -> str:
        """Return the name of the received file."""
        return f"{self.sequence:06d}-{self.kind}-{self.date}{self.suffix}"


@dataclass(frozen=True)
class Manifest:
    """All ingested files in order. Entries are only appended, or marked as withdrawn.

    Attributes:
        entries: the files.
        form: name of their format.
    """

    entries: tuple[Entry, ...] = ()
    form: str = _FIRST_FORM

    @property
    def digests(self) -> set[str]:
        """Return the digests of all files that count; a withdrawn file can be ingested again."""
        return {entry.digest for entry in self.entries if not entry.withdrawn}

    @property
    def ingestions(self) -> int:
        """Return the number of ingestions."""
        return max((entry.ingestion for entry in self.entries), default=0)

    def of(self, kind: str) -> tuple[Entry, ...]:
        """Return the entries of one kind that are not withdrawn."""
        return tuple(entry for entry in self.entries if entry.kind == kind and not entry.withdrawn)

    def of_last_ingestion(self) -> tuple[Entry, ...]:
        """Return the entries of the latest ingestion."""
        return tuple(entry for entry in self.entries if entry.ingestion == self.ingestions)

    def version(self, *kinds: str, until: int | None = None) -> str:
        """Return a digest of the entries of some kinds that count; it changes if one is added or withdrawn.

        Args:
            kinds: of the entries.
            until: the number of the last entry; all if not given.
        """
        counting = (entry for entry in self.entries[:until] if entry.kind in kinds and not entry.withdrawn)
        text = " ".join(f"{entry.sequence}:{entry.digest}" for entry in counting)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def with_ingestion(self, files: Iterable[tuple[str, str, str, int, str]], form: str = _FIRST_FORM) -> "Manifest":
        """Return a manifest with one more ingestion, of a format; each file is (kind, date, digest, rows, suffix)."""
        ingestion, last = self.ingestions + 1, len(self.entries)
        new = (
            Entry(sequence, ingestion, kind, date, digest, rows, suffix=suffix)
            for sequence, (kind, date, digest, rows, suffix) in enumerate(files, last + 1)
        )
        return Manifest((*self.entries, *new), form)

    def without(self, sequence: int) -> "Manifest":
        """Return a manifest with one entry marked as withdrawn.

        Raises:
            NotFoundError: the entry does not exist.
            DataError: it is already withdrawn.
        """
        if not 1 <= sequence <= len(self.entries):
            raise NotFoundError(f"batch {sequence} does not exist; {len(self.entries)} were ingested, numbered from 1")
        entry = self.entries[sequence - 1]
        if entry.withdrawn:
            raise DataError(f"batch {sequence} ({entry.file}) is already withdrawn")
        withdrawn = replace(entry, withdrawn=True)
        return replace(self, entries=(*self.entries[: sequence - 1], withdrawn, *self.entries[sequence:]))

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-serializable document."""
        return {
            "version": _VERSION,
            "format": self.form,
            "files": [{**asdict(entry), "file": entry.file} for entry in self.entries],
        }

    def save(self, folder: Path) -> None:
        """Write manifest.json."""
        write_atomically(folder / _FILE, json.dumps(self.to_dict(), indent=1).encode())

    @classmethod
    def load(cls, folder: Path) -> "Manifest":
        """Read manifest.json; return an empty manifest if the file does not exist.

        Raises:
            DataError: the file is not a valid manifest.
        """
        path = next((path for path in (folder / _FILE, folder / _EARLIER_FILE) if path.exists()), None)
        if path is None:
            return cls()
        try:
            document = json.loads(path.read_bytes())
            entries = [_entry(file) for file in document["files"]]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
            raise DataError(f"{path}: not a valid manifest ({error!r}); restore it from a backup") from error
        known = document.get("version") in (_VERSION, *_EARLIER_VERSIONS)
        if not known or [entry.sequence for entry in entries] != [*range(1, len(entries) + 1)]:
            raise DataError(f"{path}: expected version {_VERSION} and files numbered from 1; restore it from a backup")
        return cls(tuple(entries), str(document.get("format", _FIRST_FORM)))


def _entry(file: dict[str, Any]) -> Entry:
    values = {_EARLIER_KEYS.get(name, name): value for name, value in file.items()}
    return Entry(**{name: value for name, value in values.items() if name != "file"})


def parsed_name(name: str) -> tuple[str, str, str] | None:
    """Parse kind, date and suffix of a name such as ``ratings-2003-03-01.dat``; None for any other name."""
    found = re.fullmatch(rf"({'|'.join(KINDS)})-([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}})(\.[a-z]+)", name)
    if not found:
        return None
    try:
        dt.date.fromisoformat(found[2])
    except ValueError:
        return None
    return found[1], found[2], found[3]
