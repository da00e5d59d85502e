from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from scipy.special import logit

from ml import schema
from ml.errors import DataError
from ml.features.collaborative_folds import CollaborativeFolds
from ml.features.feature_map import FeatureMap
from ml.features.histories import Histories
from ml.features.moments import map_with_moments, with_moments
from ml.features.negatives import SOURCE, sample_negatives
from ml.features.splits import split_interactions
from ml.inference.recommend import Recommender
from ml.inference.scorer import Scorer
from ml.models.autoint import Inputs, Token
from ml.models.bundle import ModelBundle
from ml.training.config import TrainingConfig
from ml.training.data import TrainingData
from ml.training.fitting import FIRST_VECTORS, Fitting
from ml.training.history_trainer import states_of
from ml.training.recipes import Recipe
from ml.training.reports import EpochReport
from ml.training.trainer import fitted_rows
from tests.collaborative import fit_tables, folds_of, sides_of
from tests.feature_maps import encode_interactions

TRAINING = {"epochs": 2, "batch_size": 256, "learning_rate": 3e-3, "schedule": "cosine", "reshuffle": True, "seed": 1}
SMALL_MODEL = {"embed_dim": 4, "num_layers": 1, "head_dim": 4}
NEGATIVES = {"per_positive": 2, "popularity_power": 0.5, "seed": 3}
FACTORIZATIONS = {"rating_3": {"factors": 3, "iterations": 3}}
SIGNALS: dict[str, Any] = {"factorizations": FACTORIZATIONS, "stranger_share": 0, "folds": 3}


@pytest.fixture(scope="module")
def rows(small_interactions: pd.DataFrame, small_feature_map: FeatureMap) -> pd.DataFrame:
    return split_interactions(encode_interactions(small_interactions, small_feature_map))[0]


@pytest.fixture(scope="module")
def movies(small_movies: pd.DataFrame) -> pd.DataFrame:
    """In another order than that of the ids."""
    return small_movies.sample(frac=1, random_state=1)


def recipe_of(**settings: Any) -> Recipe:
    defaults = {"description": "For tests.", "architecture": "autoint", "model": SMALL_MODEL, "training": TRAINING}
    return Recipe(**{**defaults, **settings})


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return recipe_of(fields=("movie_year", "gender", "genre1"), signals=SIGNALS)


@pytest.fixture(scope="module")
def data_of(
    rows: pd.DataFrame, small_feature_map: FeatureMap, movies: pd.DataFrame
) -> Callable[[Recipe], TrainingData]:
    def data_of(recipe: Recipe) -> TrainingData:
        return TrainingData.of(recipe, rows, small_feature_map, movies, folds_of(recipe, rows, small_feature_map))

    return data_of


@pytest.fixture(scope="module")
def fit(data_of: Callable[[Recipe], TrainingData]) -> Callable[[Recipe], Fitting]:
    def fit(recipe: Recipe) -> Fitting:
        fitting = Fitting(recipe, data_of(recipe))
        fitting.run(lambda report: None, lambda report: None)
        return fitting

    return fit


@pytest.fixture(scope="module")
def fitted(fit: Callable[[Recipe], Fitting], recipe: Recipe) -> Fitting:
    return fit(recipe)


def weights(network: keras.Model) -> list[np.ndarray]:
    return [np.asarray(weight) for weight in network.weights]


def test_serving_network_computes_the_signals_of_all_training_rows(
    fitted: Fitting, recipe: Recipe, rows: pd.DataFrame, small_feature_map: FeatureMap
) -> None:
    assert recipe.signals is not None
    signals = fit_tables(rows, sides_of(rows, small_feature_map), recipe.signals).of(rows[:100])
    codes = rows[list(schema.FIELD_NAMES)].to_numpy("int32")[:100]
    expected = np.asarray(fitted.network([codes, signals]))
    assert np.asarray(fitted.serving_network(codes)) == pytest.approx(expected, abs=1e-5)


def test_signals_are_standardised_by_the_fitted_rows(
    fitted: Fitting, recipe: Recipe, rows: pd.DataFrame, small_feature_map: FeatureMap
) -> None:
    assert recipe.signals is not None
    folds = CollaborativeFolds.fit(rows, sides_of(rows, small_feature_map), [recipe.signals])
    signals = folds.out_of_fold(recipe.signals, rows)[: int(len(rows) * 0.9)].astype(np.float64)
    layer = fitted.network.get_layer("numbers")
    assert layer.centres == pytest.approx(signals.mean(axis=0))
    assert layer.scales == pytest.approx(signals.std(axis=0))


