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


def publish(
    home: Path,
    model: str,
    version: str,
    bundle: ModelBundle,
    ratings: pd.DataFrame,
    moment: tuple[int, int] = MOMENT,
    metrics: Mapping[str, float] | None = None,
) -> None:
    """As ``orchestration.tracking.publication`` leaves it: the archive first, the table last."""
    archive = home / "archive" / DATASET / model / version
    for folder in (archive, home / "models" / DATASET, home / "tables" / DATASET):
        folder.mkdir(parents=True, exist_ok=True)
    bundle.save(archive / "bundle.zip")
    if metrics is not None:
        (archive / "version.json").write_text(json.dumps({"metrics": metrics}), encoding="utf-8")
    bundle.save(home / "models" / DATASET / f"{model}.zip")
    [(lists, _)] = Recommender(Scorer(bundle), ratings).recommend_all([moment], 10)
    table = lists.assign(model=model, model_version=version)
    _replace(table, home / "tables" / DATASET / f"top10_{model}.parquet")


def write_tables(home: Path, tables: Mapping[str, pd.DataFrame]) -> None:
    """``users``, ``movies``, ``ratings`` and whatever else."""
    for name, table in tables.items():
        (home / "tables" / DATASET).mkdir(parents=True, exist_ok=True)
        _replace(table, home / "tables" / DATASET / f"{name}.parquet")


def _replace(table: pd.DataFrame, path: Path) -> None:
    part = path.with_suffix(".part")
    table.to_parquet(part, index=False)
    part.rename(path)
