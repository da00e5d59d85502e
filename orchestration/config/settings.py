"""The environment's settings; nothing else in the project reads environment variables."""

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import available_timezones

import fsspec
from fsspec.utils import get_protocol
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from upath import UPath

from ml.data.datasets import DEFAULT
from ml.errors import DataError

PROJECT_ROOT = Path(__file__).resolve().parents[2]
_RESERVED = "?#%"  # of URLs: the home becomes part of database addresses
_LOCAL = ("", "file", "local")
_DATABASES = ("postgresql", "postgresql+psycopg2")
# Two writers cannot claim a home at once where a file can be written on the condition that there is none.
_HOMES = (*_LOCAL, "s3", "memory")


def _expanded(value: Any) -> Any:
    """A path with ``~`` expanded, as a shell does on the command line, but not in ``.env``."""
    return str(Path(value).expanduser()) if isinstance(value, str) and value.startswith("~") else value


def _usable_home(value: str) -> str:
    protocol = get_protocol(value)
    if protocol not in _HOMES:
        raise ValueError(
            f"expected a directory or s3://<bucket>/<prefix>; {protocol}:// cannot be written, or its claims by two "
            "writers at once cannot be told apart"
        )
    try:
        fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        raise ValueError(f"{protocol}:// needs a driver ({error}); pip install -e '.[s3]'") from None
    if found := next((mark for mark in _RESERVED if mark in value), None):
        raise ValueError(f"expected a directory or URL without {found!r}, which has a meaning in database addresses")
    return value


def _database(value: SecretStr) -> SecretStr:
    try:
        parts = urlsplit(value.get_secret_value())
        named = parts.scheme in _DATABASES and len(parts.path) > 1
    except ValueError:
        named = False
    if not named:
        raise ValueError("expected an address such as postgresql://<user>:<password>@<host>:5432/<database>")
    return value


_timezones = cache(available_timezones)  # reads hundreds of files


def _timezone(value: str) -> str:
    if value not in _timezones():
        raise ValueError("expected a name of the time zone database, such as UTC or Europe/Berlin")
    return value


_Home = Annotated[str, BeforeValidator(_expanded), AfterValidator(_usable_home)]
# A relative path counts from the project's root.
_Path = Annotated[Path, BeforeValidator(_expanded), AfterValidator(lambda path: PROJECT_ROOT / path)]
_Port = Annotated[int, Field(ge=1, le=65535)]


