"""mlflow.yaml, validated."""

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, Field, field_validator
from upath import UPath

from ml.errors import DataError
from ml.evaluation.gates import Gates
from ml.files import digest
from ml.settings_file import read_settings
from orchestration.config.recipes_in_force import recipes_in_force, reference_models
from orchestration.config.settings import settings

DEFAULT = "default"  # the entry of all recipes without an entry of their own
SERVED = "mlflow-artifacts:"  # scheme of locations that count from where a tracking server keeps its artifacts
ARTIFACTS = SERVED.removesuffix(":")  # the folder beside a SQLite database that SERVED means without a server
SQLITE = "sqlite:///"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_NO_NAME = re.compile(r"[/\\:@\x00-\x1f]")  # would break addresses such as models:/<name>@<alias>


class Aliases(BaseModel, frozen=True, extra="forbid"):
    """Names of the registry's aliases."""

    trained: str = Field(pattern=r"^[A-Za-z0-9_-]+$", description="Of the version of the last run.")
    published: str = Field(pattern=r"^[A-Za-z0-9_-]+$", description="Of the version whose top-10 table is published.")


class Retention(BaseModel, frozen=True, extra="forbid"):
    """What is kept of each model besides champion and challenger."""

    versions: int = Field(ge=1, description="The newest versions, with their runs.")
    champions: int = Field(ge=0, description="The latest earlier champions.")
    runs: int = Field(ge=0, description="The newest runs that made no version.")


