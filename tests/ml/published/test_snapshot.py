import os
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import keras
import pandas as pd
import pytest
from upath import UPath

from ml.errors import DataError, NotFoundError
from ml.models.bundle import ModelBundle
from ml.published.champions import ModelArchive, published_versions
from ml.published.locations import exported_table_path, tables_directory
from ml.published.recommendations import get_recommendations, load_recommender
from ml.published.snapshot import Published
from tests.ml.models.reference import randomize
from tests.published_home import DATASET, MOMENT, point_to, publish, table_path, write_tables


@pytest.fixture(scope="module")
def ratings(small_interactions: pd.DataFrame) -> pd.DataFrame:
    return small_interactions[["user_id", "movie_id", "rating", "timestamp"]]


@pytest.fixture(scope="module")
def published(
    bundle: ModelBundle,
    ratings: pd.DataFrame,
    small_users: pd.DataFrame,
    small_movies: pd.DataFrame,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    home = tmp_path_factory.mktemp("published")
    write_tables(home, {"users": small_users, "movies": small_movies, "ratings": ratings})
    for model, version, error in (("autoint", "3", 0.01), ("autoint_mlp", "1", 0.2)):
        publish(home, model, version, bundle, ratings, metrics={"expected_calibration_error": error})
    return home


@pytest.fixture
def home(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path, dirs_exist_ok=True))


def test_what_is_published(home: Path, ratings: pd.DataFrame) -> None:
    snapshot = Published(UPath(home)).current
    assert (snapshot.dataset, list(snapshot.models)) == (DATASET, ["autoint", "autoint_mlp"])
    model = snapshot.model("autoint")
    assert (model.version, model.lists.moment) == ("3", MOMENT)
    liked = ratings[(ratings["user_id"] == 1) & (ratings["rating"] >= 4)]
    assert snapshot.people.history(1)["liked"].sum() == len(liked)


def test_live_list_is_the_tables(home: Path) -> None:
    model = Published(UPath(home)).current.model("autoint")
    live = model.live.recommender.recommend(1, *MOMENT)
    assert live["movie_id"].tolist() == model.lists.of(1)["movie_id"].tolist()


def test_who_has_rated_every_movie_has_an_empty_list(home: Path) -> None:
    path = table_path(home, "autoint")
    table = pd.read_parquet(path)
    table[table["user_id"] != 1].to_parquet(path, index=False)
    model = Published(UPath(home)).current.model("autoint")
    assert model.list_of(1).empty
    assert list(model.list_of(1).columns) == list(model.list_of(2).columns)
    assert len(model.list_of(2)) == 10
    with pytest.raises(NotFoundError, match="unknown user_id 99999; there are lists of"):
        model.list_of(99_999)


def test_scores_are_chances_only_of_a_version_that_was_found_calibrated(
    home: Path, bundle: ModelBundle, ratings: pd.DataFrame
) -> None:
    published = Published(UPath(home))
    assert [model.scores_are_chances for model in published.current.models.values()] == [True, False]
    # What the last run measured may be of a challenger that was refused.
    evaluation = pd.DataFrame({"model": ["autoint"], "metric": ["expected_calibration_error"], "value": [0.9]})
    write_tables(home, {"evaluation": evaluation})
    assert Published(UPath(home)).current.model("autoint").calibration_error == 0.01
    publish(home, "autoint", "4", bundle, ratings)  # by a release that did not write records
    assert published.refresh() == ["autoint"]
    model = published.current.model("autoint")
    assert (model.calibration_error, model.scores_are_chances) == (None, False)


@pytest.mark.parametrize("text", ["", "[]", '{"metrics": {"expected_calibration_error": "low"}}'])
def test_a_damaged_record_of_a_version_is_named(home: Path, text: str) -> None:
    record = home / "archive" / DATASET / "autoint" / "3" / "version.json"
    record.write_text(text)
    with pytest.raises(DataError, match=rf"{record}: expected the metrics of a version, found none .* \(make run\)"):
        Published(UPath(home))


@pytest.mark.parametrize("name", ["..", "../other", "a/b", "a\\b", ".hidden", "", "a\n", "a\0"])
def test_a_name_leads_nowhere_else(home: Path, name: str) -> None:
    paths = (
        lambda: tables_directory(UPath(home), name),
        lambda: published_versions(UPath(home), name),
        lambda: ModelArchive(UPath(home), DATASET, name),
        lambda: ModelArchive(UPath(home), DATASET, "autoint").version(name),
        lambda: exported_table_path(UPath(home), DATASET, name),
        lambda: Published(UPath(home)).current.model(name),
        lambda: Published(UPath(home), name),
    )
    for path in paths:
        with pytest.raises(NotFoundError):
            path()


