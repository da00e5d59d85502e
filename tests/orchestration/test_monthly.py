"""Tables of several months: one run makes them, beside the published ones."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from ml import schema
from ml.data.movielens import MOVIELENS_1M
from ml.files import digest
from ml.inference.engine import shortlist
from ml.inference.recommend import Recommender
from ml.inference.scorer import Scorer
from orchestration.assets.monthly import MONTHLY, MONTHLY_RECOMMENDATIONS, MONTHS, RANK_MONTHS
from orchestration.config.data_sets import add_partition
from orchestration.definitions import build_definitions
from orchestration.reporting.metadata import SETTINGS
from orchestration.resources.raw_data import RawData
from orchestration.resources.storage import STORED
from orchestration.runtime.cleanup import remove_temporary_files
from orchestration.tracking.resource import Tracking
from tests.orchestration.conftest import (
    DATASET,
    Pipeline,
    assert_same_list,
    copy_of,
    environment,
    failure_text,
)
from tests.orchestration.recipes import MODELS

RANGE = ["2001-12", "2002-01", "2002-02"]
Metadata = Mapping[str, Any]


def make_months(
    instance: dg.DagsterInstance, first: str, last: str, raise_on_error: bool = True, **settings: Any
) -> dg.ExecuteInProcessResult:
    """A run of the job for these months."""
    op = {"first": first, "last": last, **settings}
    add_partition(instance, DATASET)
    return (
        build_definitions(dg.in_process_executor)
        .resolve_job_def(MONTHLY_RECOMMENDATIONS)
        .execute_in_process(
            run_config={"ops": {RANK_MONTHS: {"config": op}}},
            partition_key=DATASET,
            instance=instance,
            raise_on_error=raise_on_error,
        )
    )


def metadata_of(result: dg.ExecuteInProcessResult) -> dict[str, Metadata]:
    """By month."""
    made = result.asset_materializations_for_node(RANK_MONTHS)
    assert {str(one.partition).split("|")[0] for one in made} <= {DATASET}
    return {
        str(one.partition).split("|")[1]: {name: value.value for name, value in one.metadata.items()} for one in made
    }


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but for databases, which are also read in writing."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.suffix not in {".db", ".lock"}}


def file_of(home: Path, model: str, month: str) -> Path:
    return home / "tables" / DATASET / "monthly" / f"top10_{model}_{month}.parquet"


def aliases(tracking: Tracking) -> dict[str, dict[str, str]]:
    names = tracking.config.registered_models
    found = {model: tracking.client.get_registered_model(names[model]).aliases for model in MODELS}
    return {model: {alias: str(number) for alias, number in own.items()} for model, own in found.items()}


def unpublish(home: Path, model: str) -> None:
    """As if no version had ever been champion."""
    (home / "archive" / DATASET / model / "champions.json").unlink()


@pytest.fixture(scope="module")
def backfilled(
    materialized: Pipeline, instance: dg.DagsterInstance, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pipeline]:
    """A home in which three months were made by one run; to be read only."""
    home = copy_of(materialized, tmp_path_factory.mktemp("monthly"))
    with environment({"PIPELINE_HOME": home, "MOVIELENS_CACHE": materialized.cache}) as patch:
        # The small data has too few users for the usual audit, and would be searched by brute force. So few audited
        # users underestimate the largest error of a prediction, which more caution makes up for.
        patch.setattr(shortlist, "AUDITED", 48)
        patch.setattr(shortlist, "AUDITED_FURTHER", 24)
        patch.setattr(shortlist, "CAUTION", 4.0)
        yield Pipeline(home, materialized.cache, make_months(instance, RANGE[0], RANGE[-1], seed=7))


def test_every_month_of_the_data_is_a_partition(backfilled: Pipeline, instance: dg.DagsterInstance) -> None:
    months = [f"{year}-{month:02d}" for year in range(2000, 2004) for month in range(1, 13)]
    found = instance.get_dynamic_partitions(str(MONTHS.name))
    assert found == months[months.index("2000-04") : months.index("2003-02") + 1]


@pytest.mark.parametrize("model", MODELS)
def test_each_month_is_what_brute_force_gives_for_it_alone(backfilled: Pipeline, model: str) -> None:
    recommender = Recommender(Scorer(backfilled.bundle(model)), backfilled.table("ratings"))
    published = backfilled.table(f"top10_{model}")
    for month in RANGE:
        found = pd.read_parquet(file_of(backfilled.home, model, month))
        moment = int(month[:4]), int(month[5:])
        [(expected, _)] = recommender.recommend_all([moment], method="brute_force")
        assert dict(found.dtypes) == dict(published.dtypes)
        assert set(zip(found["rating_year"], found["rating_month"], strict=True)) == {moment}
        assert set(found["model"]) == {model}
        assert set(found["model_version"]) == {"1"}
        pd.testing.assert_series_equal(found["score"], expected["score"], atol=1e-6, rtol=0)
        assert found["user_id"].tolist() == expected["user_id"].tolist()
        moved = found.loc[found["movie_id"] != expected["movie_id"], "user_id"].unique()
        for user in moved:
            assert_same_list(found[found["user_id"] == user], expected[expected["user_id"] == user])


def test_each_partition_shows_its_own_month(backfilled: Pipeline) -> None:
    shown = metadata_of(backfilled.result)
    assert list(shown) == RANGE
    for month, metadata in shown.items():
        files = [file_of(backfilled.home, model, month) for model in MODELS]
        expected = {f"monthly/{file.name}": digest(file.read_bytes()) for file in files}
        assert metadata[STORED] == expected
        assert metadata[SETTINGS] == {"method": "shortlist", "seed": 7}
        assert metadata["months_of_run"] == "2001-12 to 2002-02"
        for model, file in zip(MODELS, files, strict=True):
            table = pd.read_parquet(file)
            assert metadata[f"{model}.version"] == "1"
            assert metadata[f"{model}.distinct_movies"] == len(set(table["movie_id"]))
            assert metadata[f"{model}.path"] == str(file)
            # Each month is audited itself, the first on more users; by brute force there would be none.
            assert metadata[f"{model}.audited_users"] >= (48 if month == RANGE[0] else 24)
            assert metadata[f"{model}.seconds_of_run"] == shown[RANGE[0]][f"{model}.seconds_of_run"] > 0
            assert table["title"].iloc[0] in metadata[f"{model}.preview"]


@pytest.mark.parametrize("model", MODELS)
def test_changes_are_counted_from_the_month_before(backfilled: Pipeline, model: str) -> None:
    shown = metadata_of(backfilled.result)
    assert f"{model}.slots_changed" not in shown[RANGE[0]]
    tables = [pd.read_parquet(file_of(backfilled.home, model, month)) for month in RANGE]
    for month, before, after in zip(RANGE[1:], tables, tables[1:], strict=False):
        known = set(zip(before["user_id"], before["movie_id"], strict=True))
        new = [pair not in known for pair in zip(after["user_id"], after["movie_id"], strict=True)]
        assert shown[month][f"{model}.slots_changed"] == pytest.approx(sum(new) / len(new), rel=1e-4)  # five digits


def test_nothing_else_is_touched(backfilled: Pipeline, materialized: Pipeline, tracking: Tracking) -> None:
    before, after = contents(materialized.home), contents(backfilled.home)
    made = {
        str(file_of(backfilled.home, model, month).relative_to(backfilled.home)) for model in MODELS for month in RANGE
    }
    assert set(after) - set(before) == made
    assert {name: after[name] for name in before} == before
    found = []
    for home in (materialized.home, backfilled.home):
        with environment({"PIPELINE_HOME": home}):
            found.append(aliases(tracking))
    assert found[0] == found[1]
    assert all(own == {"challenger": "1", "champion": "1"} for own in found[1].values())


def test_a_model_without_champion_is_left_out(own_home: Path, instance: dg.DagsterInstance) -> None:
    unpublish(own_home, "autoint")
    result = make_months(instance, "2000-04", "2000-04", method="brute_force")
    [(month, metadata)] = metadata_of(result).items()
    assert month == "2000-04"
    assert metadata["autoint.skipped"] == "no champion, therefore no table"
    assert "autoint.version" not in metadata
    assert metadata["autoint_mlp.method"] == "brute_force"
    written = {path.name for path in file_of(own_home, "autoint", month).parent.iterdir()}
    assert written == {f"top10_{model}_2000-04.parquet" for model in MODELS if model != "autoint"}


@pytest.mark.xdist_group("pipeline")
@pytest.mark.parametrize("trained", [False, True], ids=["nothing was ever made", "nothing is published"])
def test_without_any_champion_it_says_what_to_run(
    request: pytest.FixtureRequest, instance: dg.DagsterInstance, trained: bool
) -> None:
    if trained:
        own_home = request.getfixturevalue("own_home")
        for model in MODELS:
            unpublish(own_home, model)
    result = make_months(instance, "2000-04", "2000-05", raise_on_error=False)
    assert not result.success
    text = failure_text(result, RANK_MONTHS)
    assert text.startswith(f"data set {DATASET}: none of {', '.join(MODELS)} has a champion")
    assert "make run, or the job recommender_pipeline" in text


def test_without_times_there_are_no_months(
    own_home: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = tuple(field for field in schema.FIELDS if field.side != "context")
    timeless = replace(MOVIELENS_1M, description=replace(schema.MOVIELENS, fields=fields))
    monkeypatch.setattr(RawData, "format", property(lambda self: timeless))
    result = make_months(instance, "2001-12", "2002-02", raise_on_error=False)
    assert not result.success
    assert failure_text(result, RANK_MONTHS).endswith("ratings have no time, so there are no months to rank for")


def test_a_failed_audit_leaves_all_files_as_they_are(
    own_home: Path, instance: dg.DagsterInstance, env: pytest.MonkeyPatch
) -> None:
    make_months(instance, "2002-01", "2002-01", method="brute_force")
    before = contents(own_home)
    recommend_all, models = Recommender.recommend_all, iter(MODELS)

    def with_a_movie_twice(self: Recommender, *arguments: Any) -> Any:
        found = recommend_all(self, *arguments)
        # Only in the last model's lists of the second month, so that all others have passed before.
        if next(models) == MODELS[-1]:
            table = found[1][0]
            table.loc[1, "movie_id"] = table.loc[0, "movie_id"]
        return found

    env.setattr(Recommender, "recommend_all", with_a_movie_twice)
    result = make_months(instance, "2002-01", "2002-02", raise_on_error=False, method="brute_force", seed=8)
    assert not result.success
    text = failure_text(result, RANK_MONTHS)
    assert f"{MONTHLY} failed top_lists_{MODELS[-1]}" in text
    assert "'2002-02': {" in text
    assert "'repeated_movies': 1" in text
    assert "nothing was written" in text
    assert metadata_of(result) == {}
    assert contents(own_home) == before


def test_a_file_that_was_never_finished_is_removed(tmp_path: Path) -> None:
    whole = file_of(tmp_path / "home", "autoint", "2002-01")
    unfinished = whole.with_name(f".{whole.name}.{'0' * 32}")
    whole.parent.mkdir(parents=True)
    for path in (whole, unfinished):
        path.write_bytes(b"PAR1")
    assert list(remove_temporary_files()) == [f"{unfinished} is removed: it is incomplete"]
    assert whole.exists()
    assert not unfinished.exists()


@pytest.mark.parametrize(
    ("months", "reason"),
    [
        (("2000-13", "2001-05"), "first = '2000-13': Value error, expected a month such as 2000-04"),
        (("2000-04", "April"), "last = 'April'"),
        (("2001-02", "2001-01"), "last = '2001-01': Value error, expected a month not before 2001-02, the first one"),
        (("2000-4", "2000-05"), "first = '2000-4'"),
    ],
)
def test_months_that_there_are_not_are_refused(
    instance: dg.DagsterInstance, months: tuple[str, str], reason: str
) -> None:
    result = make_months(instance, *months, raise_on_error=False)
    assert not result.success
    assert reason in failure_text(result, RANK_MONTHS)
