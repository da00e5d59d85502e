"""Fingerprints of trainings: two trainings with the same one would give the same weights."""

from dataclasses import dataclass

from ml.files import digest
from ml.training.recipes import Recipe
from orchestration.resources.storage import Storage

TRAINING_FILES = ("train_interactions.parquet", "feature_map.json", "users.parquet", "movies.parquet")
FINGERPRINT = "fingerprint"  # tag of a model version and of its run
NOT_LEARNED_BY = {"description", "enabled", "search"}  # parts of a recipe that do not change the weights


@dataclass(frozen=True)
class Fingerprint:
    """Digests of everything that decides a model's weights.

    Attributes:
        data: of the tables that it learns from.
        code: version of the code, and Keras's backend.
        recipe: of the recipe with the launch's settings, including the seed.
    """

    data: str
    code: str
    recipe: str

    @property
    def whole(self) -> str:
        """One digest of all three."""
        return digest(f"{self.data} {self.code} {self.recipe}".encode())

    @property
    def tags(self) -> dict[str, str]:
        """Tags of a version and its run."""
        parts = {"data": self.data, "code": self.code, "recipe": self.recipe}
        return {FINGERPRINT: self.whole, **{f"{FINGERPRINT}.{name}": part for name, part in parts.items()}}


def training_fingerprint(storage: Storage, code_version: str, recipe: Recipe) -> Fingerprint:
    """Compute the fingerprint of a training on the stored tables.

    Args:
        storage: holds the tables.
        code_version: of the training's code.
        recipe: with the launch's settings.
    """
    import keras

    tables = " ".join(f"{name} {storage.digest(name)}" for name in TRAINING_FILES)
    return Fingerprint(
        data=digest(tables.encode()),
        code=f"{code_version}-{keras.config.backend()}",
        recipe=digest(recipe.model_dump_json(exclude=NOT_LEARNED_BY).encode()),
    )
