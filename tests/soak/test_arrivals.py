"""Test that the pipeline ingests the nights' files into its tables, without training."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from orchestration.config.data_sets import register
from tests.orchestration.conftest import environment, run_job
from tests.soak import arrivals, invariants
from tests.soak.arrivals import Sender, Truth
from tests.soak.home import Home

TABLES = (
    "raw_users", "raw_movies", "raw_ratings",
    "ingestion_batches", "ingested_users", "ingested_movies", "ingested_ratings",
    "users", "movies", "ratings", "interactions", "feature_map",
)  # fmt: skip


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, Sender, dg.DagsterInstance]]:
    """Provide a home without ingested files."""
    home = Home(tmp_path_factory.mktemp("arrivals"))
    with environment({"PIPELINE_HOME": home.folder}), dg.DagsterInstance.ephemeral() as instance:
        yield home, Sender(home.data, [home.incoming], seed=4), instance


@pytest.mark.parametrize(
    "kind", [*arrivals.KINDS, "out_of_order", "empty"]
)  # the last night has only files that waited
def test_no_rating_is_lost_or_counted_twice(nights: tuple[Home, Sender, dg.DagsterInstance], kind: str) -> None:
    home, sender, instance = nights
    codes = home.codes()
    new = sender.send(kind, len(sender.sent) + 1)
    before = len(pd.read_parquet(home.tables / "ingested_ratings.parquet")) if codes else 0
    assert run_job(instance, {}, *TABLES, data_set=register(str(home.data))).success
    assert list(invariants.every_rating_once(home, sender.truth)) == []
    assert list(invariants.codes_kept(codes, home.codes())) == []
    assert (sender.truth.ingested > before) == new
    assert set(home.codes()["user_id"]) == sender.truth.users
    put_aside = {path.suffix for path in (home.incoming / "quarantine").glob("*")}
    assert put_aside <= {".dat", ".json"}
    assert bool(put_aside) or kind in ("usual", "new_users_and_movies")  # the third is the first invalid one


def test_truth_keeps_the_latest() -> None:
    truth = Truth()
    truth.count([(1, 10, 3, 100), (1, 10, 4, 200)])
    truth.count([(1, 10, 5, 150), (2, 10, 1, 50)])
    assert truth.ratings == {(1, 10): (200, 4), (2, 10): (50, 1)}
    assert truth.ingested == 4
    assert truth.users == {1, 2}


def test_lost_invented_stale_and_repeated_ratings_are_found(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.tables.mkdir(parents=True)
    rows = pd.DataFrame(
        {"user_id": [1, 1, 3], "movie_id": [10, 10, 10], "timestamp": [100, 100, 7], "rating": [3, 3, 1]}
    )
    rows.to_parquet(home.tables / "ratings.parquet")
    rows.iloc[:1].to_parquet(home.tables / "ingested_ratings.parquet")
    truth = Truth()
    truth.count([(1, 10, 4, 200), (2, 10, 1, 50)])
    assert list(invariants.every_rating_once(home, truth)) == [
        "1 ingested ratings are counted, 2 were ingested",
        "1 interactions are there twice",
        "1 interactions are lost, (2, 10) among them",
        "1 interactions are invented, (3, 10) among them",
        "1 interactions are not the latest rating, (1, 10) among them",
    ]
    assert list(invariants.codes_kept({"zip": ["a", "b"]}, {"zip": ["a", "b", "c"]})) == []
    assert list(invariants.codes_kept({"zip": ["a", "b"]}, {"zip": ["b", "a", "c"]})) == ["codes of zip have changed"]
