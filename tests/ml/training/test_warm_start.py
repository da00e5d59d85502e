from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest

from ml import schema
from ml.errors import DataError
from ml.features.feature_map import FeatureMap, FieldVocabulary
from ml.features.membership import membership_of
from ml.features.negatives import SOURCE, NegativesConfig
from ml.models.autoint import Inputs, Multivalued, build_model
from ml.models.bundle import ModelBundle
from ml.training.config import WarmStartConfig
from ml.training.data import PAIR, TrainingData
from ml.training.fitting import Fitting
from ml.training.recipes import Recipe, load_recipes, with_values
from ml.training.warm_start import (
    NoWarmStartError,
    choose_rows,
    continue_from,
    last_batch,
    warm_recipe,
)
from orchestration.config.settings import PROJECT_ROOT
from tests.collaborative import folds_of
from tests.feature_maps import encode_interactions, fitted

SMALL = {"model.embed_dim": 4, "model.head_dim": 4, "model.num_layers": 2, "training.epochs": 1,
         "training.batch_size": 256, "training.learning_rate": 3e-3}  # fmt: skip


def small(recipe: Recipe) -> Recipe:
    if own := recipe.signals:
        factorizations = {
            name: each.model_copy(update={"factors": 2, "iterations": 2}) for name, each in own.factorizations.items()
        }
        ease = {name: each.model_copy(update={"rank": 5}) for name, each in own.ease.items()}
        few = {"folds": 2, "factorizations": factorizations, "ease": ease, "exposure_factors": 2}
        recipe = recipe.model_copy(update={"signals": own.model_copy(update=few)})
    return with_values(recipe, SMALL)


RECIPES = {name: small(recipe) for name, recipe in load_recipes(PROJECT_ROOT / "recipes.yaml").items()}
RECIPES["normalised"] = with_values(
    RECIPES["autoint_mlp"], {"model.batch_normalization": True, "model.hidden_units": [8, 4]}
)
NEW_GENRE = "Adventure"  # sorted, it stands before others


@dataclass(frozen=True)
class Then:
    """The interactions without some users, without some movies and without a genre, and who learned from them."""

    interactions: pd.DataFrame
    feature_map: FeatureMap
    movies: pd.DataFrame


@pytest.fixture(scope="module")
def then(small_interactions: pd.DataFrame, small_movies: pd.DataFrame) -> Then:
    new_movies = (small_movies["movie_id"] % 7 == 2) | small_movies["genres"].str.contains(NEW_GENRE)
    movies = small_movies[~new_movies]
    known = small_interactions["movie_id"].isin(movies["movie_id"]) & (small_interactions["user_id"] % 10 != 3)
    interactions = small_interactions[known]
    return Then(interactions, fitted(interactions), movies)


def grown(then: FeatureMap, interactions: pd.DataFrame) -> FeatureMap:
    """Every old value with its old code, every new one behind them."""
    both = fitted(interactions)

    def longer(old: FieldVocabulary, new: FieldVocabulary) -> FieldVocabulary:
        values: Any = (*old.values, *(value for value in new.values if value not in set(old.values)))
        return replace(old, values=values)

    return FeatureMap(
        tuple(map(longer, then.fields, both.fields)), tuple(map(longer, then.multivalued, both.multivalued))
    )


@pytest.fixture(scope="module", params=["grown", "refitted"])
def now(request: pytest.FixtureRequest, then: Then, small_interactions: pd.DataFrame) -> FeatureMap:
    """The present feature map."""
    if request.param == "grown":
        return grown(then.feature_map, small_interactions)
    return fitted(small_interactions)


def encoded(interactions: pd.DataFrame, feature_map: FeatureMap, batch: Any = 0) -> pd.DataFrame:
    """In shuffled order."""
    rows = encode_interactions(interactions, feature_map)
    rows[schema.BATCH] = np.full(len(rows), batch, np.int32) if np.isscalar(batch) else batch
    return rows.sample(frac=1, random_state=1).reset_index(drop=True)


def data_of(
    recipe: Recipe,
    rows: pd.DataFrame,
    feature_map: FeatureMap,
    movies: pd.DataFrame,
    chosen: np.ndarray | None = None,
) -> TrainingData:
    return TrainingData.of(recipe, rows, feature_map, movies, folds_of(recipe, rows, feature_map), chosen)


def fitting_of(recipe: Recipe, then: Then) -> Fitting:
    """A training on what was known then."""
    rows = encoded(then.interactions, then.feature_map)
    return Fitting(recipe, data_of(recipe, rows, then.feature_map, then.movies))


