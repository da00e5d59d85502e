"""Generate the files of each night, and count what the tables must contain, without the pipeline's code."""

import datetime as dt
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

Rating = tuple[int, int, int, int]  # user, movie, stars, seconds since 1970
_BAD_LINES = (
    b"1::2::9::1046500000", b"1::2", b"x::2::3::1046500000", b"1::2::3::99999999999", b"", b"1::2::3::1046500000::7",
    b"1::2:: ::1046500000", b"1::2::3::1046500000\xff\xfe", b"1::2::3::-5", b"1,2,3,1046500000",
    b"1::2::3.7::1046500000", b"1::2::3::1046500000\x00",
)  # fmt: skip
_FIRST_NIGHT, _DAYS = dt.date(2003, 3, 1), 3  # from one night to the next, so that each has names for several files
_DAYS_OF_BAD_FILES = 5000  # before the night, where no good file takes their names
_ROWS = 40


@dataclass
class Truth:
    """The expected ratings.

    Attributes:
        ratings: latest time and stars, by user and movie.
        ingested: number of rating rows in valid files, each file once.
    """

    ratings: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    ingested: int = 0

    def count(self, rows: Sequence[Rating]) -> None:
        """Count a valid file."""
        self.ingested += len(rows)
        for user, movie, stars, seconds in rows:
            if seconds >= self.ratings.get((user, movie), (0, 0))[0]:
                self.ratings[user, movie] = (seconds, stars)

    @property
    def users(self) -> set[int]:
        """Return all users who have rated."""
        return {user for user, _ in self.ratings}


