"""MLflow's database as others may leave it: moved, deleted in part, locked, of another version; and its environment."""

import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import mlflow
import pytest
import yaml
from mlflow import MlflowClient

from ml.errors import DataError, NotFoundError
from orchestration.cli.rollback import roll_back
from orchestration.config.data_sets import register
from orchestration.resources.raw_data import RawData
from orchestration.runtime.cleanup import remove_earlier_copies, sync_publications
from orchestration.tracking import artifacts, registry
from orchestration.tracking.artifacts import artifacts_root
from orchestration.tracking.fingerprint import Fingerprint
from orchestration.tracking.registered_version import RegisteredVersion
from orchestration.tracking.resource import Tracking
from orchestration.tracking.retention import _delete, prune
from tests.orchestration.conftest import LENIENT

FINGERPRINT = Fingerprint("data", "code", "recipe")
MODEL = "autoint"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home in the environment, with nothing but a database."""
    registry._make_database(tmp_path / "home" / "mlflow.db")
    return tmp_path / "home"


@pytest.fixture
def films(home: Path, tmp_path: Path) -> Tracking:
    return Tracking(raw_data=RawData.of(register(str(tmp_path / "films"))))


def train(tracking: Tracking, registered: bool = True, ended: bool = True) -> RegisteredVersion:
    """What a training leaves in MLflow: a run, a logged model with a bundle, and a version of it."""
    client, name = tracking.client, tracking.config.registered_models[MODEL]
    run = client.create_run(tracking.experiment_id(), tags={"model": MODEL})
    run_id = run.info.run_id
    client.log_text(run_id, "recipe", "recipe.yaml")
    logged = client.create_logged_model(tracking.experiment_id(), name=MODEL, source_run_id=run_id)
    client.log_model_artifacts(logged.model_id, str(_folder_with_a_bundle(Path(os.environ["PIPELINE_HOME"]).parent)))
    client.finalize_logged_model(logged.model_id, "READY")
    number = "0"
    if registered:
        with tracking.session():
            made = mlflow.register_model(f"models:/{logged.model_id}", name, tags=FINGERPRINT.tags)
        number = str(made.version)
    if ended:
        client.set_terminated(run_id)
    return RegisteredVersion(MODEL, name, number, run_id, logged.model_id)


def _folder_with_a_bundle(folder: Path) -> Path:
    (folder / "logged" / "artifacts").mkdir(parents=True, exist_ok=True)
    (folder / "logged" / "artifacts" / "bundle.zip").write_bytes(b"a bundle")
    return folder / "logged"


def files_of(tracking: Tracking, version: RegisteredVersion) -> tuple[bytes, bytes]:
    """The bundle of a version and the recipe of its run, as MLflow finds them."""
    with tracking.session():
        found = [
            mlflow.artifacts.download_artifacts(f"{version.uri}/artifacts/bundle.zip"),
            mlflow.artifacts.download_artifacts(f"runs:/{version.run_id}/recipe.yaml"),
        ]
    bundle, recipe = (Path(path).read_bytes() for path in found)
    return bundle, recipe


def written(tmp_path: Path, **changes: Any) -> Path:
    """The tests' mlflow.yaml with other settings."""
    path = tmp_path / "mlflow.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(LENIENT.read_text("utf-8")) | changes), encoding="utf-8")
    return path


def test_artifacts_lie_beside_the_database_and_no_path_is_stored(films: Tracking, home: Path) -> None:
    version = train(films)
    assert files_of(films, version) == (b"a bundle", b"recipe")
    assert {path.name for path in (home / "mlflow-artifacts" / "films").rglob("*") if path.is_file()} >= {
        "bundle.zip",
        "recipe.yaml",
    }
    assert str(home).encode() not in (home / "mlflow.db").read_bytes()


def test_a_home_can_be_moved(films: Tracking, home: Path, env: pytest.MonkeyPatch, tmp_path: Path) -> None:
    version = train(films)
    moved = home.rename(tmp_path / "moved home")
    env.setenv("PIPELINE_HOME", str(moved))
    assert files_of(films, version) == (b"a bundle", b"recipe")
    train(films)
    assert not home.exists()