def bundle_of(fitting: Fitting, recipe: Recipe, then: Then, users: pd.DataFrame) -> ModelBundle:
    return ModelBundle.of(fitting.serving_network, then.feature_map, users, then.movies, recipe.numbers)


@pytest.fixture(scope="module")
def champion(
    then: Then, small_users: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Recipe], ModelBundle]:
    """Makes models of then as they come from their files, with random weights, so that all of them matter."""

    @cache
    def champion(architecture: str) -> ModelBundle:
        recipe = next(recipe for recipe in RECIPES.values() if recipe.model_dump_json() == architecture)
        fitting, generator = fitting_of(recipe, then), np.random.default_rng(7)
        for layer in fitting.network.layers:
            for weight in layer.weights:
                if weight.name != "membership":
                    values = generator.normal(scale=0.4, size=weight.shape)
                    weight.assign(np.abs(values) if weight.name == "moving_variance" else values)
        path = tmp_path_factory.mktemp("champion") / "bundle.zip"
        bundle_of(fitting, recipe, then, small_users).save(path)
        return ModelBundle.load(path)

    return lambda recipe: champion(recipe.model_dump_json())


@pytest.fixture(scope="module", params=RECIPES)
def recipe(request: pytest.FixtureRequest) -> Recipe:
    return RECIPES[request.param]


@pytest.fixture(scope="module")
def data(
    recipe: Recipe, now: FeatureMap, then: Then, small_interactions: pd.DataFrame, small_movies: pd.DataFrame
) -> TrainingData:
    """The new rows and as many old ones."""
    is_new = ~small_interactions.index.isin(then.interactions.index)
    rows = encoded(small_interactions, now, is_new.astype(np.int32))
    chosen = choose_rows(rows, recipe, WarmStartConfig(replay=1), since=0)
    return data_of(recipe, rows, now, small_movies, chosen.positions)


def weights(network: keras.Model) -> dict[str, np.ndarray]:
    """By layer, place and name; a layer's own sublayers get new names in every process."""
    return {
        f"{layer.name}/{place}/{weight.name}": np.asarray(weight).copy()
        for layer in network.layers
        for place, weight in enumerate(layer.weights)
    }


def inner(network: keras.Model) -> keras.Model:
    nested = [layer for layer in network.layers if isinstance(layer, keras.Model)]
    return nested[0] if nested else network


@dataclass(frozen=True)
class Continued:
    """A network that continues from an earlier one, before any training."""

    recipe: Recipe
    earlier: ModelBundle
    network: keras.Model
    before: dict[str, np.ndarray]  # its own first weights


@pytest.fixture(scope="module")
def continued(
    recipe: Recipe,
    data: TrainingData,
    now: FeatureMap,
    champion: Callable[[Recipe], ModelBundle],
) -> Continued:
    earlier, network = champion(recipe), Fitting(recipe, data).network
    before = weights(network)
    continue_from(earlier, network, recipe, now)
    return Continued(recipe, earlier, network, before)


def test_before_any_training_known_values_get_the_earlier_scores(
    continued: Continued, now: FeatureMap, then: Then
) -> None:
    recipe, network = continued.recipe, continued.network
    rows = then.interactions.iloc[::70]
    codes = [each.transform(rows)[list(schema.FIELD_NAMES)].to_numpy("int32") for each in (then.feature_map, now)]
    inputs: list[list[np.ndarray]] = [[own] for own in codes]
    if recipe.numbers:
        inputs = [[own, rows[list(recipe.numbers)].to_numpy("float32")] for own in codes]
    elif recipe.signals:
        centres = np.array(network.get_layer("numbers").centres)
        signals = np.random.default_rng(3).normal(centres, 1, (len(rows), len(centres))).astype(np.float32)
        inputs = [[own, signals] for own in codes]
    scores = [
        np.asarray(each(own if len(own) > 1 else own[0], training=False))
        for each, own in zip((inner(continued.earlier.network), network), inputs, strict=True)
    ]
    assert scores[0].std() > 0.01
    rounding = 2e-5 if recipe.numbers or recipe.signals else 1e-6  # numeric features are standardized again
    np.testing.assert_allclose(scores[1], scores[0], rtol=0, atol=rounding)


