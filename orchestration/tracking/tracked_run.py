"""Log a training to its MLflow run. Imported only where MLflow is needed, since MLflow is slow to import."""

import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

import keras
import mlflow
import pandas as pd
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from mlflow.data.pandas_dataset import PandasDataset
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema

from ml import schema
from ml.files import digest
from ml.inference.scorer import PAIR_COLUMNS
from ml.models.autoint import rating_network
from ml.models.bundle import ModelBundle
from ml.training.recipes import NOT_LEARNED, Recipe
from orchestration.config.code_versions import sources
from orchestration.config.compute_config import COMPUTED_BY
from orchestration.config.settings import PROJECT_ROOT
from orchestration.config.tracking_config import TrackingConfig
from orchestration.tracking.bundles import BundleCopies
from orchestration.tracking.fingerprint import FINGERPRINT
from orchestration.tracking.registered_version import (
    BUNDLE_DIGEST,
    BUNDLE_FILE,
    EPOCH,
    LAST_BATCH,
    WARM_START,
    RegisteredVersion,
)

DAGSTER_URL = "dagster.url"  # tag of a run and a version: the page of the Dagster run that made it
_NOTE = "mlflow.note.content"
_COLOR = "mlflow.runColor"
_USAGE = (
    "Takes user_id, movie_id, year and month, or a full row of all features; gives a score, the higher the better. "
    "The alias champion marks the published version, challenger the version of the last run."
)
_ROWS_OF_SCHEMA = 100
_MODEL = "orchestration.tracking.pyfunc"
_MODEL_FILE = Path(__file__).with_name("pyfunc.py")
_OWN_PACKAGES = ("ml", "orchestration")  # their code is stored with the model
_UNPREFIXED = ("model", "training")  # parts of a recipe whose settings are parameters under their own names


class TrackedRun:
    """The active MLflow run of one model asset.

    Attributes:
        run_id: of the run.

    Args:
        client: of the tracking server.
        run_id: of the run.
        config: mlflow.yaml, filled in.
        tags: of the run.
    """

    def __init__(
        self, client: mlflow.MlflowClient, run_id: str, config: TrackingConfig, tags: Mapping[str, str]
    ) -> None:
        self.run_id = run_id
        self._client, self._config, self._tags = client, config, tags

    def log_setup(self, recipe: Recipe, parameters: int, train: pd.DataFrame, feature_map: Mapping[str, Any]) -> None:
        """Log the recipe, as parameters and as a file, the training rows and the feature map.

        Args:
            recipe: with the launch's settings.
            parameters: number of trainable parameters.
            train: encoded training rows.
            feature_map: as JSON-ready document.
        """
        dataset = self._tags["dataset"]
        mlflow.set_tag(_NOTE, f"{recipe.description} Trained on {len(train):,} rows of {dataset}. {self._origin}")
        # MLflow's default colors depend on the run's id, and two of them may look the same.
        mlflow.set_tag(_COLOR, to_hex(f"C{[*self._config.registered_models].index(self._tags['model'])}"))
        mlflow.log_params({**recipe_parameters(recipe), "parameters": parameters})
        mlflow.log_dict(recipe.model_dump(mode="json"), "recipe.yaml")
        mlflow.log_input(dataset_of(train, dataset, self._tags[f"{FINGERPRINT}.data"]), context="training")
        self.log_document(feature_map, "feature_map.json")

    def log_epoch(self, epoch: int, **losses: float) -> None:
        """Log the losses of an epoch, counted from 1."""
        mlflow.log_metrics(losses, step=epoch)

    def log_figure(self, figure: Figure, name: str) -> None:
        """Log a figure to the run's artifacts."""
        mlflow.log_figure(figure, name)

    def log_document(self, document: Mapping[str, Any], name: str) -> None:
        """Log a JSON-ready document to the run's artifacts."""
        mlflow.log_dict(dict(document), name)

    @property
    def _origin(self) -> str:
        """A link to the Dagster run, as Markdown."""
        return f"[Dagster run]({self._tags[DAGSTER_URL]}) of the asset {self._tags['dagster.asset_key']}."

    def register(self, bundle: ModelBundle, recipe: Recipe, step: int) -> RegisteredVersion:
        """Log the bundle as an MLflow model and register it as the newest version and challenger.

        Args:
            bundle: the trained network with its encoders.
            recipe: what it was trained from.
            step: the epoch of its weights.
        """
        model = self._tags["model"]
        name = self._config.registered_models[model]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / BUNDLE_FILE
            bundle.save(path)
            info, data = _log(model, bundle, path, step), path.read_bytes()
        kept = ("dataset", "model", "dagster.run_id", DAGSTER_URL, "git_commit", LAST_BATCH, COMPUTED_BY)
        tags = {key: tag for key, tag in self._tags.items() if key in kept or key.startswith((FINGERPRINT, WARM_START))}
        tags |= {EPOCH: str(step), BUNDLE_DIGEST: digest(data)}
        registered = mlflow.register_model(info.model_uri, name, tags=tags)
        self._client.set_registered_model_tag(name, "dataset", self._tags["dataset"])
        self._client.update_registered_model(name, f"{recipe.description} {_USAGE}")
        about = f"{recipe.description} Weights of epoch {step}. {self._origin}"
        self._client.update_model_version(name, registered.version, about)
        self._client.set_registered_model_alias(name, self._config.aliases.trained, registered.version)
        # The name tells the runs of one model apart.
        self._client.update_run(self.run_id, name=f"{model} version {registered.version}")
        BundleCopies(self._tags["dataset"], model).store(str(info.model_id), data)
        return RegisteredVersion(model, name, str(registered.version), self.run_id, str(info.model_id))