def test_only_the_recipe_s_fields_are_embedded(fitted: Fitting, small_feature_map: FeatureMap) -> None:
    sizes = dict(zip(small_feature_map.names, small_feature_map.field_dims, strict=True))
    embedding = fitted.network.get_layer("embedding")
    assert embedding.field_dims == (sizes["movie_year"], sizes["gender"], sizes["genre1"])


def test_the_seed_repeats_the_training(fit: Callable[[Recipe], Fitting], fitted: Fitting, recipe: Recipe) -> None:
    again = fit(recipe)
    for first, second in zip(weights(fitted.network), weights(again.network), strict=True):
        assert first.tolist() == second.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"seed": 2}, {"schedule": "constant"}, {"reshuffle": False}])
def test_every_training_setting_matters(
    fit: Callable[[Recipe], Fitting], fitted: Fitting, recipe: Recipe, change: dict[str, Any]
) -> None:
    other = fit(recipe.model_copy(update={"training": TrainingConfig(**{**TRAINING, **change})}))
    pairs = zip(weights(fitted.network), weights(other.network), strict=True)
    assert any(not np.allclose(first, second) for first, second in pairs)


@pytest.mark.slow
def test_an_interrupted_training_ends_as_without_interruption(
    fitted: Fitting, recipe: Recipe, data_of: Callable[[Recipe], TrainingData], tmp_path: Path
) -> None:
    def stop(report: object) -> None:
        raise KeyboardInterrupt

    data = data_of(recipe)
    first = Fitting(recipe, data)
    with pytest.raises(KeyboardInterrupt):
        first.run(stop, lambda report: None, first.checkpoint(tmp_path, "print"))
    second = Fitting(recipe, data)
    reports = second.run(lambda report: None, lambda report: None, second.checkpoint(tmp_path, "print"))
    assert [report.epoch for report in reports] == [1, 2]
    for ours, expected in zip(weights(second.network), weights(fitted.network), strict=True):
        assert ours.tolist() == expected.tolist()


def test_a_checkpoint_is_of_the_same_rows_settings_code_and_first_weights(
    recipe: Recipe, data_of: Callable[[Recipe], TrainingData], tmp_path: Path
) -> None:
    data = data_of(recipe)

    def name(
        recipe: Recipe = recipe, rows: pd.DataFrame = data.rows, fingerprint: str = "print", shift: float = 0
    ) -> str:
        fitting = Fitting(recipe, replace(data, rows=rows))
        fitting.network.get_layer("logit").kernel.assign_add([[shift]])
        fitting.checkpoint(tmp_path, fingerprint).save(compiled(fitting.network), [])
        (folder,) = tmp_path.iterdir()  # another training's is removed
        return folder.name

    assert name() == name(rows=data.rows.copy()) == name(recipe.model_copy(update={"description": "Other words."}))
    others = [
        name(recipe.model_copy(update={"training": recipe.training.model_copy(update={"epochs": 3})})),
        name(recipe.model_copy(update={"training": recipe.training.model_copy(update={"seed": 9})})),
        name(rows=data.rows.iloc[::-1]),
        name(rows=data.rows.assign(label=1 - data.rows["label"])),
        name(fingerprint="other data or code"),
        name(shift=1e-6),
    ]
    assert len({name(), *others}) == 7


def compiled(network: keras.Model) -> keras.Model:
    network.compile(optimizer="adam", loss="binary_crossentropy")
    network.optimizer.build(network.trainable_variables)
    return network


def test_a_plain_recipe_takes_the_training_rows_as_they_are(
    data_of: Callable[[Recipe], TrainingData], rows: pd.DataFrame, small_feature_map: FeatureMap
) -> None:
    data = data_of(recipe_of())
    pd.testing.assert_frame_equal(data.rows, rows)
    assert (data.numbers, data.pairs) == (None, None)
    tokens = tuple(Token(field.name, field.side) for field in schema.FIELDS)
    fitted = rows["rating"].iloc[: fitted_rows(len(rows), recipe_of().training)]
    ratings = pytest.approx(fitted.mean()), pytest.approx(fitted.std(ddof=0))
    assert data.inputs == Inputs(small_feature_map.field_dims, None, [], [], (), *ratings, tokens)


