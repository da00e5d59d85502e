"""Where the raw data comes from, and the name of the data set."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import dagster as dg
from pydantic import Field

from ml.data.formats import Format
from ml.data.ingestion import Ingestion
from ml.data.manifest import KINDS
from ml.data.source import OFFICIAL, Source
from ml.data.synthetic import SIZES
from ml.errors import DataError
from ml.features.splits import PAPER, RANDOM, Split
from ml.files import digest, write_atomically
from ml.schema import DatasetSize
from orchestration.config import locks
from orchestration.config.settings import PROJECT_ROOT, settings

RECEIVED = "received"  # under the home: the ingested files
_REMEMBERED = "source.json"  # in the home


class LastSource(NamedTuple):
    """The source of the last run in this home.

    Attributes:
        source: absolute path of a directory, or a name.
        is_stand_in: whether it was only chosen because the machine was offline.
    """

    source: str
    is_stand_in: bool = False


def last_source() -> LastSource | None:
    """The source of the last run in this home; None before the first. Raises DataError."""
    path = settings().local_home / _REMEMBERED
    if not path.exists():
        return None
    try:
        return LastSource(**json.loads(path.read_bytes()))
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: expected the source of the last run ({error}); remove the file") from error


class RawData(dg.ConfigurableResource):
    """The raw files of a MovieLens, and how their ratings are split."""

    source: str = Field(
        default="",
        description="Directory with the files of a MovieLens of any size, or ml-1m (the official archive), synthetic, "
        "synthetic-small. Empty: the environment variable MOVIELENS_DIR, else that of the last run in this home, else "
        "ml-1m.",
    )

    split: Split = Field(
        default=RANDOM,
        description="How interactions are split into training and test rows: random, sequential (file order), "
        "temporal (by time) or paper (random, without ratings of 3).",
    )

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator["RawData"]:
        """Called by Dagster around a step: the next run waits for a step that outlives its run."""
        with locks.step():
            yield self

    @property
    def dataset(self) -> str:
        """The data set's name; with a split other than the random one, the split's name is appended."""
        return self.name_of(self.split)

    def name_of(self, split: str) -> str:
        """The data set's name with a split."""
        return self._resolved.dataset if split == RANDOM else f"{self._resolved.dataset}-{split}"

    @property
    def takes_batches(self) -> bool:
        """Whether ingested batches count. Not on the paper's split, which is of the published data."""
        return self.split != PAPER

    @property
    def ingestion(self) -> Ingestion:
        """Where batches arrive; the same for all splits of a data set. Raises DataError."""
        return ingestion_of(self.name_of(RANDOM), self.format)

    @property
    def format(self) -> Format:
        """The format of the raw files. Raises DataError."""
        return self._resolved.format

    @property
    def known_size(self) -> DatasetSize | None:
        """The expected size of a data set of this name, if known."""
        return self._resolved.known_size

    def prepare(self) -> Path:
        """Download or generate the raw files if needed; gives their directory. Raises DataError."""
        return self._resolved.prepare(settings().movielens_cache)

    def checked(self) -> Path:
        """``prepare``, and check that no raw file is missing. Raises DataError."""
        directory = self.prepare()
        self.format.require_files(directory)
        return directory

    def remember(self, is_stand_in: bool = False) -> None:
        """Let later runs in this home use the same source unless another one is set."""
        spec = LastSource(self._resolved.spec, is_stand_in)
        write_atomically(settings().local_home / _REMEMBERED, json.dumps(spec._asdict()).encode())

    def digests(self, directory: Path) -> dict[str, str]:
        """Digests of the raw files in a directory, by kind of table. Raises OSError."""
        return {kind: digest((directory / self.format.file_of(kind).name).read_bytes()) for kind in KINDS}

    @property
    def _resolved(self) -> Source:
        spec = self.source or _default_source()
        return Source(spec if spec == OFFICIAL or spec in SIZES else str(PROJECT_ROOT / Path(spec).expanduser()))


def ingestion_of(dataset: str, form: Format) -> Ingestion:
    """Where batches of a data set arrive."""
    return Ingestion(settings().incoming / dataset, settings().local_home / RECEIVED / dataset, form)


def _default_source() -> str:
    if "movielens_dir" not in settings().model_fields_set and (last := last_source()):
        return last.source
    return settings().movielens_dir
