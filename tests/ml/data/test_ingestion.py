import json
import os
from pathlib import Path

import pytest

from ml.data.ingestion import PENDING, QUARANTINE, Ingestion
from ml.data.manifest import Manifest
from tests.ml.data.arriving import KNOWN, MARCH_1, MARCH_2, RATED, rows, send, take


def left(ingestion: Ingestion) -> set[str]:
    return {str(path.relative_to(ingestion.incoming)) for path in ingestion.incoming.rglob("*") if path.is_file()}


def test_files_are_ingested_once_and_numbered(ingestion: Ingestion) -> None:
    send(ingestion, "ratings-2003-03-02.dat", f"3::30::5::{MARCH_2}", f"1::10::2::{MARCH_1}")
    send(ingestion, "ratings-2003-03-01.dat", f"2::20::4::{MARCH_1}")
    send(ingestion, "users-2003-03-02.dat", "3::F::25::4::00123")
    send(ingestion, "movies-2003-03-02.dat", "30::Harbour (2003)::Drama")
    sorting = take(ingestion)
    assert [arrival.name for arrival in sorting.good] == [
        "users-2003-03-02.dat", "movies-2003-03-02.dat", "ratings-2003-03-01.dat", "ratings-2003-03-02.dat",
    ]  # fmt: skip
    assert left(ingestion) == set()
    assert rows(ingestion.received.read("users")) == [(3, "F", 25, 4, "00123", 1, "2003-03-02")]
    assert rows(ingestion.received.read("movies")) == [(30, "Harbour (2003)", "Drama", 2, "2003-03-02")]
    assert rows(ingestion.received.read("ratings")) == [
        (2, 20, 4, MARCH_1, 3, "2003-03-01"),
        (3, 30, 5, MARCH_2, 4, "2003-03-02"),
        (1, 10, 2, MARCH_1, 4, "2003-03-02"),
    ]
    entries = ingestion.received.manifest.entries
    assert [(entry.sequence, entry.ingestion, entry.rows) for entry in entries] == [
        (1, 1, 1), (2, 1, 1), (3, 1, 1), (4, 1, 2),
    ]  # fmt: skip
    assert [entry.file for entry in entries][-1] == "000004-ratings-2003-03-02.dat"


def test_a_repeated_file_counts_once_under_any_name(ingestion: Ingestion) -> None:
    line = f"1::10::2::{MARCH_1}"
    for name in ("ratings-2003-03-01.dat", "ratings-2003-03-02.dat"):
        send(ingestion, name, line)
    sorting = take(ingestion)
    assert [arrival.name for arrival in sorting.repeated] == ["ratings-2003-03-02.dat"]
    send(ingestion, "ratings-2003-03-01.dat", line)
    assert [arrival.name for arrival in take(ingestion).repeated] == ["ratings-2003-03-01.dat"]
    assert len(ingestion.received.read("ratings")) == 1
    assert left(ingestion) == set()


def test_the_same_name_with_other_rows_counts_too(ingestion: Ingestion) -> None:
    for stars in (2, 3):
        send(ingestion, "ratings-2003-03-01.dat", f"1::10::{stars}::{MARCH_1}")
        ingestion.claim()  # both are pending
    assert [arrival.name for arrival in take(ingestion).good] == ["ratings-2003-03-01.dat"] * 2
    assert sorted(ingestion.received.read("ratings")["rating"]) == [2, 3]