def test_tokens_are_the_embedded_features_in_the_network_s_order(
    data_of: Callable[[Recipe], TrainingData], fitted: Fitting, recipe: Recipe
) -> None:
    own = data_of(recipe_of(fields=("gender", "movie_id"), multivalued=("genres",), numbers=("timestamp",)))
    expected = [("gender", "user"), ("movie_id", "movie"), ("genres", "movie"), ("timestamp", "context")]
    assert [(token.name, token.side) for token in own.inputs.tokens] == expected
    collaborative = data_of(recipe)
    assert collaborative.pairs is not None
    assert [token.name for token in collaborative.inputs.tokens] == [*recipe.fields, *collaborative.pairs.names]
    assert [token.side for token in collaborative.inputs.tokens][3:] == ["pair"] * len(collaborative.pairs.names)
    assert fitted.network.get_layer("interacting_1").input.shape[1] == len(collaborative.inputs.tokens)


def test_held_out_rows_are_the_last_and_no_rows_that_were_learned_from(
    data_of: Callable[[Recipe], TrainingData], fitted: Fitting, recipe: Recipe, rows: pd.DataFrame
) -> None:
    data = data_of(recipe)
    assert data.numbers is not None
    indices, numbers = fitted.held_out(20)
    assert indices.tolist() == rows[list(schema.FIELD_NAMES)].tail(20).to_numpy().tolist()
    assert numbers.tolist() == data.numbers[-20:].tolist()
    assert fitted.features == tuple(token.name for token in data.inputs.tokens)
    assert len(fitted.held_out(10**6)[0]) == len(rows) - int(len(rows) * 0.9)
    [indices] = Fitting(recipe_of(), data_of(recipe_of())).held_out(1)
    assert indices.dtype == np.int32


@pytest.fixture(scope="module")
def sampling_recipe() -> Recipe:
    """Learns likes from unrated movies, with signals."""
    signals = {**SIGNALS, "ease": {"ease_likes": {"rank": 5, "penalty": 20}}}
    return recipe_of(fields=("genre1", "gender"), negatives=NEGATIVES, signals=signals)


@pytest.fixture(scope="module")
def sampled(sampling_recipe: Recipe, data_of: Callable[[Recipe], TrainingData]) -> TrainingData:
    return data_of(sampling_recipe)


def test_rows_are_likes_and_draws(
    sampled: TrainingData,
    sampling_recipe: Recipe,
    rows: pd.DataFrame,
    small_feature_map: FeatureMap,
    small_interactions: pd.DataFrame,
) -> None:
    names = [field.name for field in schema.FIELDS if field.side == "movie"]
    by_code = small_interactions.drop_duplicates("movie_id").sort_values("movie_id")[names]
    codes = pd.DataFrame({name: small_feature_map[name].encode(by_code[name]) for name in names})
    assert sampling_recipe.negatives is not None
    pd.testing.assert_frame_equal(sampled.rows, sample_negatives(rows, codes, sampling_recipe.negatives))
    assert len(sampled.rows) == 3 * rows["label"].sum()


def test_signals_of_a_row_are_by_tables_without_its_like_s_fold(
    sampled: TrainingData, sampling_recipe: Recipe, rows: pd.DataFrame, small_feature_map: FeatureMap
) -> None:
    assert sampled.numbers is not None
    assert sampling_recipe.signals is not None
    fold = np.arange(len(rows)) % SIGNALS["folds"]
    source_fold = sampled.rows[SOURCE].to_numpy() % SIGNALS["folds"]
    for number in range(SIGNALS["folds"]):
        tables = fit_tables(rows[fold != number], sides_of(rows, small_feature_map), sampling_recipe.signals)
        own = source_fold == number
        assert sampled.numbers[own].tolist() == tables.of(sampled.rows[own]).tolist()
    assert (sampled.numbers.shape, sampled.numbers.dtype) == ((len(sampled.rows), 8), np.float32)


def test_signals_of_all_pairs_are_by_all_training_rows(
    sampled: TrainingData, sampling_recipe: Recipe, rows: pd.DataFrame, small_feature_map: FeatureMap
) -> None:
    assert sampled.pairs is not None
    assert sampling_recipe.signals is not None
    expected = fit_tables(rows, sides_of(rows, small_feature_map), sampling_recipe.signals)
    assert sampled.pairs.names == expected.names
    assert sampled.pairs.of(rows).tolist() == expected.of(rows).tolist()


