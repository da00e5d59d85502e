from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from upath import UPath

from ml.errors import DataError
from orchestration.config.settings import PROJECT_ROOT
from orchestration.config.tracking_config import load_tracking_config
from tests.orchestration.recipes import MODELS, RECIPES

PATH = PROJECT_ROOT / "mlflow.yaml"
Change = Callable[[dict[str, Any]], Any]


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mlflow.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def put(*keys: str, value: Any) -> Change:
    """A change of one field, however deep."""

    def change(document: dict[str, Any]) -> None:
        for key in keys[:-1]:
            document = document[key]
        document[keys[-1]] = value

    return change


def remove(*keys: str) -> Change:
    """A field left out."""

    def change(document: dict[str, Any]) -> None:
        for key in keys[:-1]:
            document = document[key]
        del document[keys[-1]]

    return change


BAD: dict[str, tuple[Change, str, str]] = {
    "missing tracking_uri": (remove("tracking_uri"), "tracking_uri", "required"),
    "missing artifact_location": (remove("artifact_location"), "artifact_location", "required"),
    "missing experiment": (remove("experiment"), "experiment", "required"),
    "missing registered_models": (remove("registered_models"), "registered_models", "required"),
    "missing aliases": (remove("aliases"), "aliases", "required"),
    "missing alias": (remove("aliases", "published"), "aliases.published", "required"),
    "unknown field": (put("tracking_url", value="x"), "tracking_url", "not permitted"),
    "unknown alias": (put("aliases", "staging", value="x"), "aliases.staging", "not permitted"),
    "bad alias": (put("aliases", "trained", value="the best"), "aliases.trained", "the best"),
    "missing gates": (remove("promotion", "default"), "promotion", "must have gates for autoint, "),
    "negative margin": (
        put("promotion", "default", "below_champion", value=-1),
        "promotion.default.below_champion",
        "greater than or equal",
    ),
    "unknown gate": (put("promotion", "default", "auc", value=1), "promotion.default.auc", "not permitted"),
    "metric without a value a user": (
        put("promotion", "default", "metric", value="auc"),
        "promotion.default.metric",
        "'auc'",
    ),
    "no version kept": (put("retention", "versions", value=0), "retention.versions", "greater than or equal"),
    "experiment without data set": (put("experiment", value="films"), "experiment", "{dataset}"),
    "artifacts without data set": (put("artifact_location", value="{home}/a"), "artifact_location", "{dataset}"),
    "model without data set": (put("registered_models", "autoint", value="a"), "registered_models", "{dataset}"),
    "one name for two models": (
        put("registered_models", value=dict.fromkeys(RECIPES, "{dataset}-model")),
        "registered_models",
        "share",
    ),
    "model left out": (
        remove("registered_models", "default"),
        "registered_models",
        "must have a name for autoint, autoint_mlp, autoint_collaborative, autoint_catalogue, or for default",
    ),
    "one name for all models": (
        put("registered_models", "default", value="{dataset}-model"),
        "registered_models",
        "default: must contain {recipe}",
    ),
    "a model has another's name": (
        put("registered_models", "paper_autoint", value="{dataset}-autoint"),
        "registered_models",
        "share",
    ),
    "name that leads elsewhere": (
        put("registered_models", "autoint", value="../{dataset}"),
        "registered_models",
        "autoint: expected a name without /",
    ),
    "unknown placeholder": (put("tracking_uri", value="sqlite:///{hom}/x"), "tracking_uri", "placeholders"),
    "unknown placeholder beside": (put("experiment", value="{dataset}{foo}"), "experiment", "placeholders"),
    "stray brace": (put("artifact_location", value="{home}/{dataset}/{"), "artifact_location", "placeholders"),
    "unknown placeholder in a model's name": (
        put("registered_models", "autoint", value="{dataset}{version}"),
        "registered_models",
        "placeholders",
    ),
    "number for a name": (put("experiment", value=7), "experiment", "7"),
    "list of models": (put("registered_models", value=["a"]), "registered_models", "dictionary"),
}