def dataset_of(train: pd.DataFrame, name: str, fingerprint: str) -> PandasDataset:
    """Return what MLflow notes of training rows: name, digest, schema, source and counts.

    MLflow would look at every value in Python, which takes as long as a third of an epoch. So the digest is given, and
    the schema is that of the first rows.

    Args:
        train: encoded training rows, without missing values.
        name: of the data set.
        fingerprint: the rows' digest.
    """
    rows, first = (
        mlflow.data.from_pandas(each, name=name, targets=schema.LABEL, digest=fingerprint)
        for each in (train, train.head(_ROWS_OF_SCHEMA))
    )
    rows.schema = first.schema
    return rows


def recipe_parameters(recipe: Recipe) -> dict[str, Any]:
    """Everything in a recipe that decides the weights, as MLflow parameters.

    Settings of the parts ``model`` and ``training`` have their own names, those of other parts dotted ones, such as
    ``warm_start.epochs``. What is empty is left out.
    """
    document = recipe.model_dump(mode="json", exclude={*NOT_LEARNED, "search"}, exclude_none=True)
    parts = [document.pop(part) for part in _UNPREFIXED]
    return {name: value for part in (document, *parts) for name, value in _flat(part)}


def _flat(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in document.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            if value:
                yield f"{prefix}{key}", ", ".join(map(str, value))
        else:
            yield f"{prefix}{key}", value


def _log(name: str, bundle: ModelBundle, path: Path, step: int) -> Any:
    return mlflow.pyfunc.log_model(
        name=name,
        python_model=str(_MODEL_FILE),
        artifacts={"bundle": str(path)},
        code_paths=[str(PROJECT_ROOT / "ml")],
        signature=signature_of(bundle),
        input_example=example_of(bundle),
        pip_requirements=list(requirements()),
        step=step,
    )


def signature_of(bundle: ModelBundle) -> ModelSignature:
    """The columns that a registered model takes and gives; those with strings as values are ``string``."""
    texts = {field.name for field in bundle.feature_map.fields if isinstance(field.values[0], str)}
    ids = ("user_id", "movie_id")
    names = dict.fromkeys([*ids, "year", "month", *bundle.feature_map.names, *bundle.numbers])
    columns = [ColSpec("string" if name in texts else "long", name, required=name in ids) for name in names]
    outputs = ["score", "rating"] if rating_network(bundle.network) else ["score"]
    return ModelSignature(inputs=Schema(columns), outputs=Schema([ColSpec("float", name) for name in outputs]))


def example_of(bundle: ModelBundle) -> pd.DataFrame:
    """A pair that a registered model can score, one row."""
    feature_map = bundle.feature_map
    user, movie = (feature_map[name].values[0] for name in ("user_id", "movie_id"))
    pair = (user, movie, feature_map.years[-1], feature_map.months[0])
    return pd.DataFrame([pair], columns=list(PAIR_COLUMNS))


@cache
def requirements() -> tuple[str, ...]:
    """Pin the packages that loading and scoring import, in the versions that are installed here.

    The imports are read from the code that is stored with the model. MLflow adds itself.
    """
    imports = {name.split(".")[0] for source in sources(_MODEL).values() for name in source.imports}
    distributions = packages_distributions()
    needed = (imports | {keras.config.backend()}) - {*_OWN_PACKAGES, "mlflow"}
    names = {distributions[name][0] for name in needed if name in distributions}  # the others are Python's own
    return tuple(sorted(f"{name}=={version(name)}" for name in names))