def test_rows_of_new_values_and_nothing_else_stay_as_they_were(
    continued: Continued, now: FeatureMap, then: Then
) -> None:
    recipe, before, learned = continued.recipe, continued.before, weights(inner(continued.earlier.network))
    after = weights(continued.network)
    assert after.keys() == learned.keys()
    tables = {f"{layer}/0/table" for layer in ("embedding", *(f"{name}_embedding" for name in recipe.multivalued))}
    for name in after.keys() - tables:
        if name.startswith("numbers/"):
            continue  # standardized again: the scores above are the check
        expected = before if name.endswith("/membership") else learned
        assert after[name].tolist() == expected[name].tolist(), name
    start = old_start = new_values = 0
    for field in recipe.within(now).fields:
        for code, value in enumerate(now[field].values):
            if value in then.feature_map[field].values:
                expected = learned["embedding/0/table"][old_start + then.feature_map[field].values.index(value)]
            else:
                expected, new_values = before["embedding/0/table"][start + code], new_values + 1
            assert after["embedding/0/table"][start + code].tolist() == expected.tolist(), (field, value)
        start, old_start = start + len(now[field].values), old_start + len(then.feature_map[field].values)
    assert start == len(after["embedding/0/table"])
    assert new_values


def test_multivalued_rows_are_found_by_their_names(
    now: FeatureMap, then: Then, champion: Callable[[Recipe], ModelBundle], small_movies: pd.DataFrame
) -> None:
    recipe = RECIPES["paper_autoint"]
    earlier = champion(recipe)
    learned = np.asarray(inner(earlier.network).get_layer("genres_embedding").table).copy()
    known, names = (each["genres"].values for each in (then.feature_map, now))
    membership = membership_of(now.known("movie_id", small_movies)["genres"], now["genres"])
    inputs = Inputs(
        now.field_dims, recipe.positions(now.names), [0.0], [1.0], (Multivalued("genres", PAIR[1], membership),)
    )
    network = build_model(recipe.architecture, inputs, recipe.model, seed=1)
    before = np.asarray(network.get_layer("genres_embedding").table).copy()
    continue_from(earlier, network, recipe, now)
    table = np.asarray(network.get_layer("genres_embedding").table).copy()
    assert NEW_GENRE in set(names) - set(known)
    for row, name in enumerate(names):
        expected = learned[known.index(name)] if name in known else before[row]
        assert table[row].tolist() == expected.tolist(), name
    assert np.asarray(network.get_layer("genres_embedding").membership).copy().tolist() == membership.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["autoint_mlp", "autoint_catalogue", "paper_autoint"])
def test_a_warm_start_is_ahead_of_one_from_scratch(
    name: str, then: Then, small_users: pd.DataFrame, small_movies: pd.DataFrame, small_interactions: pd.DataFrame
) -> None:
    recipe, feature_map = RECIPES[name], grown(then.feature_map, small_interactions)
    earlier = fitting_of(recipe, then)
    earlier.run(lambda report: None)
    is_new = ~small_interactions.index.isin(then.interactions.index)
    rows = encoded(small_interactions, feature_map, is_new.astype(np.int32))
    settings = WarmStartConfig(replay=0.5)
    chosen = choose_rows(rows, recipe, settings, since=0)
    followed = warm_recipe(recipe, settings)
    data = data_of(followed, rows, feature_map, small_movies, chosen.positions)
    [scratch] = Fitting(followed, data).run(lambda report: None)
    fitting = Fitting(followed, data)
    continue_from(bundle_of(earlier, recipe, then, small_users), fitting.network, followed, feature_map)
    [warm] = fitting.run(lambda report: None)
    assert warm.train_loss < scratch.train_loss


CHANGES: dict[str, dict[str, Any]] = {
    "scaled is true": {"model.scaled": True},
    "units is 6": {"model.hidden_units": [32, 6]},
    "embed_dim is 5": {"model.embed_dim": 5},
    "head_dim is 5": {"model.head_dim": 5},
    "layers are": {"model.num_layers": 1},
    "rate is 0.3": {"model.dropout": 0.3},
    "use_residual is false": {"model.use_residual": False},
}


@pytest.mark.parametrize("reason", CHANGES)
def test_another_architecture_is_refused_and_nothing_changed(
    reason: str, then: Then, champion: Callable[[Recipe], ModelBundle]
) -> None:
    recipe = RECIPES["autoint_mlp"]
    other = with_values(recipe, CHANGES[reason])
    network = build_model(other.architecture, Inputs(then.feature_map.field_dims), other.model, seed=1)
    before = weights(network)
    with pytest.raises(NoWarmStartError, match=f"{reason}.*, in the earlier network"):
        continue_from(champion(recipe), network, other, then.feature_map)
    assert all((weight == before[name]).all() for name, weight in weights(network).items())