@pytest.mark.parametrize("original_is_there", [True, False])
def test_a_home_of_absolute_paths_can_be_moved_or_copied(
    films: Tracking, home: Path, env: pytest.MonkeyPatch, tmp_path: Path, original_is_there: bool
) -> None:
    version = train(films)
    _store_absolute_paths(home)
    copied = Path(shutil.copytree(home, tmp_path / "copy"))
    original = sorted(home.rglob("*"))
    if not original_is_there:
        shutil.rmtree(home)
    env.setenv("PIPELINE_HOME", str(copied))
    (copied / "mlflow-artifacts" / "films" / version.run_id / "artifacts" / "recipe.yaml").write_text("the copy's")
    assert files_of(films, version) == (b"a bundle", b"the copy's")
    train(films)
    assert sorted(home.rglob("*")) == (original if original_is_there else [])
    with sqlite3.connect(copied / "mlflow.db") as database:
        places = "SELECT artifact_uri FROM runs UNION SELECT artifact_location FROM logged_models"
        assert all(place.startswith("mlflow-artifacts:/films/") for (place,) in database.execute(places))


def _store_absolute_paths(home: Path) -> None:
    """As earlier releases did."""
    with sqlite3.connect(home / "mlflow.db") as database:
        for table, column in artifacts._COLUMNS:
            absolute = f"{home.as_uri()}/mlflow-artifacts/"
            database.execute(f"UPDATE {table} SET {column} = replace({column}, 'mlflow-artifacts:/', ?)", (absolute,))


