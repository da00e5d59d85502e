"""Fingerprints of what a training or a tuning study depends on: equal fingerprints mean equal results.

Of a training with dropout on a cluster, results also depend on the number of workers.
"""

from dataclasses import dataclass

from ml.files import digest
from ml.training.recipes import Recipe
from orchestration.resources.storage import Storage

TRAINING_FILES = ("train_interactions.parquet", "feature_map.json", "users.parquet", "movies.parquet")
MOMENTS_FILE = "encoded_interactions.parquet"  # a recipe with moments learns from the times of all ratings
FINGERPRINT = "fingerprint"  # tag of a model version and of its run


@dataclass(frozen=True)
class Fingerprint:
    """Digests of everything that decides a model's weights.

    Attributes:
        data: of the tables that it learns from.
        code: version of the code, and Keras's backend.
        recipe: of the recipe with the launch's settings, seed included.
    """

    data: str
    code: str
    recipe: str

    @property
    def whole(self) -> str:
        """One digest of data, code and recipe."""
        return digest(f"{self.data} {self.code} {self.recipe}".encode())

    @property
    def tags(self) -> dict[str, str]:
        """Tags of a version and its run."""
        parts = {"data": self.data, "code": self.code, "recipe": self.recipe}
        return {FINGERPRINT: self.whole, **{f"{FINGERPRINT}.{name}": part for name, part in parts.items()}}


def training_fingerprint(storage: Storage, code_version: str, recipe: Recipe) -> Fingerprint:
    """Return the fingerprint of a training on the stored tables."""
    return Fingerprint(_tables(storage, recipe), f"{code_version}-{_backend()}", recipe.fingerprint("search"))


def tuning_fingerprint(storage: Storage, recipe: Recipe) -> str:
    """Return the fingerprint of a tuning study on the stored tables; new code continues the same study."""
    return digest(f"{_tables(storage, recipe)} {_backend()} {recipe.fingerprint('warm_start', 'diversity')}".encode())


def _tables(storage: Storage, recipe: Recipe) -> str:
    files = (*TRAINING_FILES, MOMENTS_FILE) if recipe.moments else TRAINING_FILES
    return digest(" ".join(f"{name} {storage.digest(name)}" for name in files).encode())


def _backend() -> str:
    import keras

    return str(keras.config.backend())
