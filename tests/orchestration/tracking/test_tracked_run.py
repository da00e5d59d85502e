"""What a training logs follows from the recipe and from the code, without lists to be kept in step."""

import json
from dataclasses import replace
from importlib.metadata import requires
from pathlib import Path
from types import SimpleNamespace

import keras
import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ml import schema
from ml.data.formats import RawTables
from ml.data.movielens_tables import preprocess_movies, preprocess_users
from ml.features.feature_map import FeatureMap, FieldVocabulary
from ml.features.negatives import NegativesConfig
from ml.features.tables import join_interactions, preprocess_ratings
from ml.inference.scorer import Scorer
from ml.models.autoint import Inputs, build_model
from ml.models.bundle import ModelBundle
from ml.models.config import AutoIntConfig, AutoIntMultitaskConfig
from ml.training.config import WarmStartConfig
from ml.training.recipes import Recipe
from orchestration.config.settings import PROJECT_ROOT
from orchestration.tracking.pyfunc import RecommenderModel
from orchestration.tracking.tracked_run import dataset_of, example_of, recipe_parameters, requirements, signature_of
from tests.feature_maps import fitted
from tests.orchestration.recipes import RECIPES
from tests.string_ids import with_string_vocabulary, with_strings


def test_requirements_are_what_the_stored_code_imports() -> None:
    pins = {canonicalize_name(pin.split("==")[0]) for pin in requirements()}
    declared = {canonicalize_name(Requirement(each).name) for each in requires("movie-recommender") or ()}
    assert {"keras", "h5py", "numpy", "numba", "pandas", "pyarrow", "pydantic", "scipy"} <= pins <= declared
    assert not pins & {"dagster", "mlflow", "optuna", "scikit-learn", "streamlit"}
    backend = keras.config.backend()
    assert any(pin.startswith(backend) for pin in pins)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
def test_every_setting_of_a_recipe_is_a_parameter(recipe: Recipe) -> None:
    names = (FieldVocabulary(field.name, field.side, values=("a",)) for field in schema.FIELDS)
    recipe = recipe.within(FeatureMap(tuple(names)))
    found = recipe_parameters(recipe)
    settings = {**recipe.model.model_dump(exclude_none=True), **recipe.training.model_dump(exclude_none=True)}
    assert settings.keys() <= found.keys()
    assert not type(recipe.model).model_fields.keys() & type(recipe.training).model_fields.keys()
    assert found["fields"] == ", ".join(recipe.fields)
    assert not {"description", "enabled", "search"} & found.keys()


def test_training_rows_are_noted_as_mlflow_itself_would_with_the_digest_given() -> None:
    count = 300
    rows = pd.DataFrame({"user_id": np.arange(count, dtype=np.int32), schema.LABEL: np.ones(count, np.int8)})
    rows["timestamp"] = np.arange(count, dtype=np.int64)
    expected = mlflow.data.from_pandas(rows, name="ml-1m", targets=schema.LABEL).to_dict()
    assert dataset_of(rows, "ml-1m", "0123").to_dict() == {**expected, "digest": "0123"}
    assert json.loads(expected["profile"])["num_rows"] == count


def test_parts_of_a_recipe_have_dotted_names() -> None:
    changes = {"warm_start": WarmStartConfig(epochs=2), "negatives": NegativesConfig(per_positive=3)}
    found = recipe_parameters(RECIPES["autoint_catalogue"].model_copy(update=changes))
    assert (found["warm_start.epochs"], found["negatives.per_positive"]) == (2, 3)
    assert found["signals.bayesian.bayesian_rating.factors"] == 15
    assert "warm_start.epochs" not in recipe_parameters(RECIPES["autoint"])


@pytest.fixture(scope="module")
def interactions(small_raw: RawTables) -> pd.DataFrame:
    users, movies = preprocess_users(small_raw.users), preprocess_movies(small_raw.movies)
    return join_interactions(users, movies, preprocess_ratings(small_raw.ratings))


@pytest.fixture(scope="module")
def bundle(small_raw: RawTables, interactions: pd.DataFrame) -> ModelBundle:
    feature_map = fitted(interactions)
    config = AutoIntConfig(embed_dim=4, num_layers=1, head_dim=2)
    network = build_model("autoint", Inputs(feature_map.field_dims), config, seed=1)
    return ModelBundle.of(network, feature_map, small_raw.users, preprocess_movies(small_raw.movies))


def test_a_multi_task_model_gives_the_rating_too(
    bundle: ModelBundle, interactions: pd.DataFrame, tmp_path: Path
) -> None:
    inputs = Inputs(bundle.feature_map.field_dims, rating_centre=3.5)
    config = AutoIntMultitaskConfig(embed_dim=4, num_layers=1, head_dim=2)
    multitask = replace(bundle, network=build_model("autoint_multitask", inputs, config, seed=1))
    assert [column.name for column in signature_of(multitask).outputs] == ["score", "rating"]
    multitask.save(tmp_path / "bundle.zip")
    model = RecommenderModel()
    model.load_context(SimpleNamespace(artifacts={"bundle": str(tmp_path / "bundle.zip")}))
    found = model.predict(None, interactions.head(3))
    assert found.dtypes.to_dict() == {"score": np.float32, "rating": np.float32}
    np.testing.assert_allclose(found["rating"], 3.5, atol=0.01)  # not trained: the mean


@pytest.mark.parametrize("columns", [[], ["user_id"], ["user_id", "movie_id"]], ids=["integers", "mixed", "strings"])
def test_logged_model_takes_ids_of_the_data_sets_types(
    columns: list[str], bundle: ModelBundle, interactions: pd.DataFrame, tmp_path: Path
) -> None:
    named, path = with_string_vocabulary(bundle, columns), tmp_path / "bundle.zip"
    named.save(path)
    example, rows = example_of(named), with_strings(interactions.head(20), columns)
    mlflow.pyfunc.save_model(
        str(tmp_path / "model"),
        python_model=str(PROJECT_ROOT / "orchestration" / "tracking" / "pyfunc.py"),
        artifacts={"bundle": str(path)},
        signature=signature_of(named),
        input_example=example,
        pip_requirements=[],
    )
    model = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    types = {column.name: (str(column.type), column.required) for column in model.metadata.get_input_schema()}
    for name in ("user_id", "movie_id"):
        assert types[name] == ("DataType.string" if name in columns else "DataType.long", True)
        assert example[name].dtype == ("str" if name in columns else "int64")
    assert model.predict(example)["score"].between(0, 1).all()
    expected = Scorer(bundle).score_rows(interactions.head(20))
    assert model.predict(rows)["score"].tolist() == expected.tolist()
    other = {"user_id": [7 if "user_id" in columns else "C-0017"]}
    with pytest.raises(MlflowException, match="user_id"):
        model.predict(example.assign(**other))
