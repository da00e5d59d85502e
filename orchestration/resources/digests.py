"""Digests of files, computed again only where a file's size or time has changed."""

import json
import time
from pathlib import Path

from upath import UPath

from ml.files import digest_of_file, write_atomically

# A file that changed so shortly before may change again without another size or time; file systems' clocks are coarse.
_SECONDS_UNTIL_SURE = 2.0


class Digests:
    """The digests of files that were computed before, in a file of their own.

    Args:
        path: of that file. A damaged one is as good as none, and is replaced.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._before = _read(path)
        self._known = dict(self._before)

    def of(self, path: Path | UPath) -> str:
        """The digest of a file, see ``ml.files.digest``. Raises OSError."""
        stat = path.stat()
        # A program can set the time of a file's content, but not that of its last change, which not all systems have.
        content, change = (getattr(stat, name, 0) or 0 for name in ("st_mtime", "st_ctime"))
        stamp = [stat.st_size, int(content * 1e9), int(change * 1e9), getattr(stat, "st_ino", 0)]
        found = self._known.get(str(path))
        if found and found[:-1] == stamp:
            return str(found[-1])
        digest = digest_of_file(path)
        if content and max(content, change) < time.time() - _SECONDS_UNTIL_SURE:  # some systems have no times at all
            self._known[str(path)] = [*stamp, digest]
        return digest

    def save(self) -> None:
        """Write what is known now. Raises OSError."""
        if self._known != self._before:
            write_atomically(self._path, json.dumps(self._known).encode())
            self._before = dict(self._known)


def _read(path: Path) -> dict[str, list[int | str]]:
    try:
        found = json.loads(path.read_bytes())
        return {str(name): [*map(int, stamp), str(digest)] for name, (*stamp, digest) in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
