from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from ml.errors import DataError
from ml.training.recipes import Recipe, load_recipes, own_parameters, recipes_text, with_values
from ml.training.search import Choices, NumberRange, suggest
from orchestration.config.settings import PROJECT_ROOT

PLAIN: dict[str, Any] = {"description": "A model.", "architecture": "autoint_mlp"}
SPACE: dict[str, Any] = {
    "training.learning_rate": {"low": 1e-5, "high": 1e-2, "log": True},
    "training.batch_size": {"low": 16, "high": 4096, "log": True},
    "model.num_layers": {"low": 1, "high": 4},
    "model.embed_dim": {"low": 4, "high": 16, "step": 4},
    "model.dropout": {"low": 0, "high": 0.8, "step": 0.2},
    "model.embedding_dropout": {"low": 0, "high": 0.5},
    "training.schedule": {"choices": ["constant", "cosine"]},
    "training.patience": {"choices": [None, 1, 3]},
    "model.hidden_units": {"choices": [[32, 32], [8]]},
    "model.scaled": {"choices": [False, True]},
}


def recipe_of(search: Any, **settings: Any) -> Recipe:
    return Recipe(**{**PLAIN, **settings}, search=search)


def test_every_range_is_kept_to() -> None:
    recipe = recipe_of(SPACE)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    found: dict[str, list[Any]] = {name: [] for name in SPACE}
    for _ in range(60):
        for name, value in suggest(recipe.search, study.ask()).items():
            found[name].append(value)
    rates = found["training.learning_rate"]
    assert 1e-5 <= min(rates) < 1e-4
    assert 1e-3 < max(rates) <= 1e-2
    sizes = found["training.batch_size"]
    assert all(isinstance(size, int) for size in sizes)
    assert 16 <= min(sizes) < 64
    assert 1024 < max(sizes) <= 4096
    assert set(found["model.num_layers"]) == {1, 2, 3, 4}
    assert set(found["model.embed_dim"]) == {4, 8, 12, 16}
    assert sorted(set(found["model.dropout"])) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])
    assert 0 <= min(found["model.embedding_dropout"]) < 0.1
    assert 0.4 < max(found["model.embedding_dropout"]) <= 0.5
    for name in ("training.schedule", "training.patience", "model.hidden_units", "model.scaled"):
        assert all(value in SPACE[name]["choices"] for value in found[name])
        assert all(choice in found[name] for choice in SPACE[name]["choices"])
    assert all(isinstance(value, bool) for value in found["model.scaled"])


def test_a_finished_trial_says_its_values_again() -> None:
    recipe = recipe_of(SPACE)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    trial = study.ask()
    values = suggest(recipe.search, trial)
    assert suggest(recipe.search, study.tell(trial, 1.0)) == values


def test_the_recipe_s_own_values_can_be_a_trial() -> None:
    recipe = recipe_of(SPACE)
    study = optuna.create_study()
    study.enqueue_trial(own_parameters(recipe))
    values = suggest(recipe.search, study.ask())
    assert with_values(recipe, values) == recipe
    assert values["model.hidden_units"] == [32, 32]


def test_choices_become_what_the_settings_make_of_them() -> None:
    recipe = recipe_of({"training.learning_rate": {"choices": ["1e-4", 1]}})
    assert recipe.search == {"training.learning_rate": Choices(choices=(1e-4, 1.0))}
    assert own_parameters(recipe) == {"training.learning_rate": "0.0001"}


@pytest.mark.parametrize(
    ("setting", "values"),
    [
        ("training.learning_rate", {"low": 1e-3, "high": 1e-2}),
        ("training.learning_rate", {"choices": [1e-3]}),
        ("model.embed_dim", {"low": 12, "high": 20, "step": 8}),
        ("model.dropout", {"low": 0.1, "high": 0.5, "step": 0.2}),
    ],
)
def test_a_space_without_the_recipe_s_own_value_is_refused(setting: str, values: Any) -> None:
    part, name = setting.split(".")
    recipe = recipe_of({setting: values})
    with pytest.raises(DataError, match=rf"search\.{setting}: does not contain {getattr(getattr(recipe, part), name)}"):
        own_parameters(recipe)


