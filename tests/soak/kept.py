"""Keep the state of a year of nights, so that it can be resumed, and so that a night can be repeated alone."""

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.soak.always_on import AlwaysOn
from tests.soak.disk import Disk, unmount
from tests.soak.year import Soak

_STATE, _OLD = "state.json", "before.old"


class Kept:
    """The directory of a year.

    Args:
        folder: everything of it. ``year`` has the homes, ``before`` a copy from the start of the night, ``failed`` such
            copies of nights with violations.
        year: what tells this year from another.
        say: prints a line.
    """

    def __init__(self, folder: Path, year: Mapping[str, Any], say: Callable[[str], None]) -> None:
        if os.geteuid():
            raise SystemExit("error: a year of nights needs root, which mounts the disk that can be full")
        self._folder, self._year, self._say = folder, dict(year), say
        self._before, self._failed, self._disk = folder / "before", folder / "failed", folder / "disk"

    def go_back(self, night: int) -> None:
        """Resume the year at one of its failed nights, after its fault was fixed; later nights are given up."""
        source, new = self._failed / str(night), self._folder / "before.new"
        state = self._read(source)
        if state is None:
            raise SystemExit(
                f"error: FROM={night} is not kept in {self._failed} for this SEED; nights with violations are"
            )
        self._remove(new.name, _OLD)
        shutil.copytree(source, new, symlinks=True)
        state["soak"]["report"]["repeated"].append(night)
        (new / _STATE).write_text(json.dumps(state))
        self._replace_before(new)
        for later in (path for path in self._failed.iterdir() if int(path.name) > night):
            shutil.rmtree(later)

    def begin(self, night: int | None, models: Sequence[str]) -> Soak:
        """Start a year, go on with it, or go back to one of its failed nights."""
        source = self._failed / str(night) if night is not None else self._before
        if not self._before.exists() and (self._folder / _OLD).exists():  # the process ended between two renames
            (self._folder / _OLD).rename(self._before)
        if night is not None and not source.exists():
            raise SystemExit(f"error: NIGHT={night} is not kept in {self._failed}; nights with violations are")
        state = self._read(source)
        if night is not None and state is None:
            raise SystemExit(f"error: {source} is of another year; give its SEED")
        unmount(self._disk)
        self._remove("year")
        disk = Disk(self._disk)
        if state:
            shutil.copytree(source / "disturbed", disk.folder, symlinks=True, dirs_exist_ok=True)
            shutil.copytree(source / "undisturbed", self._folder / "year" / "undisturbed", symlinks=True)
        else:
            self._remove("before", "failed")
        soak = Soak(self._folder / "year", self._say, self._year["seed"], models, disk)
        if state:
            soak.resume(state["soak"])
            self._say(f"goes on after {soak.nights} nights")
            self.start_servers(soak)
        return soak

    def start_servers(self, soak: Soak) -> None:
        """Start what stays up, as soon as there is a champion."""
        if soak.always_on is None and soak.home.tables.exists():
            soak.always_on = AlwaysOn(soak.home, self._folder / "logs")
            soak.deploy()

    def before(self, soak: Soak) -> None:
        """Copy everything; the copy of the night before is replaced when this one is complete."""
        new = self._folder / "before.new"
        self._remove(new.name, _OLD)

        def copy() -> None:
            for name, home in (("disturbed", soak.home), ("undisturbed", soak.undisturbed)):
                ignored = shutil.ignore_patterns("ballast")
                shutil.copytree(home.folder.parent, new / name, symlinks=True, ignore=ignored)

        if soak.always_on:
            soak.always_on.pause(copy)
        else:
            copy()
        (new / _STATE).write_text(json.dumps({"year": self._year, "soak": soak.state()}))
        self._replace_before(new)

    def keep(self, night: int) -> None:
        """Keep the copy from the start of this night."""
        new, path = self._folder / "failed.new", self._failed / str(night)
        self._remove(new.name)
        shutil.copytree(self._before, new, symlinks=True)
        if path.exists():
            shutil.rmtree(path)
        path.parent.mkdir(exist_ok=True)
        new.rename(path)

    def end(self, soak: Soak) -> None:
        """End all processes."""
        soak.close()
        unmount(self._disk)

    def _replace_before(self, new: Path) -> None:
        if self._before.exists():
            self._before.rename(self._folder / _OLD)
        new.rename(self._before)
        self._remove(_OLD)

    def _read(self, folder: Path) -> dict[str, Any] | None:
        """Return the state of a copy; None if it is another year's."""
        path = folder / _STATE
        state: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return state if state.get("year") == self._year else None

    def _remove(self, *names: str) -> None:
        for path in (self._folder / name for name in names):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
