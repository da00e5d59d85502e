"""Export a champion for TensorFlow Serving: ``make export MODEL=autoint [DATASET=ml-1m] [TO=<directory>]``.

It is written to ``<TO>/<data set>/<model>/<version>``, by default below ``exports`` in the home.
"""

import sys
from pathlib import Path

from ml.errors import DataError
from ml.published.champions import published_versions
from orchestration.cli.choices import published_data_set
from orchestration.config.settings import settings


def main(model: str = "", dataset: str = "", to: str = "") -> int:
    """Export; gives the exit status. Raises DataError."""
    from ml.inference.tensorflow_export import export_bundle
    from ml.models.bundle import ModelBundle

    dataset = published_data_set(dataset)
    champions = published_versions(settings().home, dataset)
    if model not in champions:
        raise DataError(f"MODEL={model!r}; expected one of {', '.join(champions)}")
    if "://" in to:
        raise DataError(f"TO={to!r}; expected a local directory")
    champion = champions[model]
    below = Path(to).absolute() if to else settings().local_home / "exports"
    folder = below / dataset / model / champion.number
    export_bundle(ModelBundle.load(champion.bundle), folder)
    sys.stdout.write(f"{model} of {dataset}: version {champion.number} is a SavedModel in {folder}\n")
    return 0