def test_other_fields_are_refused(then: Then, champion: Callable[[Recipe], ModelBundle]) -> None:
    recipe, fields = RECIPES["paper_autoint"], ("gender", "age", "occupation", "zip", "genre1")
    other = recipe.model_copy(update={"fields": fields, "numbers": ()})
    rows = encoded(then.interactions, then.feature_map)
    network = Fitting(other, data_of(other, rows, then.feature_map, then.movies)).network
    with pytest.raises(NoWarmStartError, match=r"layers are codes, .*, in the earlier network .*numbers"):
        continue_from(champion(recipe), network, other, then.feature_map)
    other = recipe.model_copy(update={"fields": fields})
    network = Fitting(other, data_of(other, rows, then.feature_map, then.movies)).network
    with pytest.raises(NoWarmStartError, match=r"fields's positions is \[10, 11, 12, 13, 7\], in the earlier network"):
        continue_from(champion(recipe), network, other, then.feature_map)


def test_a_bundle_whose_tables_are_of_other_values_is_refused(
    then: Then, champion: Callable[[Recipe], ModelBundle]
) -> None:
    recipe = RECIPES["autoint"]
    earlier = champion(recipe)
    network = build_model("autoint", Inputs(then.feature_map.field_dims), recipe.model, seed=1)
    before = weights(network)
    first, *others = then.feature_map.fields
    shorter = FeatureMap((FieldVocabulary(first.name, first.side, values=first.values[:-1]), *others))
    with pytest.raises(NoWarmStartError, match=r"embedding's table is \(\d+, 4\) for \d+ values, in the earlier"):
        continue_from(replace(earlier, feature_map=shorter), network, recipe, then.feature_map)
    renamed = FeatureMap((replace(first, name="viewer"), *others))
    with pytest.raises(NoWarmStartError, match=r"features are user_id, .* in the earlier model viewer, "):
        continue_from(replace(earlier, feature_map=renamed), network, recipe, then.feature_map)
    assert all((weight == before[name]).all() for name, weight in weights(network).items())


class TestRows:
    """Ten rows: likes are those of even positions; batches as listed."""

    BATCHES = (0, 0, 1, 3, 0, 2, 0, 3, 1, 0)

    @pytest.fixture
    def rows(self) -> pd.DataFrame:
        return pd.DataFrame({"label": [1, 0] * 5, "ingestion_batch": np.array(self.BATCHES, np.int32)})

    @pytest.fixture
    def plain(self) -> Recipe:
        return with_values(RECIPES["autoint"], {"training.validation_share": 0.5})

    @pytest.mark.parametrize(
        ("since", "replay", "new", "replayed"),
        [
            (0, 1.0, {2, 3, 5, 7, 8}, 5),
            (1, 0.0, {3, 5, 7}, 0),
            (1, 0.5, {3, 5, 7}, 2),
            (2, 2.0, {3, 7}, 4),
            (2, 9.0, {3, 7}, 8),
        ],
    )
    def test_new_rows_and_a_draw_of_old_ones(
        self, rows: pd.DataFrame, plain: Recipe, since: int, replay: float, new: set[int], replayed: int
    ) -> None:
        chosen = choose_rows(rows, plain, WarmStartConfig(replay=replay), since)
        positions = chosen.positions.tolist()
        assert (chosen.new, chosen.replayed) == (len(new), replayed)
        assert new <= set(positions) <= set(range(10))
        assert len(set(positions)) == len(positions) == len(new) + replayed

    def test_the_seed_and_the_delivery_decide(self, plain: Recipe) -> None:
        rows = pd.DataFrame({"label": 1, "ingestion_batch": np.repeat([0, 2], [400, 100])})

        def positions(seed: int, since: int) -> list[int]:
            recipe = with_values(plain, {"training.seed": seed})
            return choose_rows(rows, recipe, WarmStartConfig(replay=1), since).positions.tolist()

        assert positions(3, 0) == positions(3, 0)
        assert len({tuple(sorted(positions(seed, since))) for seed, since in ((3, 0), (4, 0), (3, 1))}) == 3

    def test_new_and_old_are_mixed(self, plain: Recipe) -> None:
        """So that the tail, which validates, holds both."""
        rows = pd.DataFrame({"label": 1, "ingestion_batch": np.repeat([0, 1], [4000, 1000])})
        chosen = choose_rows(rows, plain, WarmStartConfig(), since=0)
        tail = chosen.positions[-500:]
        assert (chosen.new, chosen.replayed) == (1000, 4000)
        assert 60 < (tail >= 4000).sum() < 140  # 100 on average

    def test_a_recipe_of_likes_takes_likes_alone(self, rows: pd.DataFrame) -> None:
        recipe = RECIPES["autoint_catalogue"]
        chosen = choose_rows(rows, recipe, WarmStartConfig(replay=1), since=0)
        assert (chosen.new, chosen.replayed) == (2, 2)
        assert {2, 8} < set(chosen.positions.tolist()) < {0, 2, 4, 6, 8}
        with pytest.raises(NoWarmStartError, match="no row to learn from came after batch 1"):
            choose_rows(rows, recipe, WarmStartConfig(), since=1)

    def test_without_new_rows_there_is_no_warm_start(self, rows: pd.DataFrame, plain: Recipe) -> None:
        with pytest.raises(NoWarmStartError, match="no row to learn from came after batch 3"):
            choose_rows(rows, plain, WarmStartConfig(), since=3)

    def test_one_row_is_too_few(self, rows: pd.DataFrame, plain: Recipe) -> None:
        with pytest.raises(NoWarmStartError, match="1 rows are too few to train and to validate on"):
            choose_rows(rows[rows["ingestion_batch"] != 3], plain, WarmStartConfig(replay=0), since=1)

    def test_the_last_delivery_is_the_highest(self, rows: pd.DataFrame) -> None:
        assert last_batch(rows) == 3

    def test_rows_without_deliveries_are_named(self, rows: pd.DataFrame, plain: Recipe) -> None:
        without = rows.drop(columns="ingestion_batch")
        with pytest.raises(DataError, match=r"train_interactions has no column ingestion_batch.*rebuild ratings"):
            choose_rows(without, plain, WarmStartConfig(), since=0)