def test_values_replace_those_of_the_recipe_and_no_others() -> None:
    recipe = recipe_of(SPACE, model={"num_heads": 4}, training={"seed": 7})
    changed = with_values(recipe, {"training.epochs": 9, "model.num_layers": 1})
    assert changed.training == recipe.training.model_copy(update={"epochs": 9})
    assert changed.model == recipe.model.model_copy(update={"num_layers": 1})
    assert type(changed.model) is type(recipe.model)
    assert changed.search == recipe.search
    assert with_values(recipe, {}) == recipe


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"training.epochs": 0}, r"training\.epochs: .*greater than or equal to 1, found 0"),
        ({"model.width": 3}, r"model\.width: "),
        ({"signals.folds": 3}, r"signals\.folds: expected a setting of model or training"),
    ],
)
def test_a_value_that_the_settings_refuse_is_an_error(values: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        with_values(recipe_of({}), values)


RATE, LAYERS = "training.learning_rate", "model.num_layers"


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ({RATE: {"low": 1, "high": 1}}, ["search.training.learning_rate", "low below high"]),
        ({RATE: {"low": 0, "high": 1, "log": True}}, ["log: expected low above 0"]),
        ({RATE: {"low": 1, "high": 3, "log": True, "step": 1}}, ["log or step, not both"]),
        ({RATE: {"low": 0.1, "high": 0.6, "step": 0.2}}, ["step: expected high"]),
        ({RATE: {"low": 0.1, "high": 0.6, "step": 0}}, ["step", "greater than 0"]),
        ({RATE: {"low": 0.1}}, ["search.training.learning_rate", "high"]),
        ({RATE: {"low": 0.1, "high": 1, "max": 1}}, ["max"]),
        ({RATE: {"choices": []}}, ["choices", "at least 1"]),
        ({RATE: {"choices": [0.1, 0.1]}}, ["each value once"]),
        ({RATE: {"choices": [0.1], "high": 1}}, ["high"]),
        ({RATE: 3}, ["search.training.learning_rate"]),
        ({"training.rate": {"low": 1, "high": 2}}, ["search", "training.rate: unknown", RATE]),
        ({"learning_rate": {"low": 1, "high": 2}}, ["learning_rate: unknown", RATE]),
        ({"signals.folds": {"low": 2, "high": 4}}, ["signals.folds: unknown"]),
        ({"training.seed": {"low": 1, "high": 4}}, ["training.seed: cannot be searched"]),
        ({"training.validation_share": {"low": 0.1, "high": 0.2}}, ["training.validation_share: cannot be searched"]),
        ({"model.l2_embedding": {"low": 1e-7, "high": 1e-5}}, ["model.l2_embedding: cannot be searched", "penalty"]),
        ({RATE: {"low": -1, "high": 1}}, [RATE, "greater than 0, found -1"]),
        ({"model.dropout": {"low": 0, "high": 1.0}}, ["model.dropout", "less than 1, found 1.0"]),
        ({LAYERS: {"low": 1.0, "high": 3.0}}, [LAYERS, "expected integers"]),
        ({LAYERS: {"choices": [1, "two"]}}, [LAYERS, "two"]),
        ({"training.schedule": {"low": 1, "high": 2}}, ["training.schedule"]),
        ({"model.scaled": {"low": 0, "high": 1}}, ["model.scaled", "expected choices"]),
        ({"training.patience": {"low": 1, "high": 3}}, ["training.patience", "expected choices"]),
    ],
)
def test_mistakes_are_named_with_the_file(tmp_path: Path, search: Any, words: list[str]) -> None:
    path = tmp_path / "recipes.yaml"
    path.write_text(yaml.safe_dump({"recipes": {"a": {**PLAIN, "search": search}}}), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        load_recipes(path)
    for word in (str(path), "recipes.a", *words):
        assert word in str(caught.value)


def test_a_setting_of_another_architecture_is_unknown() -> None:
    with pytest.raises(ValueError, match=r"model\.dropout: unknown"):
        recipe_of({"model.dropout": {"low": 0, "high": 0.5}}, architecture="autoint")


def test_mistakes_elsewhere_are_named_before_those_of_the_search() -> None:
    with pytest.raises(ValueError, match="epochs"):
        recipe_of({RATE: {"low": 1e-4, "high": 1}}, training={"epochs": 0})


@pytest.mark.parametrize(
    "changed", [lambda recipe: recipe, lambda recipe: with_values(recipe, {RATE: 0.00123456789, LAYERS: 2})]
)
def test_recipes_survive_their_text(tmp_path: Path, changed: Callable[[Recipe], Recipe]) -> None:
    recipes = load_recipes(PROJECT_ROOT / "recipes.yaml")
    recipes |= {"plain": recipe_of({}), "searched": recipe_of(SPACE)}
    expected = {name: changed(recipe) for name, recipe in recipes.items()}
    path = tmp_path / "recipes.yaml"
    path.write_text(recipes_text(expected), encoding="utf-8")
    assert load_recipes(path) == expected
    assert yaml.safe_load(recipes_text({"plain": recipe_of({})})) == {"recipes": {"plain": PLAIN}}


def test_a_range_can_be_given_as_an_object() -> None:
    assert recipe_of({LAYERS: NumberRange(low=1, high=3)}) == recipe_of({LAYERS: {"low": 1, "high": 3}})
