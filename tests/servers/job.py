"""The small job of ``make try``, as a command of its own."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import yaml
from upath import UPath

from ml.published.champions import published_versions
from orchestration.config.settings import PROJECT_ROOT

DATA_SET = "synthetic-small"
MODELS = ("autoint", "autoint_catalogue")  # two of `make try` are enough: with and without collaborative features
SECONDS = 1800


def variables(own: Mapping[str, str], raw: Path) -> dict[str, str]:
    """The environment of a command about the small data.

    Args:
        own: of the home.
        raw: where the raw files and the recipes are kept.
    """
    book = yaml.safe_load((PROJECT_ROOT / "docs/try/recipes.yaml").read_text(encoding="utf-8"))
    recipes = raw / "recipes.yaml"
    recipes.write_text(yaml.safe_dump({"recipes": {name: book["recipes"][name] for name in MODELS}}, sort_keys=False))
    small = {"MOVIELENS_DIR": DATA_SET, "RECIPES_YAML": str(recipes), "MLFLOW_YAML": "docs/try/mlflow.yaml"}
    return {**os.environ, **small, "MOVIELENS_CACHE": str(raw), **own}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "orchestration", *arguments]


def ended(env: Mapping[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run one of the project's commands to its end."""
    return subprocess.run(
        command(*arguments), env=env, cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=SECONDS, check=False
    )


def done(env: Mapping[str, str], *arguments: str) -> str:
    """Run one of the project's commands, which has to succeed; return what it printed."""
    run = ended(env, *arguments)
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-3000:]
    return run.stdout


def champions(home: UPath) -> dict[str, str]:
    """The published versions, by model."""
    return {model: version.number for model, version in published_versions(home, DATA_SET).items()}


def lists(home: UPath) -> dict[str, pd.DataFrame]:
    """The published tables, by model, with whatever tells one run from another left out."""
    found = {model: version.table for model, version in published_versions(home, DATA_SET).items()}
    return {model: pd.read_parquet(table.open("rb")).drop(columns="model_version") for model, table in found.items()}
