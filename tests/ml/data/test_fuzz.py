"""Fuzz the readers: any bytes are either read as valid tables, or refused with file and line."""

import datetime as dt
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ml.data.formats import RawTables
from ml.data.ingestion import Ingestion
from ml.data.manifest import KINDS
from ml.data.movielens import MOVIELENS_1M
from ml.data.movielens_tables import preprocess_movies, preprocess_users
from ml.data.received import Known, Received
from ml.data.synthetic import SMALL, write_synthetic
from ml.errors import DataError
from ml.features.tables import join_interactions, preprocess_ratings

QUICK, MANY = 60, 1500  # mutations per file
LINES = 12
DAY = dt.date(2003, 4, 30)
FILES = ("users.dat", "movies.dat", "ratings.dat")
PIECES = (
    b"::", b":", b"\n", b"\r\n", b"\r", b"\0", b"\x1f", b"\xff", b"\xc3\xaa", b"\xc3", b"\xc2\x85", b"\xef\xbb\xbf",
    b"\xef\xbf\xbd", b"\xed\xa0\x80", b"\xf0\x9f\x8e\xac", b" ", b"\t", b"|", b"||", b"(", b")", b" (2000)", b"(0000)",
    b"(9999)", b"-", b"+", b".", b"0", b"00000000001", b"9" * 9, b"9" * 20, b"1e5", b"nan", b"NULL", b'"', b"'",
    b"\xd9\xa1", b"\xe2\x80\xa8", b"4102444800", b"x" * 70_000, b"$x$", b"",
)  # fmt: skip
REFUSED = re.compile(
    r".*(, line \d+: found .+, expected .+|: (missing|empty); expected .+|: found a future date .+)", re.DOTALL
)


