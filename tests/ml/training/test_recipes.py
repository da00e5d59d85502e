from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from ml import schema
from ml.errors import DataError
from ml.features.ease import EaseConfig
from ml.features.feature_map import FeatureMap, FieldVocabulary
from ml.features.negatives import NegativesConfig
from ml.models.config import AutoIntConfig, AutoIntMLPConfig
from ml.training.config import TrainingConfig, WarmStartConfig
from ml.training.recipes import Recipe, load_recipes, recipes_text
from orchestration.config.settings import PROJECT_ROOT

PLAIN: dict[str, Any] = {"description": "A model.", "architecture": "autoint"}


def written(tmp_path: Path, recipes: Any) -> Path:
    path = tmp_path / "recipes.yaml"
    path.write_text(yaml.safe_dump({"recipes": recipes}, sort_keys=False), encoding="utf-8")
    return path


def feature_map_of(names: Sequence[str], multivalued: tuple[str, ...] = ()) -> FeatureMap:
    fields, several = (
        tuple(FieldVocabulary(name, "movie", values=("a",)) for name in each) for each in (names, multivalued)
    )
    return FeatureMap(fields, several)


MOVIELENS = feature_map_of(schema.FIELD_NAMES, schema.MULTIVALUED)


def test_the_project_s_collaborative_recipes_name_what_they_leave_out() -> None:
    recipes = load_recipes(PROJECT_ROOT / "recipes.yaml")
    collaborative, catalogue = (recipes[f"autoint_{name}"].within(MOVIELENS) for name in ("collaborative", "catalogue"))
    assert collaborative.fields == (
        "movie_year", "rating_year", "rating_month", "genre1", "genre2", "gender", "age", "occupation"
    )  # fmt: skip
    assert catalogue.fields == ("movie_year", "genre1", "gender", "age", "occupation")


def test_a_recipe_learns_from_the_features_of_any_data_set() -> None:
    shop = feature_map_of(["user_id", "movie_id", "brand", "tags1"], ("tags",))
    recipe = Recipe(**{**PLAIN, "without": ["user_id", "movie_id", "zip"], "multivalued": ["genres", "tags"]})
    followed = recipe.within(shop)
    assert (followed.fields, followed.multivalued) == (("brand", "tags1"), ("tags",))
    assert (recipe.left_out(shop), recipe.features) == (["genres"], "genres, tags")
    assert Recipe(**{**PLAIN, "without": ["zip"]}).features == "all features but zip"
    assert recipe.within(feature_map_of(["user_id", "movie_id"])).fields == ("user_id", "movie_id")  # nothing else left


def test_the_project_s_reference_recipes_are_the_reference() -> None:
    recipes = load_recipes(PROJECT_ROOT / "recipes.yaml")
    for name, model in (("autoint", AutoIntConfig()), ("autoint_mlp", AutoIntMLPConfig())):
        assert recipes[name].architecture == name
        assert recipes[name].model == model
        assert type(recipes[name].model) is type(model)
        assert recipes[name].training == TrainingConfig()
        followed = recipes[name].within(MOVIELENS)
        assert followed.fields == schema.FIELD_NAMES
        assert followed.positions(schema.FIELD_NAMES) is None
        assert recipes[name].signals is None
        assert recipes[name].negatives is None
        assert (recipes[name].multivalued, recipes[name].numbers) == ((), ())
        assert recipes[name].protocol == "reference"


def test_the_project_s_paper_recipes_are_of_the_paper_s_protocol() -> None:
    recipes = load_recipes(PROJECT_ROOT / "recipes.yaml")
    paper = {name: recipe for name, recipe in recipes.items() if recipe.protocol == "paper"}
    assert {recipe.architecture for recipe in paper.values()} == {"autoint", "autoint_mlp"}
    for recipe in paper.values():
        assert recipe.fields == ("gender", "age", "occupation", "zip", "movie_year")
        assert (recipe.multivalued, recipe.numbers) == (("genres",), ("timestamp",))
        assert (recipe.signals, recipe.negatives) == (None, None)


