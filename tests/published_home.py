"""A pipeline's home with published models, written without a pipeline: two networks with random weights."""

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from ml.inference.recommend import Recommender
from ml.inference.scorer import Scorer
from ml.models.bundle import ModelBundle

DATASET = "small"
MOMENT = (2003, 2)


def archive(home: Path, model: str) -> Path:
    """Directory of a model's published versions and of the pointer to its champion."""
    return home / "archive" / DATASET / model


def table_path(home: Path, model: str) -> Path:
    """The champion's top-10 table."""
    champion = json.loads((archive(home, model) / "champions.json").read_bytes())[-1]
    return archive(home, model) / champion / "top10.parquet"


def publish(
    home: Path,
    model: str,
    version: str,
    bundle: ModelBundle,
    ratings: pd.DataFrame,
    moment: tuple[int, int] = MOMENT,
    metrics: Mapping[str, float] | None = None,
) -> None:
    """As ``orchestration.tracking.publication`` does it for readers: the archive first, then the pointer."""
    folder = archive(home, model) / version
    folder.mkdir(parents=True, exist_ok=True)
    bundle.save(folder / "bundle.zip")
    if metrics is not None:
        (folder / "version.json").write_text(json.dumps({"metrics": metrics}), encoding="utf-8")
    [(lists, _)] = Recommender(Scorer(bundle), ratings).recommend_all([moment], 10)
    _replace(lists.assign(model=model, model_version=version), folder / "top10.parquet")
    point_to(home, model, version)


def point_to(home: Path, model: str, *versions: str) -> None:
    """Replace the list of champions; the last one is published."""
    archive(home, model).mkdir(parents=True, exist_ok=True)
    part = archive(home, model) / "champions.part"
    part.write_text(json.dumps(versions), encoding="utf-8")
    part.rename(part.with_suffix(".json"))


def write_tables(home: Path, tables: Mapping[str, pd.DataFrame]) -> None:
    """``users``, ``movies``, ``ratings`` and whatever else."""
    for name, table in tables.items():
        (home / "tables" / DATASET).mkdir(parents=True, exist_ok=True)
        _replace(table, home / "tables" / DATASET / f"{name}.parquet")


def _replace(table: pd.DataFrame, path: Path) -> None:
    part = path.with_suffix(".part")
    table.to_parquet(part, index=False)
    part.rename(path)
