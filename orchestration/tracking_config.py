"""mlflow.yaml, validated."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator
from upath import UPath

from ml.errors import DataError
from ml.evaluation.promotion import Gates
from ml.settings_file import read_settings
from orchestration.assets.common import MODELS, RECIPES
from orchestration.settings import Settings


class Aliases(BaseModel):
    """Names of the registry's aliases."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trained: str = Field(pattern=r"^[A-Za-z0-9_-]+$", description="Of the version of the last run.")
    published: str = Field(pattern=r"^[A-Za-z0-9_-]+$", description="Of the version whose top-10 table is published.")


class Retention(BaseModel):
    """What is kept of each model besides its champion and challenger."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    versions: int = Field(ge=1, description="The newest versions, with their runs.")
    champions: int = Field(ge=0, description="The latest earlier champions.")
    runs: int = Field(ge=0, description="The newest runs that made no version.")


class TrackingConfig(BaseModel):
    """The settings of mlflow.yaml, placeholders filled in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tracking_uri: str = Field(description="MLflow's server or database; may hold {home}.")
    artifact_location: str = Field(description="Where the experiment's artifacts are kept; may hold {home}.")
    experiment: str = Field(description="The experiment's name; must hold {dataset}.")
    registered_models: dict[str, str] = Field(
        description="Names in the registry by recipe; each must hold {dataset}, all must differ."
    )
    aliases: Aliases
    promotion: dict[str, Gates] = Field(description="What a challenger must hold to become champion, by recipe.")
    retention: Retention

    @field_validator("tracking_uri", "artifact_location", "experiment")
    @classmethod
    def _can_be_filled(cls, value: str) -> str:
        try:
            value.format(home="", dataset="")
        except (LookupError, ValueError) as error:
            raise ValueError("must hold no other placeholders than {home} and {dataset}") from error
        return value

    @field_validator("experiment", "artifact_location")
    @classmethod
    def _keeps_data_sets_apart(cls, value: str) -> str:
        if "{dataset}" not in value:
            raise ValueError("must contain {dataset}, so that data sets never mix")
        return value

    @field_validator("registered_models")
    @classmethod
    def _names_keep_models_apart(cls, names: dict[str, str]) -> dict[str, str]:
        if missing := [model for model in RECIPES if model not in names]:
            raise ValueError(f"must name {', '.join(missing)}")
        for name in names.values():
            cls._keeps_data_sets_apart(cls._can_be_filled(name))
        if len(set(names.values())) != len(names):
            raise ValueError("two models share a registered name")
        return names

    @field_validator("promotion")
    @classmethod
    def _has_gates_for_all(cls, gates: dict[str, Gates]) -> dict[str, Gates]:
        if missing := [model for model in MODELS if model not in gates]:
            raise ValueError(f"must have gates for {', '.join(missing)}")
        return gates

    def fill(self, home: UPath, dataset: str) -> "TrackingConfig":
        """The same settings with {home} and {dataset} filled in.

        Raises:
            DataError: the tracking URI needs a local home and the home is elsewhere.
        """
        local = home.protocol in ("", "file")
        if "{home}" in self.tracking_uri and not local:
            raise DataError(
                f"mlflow.yaml, tracking_uri: a database under {home} is not possible; set MLFLOW_TRACKING_URI"
            )
        values = {"home": str(home), "dataset": dataset}
        artifacts = self.artifact_location.format(**values)
        return self.model_copy(
            update={
                "tracking_uri": self.tracking_uri.format(**values),
                "artifact_location": Path(artifacts).as_uri() if local and "://" not in artifacts else artifacts,
                "experiment": self.experiment.format(**values),
                "registered_models": {model: name.format(**values) for model, name in self.registered_models.items()},
            }
        )


def load_tracking_config(path: Path | None = None, tracking_uri: str | None = None) -> TrackingConfig:
    """Read and validate mlflow.yaml; ``tracking_uri`` overrides the file's. Raises DataError naming file and field."""
    return read_settings(
        path or Settings().tracking_file, TrackingConfig, **({"tracking_uri": tracking_uri} if tracking_uri else {})
    )