class Settings(BaseSettings):
    """Values of environment variables, named like the fields in upper case, or of lines in the file ``.env``.

    Raises:
        DataError: a value is invalid; names the variable, the value and what was expected.
    """

    model_config = SettingsConfigDict(
        env_file=PROJECT_ROOT / ".env", extra="ignore", env_ignore_empty=True, validate_default=True
    )

    dataset: str | None = Field(
        default=None,
        description="Data set: a name of datasets.yaml, or generated data, such as synthetic; overrides MOVIELENS_DIR.",
    )
    datasets_yaml: _Path = Field(default=Path("datasets.yaml"), description="The data sets, by name.")
    movielens_dir: str = Field(
        default=DEFAULT,
        description="Directory with the files of a MovieLens of any size, or a name as for DATASET.",
    )
    movielens_cache: _Path = Field(
        default=Path("data"), description="Where downloaded and generated raw files are kept."
    )
    incoming_dir: _Path | None = Field(
        default=None,
        description="Where files with new ratings, users and movies arrive, in a directory named like the data set; "
        "default: <pipeline_home>/incoming.",
    )
    pipeline_home: _Home = Field(
        default="var",
        description="Directory under which everything is written; or s3://<bucket>/<prefix> for tables and published "
        "versions, whose one writer keeps all else (ingested files, checkpoints, ...) in pipeline_local_home.",
    )
    pipeline_local_home: _Path | None = Field(
        default=None,
        description="If pipeline_home is a URL: the directory for all else; default: var. Its path is part of the "
        "writer's name in writer.json.",
    )
    mlflow_tracking_uri: str | None = Field(default=None, description="Overrides tracking_uri of mlflow.yaml.")
    mlflow_tracking_username: str | None = Field(
        default=None, description="User of an MLflow server that asks for one."
    )
    mlflow_tracking_password: SecretStr | None = Field(default=None, description="The user's password.")
    mlflow_yaml: _Path = Field(default=Path("mlflow.yaml"), description="Settings of tracking and promotion.")
    recipes_yaml: _Path = Field(default=Path("recipes.yaml"), description="What is trained.")
    monitoring_yaml: _Path = Field(default=Path("monitoring.yaml"), description="Limits beyond which runs warn.")
    compute_yaml: _Path = Field(default=Path("compute.yaml"), description="Where the heavy steps compute.")
    compute: Literal["local", "ray"] | None = Field(
        default=None, description="On this machine, or on a Ray cluster; overrides compute of compute.yaml."
    )
    dagster_home: _Path | None = Field(
        default=None, description="Dagster's instance; default: <pipeline_home>/dagster."
    )
    dagster_postgres_url: Annotated[SecretStr, AfterValidator(_database)] | None = Field(
        default=None,
        description="PostgreSQL database of Dagster's records, postgresql://<user>:<password>@<host>:5432/<database>; "
        "default: SQLite files in dagster_home.",
    )
    dagster_runs_kept: int = Field(
        default=1000,
        ge=1,
        description="How many ended runs Dagster remembers, about 1 MB each; before each run, older ones are deleted, "
        "except those that made an asset's current state, and the last success and failure of each job and data set.",
    )
    serving_yaml: _Path = Field(default=Path("serving.yaml"), description="What the REST service does.")
    schedule_cron: str = Field(default="0 3 * * *", description="When the nightly run starts.")
    schedule_timezone: Annotated[str, AfterValidator(_timezone)] = Field(
        default="UTC", description="Time zone of schedule_cron."
    )
    schedule_datasets: str | None = Field(
        default=None,
        description="Data sets that the schedule and the sensor arrivals run, separated by commas; default: that of "
        "DATASET or else MOVIELENS_DIR if one is set, otherwise that of the last run.",
    )
    run_start_seconds: int = Field(
        default=120,
        ge=1,
        description="How long a run that the daemon has launched may take until its process starts; after that it "
        "counts as crashed. More where a run first waits for a container and its image.",
    )
    alert_webhook_url: SecretStr | None = Field(
        default=None,
        description="Where failures, recoveries and warnings are posted, in the form of Slack's webhooks.",
    )
    dagster_port: _Port = Field(default=3000, description="Port of the Dagster UI on 127.0.0.1.")
    mlflow_port: _Port = Field(default=5000, description="Port of the MLflow UI on 127.0.0.1.")

    app_port: _Port = Field(default=8501, description="Port of the web app on 127.0.0.1.")
    serve_host: str = Field(default="127.0.0.1", description="Address that the REST service listens on.")
    serve_port: _Port = Field(default=8000, description="Port of the REST service.")
    metrics_host: str = Field(
        default="127.0.0.1", description="Address that the pipeline's metrics (make metrics) are served on."
    )
    metrics_port: _Port = Field(default=9464, description="Port of the pipeline's metrics.")
    serve_keys_file: _Path | None = Field(
        default=None,
        description="File with the API keys of the REST service, a name, a colon and a key in each line. Needed where "
        "SERVE_HOST is not an address of this machine alone.",
    )
    serve_traces: bool = Field(
        default=False,
        description="Whether the REST service sends OpenTelemetry traces; its SDK's variables (OTEL_...) say where. "
        "Needs the extra traces.",
    )
    serve_dataset: str | None = Field(
        default=None, description="Data set that app and service serve; optional if only one is published."
    )

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise DataError("; ".join(_told(dict(each)) for each in error.errors())) from None  # no secret in a cause

    @property
    def home(self) -> UPath:
        """``pipeline_home`` as an absolute path; a relative one counts from the project's root."""
        home = UPath(self.pipeline_home)
        return home if home.protocol not in _LOCAL else UPath(PROJECT_ROOT / home.path)

    @property
    def is_home_local(self) -> bool:
        """Whether ``home`` is a local directory."""
        return self.home.protocol in _LOCAL

    @property
    def local_home(self) -> Path:
        """``home`` if it is a local directory, else ``pipeline_local_home`` or its default."""
        return Path(str(self.home)) if self.is_home_local else self.pipeline_local_home or PROJECT_ROOT / "var"

    @property
    def incoming(self) -> Path:
        """``incoming_dir`` or its default."""
        return self.incoming_dir or self.local_home / "incoming"

    @property
    def instance_home(self) -> Path:
        """``dagster_home`` or its default."""
        return self.dagster_home or self.local_home / "dagster"


def _told(error: dict[str, Any]) -> str:
    name, message = str(error["loc"][0]).upper(), str(error["msg"]).removeprefix("Value error, ")
    field = Settings.model_fields.get(name.lower())
    given = "***" if field and "SecretStr" in str((field.annotation, field.metadata)) else repr(error["input"])
    return f"{name}={given}: {message}; set it in the environment or in .env"


@cache
def settings() -> Settings:
    """The environment's settings, read once per process. Raises DataError."""
    return Settings()


def dagster_page(path: str) -> str:
    """Address of a page of the Dagster UI."""
    return f"http://127.0.0.1:{settings().dagster_port}/{path}"
