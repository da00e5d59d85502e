from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from ml.inference.engine.shortlist import SearchReport
from ml.inference.held_out import held_out_lists
from ml.inference.recommend import Progress
from ml.inference.scorer import Scorer
from ml.models.bundle import ModelBundle
from tests.feature_maps import encode_interactions

FEW, NONE = 8, 9  # indices of users with training rows of all movies but three, and of all
LEFT = [5, 60, 199]  # indices of these three


@pytest.fixture(scope="module")
def train(bundle: ModelBundle, small_interactions: pd.DataFrame) -> pd.DataFrame:
    """Some of the rows up to April 2001, and of two users far more."""
    ratings = small_interactions
    early = ratings[
        (ratings["rating_year"] == 2000) | ((ratings["rating_year"] == 2001) & (ratings["rating_month"] < 5))
    ]
    rows = encode_interactions(early, bundle.feature_map).sample(frac=0.6, random_state=1)
    movies = np.arange(len(bundle.movies))
    more = [
        pd.concat([rows.head(1)] * len(own)).assign(user_id=np.int32(user), movie_id=own.astype(np.int32))
        for user, own in ((FEW, np.setdiff1d(movies, LEFT)), (NONE, movies))
    ]
    return pd.concat([rows[~rows["user_id"].isin([FEW, NONE])], *more], ignore_index=True)


@pytest.fixture(scope="module")
def unseen_scores(
    bundle: ModelBundle, small_interactions: pd.DataFrame, train: pd.DataFrame
) -> Callable[[int, int], np.ndarray]:
    """The network's scores of all pairs at a moment, -1 for training rows, [users, movies]."""
    encoded = encode_interactions(small_interactions, bundle.feature_map)
    users, movies = (
        encoded.drop_duplicates(key).sort_values(key)[list(bundle.feature_map.side(side).names)]
        for side, key in (("user", "user_id"), ("movie", "movie_id"))
    )

    def scores(year: int, month: int) -> np.ndarray:
        at = (small_interactions["rating_year"] == year) & (small_interactions["rating_month"] == month)
        moment = encoded.loc[at, list(bundle.feature_map.side("context").names)].head(1)
        codes = users.merge(movies, how="cross").merge(moment, how="cross")[list(bundle.feature_map.names)]
        found = np.array(bundle.network(codes.to_numpy(np.int32))).reshape(len(users), len(movies))
        found[train["user_id"], train["movie_id"]] = -1
        return found

    return scores


@pytest.fixture(scope="module")
def expected(unseen_scores: Callable[[int, int], np.ndarray]) -> np.ndarray:
    """At the latest month of the training rows."""
    return unseen_scores(2001, 4)


@pytest.fixture(scope="module")
def progress() -> list[Progress]:
    return []


@pytest.fixture(scope="module")
def found(bundle: ModelBundle, train: pd.DataFrame, progress: list[Progress]) -> tuple[pd.DataFrame, SearchReport]:
    return held_out_lists(Scorer(bundle), train, on_progress=progress.append)


@pytest.fixture(scope="module")
def lists(found: tuple[pd.DataFrame, SearchReport]) -> pd.DataFrame:
    return found[0]


def test_lists_are_the_best_of_all_unseen_movies(lists: pd.DataFrame, expected: np.ndarray) -> None:
    order = np.argsort(-expected, axis=1, kind="stable")[:, :10]
    best = np.take_along_axis(expected, order, axis=1)
    user, place = np.nonzero(best >= 0)
    assert lists["user_id"].tolist() == user.tolist()
    assert lists["rank"].tolist() == (place + 1).tolist()
    # The fast forward pass rounds otherwise than Keras, so that movies of all but equal scores may change places.
    listed = expected[lists["user_id"], lists["movie_id"]]
    np.testing.assert_allclose(listed, best[user, place], rtol=0, atol=1e-5)
    assert (lists["movie_id"] == order[user, place]).mean() > 0.99


def test_another_month_has_other_lists(
    lists: pd.DataFrame, unseen_scores: Callable[[int, int], np.ndarray], expected: np.ndarray
) -> None:
    for moment in ((2003, 2), (2001, 12)):  # the data's latest month; the latest year with the latest month of any
        scores = unseen_scores(*moment)
        first = lists[lists["rank"] == 1]
        assert (scores.argmax(axis=1)[first["user_id"]] != first["movie_id"]).mean() > 0.02
    assert (expected.argmax(axis=1)[first["user_id"]] == first["movie_id"]).mean() > 0.99


def test_training_rows_are_never_listed(lists: pd.DataFrame, train: pd.DataFrame) -> None:
    pairs = [set(zip(rows["user_id"], rows["movie_id"], strict=True)) for rows in (lists, train)]
    assert not pairs[0] & pairs[1]


def test_rows_that_were_not_trained_on_are_candidates(
    lists: pd.DataFrame, bundle: ModelBundle, train: pd.DataFrame, small_interactions: pd.DataFrame
) -> None:
    encoded = encode_interactions(small_interactions, bundle.feature_map)[["user_id", "movie_id"]]
    held_out = encoded.merge(train[["user_id", "movie_id"]], how="left", indicator=True).query("_merge == 'left_only'")
    assert len(lists.merge(held_out, on=["user_id", "movie_id"])) > 50


def test_lists_are_shorter_where_movies_run_out(lists: pd.DataFrame, bundle: ModelBundle) -> None:
    counts = lists.groupby("user_id").size()
    assert counts[FEW] == 3
    assert set(lists.loc[lists["user_id"] == FEW, "movie_id"]) == set(LEFT)
    assert counts.index.tolist() == [user for user in range(len(bundle.users)) if user != NONE]
    assert set(counts.drop(FEW)) == {10}


def test_ids_are_indices_of_their_types(lists: pd.DataFrame) -> None:
    assert {name: str(dtype) for name, dtype in lists.dtypes.items()} == {
        "user_id": "int32",
        "rank": "int16",
        "movie_id": "int32",
    }
    assert lists["user_id"].min() == 0  # ids start at 1


def test_says_how_the_lists_were_found(
    found: tuple[pd.DataFrame, SearchReport], progress: list[Progress], bundle: ModelBundle
) -> None:
    assert found[1].pairs_total == len(bundle.users) * len(bundle.movies)
    assert found[1].differences == 0
    assert progress[-1] == Progress(len(bundle.users), len(bundle.users))
