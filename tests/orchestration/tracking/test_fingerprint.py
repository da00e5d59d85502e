from typing import Any

import pytest

from ml.training.config import WarmStartConfig
from ml.training.recipes import Recipe, with_values
from orchestration.tracking.fingerprint import TRAINING_FILES, training_fingerprint, tuning_fingerprint

RECIPE = Recipe(
    description="For tests.",
    architecture="autoint",
    model={},  # type: ignore[arg-type]
    search={"training.epochs": {"low": 1, "high": 6}},  # type: ignore[dict-item]
)


class Stored:
    """Tables of which only the digests are known."""

    def __init__(self, **changed: str) -> None:
        self._changed = changed

    def digest(self, name: str) -> str:
        return self._changed.get(name.partition(".")[0], "same")


def training(recipe: Recipe = RECIPE, code: str = "code", **tables: str) -> str:
    storage: Any = Stored(**tables)
    return training_fingerprint(storage, code, recipe).whole


def tuning(recipe: Recipe = RECIPE, **tables: str) -> str:
    storage: Any = Stored(**tables)
    return tuning_fingerprint(storage, recipe)


def changed(**values: Any) -> Recipe:
    return RECIPE.model_copy(update=values)


LONGER = with_values(RECIPE, {"training.epochs": 4})
WARM, NOT_SEARCHED = changed(warm_start=WarmStartConfig()), changed(search={})


@pytest.mark.parametrize("file", TRAINING_FILES)
def test_other_tables_have_another_fingerprint(file: str) -> None:
    tables = {file.partition(".")[0]: "other"}
    assert training(**tables) != training()
    assert tuning(**tables) != tuning()


def test_only_a_recipe_with_moments_depends_on_the_times_of_all_ratings() -> None:
    moments, others = changed(moments=("rating_hour",)), {"encoded_interactions": "other"}
    assert training(**others) == training()
    assert tuning(**others) == tuning()
    assert training(moments, **others) != training(moments)
    assert tuning(moments, **others) != tuning(moments)


def test_a_training_depends_on_recipe_and_code_but_not_on_the_search_space() -> None:
    prints = [training(), training(LONGER), training(WARM), training(code="other")]
    assert len(set(prints)) == 4
    assert training(changed(description="Other words.")) == training(NOT_SEARCHED) == training()


def test_a_study_depends_on_recipe_and_search_space_but_not_on_the_warm_start() -> None:
    assert len({tuning(), tuning(LONGER), tuning(NOT_SEARCHED)}) == 3
    assert tuning(changed(description="Other words.")) == tuning(WARM) == tuning()
