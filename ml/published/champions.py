"""Which version of each model is published, and where its files are.

``archive/<data set>/<model>/champions.json`` lists the versions that were champion, the current one last. The files of
each are in a directory of its number beside it. The list is replaced atomically when the champion's files are complete:
a reader that follows it sees one whole publication.

In a store of objects, where several files cannot be replaced within milliseconds, it also names the files of each
version. These are called after their content and never change, so that a reader cannot see files of two times.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from upath import UPath

from ml.errors import DataError, NotFoundError
from ml.files import content, parse_json
from ml.published.locations import checked_name

ARCHIVE = "archive"  # directory under the home
_POINTER = "champions.json"
_CHAMPIONS, _FILES = "champions", "files"  # keys of the pointer's document
FILE_NAMES: Mapping[str, str] = {"table": "top10.parquet", "bundle": "bundle.zip", "record": "version.json"}
_NONE: Mapping[str, Mapping[str, str]] = {}


@dataclass(frozen=True)
class Pointer:
    """What ``champions.json`` says.

    Attributes:
        champions: numbers of all versions that became champion, in that order; the last one is the champion.
        files: names of a version's files, as in ``FILE_NAMES``, by number; versions that have these names are left out.
    """

    champions: list[str]
    files: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def parse(cls, document: Any) -> "Pointer":
        """Read a JSON document: a list, or an object if there are other names. Raises ValueError."""
        champions, files = document, _NONE
        if isinstance(document, dict) and document.keys() == {_CHAMPIONS, _FILES}:
            champions, files = document[_CHAMPIONS], document[_FILES]
        if not isinstance(champions, list) or not all(_is_number(number) for number in champions):
            raise ValueError("no list of version numbers")
        if not isinstance(files, dict | Mapping) or not all(_are_names(number, files[number]) for number in files):
            raise ValueError("no names of files")
        return cls(champions, files)

    @property
    def document(self) -> Any:
        """The JSON document, which ``parse`` reads."""
        return {_CHAMPIONS: self.champions, _FILES: self.files} if self.files else self.champions

    def names(self, number: str) -> Mapping[str, str]:
        """Names of a version's files."""
        return self.files.get(number, FILE_NAMES)


class ArchivedVersion:
    """The files of a version that is or was published.

    Attributes:
        folder: their directory.
        number: the version's number in the registry, after which the directory is named.
        table: the top-10 table; its rows name the version.
        bundle: the network with its encoders.
        record: the registered version and its metrics, as JSON; some earlier releases did not write it.

    Args:
        folder: their directory.
        names: their names.
    """

    def __init__(self, folder: UPath, names: Mapping[str, str] = FILE_NAMES) -> None:
        self.folder, self.number = folder, folder.name
        self.table, self.bundle, self.record = (folder / names[kind] for kind in FILE_NAMES)

    @property
    def is_complete(self) -> bool:
        """Whether table and bundle exist."""
        return self.table.exists() and self.bundle.exists()

    def metrics(self) -> dict[str, float]:
        """Read the metrics that were measured before publication, by name; none without a record.

        Raises:
            DataError: the record cannot be used.
        """
        if not self.record.exists():
            return {}
        try:
            metrics: dict[str, float] = parse_json(self.record.read_bytes(), str(self.record))["metrics"]
            return {name: float(value) for name, value in metrics.items()}
        except (DataError, AttributeError, ValueError, TypeError, LookupError, OverflowError) as error:
            raise DataError(
                f"{self.record}: expected the metrics of a version, found none ({error!r}); publish it again (make run)"
            ) from error


