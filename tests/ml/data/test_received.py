import io
import itertools
import json
from pathlib import Path

import pandas as pd
import pytest

from ml.data.formats import Format
from ml.data.ingestion import Ingestion
from ml.data.manifest import KINDS, parsed_name
from ml.data.movielens import MOVIELENS_1M, MOVIELENS_CSV
from ml.data.received import Ingested, Received
from ml.errors import DataError, NotFoundError
from tests.ml.data.arriving import KNOWN, MARCH_1, MARCH_2, RATED, ingestion_in, rows, send, take

ENTRY = {"sequence": 1, "ingestion": 1, "kind": "ratings", "date": "2003-03-01", "digest": "0" * 64, "rows": 1}


def reading(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the files that are parsed from now on."""
    parsed: list[str] = []
    read_file = Format.read_file

    def read(form: Format, kind: str, path: Path, **options: bool) -> pd.DataFrame:
        parsed.append(path.name)
        return read_file(form, kind, path, **options)

    monkeypatch.setattr(Format, "read_file", read)
    return parsed


def stored(ingestion: Ingestion) -> Ingestion:
    """Return an ingestion with the rows of today as they are read from tables that they were stored in."""
    manifest, tables = ingestion.received.manifest, {}
    for kind in KINDS:
        buffer = io.BytesIO()
        ingestion.received.read(kind).to_parquet(buffer, index=False)
        tables[kind] = Ingested(ingestion.received.version(manifest, kind), pd.read_parquet(buffer))
    return ingestion.reusing(tables.get)


def test_only_new_files_are_parsed(ingestion: Ingestion, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rows(stored(ingestion).received.read("ratings")) == []
    send(ingestion, "users-2003-03-01.dat", "3::F::25::4::00123")
    send(ingestion, "ratings-2003-03-01.dat", f"2::20::4::{MARCH_1}", f"3::10::4::{MARCH_1}")
    take(ingestion)
    after_first = stored(ingestion)
    send(ingestion, "ratings-2003-03-02.dat", f"1::10::2::{MARCH_1}")
    send(ingestion, "movies-2003-03-02.dat", "30::Harbour (2003)::Drama")
    take(after_first)
    parsed = reading(monkeypatch)
    found = {kind: after_first.received.read(kind) for kind in KINDS}
    assert parsed == ["000003-movies-2003-03-02.dat", "000004-ratings-2003-03-02.dat"]
    for kind, table in found.items():
        pd.testing.assert_frame_equal(table, ingestion.received.read(kind))
    assert len(parsed) == 2 + 4


def test_all_files_are_parsed_after_a_withdrawal(ingestion: Ingestion, monkeypatch: pytest.MonkeyPatch) -> None:
    for day in (1, 2, 3):
        send(ingestion, f"ratings-2003-03-0{day}.dat", f"{1 + day % 2}::10::{day}::{MARCH_1}")
    take(ingestion)
    before = stored(ingestion)
    before.received.withdraw(2, KNOWN)
    parsed = reading(monkeypatch)
    assert [row[2] for row in rows(before.received.read("ratings"))] == [1, 3]
    assert len(parsed) == 2
    before.received.withdraw(3, KNOWN)  # the last one
    assert [row[2] for row in rows(stored(ingestion).received.read("ratings"))] == [1]
    assert [row[2] for row in rows(before.received.read("ratings"))] == [1]


def test_rows_of_other_batches_are_not_reused(ingestion: Ingestion, tmp_path: Path) -> None:
    send(ingestion, "ratings-2003-03-01.dat", f"2::20::4::{MARCH_1}")
    take(ingestion)
    other = ingestion_in(tmp_path / "other", MOVIELENS_1M)
    send(other, "ratings-2003-03-01.dat", f"2::20::5::{MARCH_1}")
    take(other)
    foreign = Ingested(other.received.version(other.received.manifest, "ratings"), other.received.read("ratings"))
    assert rows(ingestion.reusing(lambda kind: foreign).received.read("ratings")) == rows(
        ingestion.received.read("ratings")
    )


def test_a_received_file_is_checked_though_its_rows_are_reused(ingestion: Ingestion) -> None:
    send(ingestion, "ratings-2003-03-01.dat", f"2::20::4::{MARCH_1}")
    take(ingestion)
    before = stored(ingestion)
    (ingestion.received.folder / "000001-ratings-2003-03-01.dat").write_text("2::20::5::1\n")
    with pytest.raises(DataError, match=r"000001-ratings-2003-03-01\.dat: missing or changed since it was ingested"):
        before.received.read("ratings")


def withdrawn(ingestion: Ingestion, sequence: int) -> None:
    ingestion.received.withdraw(sequence, KNOWN)


def test_a_withdrawn_batch_no_longer_counts_and_numbers_stay(ingestion: Ingestion) -> None:
    for day, stars in ((1, 2), (2, 3), (3, 4)):
        send(ingestion, f"ratings-2003-03-{day:02d}.dat", f"1::10::{stars}::{MARCH_1}")
    take(ingestion)
    before = ingestion.received.manifest.version("ratings")
    withdrawn(ingestion, 2)
    assert ingestion.received.manifest.version("ratings") != before
    assert ingestion.received.read("ratings")[["rating", "ingestion_batch"]].to_numpy().tolist() == [[2, 1], [4, 3]]
    assert len(list(ingestion.received.folder.glob("*.dat"))) == 3
    send(ingestion, "ratings-2003-03-02.dat", f"1::10::3::{MARCH_1}")  # it can be ingested again
    assert len(take(ingestion).good) == 1
    assert ingestion.received.read("ratings")["ingestion_batch"].tolist() == [1, 3, 4]
    for sequence, error in ((2, DataError), (0, NotFoundError), (5, NotFoundError)):
        with pytest.raises(error, match=f"batch {sequence}"):
            withdrawn(ingestion, sequence)


def test_ratings_are_withdrawn_before_their_users_and_movies(ingestion: Ingestion) -> None:
    send(ingestion, "users-2003-03-01.dat", "3::F::25::4::00123", "1::F::25::4::1")
    send(ingestion, "ratings-2003-03-01.dat", f"3::10::2::{MARCH_1}")
    take(ingestion)
    with pytest.raises(DataError, match=r"only batch 1 has user_id 3, .* withdraw batch 2 first"):
        withdrawn(ingestion, 1)
    assert len(ingestion.received.read("users")) == 2
    withdrawn(ingestion, 2)
    withdrawn(ingestion, 1)
    assert [len(ingestion.received.read(kind)) for kind in ("users", "ratings")] == [0, 0]


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_text("1::10::5::5\n")])
def test_a_changed_received_file_is_named(ingestion: Ingestion, damage: object) -> None:
    send(ingestion, "ratings-2003-03-01.dat", f"1::10::2::{MARCH_1}")
    take(ingestion)
    damage(ingestion.received.folder / "000001-ratings-2003-03-01.dat")  # type: ignore[operator]
    with pytest.raises(DataError, match=r"000001-ratings-2003-03-01\.dat: missing or changed since it was ingested"):
        ingestion.received.read("ratings")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "{}",
        '{"version": 2, "files": [{"sequence": 2}]}',
        '{"version": 4, "files": []}',
        json.dumps({"version": 2, "files": [{**ENTRY, "kind": "../../ratings"}]}),
        json.dumps({"version": 2, "files": [{**ENTRY, "date": "2003-03-01/.."}]}),
        json.dumps({"version": 2, "files": [{**ENTRY, "digest": None}]}),
    ],
)
def test_a_damaged_manifest_is_named(ingestion: Ingestion, text: str) -> None:
    ingestion.received.folder.mkdir()
    (ingestion.received.folder / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=r"manifest\.json: "):
        ingestion.sort(KNOWN)


def test_the_manifest_of_an_earlier_release_is_read_and_carried_on(ingestion: Ingestion) -> None:
    send(ingestion, "ratings-2003-03-01.dat", f"1::10::2::{MARCH_1}")
    take(ingestion)
    path = ingestion.received.folder / "manifest.json"
    text = path.read_text().replace('"version": 2', '"version": 1').replace('"ingestion":', '"intake":')
    (ingestion.received.folder / "ledger.json").write_text(text)
    before = ingestion.received.manifest
    path.unlink()
    assert ingestion.received.manifest == before
    send(ingestion, "ratings-2003-03-02.dat", f"2::10::3::{MARCH_1}")
    take(ingestion)
    assert [entry.ingestion for entry in ingestion.received.manifest.entries] == [1, 2]
    assert path.is_file()


def test_version_changes_with_its_own_kinds_only(ingestion: Ingestion) -> None:
    versions = [[ingestion.received.manifest.version(kind) for kind in KINDS]]
    for name, line in (("users-2003-03-01.dat", "3::F::25::4::1"), ("ratings-2003-03-01.dat", f"3::10::2::{MARCH_1}")):
        send(ingestion, name, line)
        take(ingestion)
        versions.append([ingestion.received.manifest.version(kind) for kind in KINDS])
    changed = [[a != b for a, b in zip(*pair, strict=True)] for pair in itertools.pairwise(versions)]
    assert changed == [[True, False, False], [False, False, True]]


def test_empty_table_has_the_same_columns_and_types(ingestion: Ingestion) -> None:
    send(ingestion, "users-2003-03-01.dat", "3::F::25::4::1")
    send(ingestion, "movies-2003-03-01.dat", "30::Harbour (2003)::Drama")
    send(ingestion, "ratings-2003-03-01.dat", f"3::10::2::{MARCH_1}")
    take(ingestion)
    for kind in KINDS:
        assert ingestion.received.nothing(kind).dtypes.to_dict() == ingestion.received.read(kind).dtypes.to_dict()
        assert len(ingestion.received.nothing(kind)) == 0


def test_names_of_batches() -> None:
    assert parsed_name("movies-2003-02-28.dat") == ("movies", "2003-02-28", ".dat")
    assert parsed_name("ratings-2003-02-28.csv") == ("ratings", "2003-02-28", ".csv")
    for name in ("movies-2003-02-30.dat", "Movies-2003-02-28.dat", "tags-2003-02-28.dat", "movies-2003-02-28.dat.1"):
        assert parsed_name(name) is None


def test_without_a_file_of_users_they_come_with_their_ratings(csv_ingestion: Ingestion) -> None:
    send(csv_ingestion, "ratings-2003-03-01.csv", RATED, f"7,10,3.5,{MARCH_1}", f"7,20,0.5,{MARCH_1}")
    take(csv_ingestion)
    send(csv_ingestion, "ratings-2003-03-02.csv", RATED, f"7,10,3.0,{MARCH_2}", f"8,10,1,{MARCH_2}")
    manifest = csv_ingestion.settle(csv_ingestion.sort(KNOWN))
    assert rows(csv_ingestion.received.read("users")) == [
        (7, 1, "2003-03-01"),
        (7, 2, "2003-03-02"),
        (8, 2, "2003-03-02"),
    ]
    assert csv_ingestion.received.version(manifest, "users") == csv_ingestion.received.version(manifest, "ratings")
    assert (
        csv_ingestion.received.nothing("users").dtypes.to_dict()
        == csv_ingestion.received.read("users").dtypes.to_dict()
    )


def test_batches_of_another_format_than_the_base_files_are_refused(ingestion: Ingestion, tmp_path: Path) -> None:
    send(ingestion, "ratings-2003-03-01.dat", f"1::10::2::{MARCH_1}")
    take(ingestion)
    other = Received(ingestion.received.folder, MOVIELENS_CSV)
    with pytest.raises(DataError, match="MovieLens-1M files, the base files MovieLens CSV files"):
        other.read("ratings")
