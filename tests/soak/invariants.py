"""Check the invariants after every night. Each function yields the violations."""

import io
import json
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from upath import UPath

from orchestration.config.settings import settings
from tests.soak.arrivals import Truth
from tests.soak.home import DATASET, Home

LENGTH = 10
FIRST_NIGHTS, GROWTH = range(30, 60), 1.5


def whole_tables(home: Home, users: Mapping[str, Collection[int]] = MappingProxyType({})) -> Iterator[str]:
    """Check that every file is readable, and that published tables are complete and of one version.

    Temporary files, whose names begin with a dot, may be incomplete: no reader opens them.

    Args:
        home: the home.
        users: those who must have a list, by model.
    """
    for path in (path for path in home.tables.glob("*") if not path.name.startswith(".")):
        try:
            _read_any(path)
        except Exception as error:
            yield f"{path.name} cannot be read: {error}"
    for model in home.models:
        path = home.tables / f"top10_{model}.parquet"
        if not path.exists():
            continue
        table = read(path)
        versions = table["model_version"].unique()
        lists = table.groupby("user_id")
        if len(versions) != 1:
            yield f"{path.name} has versions {', '.join(versions)}"
        if model in users and set(lists.groups) != set(users[model]):
            yield f"{path.name} has lists of {len(lists)} users, expected those of {len(users[model])}"
        if not (lists.size() == LENGTH).all() or not (lists["movie_id"].nunique() == LENGTH).all():
            yield f"{path.name} lacks lists"


def every_rating_once(home: Home, truth: Truth) -> Iterator[str]:
    """Check that every ingested rating is in the tables once; if it was changed, only the latest."""
    if (ingested := counted(home)) != truth.ingested:
        yield f"{ingested} ingested ratings are counted, {truth.ingested} were ingested"
    table = pd.read_parquet(home.tables / "ratings.parquet")
    rows = table[["user_id", "movie_id", "timestamp", "rating"]].itertuples(index=False, name=None)
    found = {(user, movie): (seconds, stars) for user, movie, seconds, stars in rows}
    if len(found) != len(table):
        yield f"{len(table) - len(found)} interactions are there twice"
    for what, pairs in (
        ("lost", truth.ratings.keys() - found.keys()),
        ("invented", found.keys() - truth.ratings.keys()),
    ):
        if pairs:
            yield f"{len(pairs)} interactions are {what}, {min(pairs)} among them"
    wrong = [pair for pair in found.keys() & truth.ratings.keys() if found[pair] != truth.ratings[pair]]
    if wrong:
        yield f"{len(wrong)} interactions are not the latest rating, {min(wrong)} among them"


def codes_kept(before: Mapping[str, Sequence[Any]], now: Mapping[str, Sequence[Any]]) -> Iterator[str]:
    """Check that existing values keep their indices."""
    for name, values in before.items():
        if list(now[name][: len(values)]) != list(values):
            yield f"codes of {name} have changed"


def one_champion(home: Home) -> Iterator[str]:
    """Check that exported table, alias and archived files are those of the champion."""
    client = _client(home)
    for model in home.models:
        name = f"{DATASET}-{model.replace('_', '-')}"
        archive = home.folder / "archive" / DATASET / model
        champion = champions(home)[model]
        alias = client.get_registered_model(name).aliases.get("champion")
        if str(alias) != champion:
            yield f"{model}: the champion is {champion}, the alias is at {alias}"
        exported, table = home.tables / f"top10_{model}.parquet", archive / champion / "top10.parquet"
        if exported.read_bytes() != table.read_bytes():
            yield f"{model}: the exported table is not that of version {champion}"
        if set(pd.read_parquet(table)["model_version"]) != {champion}:
            yield f"{model}: the table of version {champion} names another one"
        if not (archive / champion / "bundle.zip").exists():
            yield f"{model}: version {champion} has no bundle"


def champions(home: Home) -> dict[str, str]:
    """Return the version of each model that is published."""
    archive = home.folder / "archive" / DATASET
    return {model: json.loads((archive / model / "champions.json").read_bytes())[-1] for model in home.models}


def versions(home: Home) -> dict[str, int]:
    """Return the newest version of each model."""
    return {model: max(int(each.version) for each in _registered(home, model)) for model in home.models}


def no_twins(home: Home, before: Mapping[str, int], least: int, most: int) -> Iterator[str]:
    """Check that nothing was trained twice.

    Args:
        home: the home.
        before: newest version of each model before tonight.
        least: number of versions that tonight must have made of each.
        most: number that it may have made.
    """
    for model in home.models:
        newest = max(int(each.version) for each in _registered(home, model))
        if not least <= newest - before.get(model, 0) <= most:
            yield f"{model}: version {newest} after version {before.get(model, 0)}, expected {least} to {most} more"
        prints = [each.tags["fingerprint"] for each in _registered(home, model)]
        if len(set(prints)) != len(prints):
            yield f"{model}: two versions were trained with the same data, settings and code"