class ModelArchive:
    """The versions of a model that are or were published. Reads only.

    Attributes:
        folder: directory of all versions.
        pointer: the file that says which one is the champion.

    Args:
        home: the pipeline's home.
        dataset: the data set's name.
        model: the model's name.
    """

    def __init__(self, home: UPath, dataset: str, model: str) -> None:
        self.folder = _archive(home, dataset) / checked_name(model)
        self.pointer = self.folder / _POINTER

    def version(self, number: str) -> ArchivedVersion:
        """A version's files, which may be missing. Raises NotFoundError where the number cannot be part of a path."""
        try:
            names = self.read().names(number)
        except DataError:  # which ``champions`` reports
            names = FILE_NAMES
        return ArchivedVersion(self.folder / checked_name(number), names)

    def versions(self) -> list[str]:
        """Numbers of the versions whose table and bundle are kept, in ascending order. Raises DataError."""
        folders = self.folder.iterdir() if self.folder.is_dir() else []
        numbers, pointer = (path.name for path in folders if _is_number(path.name)), self.read()
        kept = (ArchivedVersion(self.folder / number, pointer.names(number)) for number in numbers)
        return sorted((version.number for version in kept if version.is_complete), key=int)

    def read(self) -> Pointer:
        """Read the pointer; an empty one where nothing was published.

        Raises:
            DataError: the file is damaged.
        """
        try:
            data = content(self.pointer)
        except FileNotFoundError:
            return Pointer([])
        try:
            return Pointer.parse(parse_json(data, str(self.pointer)))
        except (DataError, ValueError):
            raise DataError(
                f'{self.pointer}: expected a JSON list of version numbers such as ["1", "3"], the champion last, found '
                f"{data[:40]!r}; restore it from a backup, or write it by hand: the directories beside it are versions"
            ) from None

    def champions(self) -> list[str]:
        """Numbers of all versions that became champion, in that order; the last one is the champion.

        Raises:
            DataError: the file is damaged.
        """
        return self.read().champions

    def champion(self) -> ArchivedVersion | None:
        """The published version; None where none was published. Raises DataError."""
        pointer = self.read()
        if not pointer.champions:
            return None
        number = pointer.champions[-1]
        return ArchivedVersion(self.folder / number, pointer.names(number))


def published_datasets(home: UPath) -> list[str]:
    """Names of the data sets with a published model, sorted. Raises DataError."""
    return [name for name in _directories(home / ARCHIVE) if _champions(home, name)]


def published_models(home: UPath, dataset: str) -> list[str]:
    """Names of a data set's published models, sorted; none where nothing is published. Raises DataError."""
    return list(_champions(home, dataset))


def archived_datasets(home: UPath) -> list[str]:
    """Names of the data sets with an archive, sorted, whether or not its lists of champions can be read."""
    return _directories(home / ARCHIVE)


def archived_models(home: UPath, dataset: str) -> list[str]:
    """Names of a data set's models with an archive, sorted, whether or not their lists of champions can be read."""
    return _directories(_archive(home, dataset))


def published_versions(home: UPath, dataset: str) -> dict[str, ArchivedVersion]:
    """Champions of a data set by the names of their models, sorted.

    Raises:
        NotFoundError: nothing of this data set is published.
        DataError: a list of champions is damaged.
    """
    champions = _champions(home, dataset)
    if not champions:
        raise NotFoundError(f"no model of data set {dataset!r} is published under {home}; run the pipeline (make run)")
    return champions


def chosen_dataset(home: UPath, dataset: str | None) -> str:
    """The published data set of this name, or the only one.

    Raises:
        NotFoundError: nothing is published, not this one, or several are and none was named.
        DataError: a list of champions is damaged.
    """
    datasets = published_datasets(home)
    if not datasets:
        raise NotFoundError(f"no model is published under {home}; run the pipeline first (make run)")
    if dataset is None and len(datasets) > 1:
        raise NotFoundError(
            f"several data sets are published under {home}: {', '.join(datasets)}; choose one (--dataset)"
        )
    if dataset is not None and dataset not in datasets:
        raise NotFoundError(f"no model of data set {dataset!r} is published; there are data sets {', '.join(datasets)}")
    return dataset or datasets[0]


def _champions(home: UPath, dataset: str) -> dict[str, ArchivedVersion]:
    found = {name: ModelArchive(home, dataset, name).champion() for name in _directories(_archive(home, dataset))}
    return {name: champion for name, champion in found.items() if champion}


def _archive(home: UPath, dataset: str) -> UPath:
    return home / ARCHIVE / checked_name(dataset)


def _directories(folder: UPath) -> list[str]:
    paths = folder.iterdir() if folder.is_dir() else []
    return sorted(path.name for path in paths if path.is_dir() and not path.name.startswith("."))


def _are_names(number: object, names: object) -> bool:
    """Whether a version's files are named, in its own directory."""
    if not _is_number(number) or not isinstance(names, dict) or names.keys() != FILE_NAMES.keys():
        return False
    try:
        return all(isinstance(name, str) and bool(checked_name(name)) for name in names.values())
    except NotFoundError:
        return False


def _is_number(value: object) -> bool:
    return isinstance(value, str) and value.isascii() and value.isdecimal()