@pytest.mark.parametrize(
    ("name", "lines", "reason"),
    [
        ("ratings-2003-03-01.dat", [f"1::10::2::{MARCH_1}", "1::10::9::5"], "line 2: found '9', expected a rating"),
        ("ratings-2003-03-01.dat", [f"1::10::2::{MARCH_1}", "1::10::4"], "line 2: found '1::10::4', expected 4"),
        ("ratings-2003-03-01.dat", [f"1::10::2::{MARCH_2 + 86_400}"], "expected a timestamp no later than 2003-03-02"),
        ("ratings-2003-03-01.dat", [], "empty"),
        ("ratings-2003-05-02.dat", [f"1::10::2::{MARCH_1}"], "found a future date in its name"),
        ("users-2099-01-01.dat", ["3::F::25::4::1"], "found a future date in its name"),
        ("ratings-2003-05-01.dat", ["1::10::2::1051833600"], "expected a timestamp no later than 2003-05-01, tomorrow"),
        ("users-2003-03-01.dat", ["3::X::25::4::00123"], "line 1: found 'X', expected gender one of F, M"),
        ("users-2003-03-01.dat", ["3::F::25::4::1", "3::F::25::4::1"], "line 2: found '3', expected user_id only once"),
        ("movies-2003-03-01.dat", ["30::Harbour::Drama"], "line 1: found 'Harbour', expected a title that ends in"),
    ],
)  # fmt: skip
def test_an_invalid_file_is_quarantined_with_a_report(
    ingestion: Ingestion, name: str, lines: list[str], reason: str
) -> None:
    send(ingestion, name, *lines)
    send(ingestion, "ratings-2003-02-28.dat", "2::20::4::5")
    before = (ingestion.incoming / name).read_bytes()
    sorting = take(ingestion)
    assert [arrival.name for arrival in sorting.good] == ["ratings-2003-02-28.dat"]
    [bad] = sorting.bad
    assert bad.reason.startswith(name)
    assert reason in bad.reason
    assert left(ingestion) == {f"{QUARANTINE}/{name}", f"{QUARANTINE}/{name}.json"}
    assert (ingestion.incoming / QUARANTINE / name).read_bytes() == before
    assert json.loads((ingestion.incoming / QUARANTINE / f"{name}.json").read_text("utf-8"))["reason"] == bad.reason
    assert len(ingestion.received.read("ratings")) == 1


def test_two_invalid_files_of_one_name_are_both_kept(ingestion: Ingestion) -> None:
    for line in ("x", "y"):
        send(ingestion, "ratings-2003-03-01.dat", line)
        take(ingestion)
    assert len([path for path in left(ingestion) if not path.endswith(".json")]) == 2


def test_ratings_until_the_end_of_the_next_day_are_valid(ingestion: Ingestion) -> None:
    send(ingestion, "ratings-2003-03-01.dat", f"1::10::2::{MARCH_2 + 86_399}")
    assert len(take(ingestion).good) == 1


def test_ratings_wait_for_their_users_and_movies(ingestion: Ingestion) -> None:
    send(ingestion, "ratings-2003-03-01.dat", f"1::10::2::{MARCH_1}", f"3::10::2::{MARCH_1}")
    [waiting] = take(ingestion).waiting
    assert waiting.reason.startswith("ratings-2003-03-01.dat, line 2: found '3', expected a user_id of users.dat")
    assert left(ingestion) == {f"{PENDING}/ratings-2003-03-01.dat"}
    assert ingestion.received.manifest == Manifest()
    send(ingestion, "users-2003-03-05.dat", "3::F::25::4::00123")  # late and out of order
    assert len(take(ingestion).good) == 2
    assert left(ingestion) == set()
    send(ingestion, "ratings-2003-03-06.dat", f"3::10::5::{MARCH_2}")  # the user stays known
    assert len(take(ingestion).good) == 1


def test_tomorrow_is_valid_because_of_time_zones(ingestion: Ingestion) -> None:
    send(ingestion, "ratings-2003-05-01.dat", "1::10::2::1051833599")
    assert len(take(ingestion).good) == 1


def test_text_of_either_encoding_arrives_undamaged(ingestion: Ingestion) -> None:
    for number, encoding in enumerate(("latin-1", "utf-8", "utf-8-sig"), 30):
        path = send(ingestion, f"movies-2003-03-{number - 29:02d}.dat")
        path.write_text(f"{number}::Forêt (1931)::Drama\n", encoding)
    assert len(take(ingestion).good) == 3
    assert ingestion.received.read("movies")["title"].tolist() == ["Forêt (1931)"] * 3


