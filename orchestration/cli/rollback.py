"""Go back to an earlier champion and its table: ``make rollback MODEL=autoint VERSION=3 [DATASET=ml-1m]``.

The version that was champion before is not promoted again.
"""

import sys
from collections.abc import Sequence

from ml.errors import DataError, NotFoundError
from orchestration.cli.choices import published_data_set
from orchestration.config import locks
from orchestration.config.recipes_in_force import reference_models
from orchestration.config.writer import claim_home
from orchestration.tracking.publication import found_in_registry
from orchestration.tracking.registered_version import ROLLED_BACK
from orchestration.tracking.registry import client_of, configuration, publication


def main(*arguments: str) -> int:
    """Go back; gives the exit status. Raises DataError and NotFoundError."""
    model, version, dataset = _parsed(arguments)
    with locks.turn() as turn:
        for _ in turn:
            raise DataError("a run is in progress; try again when it has ended (make ui shows it)")
        claim_home()
        left = roll_back(model, version, dataset)
    sys.stdout.write(
        f"{model} of {dataset}: version {version} is champion again, its table is published; left: {left}\n"
    )
    return 0


def roll_back(model: str, version: str, dataset: str) -> str:
    """Publish an earlier champion again; gives the version that it replaced. Raises DataError and NotFoundError."""
    config = configuration(dataset)
    published = publication(config, dataset, model)
    left = published.champion()
    if left is None:
        raise DataError(f"{model} of {dataset} has no champion")
    if left == version:
        raise DataError(f"version {version} is the champion of {model} already")
    client, name = client_of(config), config.registered_models[model]
    kept = version in published.archive.versions()
    if kept and found_in_registry(lambda: client.get_model_version(name, version)) is None:
        raise NotFoundError(f"version {version} of {name} is not in the registry; somebody has deleted it")
    published.go_back(version)
    found_in_registry(lambda: client.set_model_version_tag(name, left, ROLLED_BACK, "true"))
    client.delete_model_version_tag(name, version, ROLLED_BACK)
    return left


def _parsed(arguments: Sequence[str]) -> tuple[str, str, str]:
    model, version, dataset = [*arguments, "", "", ""][:3]
    models = reference_models()
    if model not in models:
        raise DataError(f"MODEL={model!r}; expected one of {', '.join(models)}")
    if not version.isdecimal():
        raise DataError(f"VERSION={version!r}; expected the number of an earlier champion")
    return model, version, published_data_set(dataset)
