"""The project's own recipes."""

from ml.training.recipes import PAPER, REFERENCE, load_recipes
from orchestration.config.recipes_in_force import models_of
from orchestration.config.settings import PROJECT_ROOT

RECIPES = load_recipes(PROJECT_ROOT / "recipes.yaml")
MODELS = models_of(RECIPES, REFERENCE)
COLLABORATIVE_MODELS = tuple(name for name in MODELS if RECIPES[name].signals)
PAPER_MODELS = models_of(RECIPES, PAPER)
