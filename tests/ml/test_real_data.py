"""The figures that the specification gives for MovieLens-1M; `MOVIELENS_DIR` names the directory of its files."""

import os
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ml import schema
from ml.data.formats import RawTables
from ml.data.movielens import MOVIELENS_1M
from ml.data.movielens_tables import preprocess_movies, preprocess_users
from ml.evaluation.metric_tables import evaluate
from ml.evaluation.ranking import ranking_metrics_by_user
from ml.exploration import statistics
from ml.features.feature_map import FeatureMap
from ml.features.splits import split_interactions
from ml.features.tables import join_interactions, preprocess_ratings
from ml.models.baselines import movie_mean_scores, random_scores
from tests.feature_maps import encode_interactions, fitted

pytestmark = pytest.mark.real_data


@pytest.fixture(scope="module")
def raw() -> RawTables:
    directory = os.environ.get("MOVIELENS_DIR", "")
    if not directory or not Path(directory).is_dir():
        pytest.skip("MOVIELENS_DIR does not name a directory that holds MovieLens-1M")
    return MOVIELENS_1M.read(Path(directory))


@pytest.fixture(scope="module")
def interactions(raw: RawTables) -> pd.DataFrame:
    return join_interactions(
        preprocess_users(raw.users), preprocess_movies(raw.movies), preprocess_ratings(raw.ratings)
    )


@pytest.fixture(scope="module")
def feature_map(interactions: pd.DataFrame) -> FeatureMap:
    return fitted(interactions)


@pytest.fixture(scope="module")
def split(interactions: pd.DataFrame, feature_map: FeatureMap) -> tuple[pd.DataFrame, pd.DataFrame]:
    return split_interactions(encode_interactions(interactions, feature_map))


def metrics(test: pd.DataFrame, scores: np.ndarray, are_probabilities: bool = True) -> dict[str, float]:
    evaluation = evaluate("model", test, scores, are_probabilities)
    return dict(zip(evaluation["metric"], evaluation["value"], strict=True))


def assert_close(found: dict[str, float], expected: dict[str, float], within: float) -> None:
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=within)


def test_all_three_files_are_read_whole(raw: RawTables) -> None:
    assert (len(raw.users), len(raw.movies), len(raw.ratings)) == (6040, 3883, 1_000_209)
    assert (raw.ratings["timestamp"].min(), raw.ratings["timestamp"].max()) == (956_703_932, 1_046_454_590)


def test_counts_of_the_rating_values(raw: RawTables) -> None:
    counts = raw.ratings["rating"].value_counts().sort_index()
    assert counts.to_dict() == {1: 56_174, 2: 107_557, 3: 261_197, 4: 348_971, 5: 226_310}


def test_interactions_keep_the_order_of_the_ratings(raw: RawTables, interactions: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(interactions[[*raw.ratings]], raw.ratings)
    assert int(interactions["label"].sum()) == 348_971 + 226_310


def test_sizes_of_the_fields(feature_map: FeatureMap) -> None:
    assert feature_map.names == schema.FIELD_NAMES
    assert feature_map.field_dims == (6040, 3706, 10, 81, 4, 12, 1, 18, 18, 16, 2, 7, 21, 3439)


def test_sizes_of_the_split(split: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    train, test = split
    assert (len(train), len(test)) == (800_167, 200_042)
    users, items, labels = (test[name].to_numpy() for name in ("user_id", "movie_id", "label"))
    assert len(ranking_metrics_by_user(users, items, labels, np.zeros(len(test)))) == 5_994


def test_metrics_of_the_movie_mean(split: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    train, test = split
    expected = {"ndcg_at_10_reference": 0.66187, "recall_at_10_reference": 0.63022, "ndcg_at_10": 0.85289}
    assert_close(metrics(test, movie_mean_scores(train, test)), expected, within=0.0005)


def test_metrics_of_the_random_order(split: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    _, test = split
    expected = {"ndcg_at_10_reference": 0.558, "recall_at_10_reference": 0.571, "ndcg_at_10": 0.698, "auc": 0.5}
    assert_close(metrics(test, random_scores(len(test), seed=42), are_probabilities=False), expected, within=0.003)


def test_metrics_of_the_perfect_order(split: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    _, test = split
    expected = {
        "ndcg_at_10_reference": 0.77748,
        "recall_at_10_reference": 0.70754,
        "ndcg_at_10": 1,
        "auc": 1,
        "log_loss": 0,
    }
    assert_close(metrics(test, test["label"].to_numpy(np.float64)), expected, within=0.0005)


def test_data_report_counts_the_lines_of_the_files(raw: RawTables) -> None:
    folder = Path(os.environ["MOVIELENS_DIR"])
    lines = {
        name: (folder / f"{name}.dat").read_text("latin-1").splitlines() for name in ("users", "movies", "ratings")
    }
    rated = [line.split("::") for line in lines["ratings"]]
    ratings, movies = preprocess_ratings(raw.ratings), preprocess_movies(raw.movies)
    counts = statistics.RatingCounts.of(ratings[start : start + 300_000] for start in range(0, len(ratings), 300_000))
    found = statistics.totals(raw.users, movies, counts)
    assert (found["users"], found["movies"], found["ratings"]) == (6040, 3883, 1_000_209)
    assert found["rated_movies"] == len({movie for _, movie, _, _ in rated}) == 3706
    assert found["mean_rating"] == pytest.approx(sum(int(rating) for _, _, rating, _ in rated) / len(rated))
    genres = Counter(genre for line in lines["movies"] for genre in line.split("::")[2].split("|"))
    assert statistics.movies_by_genre(movies).to_dict() == genres
    assert len(genres) == 18
    months = Counter(datetime.fromtimestamp(int(row[3]), UTC).strftime("%Y-%m") for row in rated)
    by_month = statistics.ratings_by_month(counts)["ratings"]
    assert {month: count for month, count in by_month.items() if count} == months
    assert len(by_month) == 35
