"""Test that a data set with strings as ids gets the lists of the same data set with integers."""

import pandas as pd
import pytest

from ml import checks
from ml.data.formats import RawTables
from ml.errors import NotFoundError
from ml.evaluation.stability import slots_changed
from ml.features.tables import preprocess_ratings
from ml.inference.explanations import Explanations
from ml.inference.recommend import Recommender
from ml.inference.scorer import Scorer
from ml.inference.visitors import Visitor, VisitorRecommender
from ml.models.bundle import ModelBundle
from tests.string_ids import movie_name, user_name, with_string_vocabulary, with_strings

MOMENT = (2001, 5)


@pytest.fixture(scope="module")
def ratings(small_raw: RawTables) -> pd.DataFrame:
    return preprocess_ratings(small_raw.ratings)


@pytest.fixture(scope="module")
def by_number(bundle: ModelBundle, ratings: pd.DataFrame) -> Recommender:
    return Recommender(Scorer(bundle), ratings)


@pytest.fixture(scope="module")
def by_name(bundle: ModelBundle, ratings: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    path = tmp_path_factory.mktemp("strings") / "bundle.zip"
    with_string_vocabulary(bundle).save(path)
    return Recommender(Scorer(ModelBundle.load(path)), with_strings(ratings))


@pytest.mark.parametrize("method", ["shortlist", "brute_force"])
def test_all_lists_are_the_same(method: str, by_number: Recommender, by_name: Recommender) -> None:
    [(expected, _)], [(found, _)] = (each.recommend_all([MOMENT], method=method) for each in (by_number, by_name))
    pd.testing.assert_frame_equal(found, with_strings(expected))
    assert expected.dtypes[["user_id", "movie_id"]].tolist() == ["int32", "int32"]
    assert found.dtypes[["user_id", "movie_id"]].tolist() == ["str", "str"]


def test_ids_of_one_side_can_be_strings(bundle: ModelBundle, ratings: pd.DataFrame, by_number: Recommender) -> None:
    columns = ["movie_id"]
    mixed = Recommender(Scorer(with_string_vocabulary(bundle, columns)), with_strings(ratings, columns))
    pd.testing.assert_frame_equal(mixed.recommend(7, *MOMENT), with_strings(by_number.recommend(7, *MOMENT), columns))


def test_lists_among_movies_are_the_same(by_number: Recommender, by_name: Recommender) -> None:
    among = by_number.scorer.movie_ids[20:40].tolist()
    expected = by_number.recommend(7, *MOMENT, among=among)
    found = by_name.recommend(user_name(7), *MOMENT, among=[*map(movie_name, among)])
    pd.testing.assert_frame_equal(found, with_strings(expected))


def test_scores_of_pairs_are_the_same(ratings: pd.DataFrame, by_number: Recommender, by_name: Recommender) -> None:
    pairs = ratings[["user_id", "movie_id"]].head(20).assign(year=2001, month=5)
    expected = by_number.scorer.score_pairs(pairs).tolist()
    assert by_name.scorer.score_pairs(with_strings(pairs)).tolist() == expected


@pytest.mark.parametrize("unknown", ["7", 7])
def test_unknown_id_is_named_with_known_ones(unknown: int | str, by_name: Recommender) -> None:
    known = f"the model knows 300 from {user_name(1)!r} to {user_name(300)!r}"
    with pytest.raises(NotFoundError, match="unknown user_id") as caught:
        by_name.recommend(unknown, *MOMENT)
    assert caught.value.args[0] == f"unknown user_id {unknown!r}; {known}"


def test_lists_pass_their_checks(by_name: Recommender, ratings: pd.DataFrame) -> None:
    [(top, _)] = by_name.recommend_all([MOMENT])
    users, movies = by_name.scorer.user_ids.tolist(), by_name.scorer.movie_ids.tolist()
    named = with_strings(ratings)
    assert checks.top_lists(top, named, users, movies, 10).passed
    user = user_name(7)
    rated = named.loc[named["user_id"] == user, "movie_id"].iloc[0]
    spoiled = top.assign(movie_id=top["movie_id"].where((top["user_id"] != user) | (top["rank"] > 1), rated))
    assert checks.top_lists(spoiled, named, users, movies, 10).facts["rated_movies"] == 1
    assert slots_changed(top, top) == 0


def test_visitors_lists_are_the_same(
    small_users: pd.DataFrame, ratings: pd.DataFrame, by_number: Recommender, by_name: Recommender
) -> None:
    likes = ratings["movie_id"].value_counts().index[:3].tolist()
    visitor = Visitor({"gender": "F"}, tuple(likes))
    expected = VisitorRecommender(by_number, small_users, ratings).recommend(visitor, *MOMENT)
    visitor = Visitor({"gender": "F"}, tuple(map(movie_name, likes)))
    found = VisitorRecommender(by_name, with_strings(small_users), with_strings(ratings)).recommend(visitor, *MOMENT)
    pd.testing.assert_frame_equal(found, with_strings(expected))


def test_explanations_are_the_same(
    by_number: Recommender, by_name: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ml.inference.explanations.LEAST_PERSONAL_SHARE", 0)
    monkeypatch.setattr("ml.inference.explanations.LEAST_SIMILARITY", 0)
    movies, liked = by_number.scorer.movie_ids[:10].tolist(), by_number.scorer.movie_ids[50:60].tolist()
    expected = Explanations.of(by_number.scorer).nearest(movies, [*liked, 987_654])
    own = Explanations.of(by_name.scorer)
    found = own.nearest([*map(movie_name, movies)], [*map(movie_name, liked), "unknown"])
    named = expected.assign(**{name: expected[name].map(movie_name).astype("str") for name in ("movie_id", "because")})
    assert len(found) > 0
    pd.testing.assert_frame_equal(found, named)
    nothing = own.nearest(found["movie_id"].tolist(), ["unknown"])
    assert nothing.dtypes[["movie_id", "because"]].tolist() == ["str", "str"]