def test_nothing_new_leaves_all_as_it_is(home: Path) -> None:
    published = Published(UPath(home))
    before = published.current
    assert published.refresh() == []
    assert published.current is before


def test_new_champion_is_taken_over_and_the_other_model_kept(
    home: Path, bundle: ModelBundle, ratings: pd.DataFrame
) -> None:
    published = Published(UPath(home))
    before = published.current
    publish(home, "autoint", "4", bundle, ratings, (2002, 6))
    assert published.refresh() == ["autoint"]
    assert published.current.model("autoint").version == "4"
    assert published.current.model("autoint").lists.moment == (2002, 6)
    assert published.current.model("autoint_mlp") is before.model("autoint_mlp")
    assert before.model("autoint").version == "3"  # readers that hold the old snapshot keep it


def test_new_ratings_are_seen(home: Path, ratings: pd.DataFrame) -> None:
    published = Published(UPath(home))
    before = published.current.model("autoint")
    movie = int(before.lists.of(1)["movie_id"].iloc[0])
    more = pd.DataFrame({"user_id": [1], "movie_id": [movie], "rating": [5], "timestamp": [ratings["timestamp"].max()]})
    write_tables(home, {"ratings": pd.concat([ratings, more])})
    assert published.refresh() == ["autoint", "autoint_mlp"]
    model = published.current.model("autoint")
    assert movie not in model.live.recommender.recommend(1, *MOMENT)["movie_id"].tolist()
    assert published.current.people.history(1)["movie_id"].iloc[0] == movie


def test_table_that_is_damaged_by_a_new_publication_leaves_the_old_one_in_use(home: Path) -> None:
    published = Published(UPath(home))
    before = published.current
    path = table_path(home, "autoint")
    path.write_bytes(b"nothing")
    os.utime(path, (1, 1))
    with pytest.raises(DataError, match=rf"{path}: found no Parquet table"):
        published.refresh()
    assert published.current is before


def test_unknown_model_is_refused_with_the_published_ones(home: Path) -> None:
    with pytest.raises(NotFoundError, match="no model 'als' of small is published; there are autoint, autoint_mlp"):
        Published(UPath(home)).current.model("als")


def test_empty_home_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="run the pipeline first"):
        Published(UPath(tmp_path))
    (tmp_path / "archive" / "other" / "autoint").mkdir(parents=True)
    (tmp_path / "archive" / "other" / "autoint" / "champions.json").write_text('["1"]')
    with pytest.raises(NotFoundError, match="no model of data set 'small' is published; there are data sets other"):
        Published(UPath(tmp_path), DATASET)


def test_models_without_their_tables_are_refused_with_what_is_missing(home: Path) -> None:
    (home / "tables" / DATASET / "users.parquet").unlink()
    with pytest.raises(DataError, match=r"users\.parquet.*make run"):
        Published(UPath(home))


def test_a_recommendation_is_by_the_champion_of_the_moment(
    home: Path, ratings: pd.DataFrame, bundle: ModelBundle
) -> None:
    first = get_recommendations(1, *MOMENT, "autoint", home=home)
    load = partial(load_recommender, UPath(home), DATASET, "autoint")
    assert load() is load()
    network = keras.models.clone_model(bundle.network)
    randomize(network, scale=0.4)
    publish(home, "autoint", "4", replace(bundle, network=network), ratings)
    second = get_recommendations(1, *MOMENT, "autoint", home=home)
    assert first["score"].tolist() != second["score"].tolist()
    rated = pd.DataFrame({"user_id": 1, "movie_id": second["movie_id"], "rating": 5, "timestamp": 0})
    write_tables(home, {"ratings": pd.concat([ratings, rated])})
    third = get_recommendations(1, *MOMENT, "autoint", home=home)
    assert not set(third["movie_id"]) & set(second["movie_id"])
    point_to(home, "autoint", "4", "3")  # a rollback
    fourth = get_recommendations(1, *MOMENT, "autoint", home=home)
    assert set(fourth["score"]) & set(first["score"])


def test_readers_do_not_use_what_earlier_releases_kept_beside_the_archive(home: Path) -> None:
    (home / "models" / DATASET).mkdir(parents=True)
    (home / "models" / DATASET / "autoint.zip").write_bytes(b"a copy of another version")
    (home / "archive" / DATASET / "autoint" / "publishing.json").write_text('{"version": "9"}')
    (home / "tables" / DATASET / "top10_autoint.parquet").write_bytes(b"a table of another version")
    assert Published(UPath(home)).current.model("autoint").version == "3"
    assert len(get_recommendations(1, *MOMENT, "autoint", home=home)) == 10