def mutated(rng: np.random.Generator, data: bytes) -> bytes:
    """Replace, remove, repeat or move one to four pieces of the data, or insert random bytes."""
    for _ in range(rng.integers(1, 5)):
        start, end = sorted(rng.integers(0, len(data) + 1, 2).tolist())
        if rng.random() < 0.8:
            end = min(end, start + int(rng.integers(0, 4)))
        match rng.integers(0, 6):
            case 0:
                piece = PIECES[rng.integers(len(PIECES))]
            case 1:
                piece = rng.integers(0, 256, end - start, np.uint8).tobytes()
            case 2:
                piece = data[start:end] * 2
            case 3:
                piece = b""
            case 4:
                piece = bytes(byte ^ (1 << int(rng.integers(8))) for byte in data[start:end])
            case _:
                lines = data.split(b"\n")
                rng.shuffle(lines)
                data, piece, end = b"\n".join(lines), b"", start
        data = data[:start] + piece + data[end:]
    return data


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the first lines of three matching files."""
    folder = tmp_path_factory.mktemp("good")
    write_synthetic(folder, SMALL, seed=42)
    lines = {name: (folder / name).read_bytes().splitlines(keepends=True) for name in FILES}
    movies = lines["movies.dat"][:LINES]
    users = lines["users.dat"][:LINES]
    rows = [
        b"%b::%b::%d::%d\n" % (user.split(b"::")[0], movie.split(b"::")[0], 1 + n % 5, 978_300_760 + n)
        for n, (user, movie) in enumerate(zip(users, movies, strict=True))
    ]
    return {"users.dat": b"".join(users), "movies.dat": b"".join(movies), "ratings.dat": b"".join(rows)}


def assert_sane(tables: RawTables) -> None:
    """Check what all later steps rely on."""
    users, movies, ratings = tables.users, tables.movies, tables.ratings
    assert not any(table.isna().to_numpy().any() for table in (users, movies, ratings))
    assert users["user_id"].is_unique
    assert movies["movie_id"].is_unique
    assert not ratings.duplicated(["user_id", "movie_id"]).any()
    assert ratings["user_id"].isin(users["user_id"]).all()
    assert ratings["movie_id"].isin(movies["movie_id"]).all()
    assert ratings["rating"].between(1, 5).all()
    assert (pd.to_datetime(ratings["timestamp"], unit="s").dt.date <= DAY + dt.timedelta(days=1)).all()
    for column in ("title", "genres"):
        assert not movies[column].str.contains("[\x00-\x1f\x7f-\x9f�]", regex=True).any()
    ready = preprocess_users(users), preprocess_movies(movies), preprocess_ratings(ratings)
    assert ready[1]["title"].ne("").all()
    assert ready[1]["movie_year"].between(0, 9999).all()
    assert not join_interactions(*ready).isna().to_numpy().any()


def damage(rng: np.random.Generator, good: dict[str, bytes], name: str, times: int) -> Sequence[bytes]:
    return [mutated(rng, good[name]) for _ in range(times)]


def read(folder: Path) -> tuple[RawTables | None, str]:
    """Return the tables, or the error message; any other exception is a bug."""
    try:
        return MOVIELENS_1M.read(folder, DAY), ""
    except DataError as error:
        return None, str(error)


def read_damaged(folder: Path, good: dict[str, bytes], name: str, times: int) -> int:
    """Read damaged files; return how many were refused."""
    refused = 0
    for other in FILES:
        (folder / other).write_bytes(good[other])
    assert_sane(MOVIELENS_1M.read(folder, DAY))
    for data in damage(np.random.default_rng(len(name)), good, name, times):
        (folder / name).write_bytes(data)
        tables, told = read(folder)
        if tables:
            assert_sane(tables)
        else:
            assert REFUSED.fullmatch(told), told
            assert str(folder / "") in told
            assert len(told) < 1000
            refused += 1
    return refused


def ingest_damaged(folder: Path, good: dict[str, bytes], name: str, times: int) -> int:
    """Ingest damaged files, each with an undamaged one of a damaged name; return how many were refused or wait."""
    refused = 0
    rng, kind = np.random.default_rng(len(name)), name.removesuffix(".dat")
    for other in ("users.dat", "movies.dat"):
        (folder / other).write_bytes(good[other])
    known = Known(
        MOVIELENS_1M.read_file("users", folder / "users.dat")["user_id"],
        MOVIELENS_1M.read_file("movies", folder / "movies.dat")["movie_id"],
    )
    for number, data in enumerate(damage(rng, good, name, times)):
        home = folder / str(number // 20)  # each ingestion reads all received files again
        ingestion = Ingestion(home / "incoming", Received(home / "received"), today=lambda: DAY)
        ingestion.incoming.mkdir(parents=True, exist_ok=True)
        odd = mutated(rng, f"{kind}-2003-03-01.dat".encode())[:200].replace(b"/", b"").replace(b"\0", b"").strip(b".")
        for file, content in ((odd or b"odd", good[name]), (f"{kind}-2003-03-01.dat".encode(), data)):
            (ingestion.incoming / os.fsdecode(file)).write_bytes(content)
        ingestion.claim()
        sorting = ingestion.sort(known, claimed_only=True)
        ingestion.settle(sorting)
        for arrival in (*sorting.bad, *sorting.waiting):
            assert REFUSED.fullmatch(arrival.reason), arrival.reason
            assert arrival.reason.startswith(arrival.name)
            refused += 1
        assert all(stray.name.isprintable() and "; expected " in stray.reason for stray in sorting.stray)
        assert {path.name for path in home.iterdir()} <= {"incoming", "received"}
        for left in [*ingestion.incoming.glob("pending/*"), *ingestion.incoming.glob("[!pq]*")]:
            left.unlink()  # waiting and stray files
    for of in KINDS:
        table = ingestion.received.read(of)
        assert not table.isna().to_numpy().any()
        assert len(table) == sum(entry.rows for entry in ingestion.received.manifest.of(of))
    return refused


@pytest.mark.parametrize("times", [QUICK, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", FILES)
def test_damaged_raw_files_are_read_or_refused(tmp_path: Path, good: dict[str, bytes], name: str, times: int) -> None:
    refused = read_damaged(tmp_path, good, name, times)
    assert 0 < refused < times


@pytest.mark.parametrize("times", [QUICK // 3, pytest.param(MANY // 3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", FILES)
def test_damaged_batches_are_ingested_or_refused(tmp_path: Path, good: dict[str, bytes], name: str, times: int) -> None:
    refused = ingest_damaged(tmp_path, good, name, times)
    assert 0 < refused < 2 * times
