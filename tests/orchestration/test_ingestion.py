"""Files that arrive after the base files, through the pipeline's own assets on the small data."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from ml.data.formats import Format
from ml.data.received import Known
from ml.data.synthetic import SMALL
from ml.features.splits import PAPER, RANDOM, Split
from orchestration.assets import ingestion
from orchestration.assets.ingestion import BATCHES
from orchestration.automation.jobs import PIPELINE, SELECTIONS
from orchestration.automation.schedules import arrivals
from orchestration.automation.staleness import Plan, Planner
from orchestration.config.data_sets import DataSet, register
from orchestration.definitions import build_definitions
from orchestration.resources.raw_data import RawData
from tests.orchestration.conftest import DATASET, Pipeline, run_job
from tests.stored import stored_interactions

DELIVERED = (BATCHES, "ingested_users", "ingested_movies", "ingested_ratings")
TABLES = ("users", "movies", "ratings", "interactions", "feature_map", "encoded_interactions")
SPLIT = ("train_interactions", "test_interactions")
AFTER = 1_100_000_000  # seconds since 1970, in November 2004, after all ratings of the data
DATE = "2004-11-10"


@pytest.fixture
def incoming(own_home: Path) -> Path:
    return own_home / "incoming" / DATASET


@pytest.fixture
def fresh() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def deliver(incoming: Path, name: str, *lines: str) -> None:
    incoming.mkdir(parents=True, exist_ok=True)
    (incoming / name).write_text("".join(f"{line}\n" for line in lines), "latin-1")


def read(home: Path, name: str) -> pd.DataFrame:
    return pd.read_parquet(home / "tables" / DATASET / f"{name}.parquet")


def night(instance: dg.DagsterInstance, *assets: str, split: Split = RANDOM) -> dg.ExecuteInProcessResult:
    return run_job(instance, {}, *(assets or (*DELIVERED, *TABLES, *SPLIT)), data_set=DataSet(DATASET, split).key)


def the_check(result: dg.ExecuteInProcessResult) -> Any:
    [found] = [each for each in result.get_asset_check_evaluations() if each.check_name == "all_taken_in"]
    return found


def vocabularies(home: Path) -> dict[str, list[Any]]:
    document = json.loads((home / "tables" / DATASET / "feature_map.json").read_text("utf-8"))
    return {field["name"]: field["values"] for field in document["fields"]}


def test_new_ratings_users_and_movies_reach_the_training_rows(
    fresh: dg.DagsterInstance, own_home: Path, incoming: Path
) -> None:
    before, known = stored_interactions(own_home / "tables" / DATASET), vocabularies(own_home)
    test_before = set(read(own_home, "test_interactions")["row"])
    again = before.iloc[0]
    deliver(incoming, f"users-{DATE}.dat", "9001::F::25::4::ZZ999")
    deliver(incoming, f"movies-{DATE}.dat", "9002::Late Harbour (2004)::Western")
    deliver(
        incoming, f"ratings-{DATE}.dat",
        f"9001::9002::5::{AFTER}", f"9001::{again['movie_id']}::2::{AFTER}",
        f"{again['user_id']}::{again['movie_id']}::{6 - again['rating']}::{AFTER}",
    )  # fmt: skip
    deliver(incoming, "ratings-2004-11-11.dat", "1::1::6::5")
    result = night(fresh)
    found = the_check(result)
    assert not found.passed
    assert found.severity is dg.AssetCheckSeverity.WARN
    assert found.description.startswith(
        "ratings-2004-11-11.dat was quarantined: ratings-2004-11-11.dat, line 1: found '6'"
    )
    after = stored_interactions(own_home / "tables" / DATASET)
    assert len(after) == len(before) + 2
    changed = after[(after["user_id"] == again["user_id"]) & (after["movie_id"] == again["movie_id"])].iloc[0]
    assert (changed["rating"], changed["timestamp"]) == (6 - again["rating"], AFTER)
    assert after.iloc[1 : len(before)]["timestamp"].equals(before.iloc[1:]["timestamp"])
    new = after[after["user_id"] == 9001]
    assert (
        new[["zip", "rating_year", "ingestion_batch", "first_ingestion_batch"]].to_numpy().tolist()
        == [["ZZ999", 2004, 3, 3]] * 2
    )
    for name, values in vocabularies(own_home).items():
        assert values[: len(known[name])] == known[name]
        added = {"user_id": [9001], "movie_id": [9002], "zip": ["ZZ999"], "rating_year": [2004], "movie_year": [2004]}
        if name in added and added[name][0] not in known[name]:
            assert values[len(known[name]) :] == added[name]
    assert test_before == {row for row in read(own_home, "test_interactions")["row"] if row < len(before)}
    assert not list(incoming.glob("*.dat"))
    assert {path.name for path in (incoming / "quarantine").iterdir()} == {
        "ratings-2004-11-11.dat", "ratings-2004-11-11.dat.json",
    }  # fmt: skip


def test_a_night_without_files_changes_nothing(fresh: dg.DagsterInstance, own_home: Path) -> None:
    names = ("users", "movies", "ratings", "encoded_interactions", "train_interactions", "test_interactions")
    before = {name: read(own_home, name) for name in names}
    assert the_check(night(fresh)).passed
    for name, table in before.items():
        pd.testing.assert_frame_equal(read(own_home, name), table)


def test_each_night_parses_new_files_only(
    fresh: dg.DagsterInstance, own_home: Path, incoming: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[str] = []
    read_file = Format.read_file

    def recorded(form: Format, kind: str, path: Path, **options: bool) -> pd.DataFrame:
        if path.parent.name == DATASET and path.parent.parent.name == "received":
            parsed.append(path.name)
        return read_file(form, kind, path, **options)

    def parsed_tonight() -> list[str]:
        parsed.clear()
        night(fresh, *DELIVERED)
        return sorted(parsed)

    monkeypatch.setattr(Format, "read_file", recorded)
    deliver(incoming, f"ratings-{DATE}.dat", f"1::1::5::{AFTER}")
    assert parsed_tonight() == [f"000001-ratings-{DATE}.dat"]
    deliver(incoming, f"ratings-{DATE}.dat", f"2::1::4::{AFTER}")
    assert parsed_tonight() == [f"000002-ratings-{DATE}.dat"]
    assert parsed_tonight() == []
    table = read(own_home, "ingested_ratings")
    assert table["rating"].tolist() == [5, 4]
    both = [f"00000{number}-ratings-{DATE}.dat" for number in (1, 2)]
    for rating in (3, 2):  # somebody changes the table
        table.assign(rating=rating).to_parquet(own_home / "tables" / DATASET / "ingested_ratings.parquet")
        assert parsed_tonight() == both
        assert read(own_home, "ingested_ratings")["rating"].tolist() == [5, 4]
    for name in ("code_version", "_meaning"):  # the files are read by other code, or mean something else
        monkeypatch.setattr(ingestion, name, lambda *_: "another")
        assert parsed_tonight() == both


def test_the_papers_split_is_of_the_base_files(fresh: dg.DagsterInstance, own_home: Path, incoming: Path) -> None:
    deliver(incoming, f"ratings-{DATE}.dat", f"1::1::5::{AFTER}")
    folder = own_home / "tables" / f"{DATASET}+{PAPER}"
    night(fresh, "raw_users", "raw_movies", "raw_ratings", *DELIVERED, "ratings", split=PAPER)
    assert len(pd.read_parquet(folder / "ratings.parquet")) == SMALL.ratings
    assert (incoming / f"ratings-{DATE}.dat").exists()


@pytest.fixture
def planned(fresh: dg.DagsterInstance, own_home: Path) -> dg.DagsterInstance:
    """Up to the split, all is as it was made."""
    night(fresh, "raw_users", "raw_movies", "raw_ratings", *DELIVERED, *TABLES, *SPLIT)
    return fresh


def plan(instance: dg.DagsterInstance) -> Plan:
    graph = build_definitions().resolve_asset_graph()
    up_to_split = dg.AssetSelection.assets(*SPLIT).upstream().required_multi_asset_neighbors()
    return Planner(instance, graph, RawData.of(DATASET)).plan(up_to_split)


def test_files_that_will_be_taken_in_are_a_reason_for_all_that_comes_of_them(
    planned: dg.DagsterInstance, own_home: Path, incoming: Path
) -> None:
    assert plan(planned).reasons == {}
    user, movie = read(own_home, "ratings").iloc[0][["user_id", "movie_id"]]
    deliver(incoming, f"ratings-{DATE}.dat", f"{user}::{movie}::5::{AFTER}")
    reasons = plan(planned).reasons
    assert reasons[BATCHES] == "1 file has arrived"
    assert set(reasons) == {*DELIVERED, *TABLES, *SPLIT}
    night(planned)
    assert plan(planned).reasons == {}


def test_files_that_cannot_be_taken_in_are_looked_at_and_change_nothing_else(
    planned: dg.DagsterInstance, incoming: Path
) -> None:
    deliver(incoming, f"ratings-{DATE}.dat", "nonsense")
    deliver(incoming, "ratings-2004-11-11.dat", f"9001::1::5::{AFTER}")
    assert plan(planned).reasons == dict.fromkeys(sorted(DELIVERED), "2 files cannot be ingested")
    assert the_check(night(planned, *DELIVERED)).description.count("ratings-2004-11") == 4
    # The bad one is put aside for good, the other waits.
    assert plan(planned).reasons == dict.fromkeys(sorted(DELIVERED), "1 file cannot be ingested")


def test_what_lies_there_and_cannot_be_taken_warns_until_it_is_gone(
    planned: dg.DagsterInstance, incoming: Path
) -> None:
    deliver(incoming, f"ratings-{DATE}.DAT", "1::1::5::5")
    for _ in range(2):
        assert plan(planned).reasons == dict.fromkeys(sorted(DELIVERED), "1 file cannot be ingested")
        found = the_check(night(planned, *DELIVERED))
        assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
        assert found.description.startswith(f"ratings-{DATE}.DAT was not ingested: its name has a different form")
    (incoming / f"ratings-{DATE}.DAT").unlink()
    assert plan(planned).reasons == dict.fromkeys(sorted(DELIVERED), "files that could not be ingested are gone")
    assert the_check(night(planned, *DELIVERED)).passed
    assert plan(planned).reasons == {}


def test_a_delivery_of_a_day_to_come_is_put_aside(planned: dg.DagsterInstance, own_home: Path, incoming: Path) -> None:
    deliver(incoming, "ratings-2099-01-01.dat", "1::1::5::4070908800")
    assert "2099-01-01.dat: found a future date in its name" in the_check(night(planned, *DELIVERED)).description
    assert len(read(own_home, "ingested_ratings")) == 0


def test_an_intake_whose_run_died_is_not_forgotten(planned: dg.DagsterInstance, own_home: Path, incoming: Path) -> None:
    user, movie = read(own_home, "ratings").iloc[0][["user_id", "movie_id"]]
    deliver(incoming, f"ratings-{DATE}.dat", f"{user}::{movie}::5::{AFTER}")
    ingestion = RawData.of(DATASET).ingestion
    ingestion.claim()
    known = Known(read(own_home, "raw_users")["user_id"], read(own_home, "raw_movies")["movie_id"])
    ingestion.settle(ingestion.sort(known, claimed_only=True))  # and the process dies before it writes a table
    assert plan(planned).reasons[BATCHES] == "files were ingested or withdrawn since"


@pytest.mark.parametrize("waits", [False, True])
def test_an_intake_that_died_between_two_tables_is_completed(
    planned: dg.DagsterInstance, own_home: Path, incoming: Path, env: pytest.MonkeyPatch, waits: bool
) -> None:
    before = read(own_home, "ratings")
    user, movie = before.iloc[0][["user_id", "movie_id"]]
    deliver(incoming, f"ratings-{DATE}.dat", f"{user}::{movie}::5::{AFTER}")
    if waits:
        deliver(incoming, "ratings-2004-11-11.dat", f"9001::1::5::{AFTER}")
    with env.context() as patch:
        patch.setattr("orchestration.assets.ingestion.refer_to_latest", None)  # is called between the tables
        with pytest.raises(TypeError):
            night(planned, *DELIVERED)
    assert len(json.loads((own_home / "tables" / DATASET / f"{BATCHES}.json").read_text("utf-8"))["files"]) == 1
    assert len(read(own_home, "ingested_ratings")) == 0
    reasons = plan(planned).reasons
    assert reasons["ingested_ratings"] == "files were ingested or withdrawn since"
    assert set(reasons) == {*DELIVERED, *TABLES, *SPLIT}
    night(planned)
    after = read(own_home, "ratings").set_index(["user_id", "movie_id"])
    assert after.loc[(user, movie), "timestamp"] == AFTER
    assert plan(planned).reasons == (dict.fromkeys(sorted(DELIVERED), "1 file cannot be ingested") if waits else {})


@pytest.mark.parametrize("damage", [b"PAR1 damaged", b"", None])
@pytest.mark.parametrize("name", ["raw_users", "raw_movies"])
def test_a_damaged_raw_table_is_read_again(
    planned: dg.DagsterInstance, own_home: Path, incoming: Path, name: str, damage: bytes | None
) -> None:
    path, before = own_home / "tables" / DATASET / f"{name}.parquet", read(own_home, name)
    path.unlink() if damage is None else path.write_bytes(damage)
    user, movie = read(own_home, "ratings").iloc[0][["user_id", "movie_id"]]
    deliver(incoming, f"ratings-{DATE}.dat", f"{user}::{movie}::5::{AFTER}")
    told = "is missing" if damage is None else "has been changed since it was written"
    reasons = plan(planned).reasons
    assert reasons[name] == f"{name}.parquet {told}"
    assert set(DELIVERED) <= set(reasons)
    night(planned, *reasons)
    pd.testing.assert_frame_equal(read(own_home, name), before)
    assert plan(planned).reasons == {}


def test_a_damaged_ledger_stops_the_intake(planned: dg.DagsterInstance, own_home: Path, incoming: Path) -> None:
    folder = own_home / "received" / DATASET
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{")
    assert plan(planned).reasons[BATCHES].startswith(f"what has arrived cannot be read: {folder / 'manifest.json'}")
    before = read(own_home, "ingested_ratings")
    result = run_job(planned, {}, *DELIVERED, raise_on_error=False)
    assert not result.success
    pd.testing.assert_frame_equal(read(own_home, "ingested_ratings"), before)


def test_sensor_asks_for_one_run_when_files_have_arrived(
    own_home: Path, incoming: Path, env: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    env.setenv("MOVIELENS_DIR", DATASET)
    repository = build_definitions().get_repository_def()
    with (
        dg.DagsterInstance.local_temp(str(tmp_path)) as instance,
        dg.build_sensor_context(instance, repository_def=repository) as context,
    ):
        skipped = arrivals(context)
        assert isinstance(skipped, dg.SkipReason)
        assert str(incoming) in (skipped.skip_message or "")
        keys = []
        for name in (f"ratings-{DATE}.dat", "ratings-2004-11-11.dat"):
            deliver(incoming, name, "1::1::5::5")
            found = arrivals(context)
            assert isinstance(found, list)
            assert found == arrivals(context)
            [request] = found
            assert request.partition_key == DATASET
            keys.append(request.run_key)
        assert len(set(keys)) == 2
        assert request.asset_selection
        graph = repository.asset_graph
        assert set(request.asset_selection) == SELECTIONS[PIPELINE].resolve(graph)


def test_the_sensor_asks_for_each_data_set_by_itself(
    incoming: Path, small_raw_directory: Path, tmp_path: Path, env: pytest.MonkeyPatch
) -> None:
    """One whose directory is gone does not hold up the others."""
    other = register(str(small_raw_directory))
    gone = register(str(tmp_path / "gone"))
    env.setenv("SCHEDULE_DATASETS", f"{gone},{other},{DATASET}")
    repository = build_definitions().get_repository_def()
    with (
        dg.DagsterInstance.local_temp(str(tmp_path)) as instance,
        dg.build_sensor_context(instance, repository_def=repository) as context,
    ):
        skipped = arrivals(context)
        assert isinstance(skipped, dg.SkipReason)
        assert f"{tmp_path / 'gone'}: no such directory" in str(skipped.skip_message)
        assert str(incoming.with_name(other)) in str(skipped.skip_message)
        deliver(incoming.with_name(other), f"ratings-{DATE}.dat", "1::1::5::5")
        found = arrivals(context)
        assert isinstance(found, list)
        assert [request.partition_key for request in found] == [other]


def test_what_arrives_elsewhere_is_set_by_the_environment(env: pytest.MonkeyPatch, tmp_path: Path) -> None:
    env.setenv("INCOMING_DIR", str(tmp_path / "drop"))
    for split in ("random", "temporal"):
        assert RawData.of(DataSet(DATASET, split).key).ingestion.incoming == tmp_path / "drop" / DATASET


def test_first_run_of_all_takes_files_in(pipeline: Pipeline) -> None:
    assert pipeline.document(BATCHES) == {"version": 3, "format": "MovieLens-1M", "files": []}
    assert len(pipeline.table("ingested_ratings")) == 0
