import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from ml.errors import DataError, NotFoundError
from ml.inference.recommend import Recommender
from ml.inference.scorer import Scorer
from ml.inference.visitors import DEMOGRAPHIC_WEIGHT, Visitor, VisitorRecommender
from ml.models.bundle import ModelBundle

YEAR, MONTH = 2002, 6


@pytest.fixture(scope="module")
def ratings(small_interactions: pd.DataFrame) -> pd.DataFrame:
    return small_interactions[["user_id", "movie_id", "rating", "label"]]


@pytest.fixture(scope="module")
def visitors(bundle: ModelBundle, small_users: pd.DataFrame, ratings: pd.DataFrame) -> VisitorRecommender:
    return VisitorRecommender(Recommender(Scorer(bundle), ratings), small_users.iloc[::-1], ratings)


def likeness(user: int, visitor: Visitor, ratings: pd.DataFrame, users: pd.DataFrame) -> float:
    """The stated rule, one user at a time."""
    liked = set(ratings.loc[(ratings["user_id"] == user) & (ratings["rating"] >= 4), "movie_id"])
    own = set(visitor.liked)
    cosine = len(own & liked) / (len(own) ** 0.5 * max(len(liked), 1) ** 0.5) if own else 0.0
    row = users.set_index("user_id").loc[user]
    said = visitor.demographics
    same = sum(row[name] == value for name, value in said.items()) / len(said) if said else 0.0
    return cosine + DEMOGRAPHIC_WEIGHT * same


@pytest.mark.parametrize(
    "visitor",
    [
        Visitor(liked=(1, 50, 228)),
        Visitor({"gender": "F", "age": 25, "occupation": 4}),
        Visitor({"gender": "M"}, (1, 50)),
        Visitor(),
    ],
    ids=["likes", "demographics", "both", "neither"],
)
def test_companions_are_the_most_alike_by_the_stated_rule(
    visitor: Visitor, visitors: VisitorRecommender, ratings: pd.DataFrame, bundle: ModelBundle
) -> None:
    ids = bundle.users["user_id"].tolist()
    expected = [likeness(user, visitor, ratings, bundle.users) for user in ids]
    found = visitors.companions(visitor, 20)
    order = sorted(range(len(ids)), key=lambda position: (-round(expected[position], 5), ids[position]))
    assert np.round(np.array(expected)[found], 5).tolist() == np.round(np.array(expected)[order[:20]], 5).tolist()
    assert len(set(found)) == 20


def test_score_is_the_mean_chance_of_the_companions(
    visitors: VisitorRecommender, bundle: ModelBundle, ratings: pd.DataFrame
) -> None:
    visitor = Visitor({"gender": "F"}, (1, 50, 228))
    top = visitors.recommend(visitor, YEAR, MONTH, top_k=5)
    scorer = Scorer(bundle)
    users = scorer.user_ids[visitors.companions(visitor)]
    for movie, score in zip(top["movie_id"], top["score"], strict=True):
        pairs = pd.DataFrame({"user_id": users, "movie_id": movie, "year": YEAR, "month": MONTH})
        assert score == pytest.approx(scorer.score_pairs(pairs).mean(), abs=1e-6)
    assert top["score"].is_monotonic_decreasing
    assert "user_id" not in top


def test_liked_movies_are_not_recommended_and_others_can_be_left_out(visitors: VisitorRecommender) -> None:
    first = visitors.recommend(Visitor({"gender": "F"}), YEAR, MONTH)["movie_id"].tolist()
    visitor = Visitor({"gender": "F"}, tuple(first[:3]))
    again = visitors.recommend(visitor, YEAR, MONTH)["movie_id"]
    assert not set(first[:3]) & set(again)
    assert set(visitors.recommend(visitor, YEAR, MONTH, among=first)["movie_id"]) == set(first[3:])


def test_unknown_movie_is_refused(visitors: VisitorRecommender) -> None:
    with pytest.raises(NotFoundError, match="unknown movie_id 987654"):
        visitors.recommend(Visitor(liked=(987654,)), YEAR, MONTH)


@pytest.mark.parametrize("said", [{"gender": "X"}, {"age": 30}, {"occupation": 21}, {"country": "NZ"}])
def test_value_that_no_user_has_is_refused(said: dict, visitors: VisitorRecommender) -> None:
    [(name, value)] = said.items()
    with pytest.raises(DataError, match=f"{name} {value!r}; expected one of"):
        visitors.companions(Visitor(said))


def test_mean_of_chances_and_not_of_logits(visitors: VisitorRecommender, bundle: ModelBundle) -> None:
    scorer = Scorer(bundle)
    rows = scorer.catalogue(YEAR, MONTH).rows(visitors.companions(Visitor()))
    top = visitors.recommend(Visitor(), YEAR, MONTH, top_k=1)
    assert top["score"].iloc[0] == pytest.approx(float(expit(rows).mean(axis=0).max()), abs=1e-6)
