"""Download the official MovieLens-1M archive once, verify it, and extract its files by name."""

import tempfile
import zipfile
import zlib
from pathlib import Path

import pooch
import requests

from ml import schema
from ml.errors import DataError

URL = "https://files.grouplens.org/datasets/movielens/ml-1m.zip"
MD5 = "c4d9eecfca2ab87c1945afe126590906"
_TIMEOUT = 30  # seconds without a response
_LARGEST = 256 * 2**20  # bytes per file; ten times the size of ratings.dat
_BLOCK = 2**20


class OfflineError(DataError):
    """The archive's server cannot be reached."""


def fetch_movielens(directory: Path, url: str = URL, md5: str = MD5) -> Path:
    """Download the three raw files to ``directory``, unless they are there.

    The directory appears complete or not at all.

    Args:
        directory: target of the files.
        url: address of the zip archive, with members ``ml-1m/users.dat`` and so on.
        md5: expected hex digest of the archive.

    Returns:
        ``directory``.

    Raises:
        OfflineError: the server cannot be reached.
        DataError: the server refused, or the archive is not the official one and was removed.
    """
    if all((directory / name).is_file() for name in schema.RAW_FILES):
        return directory
    if directory.exists():
        raise DataError(f"{directory}: incomplete; expected {', '.join(schema.RAW_FILES)}; complete or remove it")
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}-") as folder:
        archive = _download(url, md5, Path(folder))
        files = Path(folder) / "files"
        files.mkdir()
        _extract(archive, files)
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
        raise DataError(f"{url}: the archive is not the official one, expected md5 {md5}; it was removed") from error


def _extract(archive: Path, directory: Path) -> None:
    """Copy the three members by name; nothing else in the archive is ever written."""
    try:
        with zipfile.ZipFile(archive) as members:
            for name in schema.RAW_FILES:
                _copy(members, f"ml-1m/{name}", directory / name)
    except KeyError as error:
        raise DataError(f"{archive.name}: {error.args[0]}; not the MovieLens-1M archive") from error
    # Raised by zipfile for damage, encrypted members and unsupported compression.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise DataError(f"{archive.name}: cannot be unpacked ({error}); not the MovieLens-1M archive") from error


def _copy(members: zipfile.ZipFile, name: str, target: Path) -> None:
    """Write a member up to a size limit, whatever size it declares. Raises DataError and zipfile's errors."""
    with members.open(name) as source, target.open("wb") as file:
        while block := source.read(_BLOCK):
            if file.tell() + len(block) > _LARGEST:
                raise DataError(f"{name}: unpacks to more than {_LARGEST:,} bytes; not the MovieLens-1M archive")
            file.write(block)