def test_signals_that_are_not_given_are_an_error(
    recipe: Recipe, rows: pd.DataFrame, small_feature_map: FeatureMap, movies: pd.DataFrame
) -> None:
    with pytest.raises(ValueError, match="collaborative is None; expected the collaborative features"):
        TrainingData.of(recipe, rows, small_feature_map, movies)
    others = folds_of(recipe, rows.head(1000), small_feature_map)
    with pytest.raises(DataError, match=f"fitted on 1000 training rows, .*; expected {len(rows)}, .*make run"):
        TrainingData.of(recipe, rows, small_feature_map, movies, others)


def test_moments_that_are_not_given_are_an_error(
    rows: pd.DataFrame, small_feature_map: FeatureMap, movies: pd.DataFrame
) -> None:
    recipe = recipe_of(moments=("rating_hour",))
    with pytest.raises(ValueError, match="the feature map lacks rating_hour; expected the moments"):
        TrainingData.of(recipe, rows, small_feature_map, movies)


def test_draws_are_made_at_the_moment_of_the_like(
    small_interactions: pd.DataFrame, small_feature_map: FeatureMap, movies: pd.DataFrame
) -> None:
    recipe = recipe_of(negatives=NEGATIVES, moments=schema.MOMENT_NAMES)
    encoded = encode_interactions(small_interactions, small_feature_map)
    wide = with_moments(split_interactions(encoded)[0], encoded, recipe.moments)
    data = TrainingData.of(recipe, wide, map_with_moments(small_feature_map, wide, recipe.moments), movies)
    names = list(schema.MOMENT_NAMES)
    assert data.rows[names].to_numpy().tolist() == wide[names].iloc[data.rows[SOURCE]].to_numpy().tolist()
    fitting = Fitting(recipe, data)
    assert fitting.network.get_layer("embedding").field_dims == (*small_feature_map.field_dims, 24, 7, 15, 12)
    reports: list[EpochReport] = []
    fitting.run(reports.append)
    assert reports[-1].train_loss < reports[0].train_loss


def test_signals_of_likes_and_draws_are_standardised_by_the_fitted_ones(sampled: TrainingData) -> None:
    assert sampled.numbers is not None
    own = sampled.numbers[: int(len(sampled.rows) * 0.9)].astype(np.float64)
    assert sampled.inputs.centres == pytest.approx(own.mean(axis=0))
    assert sampled.inputs.scales == pytest.approx(own.std(axis=0))


def test_learns_to_tell_likes_from_draws(sampled: TrainingData, sampling_recipe: Recipe) -> None:
    fitting = Fitting(sampling_recipe, sampled)
    reports: list[EpochReport] = []
    fitting.run(reports.append)
    chance = -(np.log(1 / 3) + 2 * np.log(2 / 3)) / 3  # the loss of a network that says 1/3 of every row
    assert reports[-1].val_loss < 0.97 * chance
    held_out = sampled.rows.iloc[int(len(sampled.rows) * 0.9) :]
    likes, draws = (
        held_out.loc[held_out["label"] == label, list(schema.FIELD_NAMES)].to_numpy("int32") for label in (1, 0)
    )
    scores = [np.asarray(fitting.serving_network(codes)) for codes in (likes, draws)]
    assert scores[0].mean() > scores[1].mean() + 0.05


@pytest.fixture(scope="module")
def number_recipe() -> Recipe:
    """Embeds the timestamp and all genres of a movie beside the fields."""
    return recipe_of(fields=("gender", "age"), multivalued=("genres",), numbers=("timestamp",))


@pytest.fixture(scope="module")
def number_fitting(fit: Callable[[Recipe], Fitting], number_recipe: Recipe) -> Fitting:
    return fit(number_recipe)


@pytest.fixture(scope="module")
def number_inputs(rows: pd.DataFrame) -> list[np.ndarray]:
    return [rows[list(schema.FIELD_NAMES)].to_numpy("int32")[:200], rows[["timestamp"]].to_numpy("float32")[:200]]


def test_numbers_are_the_rows_timestamps(
    number_recipe: Recipe, data_of: Callable[[Recipe], TrainingData], rows: pd.DataFrame
) -> None:
    data = data_of(number_recipe)
    assert data.pairs is None
    assert data.numbers is not None
    assert data.numbers.dtype == np.float32
    np.testing.assert_allclose(data.numbers, rows[["timestamp"]], rtol=1e-6)
    pd.testing.assert_frame_equal(data.rows, rows)


