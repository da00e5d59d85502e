import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from ml.features.collaborative import CollaborativeConfig
from ml.features.collaborative_folds import CollaborativeFolds
from ml.features.collaborative_tables import CollaborativeTables
from ml.features.ease import EaseConfig, low_rank_ease
from ml.features.factorization import FactorizationConfig, factorize
from ml.features.feature_map import FeatureMap
from ml.features.sides import Sides
from ml.features.splits import split_interactions
from tests.collaborative import fit_tables, without_features
from tests.feature_maps import encode_interactions

CONFIG = CollaborativeConfig(
    factorizations={"rating_2": FactorizationConfig(factors=2, iterations=3)},
    ease={"ease_4": EaseConfig(rank=4, penalty=20), "ease_ratings": EaseConfig(of="ratings", rank=3, penalty=50)},
    exposure_factors=3,
    affinity_fields=("genre1", "movie_decade"),
    folds=4,
    stranger_share=0,
)
NAMES = (
    "rating_2", "ease_4", "ease_ratings", "exposure", "genre1_affinity", "movie_decade_affinity",
    "user_mean_rating", "user_like_share", "user_log_count",
    "movie_mean_rating", "movie_like_share", "movie_log_count",
)  # fmt: skip


@pytest.fixture(scope="module")
def encoded(small_interactions: pd.DataFrame, small_feature_map: FeatureMap) -> pd.DataFrame:
    return encode_interactions(small_interactions, small_feature_map)


@pytest.fixture(scope="module")
def train(encoded: pd.DataFrame) -> pd.DataFrame:
    return split_interactions(encoded)[0]


@pytest.fixture(scope="module")
def sides(small_feature_map: FeatureMap, small_users: pd.DataFrame, small_movies: pd.DataFrame) -> Sides:
    return Sides.of(small_feature_map, small_users, small_movies)


@pytest.fixture(scope="module")
def out_of_fold(train: pd.DataFrame, sides: Sides) -> np.ndarray:
    return folds_of(train, sides).out_of_fold(CONFIG, train)


def folds_of(train: pd.DataFrame, sides: Sides) -> CollaborativeFolds:
    return CollaborativeFolds.fit(train, sides, [CONFIG])


def flipped(rows: pd.DataFrame) -> pd.DataFrame:
    """The same rows with the opposite ratings and labels."""
    return rows.assign(rating=6 - rows["rating"], label=1 - rows["label"])


def test_means_shares_and_counts_by_hand() -> None:
    ratings = [(0, 0, 5), (0, 1, 3), (1, 0, 4), (1, 2, 1), (1, 1, 2)]
    train = pd.DataFrame(ratings, columns=["user_id", "movie_id", "rating"])
    train["label"] = (train["rating"] >= 4).astype("int8")
    signals = fit_tables(train, without_features(3, 4), CollaborativeConfig(prior_rows=2))
    found = signals.of(pd.DataFrame({"user_id": [0, 1, 2], "movie_id": [1, 0, 3]}))
    mean, share = 15 / 5, 2 / 5
    user_0 = [(5 + 3 - 2 * mean) / 4, (1 - 2 * share) / 4, np.log(3)]
    user_1 = [(4 + 1 + 2 - 3 * mean) / 5, (1 - 3 * share) / 5, np.log(4)]
    movie_0 = [(5 + 4 - 2 * mean) / 4, (2 - 2 * share) / 4, np.log(3)]
    movie_1 = [(3 + 2 - 2 * mean) / 4, (0 - 2 * share) / 4, np.log(3)]
    unknown = [0, 0, 0]
    expected = np.array([user_0 + movie_1, user_1 + movie_0, unknown + unknown])
    assert signals.names == NAMES[6:]
    assert found == pytest.approx(expected, abs=1e-6)
    assert found.dtype == np.float32


