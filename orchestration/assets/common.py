"""What all assets share."""

import dagster as dg

from ml.training.recipes import load_recipes
from orchestration.settings import PROJECT_ROOT

OWNERS = ["team:recommendations"]
# For what passes by itself: a network that fails, a locked database, a process that ran out of memory.
TRANSIENT = dg.RetryPolicy(max_retries=2, delay=2, backoff=dg.Backoff.EXPONENTIAL)
RECIPES = load_recipes(PROJECT_ROOT / "recipes.yaml")  # the assets follow this list
MODELS = tuple(RECIPES)
DOCUMENTS = "document_io_manager"
