"""What a training logs follows from the recipe and from the code, without lists to be kept in step."""

from importlib.metadata import requires

import keras
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ml.features.negatives import NegativesConfig
from ml.training.config import WarmStartConfig
from ml.training.recipes import Recipe
from orchestration.tracking.tracked_run import recipe_parameters, requirements
from tests.orchestration.recipes import RECIPES


def test_requirements_are_what_the_stored_code_imports() -> None:
    pins = {canonicalize_name(pin.split("==")[0]) for pin in requirements()}
    declared = {canonicalize_name(Requirement(each).name) for each in requires("movie-recommender") or ()}
    assert {"keras", "h5py", "numpy", "numba", "pandas", "pyarrow", "pydantic", "scipy"} <= pins <= declared
    assert not pins & {"dagster", "mlflow", "optuna", "scikit-learn", "streamlit"}
    backend = keras.config.backend()
    assert any(pin.startswith(backend) for pin in pins)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
def test_every_setting_of_a_recipe_is_a_parameter(recipe: Recipe) -> None:
    found = recipe_parameters(recipe)
    settings = {**recipe.model.model_dump(exclude_none=True), **recipe.training.model_dump(exclude_none=True)}
    assert settings.keys() <= found.keys()
    assert not type(recipe.model).model_fields.keys() & type(recipe.training).model_fields.keys()
    assert found["fields"] == ", ".join(recipe.fields)
    assert not {"description", "enabled", "search"} & found.keys()


def test_parts_of_a_recipe_have_dotted_names() -> None:
    changes = {"warm_start": WarmStartConfig(epochs=2), "negatives": NegativesConfig(per_positive=3)}
    found = recipe_parameters(RECIPES["autoint_catalogue"].model_copy(update=changes))
    assert (found["warm_start.epochs"], found["negatives.per_positive"]) == (2, 3)
    assert found["signals.factorizations.rating_15.factors"] == 15
    assert "warm_start.epochs" not in recipe_parameters(RECIPES["autoint"])
