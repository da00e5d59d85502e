"""The enabled recipes of recipes.yaml, which assets, jobs and commands follow."""

from collections.abc import Mapping
from functools import cache

from ml.data.tables_format import table_format
from ml.errors import DataError
from ml.training.recipes import PAPER, REFERENCE, Protocol, Recipe, load_recipes
from orchestration.config.data_sets import described
from orchestration.config.settings import settings

# Names of assets, groups, operations, jobs and baselines, and of the entry for all other recipes in mlflow.yaml. A
# recipe of the same name would be mixed up with it; Dagster's own error would not name the recipe.
RESERVED = {
    "raw_users", "raw_movies", "raw_ratings", "ingestion_batches", "ingested_users", "ingested_movies",
    "ingested_ratings", "users", "movies", "ratings", "interactions", "data_report", "feature_map",
    "encoded_interactions", "train_interactions", "test_interactions", "collaborative_features", "baseline_scores",
    "baseline_metrics", "baseline_lists", "baseline_list_metrics", "model_comparison", "paper_comparison", "promotion",
    "top10_recommendations", "monthly_top10", "pruned_versions", "data_drift", "run_plan",
    "raw", "tables", "report", "features", "models", "evaluation", "catalogue", "recommendations", "monitoring",
    "operations", "paper",
    "raw_movielens", "ingest_batches", "split_interactions", "rank_catalogue_by_baselines", "rank_months",
    "recommender_pipeline", "temporal_evaluation", "monthly_recommendations", "paper_protocol",
    "random", "popularity", "movie_mean", "matrix_factorization", "implicit_als", "ease",
    "default",
}  # fmt: skip
_OWN = ("{}", "{}_scores", "{}_metrics", "{}_lists", "{}_list_metrics", "evaluate_{}", "rank_catalogue_by_{}")


@cache
def recipes_in_force() -> Mapping[str, Recipe]:
    """The enabled recipes by name, in the file's order; read once per process. Raises DataError."""
    path = settings().recipes_yaml
    own = [table_format(name, each).description for name, each in described().items() if each.reader == "table"]
    recipes = load_recipes(path, own)
    taken = dict.fromkeys(RESERVED, "the pipeline")
    for recipe in recipes:
        for name in names_of(recipe):
            if name in taken:
                raise DataError(
                    f"{path}, recipes.{recipe}: its name would give something the name {name}, which {taken[name]} has "
                    "already; rename the recipe"
                )
            taken[name] = f"the recipe {recipe}"
    return recipes


def names_of(recipe: str) -> tuple[str, ...]:
    """Names of the assets and operations of a recipe."""
    return tuple(form.format(recipe) for form in _OWN)


def reference_models() -> tuple[str, ...]:
    """The models of the reference protocol. Raises DataError where no such recipe is enabled."""
    return required(models_of(recipes_in_force(), REFERENCE), REFERENCE)


def paper_models() -> tuple[str, ...]:
    """The models of the paper's protocol; empty where no such recipe is enabled."""
    return models_of(recipes_in_force(), PAPER)


def models_of(recipes: Mapping[str, Recipe], protocol: Protocol) -> tuple[str, ...]:
    """Names of the recipes of a protocol."""
    return tuple(name for name, recipe in recipes.items() if recipe.protocol == protocol)


def required(models: tuple[str, ...], protocol: Protocol) -> tuple[str, ...]:
    """The models of a protocol. Raises DataError where there are none."""
    if not models:
        raise DataError(f"recipes.yaml: no recipe of protocol {protocol} is enabled; expected at least one")
    return models
