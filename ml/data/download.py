"""Download the official MovieLens-1M archive once, verify it, and extract its files by name."""

import tempfile
import zipfile
from pathlib import Path

import pooch
import requests

from ml import schema
from ml.errors import DataError

URL = "https://files.grouplens.org/datasets/movielens/ml-1m.zip"
MD5 = "c4d9eecfca2ab87c1945afe126590906"
_TIMEOUT = 30  # seconds without a response


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
        with zipfile.ZipFile(archive) as members:  # its digest is right, so nothing about it can be wrong
            for name in schema.RAW_FILES:
                (files / name).write_bytes(members.read(f"ml-1m/{name}"))
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