def test_a_recipe_is_data(tmp_path: Path) -> None:
    signals = {"factorizations": {"rating_3": {"factors": 3}}, "folds": 4}
    document = {
        "second": {**PLAIN, "architecture": "autoint_mlp", "model": {"hidden_units": [8]}, "signals": signals},
        "first": {**PLAIN, "fields": ["movie_year", "gender"], "training": {"epochs": 2}},
    }
    recipes = load_recipes(written(tmp_path, document))
    assert list(recipes) == ["second", "first"]
    assert recipes["second"].model == AutoIntMLPConfig(hidden_units=[8])
    assert recipes["second"].signals is not None
    assert recipes["second"].signals.factorizations["rating_3"].factors == 3
    assert recipes["first"].positions(schema.FIELD_NAMES) == [3, 10]
    assert recipes["first"].training.epochs == 2
    assert recipes["first"].model_dump()["model"] == AutoIntConfig().model_dump()


def test_what_a_recipe_can_learn_from_is_data(tmp_path: Path) -> None:
    document = {
        "a": {**PLAIN, "protocol": "paper", "multivalued": ["genres"], "numbers": ["timestamp"]},
        "b": {**PLAIN, "negatives": {"per_positive": 3, "seed": 2}, "signals": {"ease": {"e": {"of": "ratings"}}}},
        "c": {**PLAIN, "negatives": {"per_positive": 1}, "numbers": ["timestamp"]},
    }
    recipes = load_recipes(written(tmp_path, document))
    assert [recipe.protocol for recipe in recipes.values()] == ["paper", "reference", "reference"]
    assert (recipes["a"].multivalued, recipes["a"].numbers) == (("genres",), ("timestamp",))
    assert recipes["b"].negatives == NegativesConfig(per_positive=3, popularity_power=0, seed=2)
    assert recipes["b"].signals is not None
    assert recipes["b"].signals.ease == {"e": EaseConfig(of="ratings")}
    assert recipes["c"].negatives == NegativesConfig(per_positive=1)


def test_moments_come_beside_the_fields() -> None:
    names = (*schema.FIELD_NAMES, "rating_hour", "session_position")
    wide = feature_map_of(names)
    moments = ("rating_hour", "session_position")
    every, some = (Recipe(**{**PLAIN, **own, "moments": moments}) for own in ({}, {"fields": ["zip", "age"]}))
    assert every.within(wide).fields == names
    assert every.within(wide).positions(names) is None
    assert some.within(wide).fields == ("zip", "age", *moments)
    assert some.within(wide).positions(names) == [13, 11, 14, 15]
    assert Recipe(**{**PLAIN, "without": schema.FIELD_NAMES[2:], "moments": moments}).within(wide).fields == (
        "user_id", "movie_id", *moments
    )  # fmt: skip
    assert (every.features, some.features) == (
        "all features, rating_hour, session_position", "zip, age, rating_hour, session_position"
    )  # fmt: skip
    assert Recipe(**PLAIN).moments == ()


def test_moments_need_times() -> None:
    recipe = Recipe(**{**PLAIN, "moments": ["rating_hour", "days_since_first"]})
    assert recipe.obstacle(MOVIELENS) == (
        "the recipe learns from rating_hour, days_since_first, and the data set's ratings have no time"
    )  # none of these fields is of the context
    timed = FeatureMap((*MOVIELENS.fields, FieldVocabulary("rating_year", "context", values=(2000,))))
    assert recipe.obstacle(timed) == ""


def test_the_project_s_recipe_with_moments_is_autoint_with_all_of_them() -> None:
    book = yaml.safe_load((PROJECT_ROOT / "recipes.yaml").read_text("utf-8"))["recipes"]
    recipe, autoint = (Recipe(**book[name]) for name in ("autoint_moments", "autoint"))
    assert recipe.moments == schema.MOMENT_NAMES
    own = {"description", "enabled", "moments"}
    assert recipe.model_dump(exclude=own) == autoint.model_dump(exclude=own)
    assert not recipe.enabled


def test_recipes_that_are_switched_off_are_left_out(tmp_path: Path) -> None:
    assert list(load_recipes(written(tmp_path, {"a": {**PLAIN, "enabled": False}, "b": PLAIN}))) == ["b"]