def files_below(folder: Path) -> dict[str, bytes]:
    """Without SQLite's files, whose content a reader may change."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("mlflow."))
    return {str(path): path.read_bytes() for path in found}


@pytest.mark.parametrize(
    "location", ["{home}/mlflow-artifacts/{dataset}", "file://{home}/mlflow-artifacts/{dataset}", "art of/{dataset}/x"]
)
@pytest.mark.parametrize("original_is_there", [True, False])
def test_a_copy_leaves_the_original_alone_wherever_in_the_home_artifacts_are(
    films: Tracking, home: Path, env: pytest.MonkeyPatch, tmp_path: Path, location: str, original_is_there: bool
) -> None:
    retention = {"versions": 1, "champions": 0, "runs": 0}
    env.setenv("MLFLOW_YAML", str(written(tmp_path, artifact_location=location, retention=retention)))
    first = train(films)
    films.publication(MODEL).publish(first, b"table", b"bundle")
    copied = Path(shutil.copytree(home, tmp_path / "copy"))
    if not original_is_there:
        shutil.rmtree(home)
    before = files_below(home)
    env.setenv("PIPELINE_HOME", str(copied))
    assert files_of(films, first) == (b"a bundle", b"recipe")
    second, third = train(films), train(films)
    films.publication(MODEL).publish(third, b"table", b"bundle")
    films.client.set_registered_model_alias(third.registered_model, "challenger", third.version)
    assert prune(films, MODEL).versions == (first.version, second.version)
    assert files_below(home) == before
    assert files_of(films, third) == (b"a bundle", b"recipe")
    bundles = [path for path in copied.rglob("bundle.zip") if "archive" not in path.parts]
    assert [third.model_id in str(path) for path in bundles] == [True]


@pytest.mark.parametrize("location", ["mlflow-artifacts:/{dataset}", "other/{dataset}"])
def test_a_location_that_cannot_be_repaired_is_refused_by_name(
    films: Tracking, home: Path, env: pytest.MonkeyPatch, tmp_path: Path, location: str
) -> None:
    env.setenv("MLFLOW_YAML", str(written(tmp_path, artifact_location="art/{dataset}")))
    version = train(films)
    copied = Path(shutil.copytree(home, tmp_path / "copy"))
    before = files_below(home)
    env.setenv("PIPELINE_HOME", str(copied))
    env.setenv("MLFLOW_YAML", str(written(tmp_path, artifact_location=location)))
    with pytest.raises(dg.Failure, match=f"artifacts in {home.as_uri()}/art/films, outside {copied}") as caught:
        train(films)
    assert caught.value.allow_retries is False
    _delete(films, [version.run_id], [version.model_id])
    assert files_below(home) == before
    env.setenv("MLFLOW_YAML", str(written(tmp_path, artifact_location=f"{home}/art/{{dataset}}")))
    train(films)  # named by the configuration


@pytest.mark.parametrize(
    ("location", "own"),
    [
        ("mlflow-artifacts:/films/run", True),
        ("s3://bucket/films/run/artifacts", True),
        ("s3://bucket/films2/run", False),
        ("s3://bucket/films/../others", False),
        ("file://{home}/anything", True),
        ("file://{home}/../others", False),
        ("{home}-2/films", False),
    ],
)
def test_what_may_be_written_and_deleted(
    films: Tracking, home: Path, env: pytest.MonkeyPatch, tmp_path: Path, location: str, own: bool
) -> None:
    env.setenv("MLFLOW_YAML", str(written(tmp_path, artifact_location="s3://bucket/{dataset}")))
    assert artifacts.is_own(location.format(home=home), films.config) is own


def test_artifacts_elsewhere_stay_elsewhere(
    films: Tracking, home: Path, env: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = tmp_path / "elsewhere" / "mlflow-artifacts"
    env.setenv("MLFLOW_YAML", str(written(tmp_path, artifact_location=f"{place}/{{dataset}}")))
    version = train(films)
    env.setenv("MLFLOW_YAML", str(LENIENT))
    registry._prepare.cache_clear()
    assert files_of(films, version) == (b"a bundle", b"recipe")
    assert films.client.get_run(version.run_id).info.artifact_uri.startswith(place.as_uri())


def test_locations_do_not_leave_the_artifacts(films: Tracking, home: Path) -> None:
    (home / "secret").mkdir()
    experiment = films.client.create_experiment("crafted", "mlflow-artifacts:/../secret")
    run = films.client.create_run(experiment)
    with pytest.raises(Exception, match="is outside the artifacts"):
        films.client.log_text(run.info.run_id, "text", "file.txt")
    assert list((home / "secret").iterdir()) == []


def test_what_a_server_serves(home: Path, env: pytest.MonkeyPatch) -> None:
    command = registry.server_command("--port", "5055")
    served = command[command.index("--artifacts-destination") + 1]
    assert "--serve-artifacts" in command
    assert served == str(home / "mlflow-artifacts") == artifacts_root(f"sqlite:///{home}/mlflow.db")
    assert artifacts_root("postgresql://db/mlflow") == str(home / "mlflow-artifacts")


@pytest.mark.parametrize(
    ("location", "reason"), [("nowhere:/{dataset}", "registered artifact repository"), ("dbfs:/{dataset}", "dbfs")]
)
def test_a_location_that_mlflow_cannot_use_is_named_before_the_training(
    films: Tracking, env: pytest.MonkeyPatch, tmp_path: Path, location: str, reason: str
) -> None:
    path = written(tmp_path, artifact_location=location)
    env.setenv("MLFLOW_YAML", str(path))
    with pytest.raises(dg.Failure) as caught:
        films.experiment_id()
    assert caught.value.description
    assert caught.value.description.startswith(f"{path}, artifact_location: {location.format(dataset='films')}: ")
    assert reason in caught.value.description
    assert caught.value.allow_retries is False


def test_who_may_reach_the_server_is_told_by_mlflows_own_variables(env: pytest.MonkeyPatch) -> None:
    kept = {
        "MLFLOW_SERVER_ALLOWED_HOSTS": "mlflow.example.com",
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": "https://a.example",
    }
    for name, value in {**kept, "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "true"}.items():
        env.setenv(name, value)
    registry.ignore_environment()
    assert {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_SERVER_")} == kept


def test_mlflows_own_variables_change_nothing(films: Tracking, env: pytest.MonkeyPatch, tmp_path: Path) -> None:
    experiment = films.experiment_id()
    for name, value in {
        "MLFLOW_REGISTRY_URI": f"sqlite:///{tmp_path}/other.db",
        "MLFLOW_RUN_ID": "0" * 32,
        "MLFLOW_EXPERIMENT_ID": "12345",
        "MLFLOW_EXPERIMENT_NAME": "another",
        "MLFLOW_ACTIVE_MODEL_ID": "m-00000000000000000000000000000000",
        "MLFLOW_ENABLE_ASYNC_LOGGING": "true",
        "MLFLOW_WORKSPACE": "another",
    }.items():
        env.setenv(name, value)
    env.setenv("MLFLOW_TRACKING_TOKEN", "secret")
    with films.session(), films.active_run("run", {"model": MODEL}) as run_id:
        mlflow.log_metric("loss", 1.0)
        version = train(films)
    run = films.client.get_run(run_id)
    assert (run.info.experiment_id, run.info.status, run.data.metrics) == (experiment, "FINISHED", {"loss": 1.0})
    assert list(films.versions(MODEL)) == [version.version]
    assert not (tmp_path / "other.db").exists()
    assert os.environ["MLFLOW_TRACKING_TOKEN"] == "secret"
    assert {"MLFLOW_YAML"} <= {name for name in os.environ if name.startswith("MLFLOW")}


def test_an_experiment_that_was_deleted_is_restored_with_its_versions(films: Tracking) -> None:
    version = train(films)
    films.client.delete_experiment(films.experiment_id())
    assert films.problem_of(version) is None  # the next to log anything restores it
    assert films.find(MODEL, FINGERPRINT) == version
    films.log_evaluation(version, {"auc": 0.5})
    films.client.delete_experiment(films.experiment_id())
    films.log_evaluation(version, {"auc": 0.6})
    assert films.metrics_of(version) == {"auc": 0.6}


def _delete_files(client: MlflowClient, version: RegisteredVersion) -> None:
    shutil.rmtree(Path(os.environ["PIPELINE_HOME"]) / "mlflow-artifacts" / "films" / "models" / version.model_id)


DELETIONS: dict[str, tuple[Callable[[MlflowClient, RegisteredVersion], None], str]] = {
    "run": (lambda client, version: client.delete_run(version.run_id), "the MLflow run of version 2 was deleted"),
    "logged model": (
        lambda client, version: client.delete_logged_model(version.model_id),
        "the logged model of version 2 was deleted",
    ),
    "version": (
        lambda client, version: client.delete_model_version(version.registered_model, version.version),
        "version 2 is not in the registry",
    ),
    "files": (_delete_files, "the files of version 2 are missing"),
}


@pytest.mark.parametrize(("delete", "problem"), DELETIONS.values(), ids=DELETIONS.keys())
def test_a_version_of_which_a_part_was_deleted_is_absent(
    films: Tracking, delete: Callable[[MlflowClient, RegisteredVersion], None], problem: str
) -> None:
    first, second = train(films), train(films)
    assert films.find(MODEL, FINGERPRINT) == second
    delete(films.client, second)
    assert films.problem_of(second) == problem
    assert films.find(MODEL, FINGERPRINT) == first
    delete(films.client, first)
    assert films.find(MODEL, FINGERPRINT) is None


def test_a_champion_is_who_is_published_whatever_the_alias_says(films: Tracking) -> None:
    first, second = train(films), train(films)
    publication, client, name = films.publication(MODEL), films.client, first.registered_model
    publication.publish(first, b"table 1", b"bundle 1", {"auc": 0.5})
    client.set_registered_model_alias(name, "champion", second.version)
    assert (publication.aliased(), films.champion(MODEL)) == ("2", first)
    publication.publish(first, b"table 1", b"bundle 1")
    assert publication.aliased() == "1"
    client.delete_registered_model_alias(name, "champion")
    assert (publication.aliased(), films.champion(MODEL)) == (None, first)
    publication.sync()
    assert publication.aliased() == "1"


def test_a_champion_that_was_deleted_is_none_even_if_its_number_is_used_again(films: Tracking) -> None:
    old = train(films)
    films.publication(MODEL).publish(old, b"table", b"bundle")
    films.client.delete_registered_model(old.registered_model)
    assert films.champion(MODEL) is None
    again = train(films)
    assert again.version == old.version
    assert films.champion(MODEL) is None
    assert films.problem_of(old) == "version 1 is not in the registry"
    films.publication(MODEL).publish(again, b"table", b"bundle")
    assert films.champion(MODEL) == again


def test_no_way_back_to_a_version_that_somebody_has_deleted(films: Tracking) -> None:
    first, second = train(films), train(films)
    publication = films.publication(MODEL)
    for version in (first, second):
        publication.publish(version, f"table {version.version}".encode(), b"bundle")
    films.client.delete_model_version(first.registered_model, "1")
    with pytest.raises(NotFoundError, match="version 1 of films-autoint is not in the registry"):
        roll_back(MODEL, "1", "films")
    assert (publication.champion(), publication.table.read_bytes()) == ("2", b"table 2")
    films.client.delete_model_version(first.registered_model, "2")
    third = train(films)
    publication.publish(third, b"table 3", b"bundle")
    with pytest.raises(NotFoundError, match="version 2 of films-autoint is not in the registry"):
        roll_back(MODEL, "2", "films")


def test_pruning_takes_models_that_were_never_registered_and_leaves_what_others_deleted(
    films: Tracking, home: Path
) -> None:
    kept, _, at_work = (
        train(films),
        train(films, registered=False),
        train(films, registered=False, ended=False),
    )
    films.publication(MODEL).publish(kept, b"table", b"bundle")
    others = films.client.create_experiment("somebody's")
    run = films.client.create_run(others)
    films.client.delete_experiment(others)
    pruned = prune(films, MODEL)
    assert pruned.versions == ()
    models = films.client.search_logged_models([films.experiment_id()])
    assert {model.model_id for model in models} == {kept.model_id, at_work.model_id}
    folders = {path.name for path in (home / "mlflow-artifacts" / "films" / "models").iterdir()}
    assert folders == {kept.model_id, at_work.model_id}
    assert films.client.get_run(run.info.run_id).info.lifecycle_stage == "deleted"
    assert files_of(films, kept) == (b"a bundle", b"recipe")


def test_pruning_a_version_whose_parts_somebody_has_deleted(
    films: Tracking, env: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    retention = {"versions": 1, "champions": 0, "runs": 0}
    env.setenv("MLFLOW_YAML", str(written(tmp_path, retention=retention)))
    first, _, newest = train(films), train(films), train(films)
    films.client.set_registered_model_alias(newest.registered_model, "challenger", newest.version)
    films.client.delete_run(first.run_id)
    films.client.delete_logged_model(first.model_id)
    assert prune(films, MODEL).versions == ("1", "2")
    assert list(films.versions(MODEL)) == ["3"]
    with pytest.raises(mlflow.MlflowException, match="not found"):
        films.client.get_run(first.run_id)


@pytest.mark.parametrize(
    "where",
    [
        "mlflow.store.artifact.local_artifact_repo.LocalArtifactRepository.delete_artifacts",
        "mlflow.store.tracking.sqlalchemy_store.SqlAlchemyStore._hard_delete_run",
        "mlflow.store.tracking.sqlalchemy_store.SqlAlchemyStore._hard_delete_logged_model",
        "mlflow.MlflowClient.delete_model_version",
    ],
)
def test_an_interrupted_pruning_is_completed_by_the_next(
    films: Tracking, home: Path, env: pytest.MonkeyPatch, tmp_path: Path, where: str
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    env.setenv("MLFLOW_YAML", str(written(tmp_path, retention={"versions": 1, "champions": 0, "runs": 0})))
    train(films)
    train(films, registered=False)
    newest = train(films)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(where, killed)
        with pytest.raises(KeyboardInterrupt):
            prune(films, MODEL)
    prune(films, MODEL)
    assert list(films.versions(MODEL)) == [newest.version]
    with closing(sqlite3.connect(home / "mlflow.db")) as database:
        assert database.execute("SELECT run_uuid FROM runs").fetchall() == [(newest.run_id,)]
        assert database.execute("SELECT model_id FROM logged_models").fetchall() == [(newest.model_id,)]
    artifacts = home / "mlflow-artifacts" / "films"
    assert {path.name for path in artifacts.iterdir()} == {newest.run_id, "models"}
    assert {path.name for path in (artifacts / "models").iterdir()} == {newest.model_id}
    assert files_of(films, newest) == (b"a bundle", b"recipe")


def test_pruning_keeps_the_files_of_a_champion_that_somebody_deleted_from_the_registry(
    films: Tracking, env: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    env.setenv("MLFLOW_YAML", str(written(tmp_path, retention={"versions": 1, "champions": 0, "runs": 0})))
    champion, _ = train(films), train(films)
    publication = films.publication(MODEL)
    publication.publish(champion, b"table", b"bundle")
    films.client.delete_registered_model_alias(champion.registered_model, "champion")
    assert prune(films, MODEL).versions == ()  # the alias is gone, but the pointer is not
    films.client.delete_model_version(champion.registered_model, champion.version)
    prune(films, MODEL)
    assert (publication.champion(), publication.archive.versions()) == ("1", ["1"])


def test_the_next_run_repairs_the_mirrors_and_removes_what_earlier_releases_kept(films: Tracking, home: Path) -> None:
    champion, other = train(films), train(films)
    publication = films.publication(MODEL)
    publication.publish(champion, b"table", b"bundle")
    assert [*sync_publications(), *remove_earlier_copies()] == []
    publication.table.unlink()
    films.client.set_registered_model_alias(champion.registered_model, "champion", other.version)
    shutil.copytree(home / "archive/films/autoint", home / "archive/films/retired")  # a recipe that is disabled
    copies = [home / "models/films/autoint.zip", home / "archive/films/autoint/publishing.json"]
    copies[0].parent.mkdir(parents=True)
    for path in copies:
        path.write_bytes(b"{}")
    assert len(list(sync_publications())) == 2
    assert (publication.aliased(), publication.table.read_bytes()) == ("1", b"table")
    assert len(list(remove_earlier_copies())) == 2
    assert not (home / "models").exists()
    assert [*sync_publications(), *remove_earlier_copies()] == []


@pytest.fixture
def locked(home: Path, env: pytest.MonkeyPatch) -> Iterator[sqlite3.Connection]:
    """A connection of another program that lets nobody read."""
    database = sqlite3.connect(home / "mlflow.db", isolation_level=None, check_same_thread=False)
    database.execute("BEGIN EXCLUSIVE")
    env.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home}/mlflow.db?timeout=0.1")  # it would wait five seconds itself
    yield database
    database.close()


def test_a_lock_is_waited_for(
    films: Tracking, locked: sqlite3.Connection, caplog: pytest.LogCaptureFixture, env: pytest.MonkeyPatch
) -> None:
    env.setattr(registry, "_POLL_SECONDS", 0.05)
    threading.Timer(0.3, locked.rollback).start()
    assert films.client.search_experiments() == []
    assert "is locked by another process; waiting up to 120 s" in caplog.text


def test_a_lock_that_stays_is_named(films: Tracking, locked: sqlite3.Connection, env: pytest.MonkeyPatch) -> None:
    env.setattr(registry, "LOCK_SECONDS", 0)
    with pytest.raises(dg.Failure) as caught:
        _ = films.client
    assert "another process has kept it locked" in str(caught.value.description)


def test_another_schema_is_named_with_the_command_that_migrates_it(films: Tracking, home: Path) -> None:
    with sqlite3.connect(home / "mlflow.db") as database:
        database.execute("UPDATE alembic_version SET version_num = 'f5a4f2784254'")
    with pytest.raises(
        DataError, match=rf"back it up, and run: \.venv/bin/mlflow db upgrade 'sqlite:///{home}/mlflow.db'"
    ):
        registry.client_of(films.config)
    with pytest.raises(dg.Failure):
        _ = films.client


def test_pages_of_the_runs(films: Tracking, env: pytest.MonkeyPatch) -> None:
    env.setenv("MLFLOW_PORT", "5055")
    base, mode = "http://127.0.0.1:5055/#/experiments", "workflowType=machine_learning"
    assert registry.runs_page() == f"{base}?{mode}"
    assert registry.runs_page("films") == f"{base}?{mode}"
    experiment = films.experiment_id()
    assert registry.runs_page() == registry.runs_page("films") == f"{base}/{experiment}/runs?{mode}"