@pytest.mark.parametrize(("change", "field", "reason"), BAD.values(), ids=BAD.keys())
def test_bad_field_is_named(tmp_path: Path, change: Change, field: str, reason: str) -> None:
    document = yaml.safe_load(PATH.read_text("utf-8"))
    change(document)
    path = written(tmp_path, yaml.safe_dump(document))
    with pytest.raises(DataError) as caught:
        load_tracking_config(path)
    assert str(caught.value).startswith(f"{path}, {field}: ")
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("a: [", "YAML"), ("a: b: c", "YAML"), ("", "mapping"), ("- a", "mapping"), ("words", "mapping")],
)
def test_file_that_is_no_mapping(tmp_path: Path, text: str, reason: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(DataError, match=reason) as caught:
        load_tracking_config(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.yaml"):
        load_tracking_config(tmp_path / "nowhere.yaml")


def test_placeholders_are_filled(tmp_path: Path) -> None:
    config = load_tracking_config().fill(UPath(tmp_path), "films")
    assert config.tracking_uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert config.artifact_location == "mlflow-artifacts:/films"
    assert config.experiment == "movie-recommender-films"
    assert {model: config.registered_models[model] for model in MODELS} == {
        model: f"films-{model.replace('_', '-')}" for model in MODELS
    }
    assert config.registered_models["paper_autoint"] == "films-autoint-song2019"
    assert (config.aliases.trained, config.aliases.published) == ("challenger", "champion")


def test_every_recipe_has_a_registered_name_and_gates_whether_the_file_names_it_or_not(tmp_path: Path) -> None:
    document = yaml.safe_load(PATH.read_text("utf-8"))
    config = load_tracking_config(PATH).fill(UPath(tmp_path), "films")
    assert set(config.registered_models) == set(RECIPES)
    assert config.gates("autoint_mlp").metric == document["promotion"]["default"]["metric"]
    assert config.gates("autoint_catalogue").metric == "catalogue_ndcg_at_10"
    own = {"paper_autoint_mlp": "{dataset}-mine", "default": "{recipe}-of-{dataset}", "someone_elses": "{dataset}-x"}
    names = load_tracking_config(written(tmp_path, yaml.safe_dump(document | {"registered_models": own})))
    filled = names.fill(UPath(tmp_path), "films").registered_models
    assert filled["autoint_mlp"] == "autoint-mlp-of-films"
    assert (filled["paper_autoint_mlp"], filled["someone_elses"]) == ("films-mine", "films-x")


def test_tracking_uri_can_be_overridden(tmp_path: Path) -> None:
    uri = "http://tracking.example:5000"
    config = load_tracking_config(tracking_uri=uri)
    assert config.tracking_uri == uri
    assert config.fill(UPath(tmp_path), "films").tracking_uri == uri


def test_remote_home_needs_a_tracking_uri() -> None:
    home = UPath("memory://pipeline")
    with pytest.raises(DataError, match=r"^mlflow\.yaml, tracking_uri: .*MLFLOW_TRACKING_URI"):
        load_tracking_config().fill(home, "films")
    config = load_tracking_config(tracking_uri="http://tracking.example:5000").fill(home, "films")
    assert config.artifact_location == "mlflow-artifacts:/films"
    beside = config.model_copy(update={"artifact_location": "art/{dataset}"}).fill(home, "films")
    assert beside.artifact_location.startswith("memory://")
    assert beside.artifact_location.endswith("pipeline/art/films")


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("s3://bucket/{dataset}", "s3://bucket/films"),
        ("dbfs:/{dataset}", "dbfs:/films"),
        ("file:///data/{dataset}", "file:///data/films"),
        ("mlflow-artifacts:/{dataset}", "mlflow-artifacts:/films"),
        ("{home}/art/{dataset}", "file://{home}/art/films"),
        ("{home}/mlflow-artifacts/{dataset}", "mlflow-artifacts:/films"),
        ("mlflow-artifacts/{dataset}", "mlflow-artifacts:/films"),
        ("./art/{dataset}", "file://{home}/art/films"),
        ("art of/{dataset}", "file://{home}/art%20of/films"),
        ("/data/{dataset}", "file:///data/films"),
        ("~/{dataset}", f"{Path.home().as_uri()}/films"),
    ],
)
def test_artifacts_may_lie_elsewhere(tmp_path: Path, location: str, expected: str) -> None:
    document = yaml.safe_load(PATH.read_text("utf-8")) | {"artifact_location": location}
    config = load_tracking_config(written(tmp_path, yaml.safe_dump(document))).fill(UPath(tmp_path), "films")
    assert config.artifact_location == expected.replace("{home}", str(tmp_path))


def test_an_address_with_a_password_is_refused_without_telling_it() -> None:
    config = load_tracking_config(tracking_uri="https://me:hush@mlflow.example/")
    with pytest.raises(DataError, match="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD") as caught:
        config.fill(UPath("memory://pipeline"), "films")
    assert "hush" not in str(caught.value)
    assert load_tracking_config(tracking_uri="https://mlflow.example/").fill(UPath("memory://pipeline"), "films")