def test_genres_are_those_of_the_movie_codes(
    number_fitting: Fitting, small_feature_map: FeatureMap, small_movies: pd.DataFrame
) -> None:
    genres = small_movies.set_index("movie_id")["genres"].str.split("|")
    rated = [genres[movie] for movie in small_feature_map["movie_id"].values]
    names = sorted({name for own in rated for name in own})
    expected = [[own.count(name) / len(own) for name in names] for own in rated]
    layer = number_fitting.network.get_layer("genres_embedding")
    assert layer.position == 1
    assert max(map(len, rated)) > 3
    np.testing.assert_allclose(layer.membership, expected, rtol=1e-6)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_numbers_are_standardised_by_the_fitted_rows(
    number_recipe: Recipe, data_of: Callable[[Recipe], TrainingData], rows: pd.DataFrame, share: float
) -> None:
    training = TrainingConfig(**{**TRAINING, "validation_share": share})
    inputs = data_of(number_recipe.model_copy(update={"training": training})).inputs
    own = rows["timestamp"].to_numpy(np.float64)[: int(len(rows) * (1 - share))]
    assert inputs.centres == pytest.approx([own.mean()], rel=1e-7)
    assert inputs.scales == pytest.approx([own.std()], rel=1e-4)


def test_serving_network_takes_codes_and_numbers(number_fitting: Fitting, number_inputs: list[np.ndarray]) -> None:
    network = number_fitting.serving_network
    assert [tuple(given.shape) for given in network.inputs] == [(None, len(schema.FIELD_NAMES)), (None, 1)]
    found = np.asarray(network(number_inputs))
    assert found.shape == (200, 1)
    assert found.tolist() == np.asarray(number_fitting.network(number_inputs)).tolist()


def test_serving_network_embeds_what_the_recipe_names(number_fitting: Fitting, number_inputs: list[np.ndarray]) -> None:
    """By hand, from the trained weights: gender, age, the genres' mean, the standardised timestamp."""
    network, (codes, moments) = number_fitting.serving_network, number_inputs
    tokens = np.asarray(keras.Model(network.inputs, network.get_layer("tokens").output)(number_inputs))
    table = np.asarray(network.get_layer("embedding").table)
    genres = network.get_layer("genres_embedding")
    numbers = network.get_layer("numbers")
    gender, age = schema.FIELD_NAMES.index("gender"), schema.FIELD_NAMES.index("age")
    standardised = (moments.astype(np.float64) - numbers.centres[0]) / numbers.scales[0]
    expected = [
        table[codes[:, gender]],
        table[codes[:, age] + 2],
        np.asarray(genres.membership)[codes[:, 1]] @ np.asarray(genres.table),
        standardised * np.asarray(numbers.direction)[0] + np.asarray(numbers.offset)[0],
    ]
    np.testing.assert_allclose(tokens, np.stack(expected, axis=1), rtol=1e-4, atol=1e-5)


def test_all_of_it_is_trained(
    number_fitting: Fitting, number_recipe: Recipe, data_of: Callable[[Recipe], TrainingData]
) -> None:
    before = Fitting(number_recipe, data_of(number_recipe)).network
    for layer, names in (("numbers", ("direction", "offset")), ("genres_embedding", ("table",))):
        for name in names:
            first, last = (
                np.asarray(getattr(network.get_layer(layer), name)) for network in (before, number_fitting.network)
            )
            assert not np.isclose(first, last, atol=1e-6).any()


def test_draws_have_the_moment_of_their_likes(
    number_recipe: Recipe, data_of: Callable[[Recipe], TrainingData], rows: pd.DataFrame
) -> None:
    data = data_of(Recipe(**{**number_recipe.model_dump(), "negatives": {"per_positive": 1}}))
    assert data.numbers is not None
    moments = rows["timestamp"].to_numpy()[rows["label"] == 1]
    np.testing.assert_allclose(data.numbers[:, 0], np.repeat(moments, 2), rtol=1e-6)