def test_affinity_by_hand() -> None:
    """Deviations from the movies' means, then from the users', averaged by user and genre."""
    ratings = [(0, 0, 5), (0, 1, 3), (0, 2, 4), (1, 0, 2), (1, 1, 4)]
    train = pd.DataFrame(ratings, columns=["user_id", "movie_id", "rating"])
    train["label"] = (train["rating"] >= 4).astype("int8")
    config = CollaborativeConfig(affinity_fields=("genre1",), affinity_prior_rows=2, prior_rows=1)
    nobody = without_features(2, 4)
    sides = Sides(nobody.users, nobody.movies.assign(genre1=[0, 1, 0, 1]))
    signals = fit_tables(train, sides, config)
    centred = train["rating"] - train["rating"].mean()
    by_movie = centred - centred.groupby(train["movie_id"]).transform(lambda own: own.sum() / (len(own) + 1))
    deviation = by_movie - by_movie.groupby(train["user_id"]).transform(lambda own: own.sum() / (len(own) + 1))
    pairs = pd.DataFrame({"user_id": [0, 0, 1, 0], "movie_id": [2, 1, 0, 3]})
    # Movie 3 has no ratings, and the genre of movie 1.
    expected = [(deviation[0] + deviation[2]) / 4, deviation[1] / 3, deviation[3] / 3, deviation[1] / 3]
    assert signals.of(pairs)[:, 0] == pytest.approx(expected, abs=1e-6)


def test_exposure_of_full_rank_is_who_rated_what() -> None:
    rated = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [1, 1, 1, 1]])
    users, movies = np.nonzero(rated)
    train = pd.DataFrame({"user_id": users, "movie_id": movies, "rating": 3, "label": 0})
    everything = pd.DataFrame({"user_id": np.repeat(range(3), 4), "movie_id": np.tile(range(4), 3)})
    signals = fit_tables(train, without_features(3, 4), CollaborativeConfig(exposure_factors=2))
    row_roots, column_roots = np.sqrt(rated.sum(axis=1))[:, None], np.sqrt(rated.sum(axis=0))[None, :]
    left, values, right = np.linalg.svd(rated / row_roots / column_roots, full_matrices=False)
    expected = (left[:, :2] * values[:2]) @ right[:2] * row_roots * column_roots
    assert signals.names[0] == "exposure"
    assert signals.of(everything)[:, 0].reshape(3, 4) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    "settings",
    [{"exposure_factors": -1}, {"prior_rows": 0}, {"ease": {"ease_4": {"rank": 0}}}],
)
def test_bad_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        CollaborativeConfig(**settings)  # type: ignore[arg-type]


def test_factorisation_signal_is_the_factorisations_prediction(train: pd.DataFrame, sides: Sides) -> None:
    signals = fit_tables(train, sides, CONFIG)
    fitted = factorize(train, *sides.shape, CONFIG.factorizations["rating_2"])
    expected = fitted.predict(train["user_id"].to_numpy(), train["movie_id"].to_numpy())
    assert signals.names == NAMES
    assert signals.of(train)[:, 0] == pytest.approx(expected, abs=1e-5)


def test_ease_signals_are_its_scores_at_a_low_rank(train: pd.DataFrame, sides: Sides) -> None:
    found = fit_tables(train, sides, CONFIG).of(train)
    for column, name in ((1, "ease_4"), (2, "ease_ratings")):
        users, movies = low_rank_ease(train, *sides.shape, CONFIG.ease[name])
        scores = users @ movies.T
        assert NAMES[column] == name
        assert found[:, column] == pytest.approx(scores[train["user_id"], train["movie_id"]], abs=1e-5)
    assert not np.allclose(found[:, 1], found[:, 2], atol=0.01)


def test_out_of_fold_is_that_of_tables_fitted_on_the_other_folds(
    train: pd.DataFrame, sides: Sides, out_of_fold: np.ndarray
) -> None:
    for fold in range(CONFIG.folds):
        own = np.arange(len(train)) % CONFIG.folds == fold
        expected = fit_tables(train[~own], sides, CONFIG).of(train[own])
        assert out_of_fold[own].tolist() == expected.tolist()


