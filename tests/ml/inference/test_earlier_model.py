import numpy as np
import pandas as pd
import pytest

from ml.features.feature_map import FeatureMap
from ml.inference.earlier_model import held_out_lists_of, latest_known_month, score_known
from ml.inference.held_out import held_out_lists
from ml.inference.scorer import Scorer
from ml.models.bundle import ModelBundle
from tests.feature_maps import fitted

NEW_USER, GONE_USER = 9999, 1


@pytest.fixture(scope="module")
def scorer(bundle: ModelBundle) -> Scorer:
    return Scorer(bundle)


@pytest.fixture(scope="module")
def present(small_interactions: pd.DataFrame) -> pd.DataFrame:
    """The interactions without the first user, so that all codes shift, and with one whom the model does not know."""
    copied = small_interactions[small_interactions["user_id"] == 5].assign(user_id=NEW_USER)
    kept = small_interactions[small_interactions["user_id"] != GONE_USER]
    return pd.concat([kept, copied]).sample(frac=1, random_state=2).reset_index(drop=True)


def test_unknown_rows_are_left_out_and_the_others_scored(scorer: Scorer, present: pd.DataFrame) -> None:
    known, scores = score_known(scorer, present)
    assert known.tolist() == (present["user_id"] != NEW_USER).tolist()
    pairs = present[known].rename(columns={"rating_year": "year", "rating_month": "month"})
    np.testing.assert_allclose(scores, scorer.score_pairs(pairs), atol=1e-6)
    assert np.std(scores) > 0.01


def test_lists_are_the_models_own_in_the_present_codes(scorer: Scorer, present: pd.DataFrame) -> None:
    encoders, own = fitted(present), scorer.bundle.feature_map
    found = held_out_lists_of(scorer, present, encoders)
    expected, _ = held_out_lists(scorer, own.transform(present[present["user_id"] != NEW_USER]))

    def with_ids(lists: pd.DataFrame, codes: FeatureMap) -> pd.DataFrame:
        values = {name: np.array(codes[name].values)[lists[name]] for name in ("user_id", "movie_id")}
        return lists.assign(**values).reset_index(drop=True)

    left = with_ids(expected, own).query("user_id != @GONE_USER").reset_index(drop=True)
    known_movies = left["movie_id"].isin(encoders["movie_id"].values)
    pd.testing.assert_frame_equal(with_ids(found, encoders), left[known_movies].reset_index(drop=True))
    assert not found.equals(expected)
    assert encoders["user_id"].values.index(NEW_USER) not in set(found["user_id"])


def test_the_latest_month_is_one_that_the_model_knows(bundle: ModelBundle) -> None:
    months = [(2000, 12), (2001, 3), (2004, 1), (2001, 2), (2003, 13)]  # the last by month and year unknown
    ratings = pd.DataFrame(months, columns=["rating_year", "rating_month"])
    assert latest_known_month(bundle.feature_map, ratings) == (2001, 3)


def test_a_row_is_known_by_all_its_values(bundle: ModelBundle, small_interactions: pd.DataFrame) -> None:
    rows = small_interactions.head(3).copy()
    rows.loc[rows.index[1], "zip"] = "00000-new"
    assert bundle.feature_map.knows(rows).tolist() == [True, False, True]
