"""Generate the files of each night, and count what the tables must contain, without the pipeline's code."""

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

Rating = tuple[int, int, int, int]  # user, movie, stars, seconds since 1970
_FIRST_NIGHT = dt.date(2003, 3, 1)
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

    Args:
        base: directory of the base files.
        incoming: directories to send to.
        rng: random generator of the files' content.
    """

    def __init__(self, base: Path, incoming: Sequence[Path], rng: np.random.Generator) -> None:
        self.truth, self._incoming, self._rng = Truth(), incoming, rng
        lines = [line.split("::") for line in (base / "ratings.dat").read_text("latin-1").splitlines()]
        self.truth.count([(int(user), int(movie), int(stars), int(at)) for user, movie, stars, at in lines])
        self.truth.ingested = 0
        self._users = sorted(self.truth.users)
        self._movies = sorted({movie for _, movie in self.truth.ratings})
        self._night, self._sent, self._owed = 0, dict[str, str](), list[Callable[[], None]]()
        self._file = 0

    def send(self, kind: str) -> bool:
        """Send a night's files; return whether any of them should be ingested."""
        self._night += 1
        owed, self._owed = self._owed, []
        for pay in owed:
            pay()
        if kind != "empty":
            self._ratings(self._pairs(_ROWS))
            getattr(self, f"_{kind}")()
        return kind != "empty" or bool(owed)

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

        def pay() -> None:
            self._put("users", [_user_line(user) for user in users])
            self.truth.count(rows)
            self._users += users

        self._owed.append(pay)

    def _late(self) -> None:
        """Send a five-day-old file; some of its ratings were replaced since."""
        known = list(self.truth.ratings)[-_ROWS:]
        self._ratings(known, days=-5)

    def _duplicate(self) -> None:
        """Send a file again under the same name and under another."""
        name = str(self._rng.choice(list(self._sent)))
        text = self._sent[name]
        self._write(name, text)
        self._write(self._name("ratings"), text)

    def _bad(self) -> None:
        lines = _lines(self._rows(self._pairs(_ROWS)))
        defects = ("1::2::9::1046500000", "1::2", "x::2::3::1046500000", "1::2::3::99999999999", "")
        lines.insert(int(self._rng.integers(len(lines))), str(self._rng.choice(defects)))
        self._put("ratings", lines)

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
        self._sent[name] = "".join(f"{line}\n" for line in _lines(rows))
        self.truth.count(rows)

    def _date(self, days: int = 0) -> dt.date:
        return _FIRST_NIGHT + dt.timedelta(days=self._night + days)

    def _name(self, kind: str, days: int = 0) -> str:
        """Return a name that does not exist yet in the incoming directory."""
        while True:
            name = f"{kind}-{self._date(days)}.dat"
            if not (self._incoming[0] / name).exists():
                return name
            days += 1

    def _put(self, kind: str, lines: Sequence[str], days: int = 0) -> str:
        name = self._name(kind, days)
        self._write(name, "".join(f"{line}\n" for line in lines))
        return name

    def _write(self, name: str, text: str) -> None:
        for folder in self._incoming:
            folder.mkdir(parents=True, exist_ok=True)
            temporary = folder / f".{name}.part"
            temporary.write_text(text, "latin-1")
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
