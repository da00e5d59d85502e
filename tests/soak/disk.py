"""Provide a file system that only the soak test's home is on, so that it can be full."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.waiting import until

_KIB = 1024


class Disk:
    """A file system in memory, mounted by root. It does not wait for a device, and what it holds ends with it.

    Args:
        folder: where it is mounted.
        size: bytes.
    """

    def __init__(self, folder: Path, size: int = 2**30) -> None:
        self.folder, self._ballast = folder, folder / "ballast"
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "soak", str(folder)], check=True)

    @property
    def used(self) -> int:
        """Return the bytes in use."""
        return shutil.disk_usage(self.folder).used

    @contextmanager
    def nearly_full(self, left: int) -> Iterator[None]:
        """Leave about so many KiB."""
        try:
            with self._ballast.open("wb") as file:
                until(lambda: self._filled(file.fileno(), left))
            yield
        finally:
            self._ballast.unlink()

    def _filled(self, ballast: int, left: int) -> bool:
        """Allocate the rest; nothing is allocated if another process has meanwhile taken some of it."""
        with suppress(OSError):
            os.posix_fallocate(ballast, 0, max(shutil.disk_usage(self.folder).free - left * _KIB, 1))
            return True
        return False


def unmount(folder: Path) -> None:
    """Unmount it, if it is mounted, as soon as this process has closed the databases on it."""
    if folder.is_mount():
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
