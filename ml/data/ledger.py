"""The ledger of deliveries: which files were taken in after the base files, in which order."""

import datetime as dt
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ml.errors import DataError, NotFoundError
from ml.files import write_durably

USERS, MOVIES, RATINGS = "users", "movies", "ratings"
KINDS = (USERS, MOVIES, RATINGS)  # in this order they are taken in, since ratings refer to the others
_FILE = "ledger.json"
_VERSION = 1


@dataclass(frozen=True)
class Entry:
    """A file that was taken in.

    Attributes:
        sequence: its number among all, from 1.
        intake: number of the intake that took it in, from 1; one intake takes in all files that have arrived.
        kind: users, movies or ratings.
        date: of its name, YYYY-MM-DD.
        digest: SHA-256 of its bytes.
        rows: its lines.
        withdrawn: whether it counts no more; its number stays its own.
    """

    sequence: int
    intake: int
    kind: str
    date: str
    digest: str
    rows: int
    withdrawn: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError for what no intake writes, such as a kind that leads to another directory."""
        numbers = all(type(number) is int and number >= 0 for number in (self.sequence, self.intake, self.rows))
        name = kind_and_date(f"{self.kind}-{self.date}.dat") == (self.kind, self.date)
        if not (numbers and name and re.fullmatch("[0-9a-f]{64}", self.digest) and type(self.withdrawn) is bool):
            raise ValueError(f"{self!r} is no entry")

    @property
    def file(self) -> str:
        """Name under which it is kept."""
        return f"{self.sequence:06d}-{self.kind}-{self.date}.dat"


@dataclass(frozen=True)
class Ledger:
    """All files that were taken in, in their order; only ever appended to, or marked as withdrawn."""

    entries: tuple[Entry, ...] = ()

    @property
    def digests(self) -> set[str]:
        """Of all contents that count; what was withdrawn can be delivered again."""
        return {entry.digest for entry in self.entries if not entry.withdrawn}

    @property
    def intakes(self) -> int:
        """How many intakes took something in."""
        return max((entry.intake for entry in self.entries), default=0)

    def of(self, kind: str) -> tuple[Entry, ...]:
        """The entries of one kind that count."""
        return tuple(entry for entry in self.entries if entry.kind == kind and not entry.withdrawn)

    def of_last_intake(self) -> tuple[Entry, ...]:
        """The entries of the latest intake."""
        return tuple(entry for entry in self.entries if entry.intake == self.intakes)

    def version(self, *kinds: str) -> str:
        """A digest of the entries of some kinds that count; changes when one of them comes or is withdrawn."""
        counting = (entry for entry in self.entries if entry.kind in kinds and not entry.withdrawn)
        text = " ".join(f"{entry.sequence}:{entry.digest}" for entry in counting)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def with_intake(self, files: Iterable[tuple[str, str, str, int]]) -> "Ledger":
        """Append one intake's files, each as kind, date, digest and rows."""
        intake, last = self.intakes + 1, len(self.entries)
        new = (Entry(sequence, intake, *file) for sequence, file in enumerate(files, last + 1))
        return Ledger((*self.entries, *new))

    def without(self, sequence: int) -> "Ledger":
        """The same with an entry marked as withdrawn.

        Raises:
            NotFoundError: there is no such entry.
            DataError: it is withdrawn already.
        """
        if not 1 <= sequence <= len(self.entries):
            raise NotFoundError(f"no delivery {sequence}; {len(self.entries)} were taken in, numbered from 1")
        entry = self.entries[sequence - 1]
        if entry.withdrawn:
            raise DataError(f"delivery {sequence} ({entry.file}) is withdrawn already")
        withdrawn = replace(entry, withdrawn=True)
        return Ledger((*self.entries[: sequence - 1], withdrawn, *self.entries[sequence:]))

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready document."""
        return {"version": _VERSION, "files": [{**asdict(entry), "file": entry.file} for entry in self.entries]}

    def save(self, folder: Path) -> None:
        """Write ledger.json."""
        write_durably(folder / _FILE, json.dumps(self.to_dict(), indent=1).encode())

    @classmethod
    def load(cls, folder: Path) -> "Ledger":
        """Read ledger.json; an empty ledger where there is none.

        Raises:
            DataError: it is not what ``save`` writes.
        """
        path = folder / _FILE
        if not path.exists():
            return cls()
        try:
            document = json.loads(path.read_bytes())
            entries = [
                Entry(**{name: value for name, value in file.items() if name != "file"}) for file in document["files"]
            ]
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{path}: not a ledger of deliveries ({error!r}); restore it from a backup") from error
        if document.get("version") != _VERSION or [entry.sequence for entry in entries] != [
            *range(1, len(entries) + 1)
        ]:
            raise DataError(f"{path}: expected version {_VERSION} and files numbered from 1 on; restore a backup")
        return cls(tuple(entries))


def kind_and_date(name: str) -> tuple[str, str] | None:
    """Kind and date of ``ratings-2003-03-01.dat`` and the like; None for any other name."""
    found = re.fullmatch(rf"({'|'.join(KINDS)})-([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}})\.dat", name)
    if not found:
        return None
    try:
        dt.date.fromisoformat(found[2])
    except ValueError:
        return None
    return found[1], found[2]