class Sender:
    """Send the same files to several incoming directories.

    A night's files follow from the seed and the nights before.

    Args:
        base: directory of the base files.
        incoming: directories to send to.
        seed: random seed of the files' content.

    Attributes:
        incoming: directories to send to.
        sent: night and kind of everything that was sent.
    """

    def __init__(self, base: Path, incoming: Sequence[Path], seed: int) -> None:
        self.truth, self.incoming, self._seed = Truth(), list(incoming), seed
        self.sent: list[tuple[int, str]] = []
        lines = [line.split("::") for line in (base / "ratings.dat").read_text("latin-1").splitlines()]
        self.truth.count([(int(user), int(movie), int(stars), int(at)) for user, movie, stars, at in lines])
        self.truth.ingested = 0
        self._users = sorted(self.truth.users)
        self._movies = sorted({movie for _, movie in self.truth.ratings})
        self._night, self._files, self._owed = 0, dict[str, str](), list[Callable[[], bool]]()
        self._rng, self._file = np.random.default_rng(seed), 0
        self._names = set[str]()

    def send(self, kind: str, night: int) -> bool:
        """Send files, possibly for another time in the same night; return whether any of them should be ingested."""
        self._night, self._rng = night, np.random.default_rng([self._seed, night, len(self.sent)])
        self.sent.append((night, kind))
        owed, self._owed = self._owed, []
        is_new = [pay() for pay in owed]
        if kind != "empty":
            self._ratings(self._pairs(_ROWS))
            getattr(self, f"_{kind}")()
        return kind != "empty" or any(is_new)

    def replay(self, sent: Sequence[tuple[int, str]]) -> None:
        """Count what was sent before, without sending it again."""
        incoming, self.incoming = self.incoming, []
        for night, kind in sent:
            self.send(kind, night)
        self.incoming = incoming

    def _usual(self) -> None:
        """Send nothing more than every night."""

    def _tenfold(self) -> None:
        self._ratings(self._pairs(9 * _ROWS))

    def _re_rated(self) -> None:
        known = list(self.truth.ratings)
        pairs = [known[at] for at in self._rng.choice(len(known), _ROWS, replace=False)]
        self._ratings([*pairs, *pairs[:5]])  # some of them twice

    def _new_users_and_movies(self) -> None:
        users, movies = self._newcomers()
        self._put("users", [_user_line(user) for user in users])
        self._put("movies", [_movie_line(movie) for movie in movies])
        self._ratings([(user, movie) for user in users for movie in movies])
        self._users += users
        self._movies += movies

    def _out_of_order(self) -> None:
        """Send ratings a night before their users."""
        users, _ = self._newcomers()
        rows = self._rows([(user, movie) for user in users for movie in self._movies[:3]])
        self._put("ratings", _lines(rows))

        def pay() -> bool:
            self._put("users", [_user_line(user) for user in users])
            self.truth.count(rows)
            self._users += users
            return True

        self._owed.append(pay)

    def _late(self) -> None:
        """Send a five-day-old file; some of its ratings were replaced since."""
        known = list(self.truth.ratings)[-_ROWS:]
        self._ratings(known, days=-5)

    def _duplicate(self) -> None:
        """Send a file again under the same name and under another."""
        name = str(self._rng.choice(list(self._files)))
        text = self._files[name]
        self._write(name, text)
        self._write(self._name("ratings"), text)

    def _bad(self) -> None:
        """Send a file with every defect, and directories and links, which are gone the next night."""
        good = "".join(f"{line}\n" for line in _lines(self._rows(self._pairs(5)))).encode()
        at = int(self._rng.integers(5))
        for defect in _BAD_LINES:
            lines = good.splitlines(keepends=True)
            self._put_bytes("ratings", b"".join((*lines[:at], defect + b"\n", *lines[at:])))
        for content in (good[:-14], good.decode().encode("utf-16")):
            self._put_bytes("ratings", content)
        self._put_bytes("users", b"95001::F::25::4\n")
        self._put_bytes("movies", b"85001::No Year::Drama\n")
        directories, link = (
            [f"{name}-{self._night}" for name in ("ratings", "movies")],
            f"ratings-2004-01-01-{self._night}.dat",
        )
        for folder in self.incoming:
            for name in directories:
                (folder / name).mkdir(parents=True)
            (folder / link).symlink_to("/etc/hostname")

        def pay() -> bool:
            for folder in self.incoming:
                for name in directories:
                    shutil.rmtree(folder / name, ignore_errors=True)
                (folder / link).unlink(missing_ok=True)
            return False

        self._owed.append(pay)

    def _pairs(self, number: int) -> list[tuple[int, int]]:
        pairs = {(int(self._rng.choice(self._users)), int(self._rng.choice(self._movies))) for _ in range(number)}
        return sorted(pairs)

    def _newcomers(self) -> tuple[list[int], list[int]]:
        self._file += 1
        return [90_000 + 10 * self._file + n for n in range(3)], [80_000 + 10 * self._file + n for n in range(2)]

    def _rows(self, pairs: Sequence[tuple[int, int]], days: int = 0) -> list[Rating]:
        start = dt.datetime.combine(self._date(days), dt.time(), dt.UTC).timestamp()
        times = start + self._rng.choice(86_400, len(pairs), replace=False)
        stars = self._rng.integers(1, 6, len(pairs))
        return [(*pair, int(star), int(at)) for pair, star, at in zip(pairs, stars, times, strict=True)]

    def _ratings(self, pairs: Sequence[tuple[int, int]], days: int = 0) -> None:
        rows = self._rows(pairs, days)
        name = self._put("ratings", _lines(rows), days)
        self._files[name] = "".join(f"{line}\n" for line in _lines(rows))
        self.truth.count(rows)

    def _date(self, days: int = 0) -> dt.date:
        return _FIRST_NIGHT + dt.timedelta(days=_DAYS * self._night + days)

    def _name(self, kind: str, days: int = 0) -> str:
        """Return a name that was not used before."""
        while (name := f"{kind}-{self._date(days)}.dat") in self._names:
            days += 1
        self._names.add(name)
        return name

    def _put(self, kind: str, lines: Sequence[str], days: int = 0) -> str:
        name = self._name(kind, days)
        self._write(name, "".join(f"{line}\n" for line in lines))
        return name

    def _put_bytes(self, kind: str, content: bytes) -> None:
        self._write_bytes(self._name(kind, -_DAYS_OF_BAD_FILES), content)

    def _write(self, name: str, text: str) -> None:
        self._write_bytes(name, text.encode("latin-1"))

    def _write_bytes(self, name: str, content: bytes) -> None:
        for folder in self.incoming:
            folder.mkdir(parents=True, exist_ok=True)
            temporary = folder / f".{name}.part"
            temporary.write_bytes(content)
            temporary.rename(folder / name)


KINDS = (
    "usual", "new_users_and_movies", "bad", "duplicate", "late", "out_of_order", "re_rated", "empty", "tenfold",
)  # fmt: skip


def _lines(rows: Sequence[Rating]) -> list[str]:
    return ["::".join(map(str, row)) for row in rows]


def _user_line(user: int) -> str:
    return f"{user}::F::25::4::N{user}"


def _movie_line(movie: int) -> str:
    return f"{movie}::Late Harbour {movie} ({1900 + movie % 120})::Drama|Western"
