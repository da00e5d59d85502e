"""The data sets of a home: their partition keys in Dagster, and where the raw files of each come from.

A data set is named after its source (``ml.data.source``). Each of its splits is a partition of every asset, with
tables, MLflow experiment and registered models under the partition's key.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import dagster as dg
from filelock import FileLock

from ml.data.datasets import DEFAULT, Dataset, load_datasets
from ml.data.source import GENERATED, Source
from ml.errors import DataError
from ml.features.splits import RANDOM, SPLITS, Split
from ml.files import write_atomically
from orchestration.config.settings import PROJECT_ROOT, settings

DATA_SETS = dg.DynamicPartitionsDefinition(name="datasets")  # keys are added at launch, by ``add_partition``
PARTITION_TAG = "dagster/partition"  # Dagster's tag of a run: the key of its partition
# Between name and split. No name of a directory's data set has it, and it means nothing to MLflow, Dagster or a shell.
_MARK = "+"
_RANGE = "..."  # between two partition keys, in Dagster's UI
_REMEMBERED = "source.json"  # in the home: the source of the last run
_SOURCES = "sources.json"  # in the home: the source of each data set


class DataSet(NamedTuple):
    """A data set and how its ratings are split.

    Attributes:
        name: of the data set.
        split: how interactions are split into training and test rows.
    """

    name: str
    split: Split = RANDOM

    @property
    def key(self) -> str:
        """The partition key: ``ml-1m`` with the random split, ``ml-1m+temporal`` with another one."""
        return self.name if self.split == RANDOM else f"{self.name}{_MARK}{self.split}"

    @classmethod
    def parse(cls, key: str) -> "DataSet":
        """Read a partition key. Raises DataError."""
        name, mark, text = key.partition(_MARK)
        found = next((split for split in SPLITS if split == text), None) if mark else RANDOM
        if not name or found is None or (mark and found == RANDOM):
            others = ", ".join(f"{_MARK}{split}" for split in SPLITS if split != RANDOM)
            raise DataError(
                f"partition {key!r}; expected the name of a data set, such as {DEFAULT}, or a name followed by one of "
                f"{others}"
            )
        return cls(name, found)


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
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: expected the source of the last run ({error}); remove the file") from error


def remember(last: LastSource) -> None:
    """Let later runs in this home use the same source unless another one is set."""
    resolved = last._replace(source=resolved_source(last.source).spec)
    write_atomically(settings().local_home / _REMEMBERED, json.dumps(resolved._asdict()).encode())


def resolved_source(spec: str) -> Source:
    """A source by its name or the path of its directory; a relative path counts from the project's root."""
    return _source(spec if _source(spec).is_name else str(PROJECT_ROOT / Path(spec).expanduser()))


@cache
def described() -> Mapping[str, Dataset]:
    """The data sets of datasets.yaml by name; read once per process. Raises DataError."""
    return load_datasets(settings().datasets_yaml)


def chosen() -> str | None:
    """The source that DATASET or else MOVIELENS_DIR names; None where neither is set.

    Raises:
        DataError: DATASET is not the name of a data set.
    """
    name = settings().dataset
    if name is not None and not _source(name).is_name:
        raise DataError(f"DATASET={name!r}; expected one of {_names()}; {settings().datasets_yaml} describes them")
    return name or (settings().movielens_dir if "movielens_dir" in settings().model_fields_set else None)


def default_data_set() -> str:
    """The ``chosen`` data set, else that of the last run in this home, else ml-1m; it is registered.

    Raises:
        DataError: as ``register``.
    """
    return register(_default_source())


def _default_source() -> str:
    last = last_source()
    return chosen() or (last.source if last else settings().movielens_dir)


def scheduled_data_sets() -> tuple[str, ...]:
    """The data sets that the schedule runs: those of SCHEDULE_DATASETS, else the default one.

    Raises:
        DataError: one of them is unknown in this home.
    """
    if settings().schedule_datasets is None:
        return (default_data_set(),)
    names = scheduled_names()
    for name in names:
        source_of(name)
    return names


def scheduled_names() -> tuple[str, ...]:
    """Names of these data sets, known or not; registers nothing. Raises DataError where the last source is damaged."""
    if (listed := settings().schedule_datasets) is None:
        return (resolved_source(_default_source()).dataset,)
    return tuple(name.strip() for name in listed.split(","))


def register(spec: str) -> str:
    """Record where the raw files of a data set come from; gives its name.

    A directory that has moved replaces its former path.

    Args:
        spec: the path of a directory, or the name of a source.

    Raises:
        DataError: another directory of the same name holds the raw files of this home's data set of that name.
    """
    source = resolved_source(spec)
    name, path = source.dataset, settings().local_home / _SOURCES
    if _RANGE in name:
        raise DataError(f"{spec}: the name of a data set cannot contain {_RANGE!r}; rename the directory")
    if _recorded().get(name, name) == source.spec:
        return name
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        found = sources()
        if name in found and not _is_same(found[name], source.spec):
            raise DataError(
                f"{source.spec}: this home has a data set {name} already, whose raw files are in {found[name]}; data "
                "sets of one name would share tables, models and history. Rename the new directory, or set "
                "PIPELINE_HOME to another home"
            )
        write_atomically(path, json.dumps({**found, name: source.spec}, indent=2).encode())
    return name


def sources() -> dict[str, str]:
    """The source of each data set of this home, by its name. Raises DataError."""
    last = last_source()  # earlier releases recorded no other
    return ({resolved_source(last.source).dataset: last.source} if last else {}) | _recorded()


def _recorded() -> dict[str, str]:
    path = settings().local_home / _SOURCES
    if not path.exists():
        return {}
    try:
        return {str(name): str(spec) for name, spec in dict(json.loads(path.read_bytes())).items()}
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: expected the source of each data set by its name ({error})") from error


def source_of(name: str) -> Source:
    """Where the raw files of a data set come from. Raises DataError where this home does not know it."""
    found = sources()
    if name not in found and not _source(name).is_name:
        known = ", ".join(dict.fromkeys((*found, *described(), *GENERATED)))
        raise DataError(
            f"data set {name} is unknown in this home; expected one of {known}. "
            f"MOVIELENS_DIR=<directory called {name}> make run adds it"
        )
    return _source(found.get(name, name))


def add_partition(instance: dg.DagsterInstance, *keys: str) -> None:
    """Let Dagster offer partitions with these keys, and record runs of them."""
    instance.add_dynamic_partitions(str(DATA_SETS.name), list(keys))


def _source(spec: str) -> Source:
    return Source(spec, described(), settings().datasets_yaml.parent)


def _names() -> str:
    return ", ".join((*described(), *GENERATED))


def _is_same(known: str, spec: str) -> bool:
    """Whether a source is the known one, or takes its place: its directory has moved, or both are the official data."""
    if known == spec or _source(known).is_name or _source(spec).is_name or not Path(known).is_dir():
        return True
    return Path(spec).is_dir() and Path(known).samefile(spec)
