"""A home in which everything runs in minutes: small data, small networks, lenient gates."""

from pathlib import Path

import yaml

from orchestration.config.settings import PROJECT_ROOT
from tests.orchestration.conftest import ARCHITECTURE, TRAINING
from tests.waiting import free_port

DATASET = "synthetic-small"
PORTS = ("DAGSTER_PORT", "MLFLOW_PORT", "APP_PORT", "SERVE_PORT", "METRICS_PORT")
_LENIENT = PROJECT_ROOT / "tests" / "orchestration" / "mlflow_lenient.yaml"


def small_home(folder: Path) -> dict[str, str]:
    """The environment variables of a home below the folder."""
    own = {
        "PIPELINE_HOME": folder / "home",
        "DAGSTER_HOME": folder / "home" / "dagster",
        "MOVIELENS_DIR": DATASET,
        # On small data the recipes, with their own settings, learn too little for the checks and gates.
        "RECIPES_YAML": _quick_recipes(folder),
        "MLFLOW_YAML": _LENIENT,
        **{name: free_port() for name in PORTS},
    }
    return {name: str(value) for name, value in own.items()}


def _quick_recipes(folder: Path) -> Path:
    """The project's recipes, small and quick."""
    book = yaml.safe_load((PROJECT_ROOT / "recipes.yaml").read_text(encoding="utf-8"))
    for recipe in book["recipes"].values():
        if not recipe.get("enabled", True):
            continue
        recipe["model"] = {**recipe.get("model", {}), **ARCHITECTURE}
        recipe["training"] = {**recipe.get("training", {}), **TRAINING}
    path = folder / "recipes.yaml"
    path.write_text(yaml.safe_dump(book, sort_keys=False), encoding="utf-8")  # the first two are compared
    return path
