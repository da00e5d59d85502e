"""Where the raw data comes from, and the name of the data set."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from pydantic import PrivateAttr

from ml.data.formats import Format
from ml.data.ingestion import Ingestion
from ml.data.manifest import KINDS
from ml.data.received import Received
from ml.data.source import Source
from ml.features.splits import PAPER, Split
from ml.files import digest, digest_of_file
from ml.schema import DatasetSize
from orchestration.config import locks
from orchestration.config.data_sets import PARTITION_TAG, DataSet, source_of
from orchestration.config.settings import settings

RECEIVED = "received"  # under the home: the ingested files


class RawData(dg.ConfigurableResource):
    """The raw files of a MovieLens, and how their ratings are split: those of a run's partition.

    It has no launch configuration, so that a run cannot write one data set's tables under another one's partition.
    """

    _data_set: DataSet | None = PrivateAttr(default=None)

    @classmethod
    def of(cls, key: str) -> "RawData":
        """The data set of a partition key. Raises DataError."""
        raw_data = cls()
        raw_data._data_set = DataSet.parse(key)
        return raw_data

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator["RawData"]:
        """Called by Dagster around a step: the next run waits for a step that outlives its run."""
        key = context.run.tags.get(PARTITION_TAG) if context.run else None
        with locks.step():
            yield RawData.of(key) if key else self

    @property
    def data_set(self) -> DataSet:
        """Name and split. Raises dagster.Failure where the run has no partition."""
        if self._data_set is None:
            raise dg.Failure("The run has no data set: launch it for a partition.", allow_retries=False)
        return self._data_set

    @property
    def dataset(self) -> str:
        """The partition key, which tables, experiment and models are named after."""
        return self.data_set.key

    @property
    def split(self) -> Split:
        """How interactions are split into training and test rows."""
        return self.data_set.split

    def name_of(self, split: Split) -> str:
        """The key of the same data set with another split."""
        return self.data_set._replace(split=split).key

    @property
    def takes_batches(self) -> bool:
        """Whether ingested batches count. Not on the paper's split, which is of the published data."""
        return self.split != PAPER

    @property
    def ingestion(self) -> Ingestion:
        """Where batches arrive; the same for all splits of a data set. Raises DataError."""
        return Ingestion(settings().incoming / self.data_set.name, received_of(self.data_set.name, self.format))

    @property
    def format(self) -> Format:
        """The format of the raw files. Raises DataError."""
        return self.source.format

    @property
    def known_size(self) -> DatasetSize:
        """What is known of the size of a data set of this name."""
        return self.source.known_size

    def prepare(self) -> Path:
        """Download or generate the raw files if needed; gives their directory. Raises DataError."""
        return self.source.prepare(settings().movielens_cache)

    def checked(self) -> Path:
        """``prepare``, and check that no raw file is missing. Raises DataError."""
        return checked(self.source)

    def digests(self, directory: Path, of: Callable[[Path], str] = digest_of_file) -> dict[str, str]:
        """Digests of the raw files in a directory and of what they mean, by kind of table. Raises OSError."""
        files = {kind: self.format.file_of(kind).paths(directory) for kind in KINDS}
        contents = {kind: [of(path) for path in paths] for kind, paths in files.items()}
        return {kind: digest(" ".join((self.source.meaning, *own)).encode()) for kind, own in contents.items()}

    @property
    def source(self) -> Source:
        """Where the raw files come from. Raises DataError where this home does not know it."""
        return source_of(self.data_set.name)


def checked(source: Source) -> Path:
    """Download or generate the raw files if needed, and check that none is missing; gives their directory.

    Raises:
        DataError: they cannot be had, or are incomplete.
    """
    directory = source.prepare(settings().movielens_cache)
    source.format.require_files(directory)
    return directory


def received_of(dataset: str, form: Format) -> Received:
    """The files of a data set that were ingested."""
    return Received(settings().local_home / RECEIVED / dataset, form)