def test_other_files_are_ignored(ingestion: Ingestion) -> None:
    names = ["notes.txt", "tags-2003-03-01.dat", ".ratings-2003-03-01.dat", ".ratings-2003-03-02.dat.8f3a"]
    for name in names:
        send(ingestion, name, f"1::10::2::{MARCH_1}")
    assert take(ingestion).empty
    assert left(ingestion) == set(names)
    assert ingestion.others() == ["notes.txt", "tags-2003-03-01.dat"]
    assert ingestion.arrived() == ""


STRAY = {
    "ratings-2003-03-06.DAT": "its name has a different form",
    "Ratings-2003-03-06.dat": "its name has a different form",
    "ratings-20030306.dat": "its name has a different form",
    "ratings-2003-02-30.dat": "or a date that does not exist",
    "ratings-\uff12003-03-01.dat": "its name has a different form",
    "users-2003-03-01.dat.gz": "its name has a different form",
    "movies-2003-03-01.dat.part": "its name has a different form",
}


@pytest.mark.parametrize(("name", "reason"), STRAY.items(), ids=STRAY)
def test_misnamed_batches_are_reported(ingestion: Ingestion, name: str, reason: str) -> None:
    path = send(ingestion, name, f"1::10::2::{MARCH_1}")
    for _ in range(2):
        sorting = take(ingestion)
        [stray] = sorting.stray
        assert stray.name == name
        assert reason in stray.reason
        assert "expected a regular file with a name such as ratings-2003-03-01.dat" in stray.reason
        assert not sorting.empty
        assert ingestion.arrived().startswith(f"{name}:")
    path.unlink()
    assert take(ingestion).empty


def test_links_directories_and_pipes_are_reported(ingestion: Ingestion, tmp_path: Path) -> None:
    ingestion.incoming.mkdir()
    (tmp_path / "elsewhere").write_text(f"1::10::2::{MARCH_1}\n")
    (ingestion.incoming / "ratings-2003-03-01.dat").symlink_to(tmp_path / "elsewhere")
    (ingestion.incoming / "ratings-2003-03-02.dat").symlink_to(tmp_path / "nowhere")
    (ingestion.incoming / "users-2003-03-01.dat").mkdir()
    os.mkfifo(ingestion.incoming / "movies-2003-03-01.dat")
    assert [stray.reason.partition(";")[0] for stray in take(ingestion).stray] == [
        "it is not a regular file", "it is a link", "it is a link", "it is a directory",
    ]  # fmt: skip


def test_names_of_any_bytes_are_shown_on_one_line(ingestion: Ingestion) -> None:
    ingestion.incoming.mkdir()
    for name in (b"ratings-\xff\n.dat", b"other-\xff.dat"):
        Path(os.fsdecode(os.fsencode(ingestion.incoming) + b"/" + name)).write_bytes(b"1")
    [stray] = take(ingestion).stray
    assert stray.name == r"ratings-\udcff\n.dat"
    assert ingestion.others() == [r"other-\udcff.dat"]
    assert ingestion.arrived().startswith(stray.name)


def test_sorting_changes_nothing(ingestion: Ingestion) -> None:
    send(ingestion, "ratings-2003-03-01.dat", f"1::10::2::{MARCH_1}")
    send(ingestion, "ratings-2003-03-02.dat", "x")
    send(ingestion, "ratings-2003-03-03.dat", "7::10::2::5")
    before = left(ingestion)
    sorting = ingestion.sort(KNOWN)
    assert [len(files) for files in (sorting.good, sorting.bad, sorting.waiting)] == [1, 1, 1]
    assert left(ingestion) == before
    assert not ingestion.received.folder.exists()
    assert ingestion.arrived().startswith("ratings-2003-03-01.dat:")


