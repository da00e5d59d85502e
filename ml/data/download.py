"""Download a data set's archive once, verify it, and extract its files by name."""

import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import pooch
import requests

from ml.data.datasets import Archive
from ml.errors import DataError

_TIMEOUT = 30  # seconds without a response
_LARGEST = 4 * 2**30  # bytes per file; four times the size of MovieLens-32M's ratings
_BLOCK = 2**20


class OfflineError(DataError):
    """The archive's server cannot be reached."""


def fetch(directory: Path, archive: Archive, names: Sequence[str]) -> Path:
    """Download the raw files to ``directory``, unless they are there.

    The directory appears complete or not at all.

    Args:
        directory: target of the files.
        archive: address of the zip archive, and its expected digest.
        names: of the files, which one directory of the archive has.

    Returns:
        ``directory``.

    Raises:
        OfflineError: the server cannot be reached.
        DataError: the server refused, or the archive is not the expected one and was removed.
    """
    if all((directory / name).is_file() for name in names):
        return directory
    if directory.exists():
        raise DataError(f"{directory}: incomplete; expected {', '.join(names)}; complete or remove it")
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}-") as folder:
        files = Path(folder) / "files"
        files.mkdir()
        _extract(_download(archive.url, archive.md5, Path(folder)), files, names)
        files.rename(directory)
    return directory


def _download(url: str, md5: str, folder: Path) -> Path:
    pooch.get_logger().setLevel("WARNING")  # it would log every download to the console
    try:
        downloader = pooch.HTTPDownloader(timeout=_TIMEOUT)
        return Path(pooch.retrieve(url, f"md5:{md5}", fname="archive.zip", path=folder, downloader=downloader))
    except (requests.ConnectionError, requests.Timeout) as error:
        raise OfflineError(
            f"{url}: cannot be reached ({type(error).__name__}); connect to the internet, or set MOVIELENS_DIR to a "
            "directory with the files, or to 'synthetic' for generated data"
        ) from error
    except requests.RequestException as error:
        raise DataError(f"{url}: the server refused ({error}); retry later or set MOVIELENS_DIR") from error
    except ValueError as error:  # pooch raises this if the digest does not match; it has removed the file
        raise DataError(f"{url}: not the expected archive, which has the md5 {md5}; it was removed") from error


def _extract(archive: Path, directory: Path, names: Sequence[str]) -> None:
    """Copy the members of these names; nothing else in the archive is ever written."""
    try:
        with zipfile.ZipFile(archive) as members:
            folder = _folder_of(names, members.namelist())
            for name in names:
                _copy(members, f"{folder}{name}", directory / name)
    # Raised by zipfile for damage, encrypted members and unsupported compression.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise DataError(f"{archive.name}: cannot be unpacked ({error})") from error


def _folder_of(names: Sequence[str], members: Sequence[str]) -> str:
    """Return the directory of an archive that has all files, with a slash at its end. Raises DataError."""
    folders = {member.removesuffix(name) for name in names for member in members if member.endswith(f"/{name}")} | {""}
    if found := [folder for folder in sorted(folders) if all(f"{folder}{name}" in members for name in names)]:
        return found[0]
    raise DataError(f"the archive has no directory with the files {', '.join(names)}")


def _copy(members: zipfile.ZipFile, name: str, target: Path) -> None:
    """Write a member up to a size limit, whatever size it declares. Raises DataError and zipfile's errors."""
    with members.open(name) as source, target.open("wb") as file:
        while block := source.read(_BLOCK):
            if file.tell() + len(block) > _LARGEST:
                raise DataError(f"{name}: unpacks to more than {_LARGEST:,} bytes")
            file.write(block)