@pytest.mark.parametrize(
    ("recipes", "words"),
    [
        ({}, "recipes"),
        ({"a": {**PLAIN, "enabled": False}}, "enabled"),
        ({"A b": PLAIN}, "A b"),
        ({"a": {"architecture": "autoint"}}, "description"),
        ({"a": {**PLAIN, "architecture": "deepfm"}}, "deepfm"),
        ({"a": {"description": "x"}}, "unknown architecture"),
        ({"a": {**PLAIN, "optimizer": "adam"}}, "optimizer"),
        ({"a": {**PLAIN, "model": {"hidden_units": [3]}}}, "hidden_units"),
        ({"a": {**PLAIN, "training": {"epochs": 0}}}, "epochs"),
        ({"a": {**PLAIN, "training": {"schedule": "linear"}}}, "schedule"),
        ({"a": {**PLAIN, "fields": ["director"]}}, "director"),
        ({"a": {**PLAIN, "fields": ["gender", "gender"]}}, "each name once"),
        ({"a": {**PLAIN, "fields": ["age"], "without": ["zip"]}}, "fields and without cannot be combined"),
        ({"a": {**PLAIN, "without": ["director"]}}, "director"),
        ({"a": {**PLAIN, "signals": {"affinity_fields": ["studio"]}}}, "studio"),
        (
            {"a": {**PLAIN, "signals": {"affinity_fields": ["age"]}}},
            "a.signals: unknown age; expected some of movie_id",
        ),
        (
            {"a": {**PLAIN, "signals": {"bayesian": {"b": {"user_fields": ["genre1"]}}}}},
            "a.signals: unknown genre1; expected some of user_id, gender, age, occupation, zip",
        ),
        ({"a": {**PLAIN, "multivalued": ["actors"]}}, "unknown actors; expected some of genres"),
        ({"a": {**PLAIN, "multivalued": ["genre1"]}}, "unknown genre1"),
        (
            {"a": {**PLAIN, "multivalued": ["genres", "genres"]}},
            "recipes.a.multivalued: Value error, expected each name once",
        ),
        ({"a": {**PLAIN, "numbers": ["rating", "age"]}}, "unknown rating, age; expected some of timestamp"),
        (
            {"a": {**PLAIN, "numbers": ["timestamp", "timestamp"]}},
            "recipes.a.numbers: Value error, expected each name once",
        ),
        (
            {"a": {**PLAIN, "moments": ["rating_minute"]}},
            "unknown rating_minute; expected some of rating_hour, rating_weekday, days_since_first, session_position",
        ),
        ({"a": {**PLAIN, "moments": ["rating_hour", "rating_hour"]}}, "each name once"),
        ({"a": {**PLAIN, "fields": ["rating_hour"]}}, "unknown rating_hour"),  # they are named as moments
        ({"a": {**PLAIN, "numbers": ["timestamp"], "signals": {}}}, "numbers and signals cannot be combined"),
        ({"a": {**PLAIN, "negatives": {}}}, "recipes.a.negatives.per_positive"),
        ({"a": {**PLAIN, "negatives": {"per_positive": 1, "power": 1}}}, "power"),
        ({"a": {**PLAIN, "protocol": "temporal"}}, "recipes.a.protocol"),
        ({"a": {**PLAIN, "signals": {"folds": 1}}}, "folds"),
        ({"a": {**PLAIN, "signals": {"ease": {"e": {"of": "views"}}}}}, "recipes.a.signals.ease.e.of"),
        ({"a": {**PLAIN, "signals": {"factorizations": {"x": {"rank": 1}}}}}, "rank"),
    ],
)
def test_mistakes_are_named_with_the_file(tmp_path: Path, recipes: Any, words: str) -> None:
    path = written(tmp_path, recipes)
    with pytest.raises(DataError) as caught:
        load_recipes(path)
    assert str(path) in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["", "..", "../x", "/x", "a/b", "a\\b", "a.b", "a\n", "a\0", "A", "é", "1a", "a" * 65])
def test_a_name_cannot_leave_its_directory(tmp_path: Path, name: Any) -> None:
    path = written(tmp_path, {"autoint": PLAIN, name: PLAIN})
    with pytest.raises(DataError) as caught:
        load_recipes(path)
    message = str(caught.value)
    assert message.startswith(f"{path}, recipes.{name}.[key]: ")
    assert message.endswith(f"found {name!r}")


@pytest.mark.parametrize("text", ["- a\n", "recipes: [", ""])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipes.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"recipes\.yaml"):
        load_recipes(path)


def test_a_warm_start_is_asked_for(tmp_path: Path) -> None:
    document = {
        "cold": PLAIN,
        "usual": {**PLAIN, "warm_start": {}},
        "own": {**PLAIN, "warm_start": {"epochs": 2, "replay": 0, "learning_rate": 1e-3, "max_generations": 3}},
    }
    recipes = load_recipes(written(tmp_path, document))
    assert recipes["cold"].warm_start is None
    assert recipes["usual"].warm_start == WarmStartConfig()
    own = WarmStartConfig(epochs=2, replay=0, learning_rate=1e-3, max_generations=3)
    assert recipes["own"].warm_start == own
    again = tmp_path / "again.yaml"
    again.write_text(recipes_text(recipes), "utf-8")
    assert load_recipes(again) == recipes


