"""Copies of bundle files on this machine: a version's bundle is downloaded from MLflow only where no step stored it.

The step that trains a version stores its bundle; steps that evaluate, rank and publish read that copy.
"""

import os
from pathlib import Path

import dagster as dg

from ml.files import digest, write_atomically
from ml.published.locations import checked_name
from orchestration.config.settings import settings

BUNDLES = "bundles"  # directory under the home
_COPIES = 2  # most runs need two versions of a model: challenger and champion


class BundleCopies:
    """Bundle files of one model, by the ids of their logged models. The most recently used ones are kept.

    Args:
        dataset: the data set's name.
        model: the model's name.
    """

    def __init__(self, dataset: str, model: str) -> None:
        self._folder = Path(settings().local_home) / BUNDLES / checked_name(dataset) / checked_name(model)

    def store(self, model_id: str, data: bytes) -> None:
        """Store a bundle, and remove the copies that were not used for the longest time. Raises OSError."""
        write_atomically(self._path(model_id), data)
        by_use = sorted(self._folder.glob("*.zip"), key=_last_use, reverse=True)
        for path in by_use[_COPIES:]:
            path.unlink(missing_ok=True)

    def find(self, model_id: str, expected_digest: str) -> bytes | None:
        """Read a bundle; gives None where there is no copy, or a damaged one, which is removed.

        Args:
            model_id: id of the logged model.
            expected_digest: ``ml.files.digest`` of the file.
        """
        path = self._path(model_id)
        try:
            data = path.read_bytes()
            os.utime(path)
        except FileNotFoundError:  # also where another step removes it meanwhile
            return None
        if (found := digest(data)) == expected_digest:
            return data
        path.unlink(missing_ok=True)
        dg.get_dagster_logger().warning(
            f"{path} is damaged: its digest is {found}, expected {expected_digest}; it is downloaded from MLflow again"
        )
        return None

    def _path(self, model_id: str) -> Path:
        return self._folder / f"{checked_name(model_id)}.zip"


def _last_use(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # another step has removed it
        return 0.0