@pytest.mark.parametrize("cut_off", range(8))
def test_an_interrupted_ingestion_is_completed_by_the_next(
    ingestion: Ingestion, cut_off: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupt before each step that changes something on disk."""
    send(ingestion, "ratings-2003-03-01.dat", f"1::10::2::{MARCH_1}")
    send(ingestion, "ratings-2003-03-02.dat", f"2::10::3::{MARCH_1}")
    send(ingestion, "ratings-2003-03-03.dat", "x")
    steps = 0

    def counted(method: str) -> None:
        original = getattr(Path, method)

        def step(self: Path, *arguments: object, **named: object) -> object:
            nonlocal steps
            steps += 1
            if steps > cut_off:
                raise KeyboardInterrupt
            return original(self, *arguments, **named)

        monkeypatch.setattr(Path, method, step)

    with monkeypatch.context() as patch:
        for method in ("rename", "replace", "unlink"):
            counted(method)
        with pytest.raises(KeyboardInterrupt):
            take(ingestion)
        patch.undo()
    monkeypatch.undo()
    take(ingestion)
    assert sorted(rows(ingestion.received.read("ratings")[["user_id", "rating"]])) == [(1, 2), (2, 3)]
    assert [entry.sequence for entry in ingestion.received.manifest.entries] == [1, 2]
    shown = {name for name in left(ingestion) if not Path(name).name.startswith(".")}  # names with a dot are unfinished
    assert shown == {f"{QUARANTINE}/ratings-2003-03-03.dat", f"{QUARANTINE}/ratings-2003-03-03.dat.json"}


def test_batches_have_the_format_of_the_base_files(csv_ingestion: Ingestion) -> None:
    send(csv_ingestion, "movies-2003-03-01.csv", "movieId,title,genres", '30,"Harbour, The (2003)",Drama')
    send(csv_ingestion, "ratings-2003-03-01.csv", RATED, f"7,30,3.5,{MARCH_1}", f"1,10,4.0,{MARCH_1}")
    send(csv_ingestion, "ratings-2003-03-01.dat", f"1::10::2::{MARCH_1}")
    send(csv_ingestion, "users-2003-03-01.csv", "userId", "7")
    sorting = take(csv_ingestion)
    assert [arrival.name for arrival in sorting.good] == ["movies-2003-03-01.csv", "ratings-2003-03-01.csv"]
    assert [arrival.rows for arrival in sorting.good] == [1, 2]
    assert [stray.name for stray in sorting.stray] == ["ratings-2003-03-01.dat", "users-2003-03-01.csv"]
    assert sorting.stray[0].reason.startswith("it has another suffix than .csv; expected")
    assert sorting.stray[1].reason.startswith("MovieLens CSV has no files of users; expected")
    assert "ratings-2003-03-01.csv, movies-2003-03-01.csv (or" in sorting.stray[0].reason
    assert rows(csv_ingestion.received.read("ratings")) == [
        (7, 30, 3.5, MARCH_1, 2, "2003-03-01"), (1, 10, 4.0, MARCH_1, 2, "2003-03-01"),
    ]  # fmt: skip


def test_a_wrong_value_in_a_csv_batch_is_named_with_its_line(csv_ingestion: Ingestion) -> None:
    send(csv_ingestion, "ratings-2003-03-01.csv", RATED, f"1,10,4.0,{MARCH_1}", f"1,20,4.2,{MARCH_1}")
    send(csv_ingestion, "ratings-2003-03-02.csv", RATED, f"1,10,4.0,{MARCH_2}", f"1,99,4.0,{MARCH_2}")
    sorting = take(csv_ingestion)
    assert "line 3: found '4.2', expected a rating from 0.5 to 5" in sorting.bad[0].reason
    assert "line 3: found '99', expected a movie_id of movies.csv or a movies batch" in sorting.waiting[0].reason