@pytest.mark.parametrize("settings", [{"replay": -1}, {"epochs": 0}, {"generations": 3}, {"max_generations": 0}])
def test_bad_settings_of_a_warm_start_are_refused(tmp_path: Path, settings: dict[str, object]) -> None:
    with pytest.raises(DataError, match=f"first.warm_start.{next(iter(settings))}"):
        load_recipes(written(tmp_path, {"first": {**PLAIN, "warm_start": settings}}))


def test_features_that_a_data_set_lacks_are_left_out(tmp_path: Path) -> None:
    names = ("user_id", "movie_id", "movie_year", "genre1")
    feature_map = feature_map_of(names)
    recipe = Recipe(
        **{
            **PLAIN,
            "fields": ["movie_year", "gender", "genre1", "zip"],
            "signals": {
                "affinity_fields": ["genre2", "genre1"],
                "bayesian": {"b": {"user_fields": ["age"], "movie_fields": ["genre1", "genre3"]}},
            },
        }
    )
    restricted = recipe.within(feature_map)
    assert restricted.fields == ("movie_year", "genre1")
    assert restricted.signals is not None
    assert restricted.signals.affinity_fields == ("genre1",)
    assert restricted.signals.bayesian["b"].fields == ("genre1",)
    assert recipe.left_out(feature_map) == ["gender", "zip"]
    assert restricted.positions(names) == [2, 3]
    assert Recipe(**PLAIN).within(feature_map).positions(names) is None  # all that there are
    with pytest.raises(DataError, match="none of the recipe's fields is there: gender, zip"):
        Recipe(**{**PLAIN, "fields": ["gender", "zip"]}).within(feature_map)


SEQUENCE = {"description": "The order.", "architecture": "sasrec", "fields": ["user_id", "movie_id"]}


def test_a_recipe_may_learn_from_the_order_of_ratings() -> None:
    recipe = Recipe(**SEQUENCE)
    assert recipe.learns_order
    assert recipe.features == "user_id, movie_id, the order of ratings"
    assert not Recipe(**PLAIN).learns_order


@pytest.mark.parametrize(
    "recipe",
    [
        SEQUENCE,
        {**PLAIN, "pretrained": {"movie_id": "word2vec"}},
        {**PLAIN, "pretrained": {"movie_id": "sasrec"}},
        {**PLAIN, "signals": {"sequence": {"next": {}}}},
    ],
)
def test_ratings_without_time_have_no_order(recipe: dict[str, Any]) -> None:
    untimed = feature_map_of(["user_id", "movie_id"])
    assert Recipe(**recipe).obstacle(untimed) == (
        "the recipe learns from the order of ratings, and the data set's ratings have no time"
    )


def test_diverse_lists_need_genres() -> None:
    recipe = Recipe(**PLAIN, diversity=0.1)
    assert recipe.obstacle(feature_map_of(["user_id", "movie_id"])) == (
        "the recipe's lists are diverse by genre, and the data set's movies have no genres"
    )
    assert recipe.obstacle(MOVIELENS) == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fields": ["movie_id"]}, r"sasrec needs fields: \[user_id, movie_id\], got \[movie_id\]"),
        ({"negatives": {"per_positive": 1}}, "learns from the order of ratings alone; remove negatives"),
        ({"numbers": ["timestamp"], "multivalued": ["genres"]}, "remove multivalued, numbers"),
        ({"pretrained": {"movie_id": "word2vec"}}, "remove pretrained"),
        ({"model": {"head_dim": 4}}, "head_dim"),
    ],
)
def test_settings_that_the_order_cannot_have_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Recipe(**{**SEQUENCE, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"without": ["movie_id"]}, "pretrained: movie_id is no feature of the recipe"),
        ({"fields": ["gender"]}, "pretrained: movie_id is no feature of the recipe"),
        ({"negatives": {"per_positive": 1}}, "pretrained and negatives cannot be combined"),
    ],
)
def test_pretrained_vectors_need_their_feature(changes: dict[str, Any], message: str) -> None:
    assert Recipe(**PLAIN, pretrained={"movie_id": "word2vec"}).pretrained
    with pytest.raises(ValidationError, match=message):
        Recipe(**{**PLAIN, "pretrained": {"movie_id": "word2vec"}, **changes})