class TrackingConfig(BaseModel, frozen=True, extra="forbid"):
    """The settings of mlflow.yaml, placeholders filled in."""

    tracking_uri: str = Field(description="MLflow's server or database; may hold {home}.")
    artifact_location: str = Field(
        description="Where a new experiment's artifacts are kept; must hold {dataset}, may hold {home}. "
        "mlflow-artifacts:/... is served by the tracking server and moves with the home, as does a path below the "
        "home; a relative path counts from it. Any other path, or URI that MLflow knows, is used as it is. Nothing is "
        "written or deleted anywhere else."
    )
    experiment: str = Field(description="The experiment's name; must hold {dataset}.")
    registered_models: dict[str, str] = Field(
        description="Names in the registry by recipe, `default` for all others; each must hold {dataset}, that of "
        "`default` also {recipe} (the recipe's name with hyphens); all must differ."
    )
    aliases: Aliases
    promotion: dict[str, Gates] = Field(
        description="The gates that a challenger must pass to become champion, by recipe; `default` for all others."
    )
    retention: Retention

    @field_validator("tracking_uri", "artifact_location", "experiment")
    @classmethod
    def _can_be_filled(cls, value: str) -> str:
        return _checked(value, "home", "dataset")

    @field_validator("experiment", "artifact_location")
    @classmethod
    def _keeps_data_sets_apart(cls, value: str) -> str:
        if "{dataset}" not in value:
            raise ValueError("must contain {dataset}, so that data sets never mix")
        return value

    @field_validator("registered_models")
    @classmethod
    def _names_keep_models_apart(cls, names: dict[str, str]) -> dict[str, str]:
        _require_all(names, recipes_in_force(), "a name")
        for recipe, name in names.items():
            cls._keeps_data_sets_apart(_checked(name, "dataset", *(["recipe"] if recipe == DEFAULT else [])))
            if _NO_NAME.search(name):
                raise ValueError(f"{recipe}: expected a name without / \\ : @ and control characters")
        if "{recipe}" not in names.get(DEFAULT, "{recipe}"):
            raise ValueError(f"{DEFAULT}: must contain {{recipe}}, so that models never mix")
        every = _names(names, "{dataset}")
        if len(set(every.values())) != len(every):
            raise ValueError("two models share a registered name")
        return names

    @field_validator("promotion")
    @classmethod
    def _has_gates_for_all(cls, gates: dict[str, Gates]) -> dict[str, Gates]:
        _require_all(gates, reference_models(), "gates")
        return gates

    def gates(self, recipe: str) -> Gates:
        """What a recipe's challenger must pass."""
        return self.promotion.get(recipe) or self.promotion[DEFAULT]

    def fill(self, home: UPath, dataset: str) -> "TrackingConfig":
        """The same settings with {home} and {dataset} filled in.

        Raises:
            DataError: the tracking URI needs a local home and the home is elsewhere, or it contains a password.
        """
        local = home.protocol in ("", "file")
        if "{home}" in self.tracking_uri and not local:
            raise DataError(
                f"mlflow.yaml, tracking_uri: a database under {home} is not possible; set MLFLOW_TRACKING_URI"
            )
        values = {"home": str(home), "dataset": dataset}
        tracking_uri = self.tracking_uri.format(**values)
        if is_server(tracking_uri) and "@" in urlsplit(tracking_uri).netloc:  # it would become part of links and tags
            raise DataError(
                "MLFLOW_TRACKING_URI, or tracking_uri of mlflow.yaml: expected an address without user and password; "
                "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )
        return self.model_copy(
            update={
                "tracking_uri": tracking_uri,
                "artifact_location": _located(self.artifact_location.format(**values), home, tracking_uri),
                "experiment": self.experiment.format(**values),
                "registered_models": _names(self.registered_models, dataset),
            }
        )


def is_server(tracking_uri: str) -> bool:
    """Whether a tracking URI is the address of a server, and not of a database."""
    return tracking_uri.startswith(("http://", "https://"))


def database_file(tracking_uri: str) -> Path:
    """The file of a SQLite database."""
    return Path(tracking_uri.removeprefix(SQLITE).split("?")[0])


def local_path(location: str) -> Path | None:
    """The directory that a location without a scheme, or a ``file:`` URI, means; None for any other location."""
    if location.startswith("file:"):
        return Path(unquote(urlsplit(location).path)).resolve()
    return None if _SCHEME.match(location) else Path(location).resolve()


def _checked(value: str, *placeholders: str) -> str:
    """The text, if it has no placeholders other than these. Raises ValueError."""
    try:
        value.format(**dict.fromkeys(placeholders, ""))
    except (LookupError, ValueError) as error:
        expected = " and ".join(f"{{{name}}}" for name in placeholders)
        raise ValueError(f"must hold no other placeholders than {expected}") from error
    return value


def _require_all(entries: Iterable[str], recipes: Iterable[str], what: str) -> None:
    """Raise ValueError unless every recipe has an entry, or there is one for all others."""
    named = {*entries}
    if DEFAULT not in named and (missing := [recipe for recipe in recipes if recipe not in named]):
        raise ValueError(f"must have {what} for {', '.join(missing)}, or for {DEFAULT}")


def _names(patterns: dict[str, str], dataset: str) -> dict[str, str]:
    """Registered names of all enabled recipes, and of others that have an entry of their own."""
    own = recipes_in_force()
    recipes = [*own, *(recipe for recipe in patterns if recipe not in own and recipe != DEFAULT)]
    return {
        recipe: patterns.get(recipe, patterns.get(DEFAULT, "")).format(dataset=dataset, recipe=recipe.replace("_", "-"))
        for recipe in recipes
    }


def _located(location: str, home: UPath, tracking_uri: str) -> str:
    """A location as a URI; a path counts from the home.

    What is beside the home's own database is named as the tracking server does, so that it moves with the home.
    """
    is_local = home.protocol in ("", "file")
    if not is_local:
        return location if _SCHEME.match(location) else str(home / location)
    inside = location if _SCHEME.match(location) else str(Path(str(home)) / Path(location).expanduser())
    if (path := local_path(inside)) is None:
        return location
    beside = Path(str(home)).resolve() / ARTIFACTS
    with_database = tracking_uri.startswith(SQLITE) and database_file(tracking_uri).resolve().parent == beside.parent
    if with_database and path != beside and path.is_relative_to(beside):
        return f"{SERVED}/{path.relative_to(beside)}"
    return path.as_uri()


def load_tracking_config(path: Path | None = None, tracking_uri: str | None = None) -> TrackingConfig:
    """Read and validate mlflow.yaml; ``tracking_uri`` overrides the file's. Raises DataError naming file and field."""
    return read_settings(
        path or settings().mlflow_yaml, TrackingConfig, **({"tracking_uri": tracking_uri} if tracking_uri else {})
    )


@cache
def tracking_config() -> TrackingConfig:
    """The settings of mlflow.yaml with MLFLOW_TRACKING_URI in force, read once per process. Raises DataError."""
    return load_tracking_config(tracking_uri=settings().mlflow_tracking_uri)


def tracking_rules() -> str:
    """Digest of the settings of mlflow.yaml, wherever its server is: part of the version of assets that follow them."""
    return digest(tracking_config().model_dump_json(exclude={"tracking_uri"}).encode())
