"""Check the invariants after every night. Each function yields the violations."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient

from orchestration.config.settings import settings
from tests.soak.arrivals import Truth
from tests.soak.home import DATASET, Home

LENGTH = 10
_READERS: Mapping[str, Callable[[Path], Any]] = {
    ".parquet": pd.read_parquet,
    ".json": lambda path: json.loads(path.read_bytes()),
    ".html": Path.read_text,
}


def whole_tables(home: Home, users: Collection[int] | None = None) -> Iterator[str]:
    """Check that every file is readable, and that published tables are complete and of one version."""
    for path in home.tables.glob("*"):
        try:
            _READERS[path.suffix](path)
        except Exception as error:
            yield f"{path.name} cannot be read: {error}"
    for model in home.models:
        path = home.tables / f"top10_{model}.parquet"
        if not path.exists():
            continue
        table = pd.read_parquet(path)
        versions = table["model_version"].unique()
        lists = table.groupby("user_id")
        if len(versions) != 1:
            yield f"{path.name} has versions {', '.join(versions)}"
        if users is not None and set(lists.groups) != set(users):
            yield f"{path.name} has lists of {len(lists)} users, {len(users)} have rated"
        if not (lists.size() == LENGTH).all() or not (lists["movie_id"].nunique() == LENGTH).all():
            yield f"{path.name} lacks lists"


def every_rating_once(home: Home, truth: Truth) -> Iterator[str]:
    """Check that every ingested rating is in the tables once; if it was changed, only the latest."""
    counted = len(pd.read_parquet(home.tables / "ingested_ratings.parquet"))
    if counted != truth.ingested:
        yield f"{counted} ingested ratings are counted, {truth.ingested} were ingested"
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
        champion = json.loads((archive / "champions.json").read_bytes())[-1]
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


def no_twins(home: Home, nights: int) -> Iterator[str]:
    """Check that there is one version per night with new data."""
    for model in home.models:
        versions = _client(home).search_model_versions(f"name = '{DATASET}-{model.replace('_', '-')}'")
        newest = max(int(version.version) for version in versions)
        if newest != nights:
            yield f"{model}: version {newest} after {nights} nights with something new"


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


def same_tables(home: Home, undisturbed: Home) -> Iterator[str]:
    """Check that tables and evaluation equal those of a home without faults."""
    for name in (*(f"top10_{model}" for model in home.models), "evaluation"):
        own, other = (pd.read_parquet(place.tables / f"{name}.parquet") for place in (home, undisturbed))
        try:
            pd.testing.assert_frame_equal(
                own.drop(columns="model_version", errors="ignore"),
                other.drop(columns="model_version", errors="ignore"),
                rtol=1e-4,
            )
        except AssertionError as error:
            yield f"{name}.parquet differs from an undisturbed night's: {str(error).splitlines()[0]}"


def _client(home: Home) -> MlflowClient:
    uri = f"sqlite:///{home.folder}/mlflow.db"
    return MlflowClient(uri, uri)
