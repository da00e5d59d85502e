"""Where raw data comes from, and with it the name that keeps data sets apart."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import dagster as dg
from pydantic import Field

from ml.data.ingestion import Ingestion
from ml.data.source import OFFICIAL, Source
from ml.data.synthetic import SIZES
from ml.errors import DataError
from ml.features.splits import PAPER, RANDOM, Split
from ml.files import digest, write_atomically
from ml.schema import RAW_FILES, DatasetSize
from orchestration.config import locks
from orchestration.config.settings import PROJECT_ROOT, Settings

RECEIVED = "received"  # under the home: the files that were taken in
_REMEMBERED = "source.json"  # in the home


class LastSource(NamedTuple):
    """What the last run in this home was made from.

    Attributes:
        source: a directory's absolute path, or a name.
        is_stand_in: whether it was chosen only because the machine was offline.
    """

    source: str
    is_stand_in: bool = False


def last_source() -> LastSource | None:
    """What the last run in this home was made from; None before the first. Raises DataError."""
    path = Settings().local_home / _REMEMBERED
    if not path.exists():
        return None
    try:
        return LastSource(**json.loads(path.read_bytes()))
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: expected the source of the last run ({error}); remove the file") from error


class RawData(dg.ConfigurableResource):
    """The raw MovieLens files, and how their ratings are split."""

    source: str = Field(
        default="",
        description="Directory with users.dat, movies.dat and ratings.dat, or ml-1m (the official archive), synthetic, "
        "synthetic-small. Empty: the environment variable MOVIELENS_DIR, else that of the last run in this home, else "
        "ml-1m.",
    )

    split: Split = Field(
        default=RANDOM,
        description="How interactions are split to training and test rows: random, sequential (file order), "
        "temporal (by time) or paper (random, without ratings of 3).",
    )

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator["RawData"]:
        """Called by Dagster around a step: one that outlives its run holds up the next run, which writes the same."""
        with locks.step():
            yield self

    @property
    def dataset(self) -> str:
        """The data set's name; that of another split than the random one ends with the split's."""
        return self.name_of(self.split)

    def name_of(self, split: str) -> str:
        """The name that the data set has when it is split in this way."""
        return self._resolved.dataset if split == RANDOM else f"{self._resolved.dataset}-{split}"

    @property
    def takes_batches(self) -> bool:
        """Whether ratings that came after the base files count; the paper measures on the published data."""
        return self.split != PAPER

    @property
    def ingestion(self) -> Ingestion:
        """Where later files arrive; the same for all splits of a data set."""
        name = self.name_of(RANDOM)
        return Ingestion(Settings().incoming / name, Settings().local_home / RECEIVED / name)

    @property
    def known_size(self) -> DatasetSize | None:
        """What a data set of this name must hold, where that is known."""
        return self._resolved.known_size

    def prepare(self) -> Path:
        """The directory of the raw files, after downloading or generating them where needed. Raises DataError."""
        return self._resolved.prepare(Settings().cache)

    def checked(self) -> Path:
        """``prepare``, and all raw files are there: what a launch needs. Raises DataError."""
        directory = self.prepare()
        if missing := [name for name in RAW_FILES if not (directory / name).is_file()]:
            raise DataError(f"{directory}: lacks {', '.join(missing)}; expected {', '.join(RAW_FILES)}")
        return directory

    def remember(self, is_stand_in: bool = False) -> None:
        """Have later runs in this home use the same source where nothing says which."""
        spec = LastSource(self._resolved.spec, is_stand_in)
        write_atomically(Settings().local_home / _REMEMBERED, json.dumps(spec._asdict()).encode())

    def digests(self, directory: Path) -> dict[str, str]:
        """Digests of the raw files in a directory, by name. Raises OSError."""
        return {name: digest((directory / name).read_bytes()) for name in RAW_FILES}

    @property
    def _resolved(self) -> Source:
        spec = self.source or _default_source()
        return Source(spec if spec == OFFICIAL or spec in SIZES else str(PROJECT_ROOT / Path(spec).expanduser()))


def _default_source() -> str:
    settings = Settings()
    if "movielens_dir" not in settings.model_fields_set and (last := last_source()):
        return last.source
    return settings.movielens_dir