def test_settings_of_the_warm_start_take_the_training_s_place() -> None:
    recipe = RECIPES["autoint_collaborative"]
    warm = warm_recipe(recipe, WarmStartConfig(epochs=2, learning_rate=1e-3))
    changes = {"epochs": 2, "learning_rate": 1e-3}
    assert warm == recipe.model_copy(update={"training": recipe.training.model_copy(update=changes)})
    assert warm_recipe(recipe, WarmStartConfig()).training.learning_rate == SMALL["training.learning_rate"]


@pytest.mark.parametrize("name", ["autoint", "autoint_collaborative", "paper_autoint"])
def test_chosen_rows_are_those_rows_of_all(name: str, then: Then, small_movies: pd.DataFrame) -> None:
    rows = encoded(then.interactions, then.feature_map)
    chosen = np.array([5, 2, 900, 40, 7, 1])
    every = data_of(RECIPES[name], rows, then.feature_map, small_movies)
    some = data_of(RECIPES[name], rows, then.feature_map, small_movies, chosen)
    pd.testing.assert_frame_equal(some.rows, every.rows.iloc[chosen].reset_index(drop=True))
    if every.numbers is None or some.numbers is None:
        assert (every.numbers, some.numbers) == (None, None)
        return
    assert some.numbers.tolist() == every.numbers[chosen].tolist()
    if every.pairs and some.pairs:
        assert some.pairs.of(rows).tolist() == every.pairs.of(rows).tolist()


def test_draws_for_chosen_likes_avoid_all_that_a_user_has_rated(then: Then, small_movies: pd.DataFrame) -> None:
    rows = encoded(then.interactions, then.feature_map)
    likes = np.flatnonzero(rows["label"] == 1)[[40, 3, 200, 77]]
    chosen = np.concatenate([likes, np.flatnonzero(rows["label"] == 0)[:3]])
    recipe = RECIPES["autoint_catalogue"].model_copy(update={"negatives": NegativesConfig(per_positive=2)})
    data = data_of(recipe, rows, then.feature_map, small_movies, chosen)
    assert data.rows[SOURCE].tolist() == np.repeat(likes, 3).tolist()
    assert data.rows["label"].tolist() == [1, 0, 0] * 4
    rated = set(zip(rows["user_id"], rows["movie_id"], strict=True))
    pairs = list(zip(data.rows["user_id"], data.rows["movie_id"], strict=True))
    assert [pair in rated for pair in pairs] == [True, False, False] * 4


def test_no_old_rows_are_needed() -> None:
    rows = pd.DataFrame({"label": [1, 0, 1], "ingestion_batch": [2, 2, 3]})
    chosen = choose_rows(rows, RECIPES["autoint"], WarmStartConfig(), since=1)
    assert (sorted(chosen.positions.tolist()), chosen.new, chosen.replayed) == ([0, 1, 2], 3, 0)