def test_a_fold_s_own_ratings_do_not_reach_its_signals(
    train: pd.DataFrame, sides: Sides, out_of_fold: np.ndarray
) -> None:
    own = np.arange(len(train)) % CONFIG.folds == 1
    changed = train.copy()
    changed.loc[own, ["rating", "label"]] = flipped(train)[["rating", "label"]][own]
    after = folds_of(changed, sides).out_of_fold(CONFIG, changed)
    assert out_of_fold[own].tolist() == after[own].tolist()
    assert (out_of_fold[~own] != after[~own]).any(axis=1).mean() > 0.9


def other_pairs(train: pd.DataFrame, sides: Sides) -> tuple[pd.DataFrame, np.ndarray]:
    """Pairs that are no training rows, and the training rows of the same users that they stem from, in no order."""
    rng = np.random.default_rng(0)
    sources = rng.integers(0, len(train), 400)
    pairs = pd.DataFrame(
        {"user_id": train["user_id"].to_numpy()[sources], "movie_id": rng.integers(0, sides.shape[1], 400)}
    )
    return pairs, sources


def test_rows_of_a_source_s_fold_get_its_tables(train: pd.DataFrame, sides: Sides) -> None:
    pairs, sources = other_pairs(train, sides)
    found = folds_of(train, sides).out_of_fold(CONFIG, pairs, sources)
    assert (found.shape, found.dtype) == ((400, len(NAMES)), np.float32)
    for fold in range(CONFIG.folds):
        others = train[np.arange(len(train)) % CONFIG.folds != fold]
        own = sources % CONFIG.folds == fold
        assert own.sum() > 50
        assert found[own].tolist() == fit_tables(others, sides, CONFIG).of(pairs[own]).tolist()


def test_training_rows_are_their_own_sources(train: pd.DataFrame, sides: Sides, out_of_fold: np.ndarray) -> None:
    sources = np.arange(len(train))[::-1]
    found = folds_of(train, sides).out_of_fold(CONFIG, train.iloc[sources], sources)
    assert found.tolist() == out_of_fold[sources].tolist()


def test_a_fold_s_ratings_do_not_reach_the_rows_that_stem_from_it(train: pd.DataFrame, sides: Sides) -> None:
    pairs, sources = other_pairs(train, sides)
    changed = train.copy()
    in_fold, own = np.arange(len(train)) % CONFIG.folds == 2, sources % CONFIG.folds == 2
    changed.loc[in_fold, ["rating", "label"]] = flipped(train)[["rating", "label"]][in_fold]
    before, after = (folds_of(rows, sides).out_of_fold(CONFIG, pairs, sources) for rows in (train, changed))
    assert before[own].tolist() == after[own].tolist()
    differs = before[~own] != after[~own]
    assert differs.any(axis=1).all()
    assert differs[:, NAMES.index("ease_4")].mean() > 0.9


def test_test_labels_reach_no_training_input(
    encoded: pd.DataFrame, train: pd.DataFrame, sides: Sides, out_of_fold: np.ndarray
) -> None:
    test_rows = split_interactions(encoded)[1]["row"]
    changed = encoded.copy()
    changed.loc[test_rows, ["rating", "label"]] = flipped(encoded)[["rating", "label"]].loc[test_rows]
    train_again, test_again = split_interactions(changed)
    assert (test_again["label"].to_numpy() != encoded["label"].loc[test_rows].to_numpy()).all()
    pd.testing.assert_frame_equal(train_again, train)
    assert (folds_of(train_again, sides).out_of_fold(CONFIG, train_again) == out_of_fold).all()
    first, second = (fit_tables(rows, sides, CONFIG) for rows in (train, train_again))
    assert (first.users == second.users).all()
    assert (first.movies == second.movies).all()


def test_pair_signals_by_hand() -> None:
    users = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    movies = np.array([[1, 0, 2], [2, 1, -1]], np.float32)
    signals = CollaborativeTables(("a", "b"), (2, 1), users, movies)
    found = signals.of(pd.DataFrame({"user_id": [0, 1], "movie_id": [1, 0]}))
    assert found.tolist() == [[1 * 2 + 2 * 1, 3 * -1], [4 * 1 + 5 * 0, 6 * 2]]