class TestSASRec:
    @pytest.fixture(scope="class")
    def recipe(self) -> Recipe:
        model = {"embed_dim": 8, "num_layers": 1, "length": 20}
        return recipe_of(architecture="sasrec", fields=("user_id", "movie_id"), model=model)

    @pytest.fixture(scope="class")
    def fitting(self, fit: Callable[[Recipe], Fitting], recipe: Recipe) -> Fitting:
        return fit(recipe)

    def test_the_served_log_odds_are_inner_products_within_a_user(
        self, fitting: Fitting, rows: pd.DataFrame, small_feature_map: FeatureMap
    ) -> None:
        users, movies = small_feature_map.field_dims[:2]
        states = states_of(fitting.network, Histories.of(rows, users))
        scores = states @ np.asarray(fitting.network.vectors).T
        indices = np.zeros((movies, len(small_feature_map.fields)), np.int32)
        indices[:, :2] = np.column_stack([np.full(movies, 7), np.arange(movies)])
        found = logit(np.asarray(fitting.serving_network(indices))[:, 0].astype(np.float64))
        assert found - found[0] == pytest.approx(scores[7] - scores[7, 0], abs=1e-4)
        # Against a movie that is drawn from all: the softmax over all movies times their number.
        assert (np.exp(found) / movies).sum() == pytest.approx(1, abs=1e-4)

    def test_a_saved_bundle_lists_what_the_network_ranks_first(
        self,
        fitting: Fitting,
        rows: pd.DataFrame,
        small_feature_map: FeatureMap,
        small_users: pd.DataFrame,
        movies: pd.DataFrame,
        tmp_path: Path,
    ) -> None:
        bundle = ModelBundle.of(fitting.serving_network, small_feature_map, small_users, movies)
        bundle.save(tmp_path / "bundle.zip")
        loaded = ModelBundle.load(tmp_path / "bundle.zip")
        assert loaded.users.columns.tolist() == ["user_id"]  # nothing else about a user is in the file
        assert loaded.movies.columns.tolist() == ["movie_id", "title", "genres"]
        scorer = Scorer(loaded)
        none = pd.DataFrame({"user_id": [], "movie_id": []})
        listed = Recommender(scorer, none).recommend(scorer.user_ids[7], 2000, 6, top_k=5)["movie_id"]
        states = states_of(fitting.network, Histories.of(rows, len(scorer.user_ids)))
        order = np.argsort(-(states[7] @ np.asarray(fitting.network.vectors).T))
        assert listed.tolist() == scorer.movie_ids[order[:5]].tolist()


@pytest.mark.parametrize("learned_by", ["word2vec", "sasrec"])
def test_movie_embeddings_start_with_learned_vectors(
    learned_by: str,
    data_of: Callable[[Recipe], TrainingData],
    monkeypatch: pytest.MonkeyPatch,
    small_feature_map: FeatureMap,
) -> None:
    plain = recipe_of(fields=("gender", "movie_id"))
    recipe = recipe_of(fields=("gender", "movie_id"), pretrained={"movie_id": learned_by})
    movies, given = len(small_feature_map["movie_id"].values), []

    def vectors(histories: Histories, items: int, width: int, seed: int) -> np.ndarray:
        given.append(len(histories.items))
        found = np.ones((items, width), np.float32)
        found[3] = 0  # without ratings
        return found

    monkeypatch.setitem(FIRST_VECTORS, learned_by, vectors)
    networks = [Fitting(each, data_of(each)).network for each in (plain, recipe)]
    first, other = (np.asarray(network.get_layer("embedding").table) for network in networks)
    assert given == [int(len(data_of(recipe).rows) * 0.9)]  # no validation row
    assert len(first) == 2 + movies
    np.testing.assert_array_equal(other[[0, 1, 5]], first[[0, 1, 5]])
    rest = np.delete(other, [0, 1, 5], axis=0)
    assert rest == pytest.approx(np.full(rest.shape, first.std()), rel=1e-5)


def test_only_trainings_that_workers_do_not_change_are_shared(data_of: Callable[[Recipe], TrainingData]) -> None:
    def is_shared(architecture: str, **model: Any) -> bool:
        own = recipe_of(architecture=architecture, model={**SMALL_MODEL, **model})
        return Fitting(own, data_of(own)).is_shared

    assert is_shared("autoint")
    assert is_shared("autoint_mlp")
    assert not is_shared("autoint_mlp", batch_normalization=True)


def test_a_packed_training_is_the_same(data_of: Callable[[Recipe], TrainingData], recipe: Recipe) -> None:
    first = Fitting(recipe, data_of(recipe))
    weights = [weight + 0.1 for weight in first.network.get_weights()]
    first.network.set_weights(weights)
    other = Fitting.unpacked(first.packed())
    for own, expected in zip(other.network.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(own, expected)
    expected = first.run(lambda report: None)
    found = other.run(lambda report: None)
    assert [report.val_loss for report in found] == [report.val_loss for report in expected]