def newest_is_champion(home: Home) -> Iterator[str]:
    """Check that the newest version of each model is published."""
    for model, newest in versions(home).items():
        if (champion := champions(home)[model]) != str(newest):
            yield f"{model}: the champion is {champion}, the newest version is {newest}"


def nothing_left_running(home: Home) -> Iterator[str]:
    """Check that no Dagster or MLflow run is left running, and no unfinished file is left."""
    client = _client(home)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    for run in client.search_runs(experiments, "attributes.status = 'RUNNING'"):
        yield f"MLflow run {run.info.run_name} is left running"
    with home.instance() as instance:
        records = instance.get_run_records()  # latest first
        if not records:
            yield "Dagster remembers no run"
        for record in records:
            # For a while, a run that crashed before it started looks like one that is about to start.
            waited = (records[0].create_timestamp - record.update_timestamp).total_seconds()
            if not record.dagster_run.is_finished and (waited > settings().run_start_seconds or record is records[0]):
                yield f"Dagster run {record.dagster_run.run_id} is left {record.dagster_run.status.value}"
    for folder in ("tables", "archive"):
        for path in (home.folder / folder).rglob(".*"):
            yield f"{path} is left"


def nothing_left_over(home: Home) -> Iterator[str]:
    """Check that there is no lock of a run, unfinished training or list, temporary file, or model without a version."""
    for pattern in ("locks/run-*", "training/*/*/*", "lists/*/*/*", "scratch/*"):
        for path in home.folder.glob(pattern):
            yield f"{path.relative_to(home.folder)} is left"
    client = _client(home)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    models = {model.model_id for model in client.search_logged_models(experiments)}
    models -= {str(each.source).removeprefix("models:/") for each in client.search_model_versions()}
    if models:
        yield f"{len(models)} logged models have no version, {min(models)} among them"
    yield from _unknown_to_mlflow(home)


def _unknown_to_mlflow(home: Home) -> Iterator[str]:
    """Check that MLflow's database and artifacts have no run or logged model that is deleted."""
    with closing(sqlite3.connect(f"file:{home.folder / 'mlflow.db'}?mode=ro", uri=True)) as database:
        known = set()
        for table, column in (("runs", "run_uuid"), ("logged_models", "model_id")):
            rows = database.execute(f"SELECT {column}, lifecycle_stage FROM {table}").fetchall()
            known |= {name for name, _ in rows}
            yield from (f"{name} of {table} is only marked as deleted" for name, stage in rows if stage != "active")
    for pattern in ("mlflow-artifacts/*/*", "mlflow-artifacts/*/models/*"):
        for path in home.folder.glob(pattern):
            if path.name not in {*known, "models"}:
                yield f"{path.relative_to(home.folder)} is left of a deleted run or model"


def bounded(measures: Sequence[Mapping[str, float]]) -> Iterator[str]:
    """Check that disk and memory are not much larger than in the first nights of the year.

    Args:
        measures: of all nights; MiB where the name says so.
    """
    first, now = [each for each in measures if each["night"] in FIRST_NIGHTS], measures[-1]
    if now["night"] not in FIRST_NIGHTS and len(first) == len(FIRST_NIGHTS):
        for name in (name for name in now if name.endswith("_mib")):
            most = GROWTH * max(each[name] for each in first if name in each)
            if now[name] > most:
                yield f"{name} is {now[name]:.0f}, expected at most {most:.0f}"


def same_tables(home: Home, undisturbed: Home) -> Iterator[str]:
    """Check that tables and evaluation equal those of a home without faults."""
    for name in (*(f"top10_{model}" for model in home.models), "evaluation"):
        own, other = (read(place.tables / f"{name}.parquet") for place in (home, undisturbed))
        try:
            pd.testing.assert_frame_equal(
                own.drop(columns="model_version", errors="ignore"),
                other.drop(columns="model_version", errors="ignore"),
                rtol=1e-4,
            )
        except AssertionError as error:
            yield f"{name}.parquet differs from an undisturbed night's: {str(error).splitlines()[0]}"


def read(path: Path | UPath) -> pd.DataFrame:
    """Read a table, wherever it is."""
    return pd.read_parquet(io.BytesIO(path.read_bytes()))


def _read_any(path: Path | UPath) -> None:
    match path.suffix:
        case ".parquet":
            read(path)
        case ".json":
            json.loads(path.read_bytes())
        case ".html":
            path.read_text()
        case _:
            raise AssertionError("there should be no such file")


def counted(home: Home) -> int:
    """Return the number of ingested ratings; 0 before the first night."""
    path = home.tables / "ingested_ratings.parquet"
    return len(pd.read_parquet(path)) if path.exists() else 0


def _registered(home: Home, model: str) -> list[ModelVersion]:
    return list(_client(home).search_model_versions(f"name = '{DATASET}-{model.replace('_', '-')}'"))


def _client(home: Home) -> MlflowClient:
    uri = f"sqlite:///{home.folder}/mlflow.db"
    return MlflowClient(uri, uri)
