"""Provide a file system that only the soak test's home is on, so that it can be full."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_KIB = 1024


class Disk:
    """A file system in a file, mounted by root.

    Args:
        image: the file; created if missing.
        folder: where it is mounted.
        size: bytes.
    """

    def __init__(self, image: Path, folder: Path, size: int = 4 * 2**30) -> None:
        self.folder, self._ballast = folder, folder / "ballast"
        folder.mkdir(parents=True, exist_ok=True)
        if not image.exists():
            with image.open("wb") as file:
                file.truncate(size)
            # Without blocks that only root may use, since the tests run as root.
            subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
        if not folder.is_mount():
            subprocess.run(["mount", "-o", "loop", str(image), str(folder)], check=True)
        self._ballast.unlink(missing_ok=True)

    @property
    def used(self) -> int:
        """Return the bytes in use."""
        return shutil.disk_usage(self.folder).used

    @contextmanager
    def nearly_full(self, left: int) -> Iterator[None]:
        """Leave about so many KiB."""
        try:
            with self._ballast.open("wb") as file, suppress(OSError):  # the file system needs some blocks for itself
                os.posix_fallocate(file.fileno(), 0, max(shutil.disk_usage(self.folder).free - left * _KIB, 1))
            yield
        finally:
            self._ballast.unlink()

    def unmount(self) -> None:
        """Unmount it, as soon as this process has closed the databases on it; its content stays in the image."""
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)
