"""What a training logs to its MLflow run. Imported only where MLflow is needed, since it is slow to import."""

import tempfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import keras
import mlflow
import pandas as pd
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema

from ml import schema
from ml.inference.scorer import PAIR_COLUMNS
from ml.models.bundle import ModelBundle
from ml.training.recipes import Recipe
from orchestration.config.settings import PROJECT_ROOT
from orchestration.config.tracking_config import TrackingConfig
from orchestration.tracking.fingerprint import FINGERPRINT
from orchestration.tracking.registered_version import BUNDLE_FILE, EPOCH, LAST_BATCH, WARM_START, RegisteredVersion

DAGSTER_URL = "dagster.url"  # tag of a run and a version: the page of the Dagster run that made it
_NOTE = "mlflow.note.content"
_COLOUR = "mlflow.runColor"
_USAGE = (
    "Takes user_id, movie_id, year and month, or a full row of the 14 fields; gives a score, the higher the better. "
    "The alias champion marks the version whose top-10 table is published, challenger that of the last run."
)
_TEXT_FIELDS = ("movie_decade", "rating_decade", "genre1", "genre2", "genre3", "gender", "zip")
_REQUIREMENTS = (
    "keras",
    "pandas",
    "numpy",
    "scipy",
    "pyarrow",
    "pydantic",
    "numba",
    "threadpoolctl",
    "universal-pathlib",
)
_BACKENDS = {"tensorflow": ("tensorflow-cpu", "tensorflow"), "jax": ("jax",), "torch": ("torch",)}


class TrackedRun:
    """The active MLflow run of one model asset."""

    def __init__(
        self, client: mlflow.MlflowClient, run_id: str, config: TrackingConfig, tags: Mapping[str, str]
    ) -> None:
        self.run_id = run_id
        self._client, self._config, self._tags = client, config, tags

    def log_setup(self, recipe: Recipe, parameters: int, train: pd.DataFrame, feature_map: Mapping[str, Any]) -> None:
        """The recipe, as parameters and as a document, the data trained on, and the feature map."""
        document = recipe.model_dump(mode="json")
        mlflow.set_tag(
            _NOTE, f"{recipe.description} Trained on {len(train):,} rows of {self._tags['dataset']}. {self._origin}"
        )
        # The UI's own colours come from the run's id, and two of them may be much the same.
        mlflow.set_tag(_COLOUR, to_hex(f"C{[*self._config.registered_models].index(self._tags['model'])}"))
        settings = {**document["model"], **document["training"], "parameters": parameters}
        columns = {"fields": recipe.fields, "multivalued": recipe.multivalued, "numbers": recipe.numbers}
        inputs = {name: ", ".join(names) for name, names in columns.items() if names}
        mlflow.log_params({"architecture": recipe.architecture, **inputs, **settings})
        if recipe.signals:
            fitted = {"factorizations": [*recipe.signals.factorizations], "ease": [*recipe.signals.ease]}
            mlflow.log_params({name: ", ".join(signals) for name, signals in fitted.items() if signals})
            mlflow.log_param("signal_folds", recipe.signals.folds)
        if recipe.negatives:
            mlflow.log_params({f"negatives_{name}": value for name, value in document["negatives"].items()})
        if recipe.warm_start:
            mlflow.log_params({f"warm_start_{name}": value for name, value in document["warm_start"].items()})
        mlflow.log_dict(document, "recipe.yaml")
        dataset = mlflow.data.from_pandas(train, name=self._tags["dataset"], targets=schema.LABEL)
        mlflow.log_input(dataset, context="training")
        mlflow.log_dict(dict(feature_map), "feature_map.json")

    def log_epoch(self, epoch: int, **losses: float) -> None:
        """The losses of an epoch, counted from 1."""
        mlflow.log_metrics(losses, step=epoch)

    def log_figure(self, figure: Figure, name: str) -> None:
        """A picture among the run's artifacts."""
        mlflow.log_figure(figure, name)

    @property
    def _origin(self) -> str:
        """Where the run comes from, as Markdown."""
        return f"[Dagster run]({self._tags[DAGSTER_URL]}) of the asset {self._tags['dagster.asset_key']}."

    def register(self, bundle: ModelBundle, recipe: Recipe, step: int) -> RegisteredVersion:
        """Log the bundle as a model that anyone can load, and make it the newest version of its registered model.

        Args:
            bundle: the trained network with what it needs.
            recipe: that it was trained by.
            step: the epoch that its weights are from.
        """
        model = self._tags["model"]
        info = self._log(model, bundle, step)
        name = self._config.registered_models[model]
        kept = ("dataset", "model", "dagster.run_id", DAGSTER_URL, "git_commit", LAST_BATCH)
        tags = {key: tag for key, tag in self._tags.items() if key in kept or key.startswith((FINGERPRINT, WARM_START))}
        tags[EPOCH] = str(step)
        registered = mlflow.register_model(info.model_uri, name, tags=tags)
        self._client.set_registered_model_tag(name, "dataset", self._tags["dataset"])
        self._client.update_registered_model(name, f"{recipe.description} {_USAGE}")
        about = f"{recipe.description} Weights of epoch {step}. {self._origin}"
        self._client.update_model_version(name, registered.version, about)
        self._client.set_registered_model_alias(name, self._config.aliases.trained, registered.version)
        # Runs of one model are told apart in lists.
        self._client.update_run(self.run_id, name=f"{model} version {registered.version}")
        return RegisteredVersion(model, name, str(registered.version), self.run_id, str(info.model_id))

    def _log(self, name: str, bundle: ModelBundle, step: int) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / BUNDLE_FILE
            bundle.save(path)
            return mlflow.pyfunc.log_model(
                name=name,
                python_model=str(Path(__file__).with_name("pyfunc.py")),
                artifacts={"bundle": str(path)},
                code_paths=[str(PROJECT_ROOT / "ml")],
                signature=_signature(bundle),
                input_example=_example(bundle),
                pip_requirements=_requirements(),
                step=step,
            )


def _signature(bundle: ModelBundle) -> ModelSignature:
    ids = [ColSpec("long", "user_id"), ColSpec("long", "movie_id")]
    others = [
        name
        for name in ("year", "month", *bundle.feature_map.names, *bundle.numbers)
        if name not in ("user_id", "movie_id")
    ]
    optional = [ColSpec("string" if name in _TEXT_FIELDS else "long", name, required=False) for name in others]
    return ModelSignature(inputs=Schema(ids + optional), outputs=Schema([ColSpec("float", "score")]))


def _example(bundle: ModelBundle) -> pd.DataFrame:
    years, months = bundle.feature_map["rating_year"], bundle.feature_map["rating_month"]
    pair = (bundle.users["user_id"].iloc[0], bundle.movies["movie_id"].iloc[0], years.index[-1], months.index[0])
    return pd.DataFrame([tuple(map(int, pair))], columns=list(PAIR_COLUMNS))


def _requirements() -> list[str]:
    """The packages that loading and scoring need, in the versions that are installed here."""
    pins = []
    for name in (*_REQUIREMENTS, *_BACKENDS[keras.config.backend()]):
        try:
            pins.append(f"{name}=={version(name)}")
        except PackageNotFoundError:  # of a backend's two builds only one is installed
            continue
    return pins
