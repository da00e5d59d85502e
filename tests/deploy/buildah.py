"""Build images and run what is inside, without Docker: Buildah in a changed root, on a base from Debian's mirror."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestration.config.settings import PROJECT_ROOT

BASE = "localhost/bookworm-python"
USER = 10001
_FREE_BYTES = 40e9  # without an overlay file system, each layer is a copy
_BASE_PACKAGES = "python3,python3-venv,ca-certificates"
_STORAGE = """[storage]
driver = "vfs"
graphroot = "{folder}/storage"
runroot = "{folder}/run"
"""


def missing(folder: Path) -> str | None:
    """Return why images cannot be built here; None if they can."""
    if lacking := [name for name in ("buildah", "debootstrap") if not shutil.which(name)]:
        return f"{' and '.join(lacking)} not installed"
    if os.geteuid() != 0:
        return "images are built in a changed root, which needs root"
    if (free := shutil.disk_usage(folder).free) < _FREE_BYTES:
        return f"{free / 1e9:.0f} GB free in {folder}; {_FREE_BYTES / 1e9:.0f} GB are needed"
    return None


@dataclass(frozen=True)
class Storage:
    """Where images and containers are kept.

    Attributes:
        folder: a directory of their own.
    """

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which Buildah uses this storage."""
        config = self.folder / "storage.conf"
        config.write_text(_STORAGE.format(folder=self.folder), "utf-8")
        own = {"CONTAINERS_STORAGE_CONF": str(config), "BUILDAH_ISOLATION": "chroot"}
        return {**os.environ, **own, "TMPDIR": str(self.folder)}

    def buildah(self, *arguments: object) -> str:
        """Return the output of a command. Raises CalledProcessError."""
        command = ["buildah", *map(str, arguments)]
        return subprocess.run(command, env=self.environment, stdout=subprocess.PIPE, text=True, check=True).stdout

    def make_base(self) -> None:
        """Make the base image of Debian's own Python, unless there is one."""
        if BASE in self.buildah("images", "--format", "{{.Name}}"):
            return
        root = self.folder / "base"
        bootstrap = ["debootstrap", "--variant=minbase", f"--include={_BASE_PACKAGES}", "bookworm", str(root)]
        subprocess.run(bootstrap, stdout=subprocess.DEVNULL, check=True)
        container = self.buildah("from", "scratch").strip()
        self.buildah("add", "--quiet", container, root, "/")
        self.buildah("commit", "--quiet", "--rm", "--format", "docker", container, BASE)
        shutil.rmtree(root)

    def build(self, target: str, out: Path) -> "Image":
        """Build an image as ``make images`` does, with this machine's package index; one that is kept is used again."""
        image = Image(self, f"localhost/recommender-{target}:latest")
        if image.name in self.buildah("images", "--format", "{{.Name}}:{{.Tag}}") and (out / f"{target}.json").exists():
            return image
        command = [
            sys.executable,
            "deploy/images.py",
            target,
            "--builder",
            "buildah",
            "--base",
            BASE,
            "--out",
            str(out),
        ]
        subprocess.run([*command, *self._index()], cwd=PROJECT_ROOT, env=self.environment, check=True)
        return image

    def _index(self) -> list[str]:
        """Options for pip's index and certificates, where this machine has some."""
        listed = subprocess.check_output([sys.executable, "-m", "pip", "config", "list"], text=True)
        found = dict(re.findall(r"^\S*?\.([\w-]+)='(.*)'$", listed, re.MULTILINE))
        lines = [f"{name} = {found[name]}" for name in ("index-url", "trusted-host") if name in found]
        ca = found.get("cert")
        config = self.folder / "pip.conf"
        config.write_text("\n".join(["[global]", *lines, *(["cert = /run/secrets/ca.pem"] if ca else [])]), "utf-8")
        return ["--pip-conf", str(config), *(["--ca", ca] if ca else [])]


@dataclass(frozen=True)
class Image:
    """An image.

    Attributes:
        storage: where it is.
        name: with its tag.
    """

    storage: Storage
    name: str

    @property
    def config(self) -> dict[str, Any]:
        """Its configuration, in Docker's form."""
        inspected = json.loads(self.storage.buildah("inspect", "--type", "image", self.name))
        return dict(inspected["Docker"]["config"])

    @property
    def history(self) -> str:
        """All that its layers say of how they were made."""
        return json.dumps(
            json.loads(self.storage.buildah("inspect", "--type", "image", self.name))["Docker"]["history"]
        )

    @contextmanager
    def container(self) -> Iterator["Container"]:
        """Yield a container, removed at the end. Without an overlay file system it is a copy of all files."""
        name = self.storage.buildah("from", "--pull-never", self.name).strip()
        try:
            yield Container(self, name, Path(self.storage.buildah("mount", name).strip()))
        finally:
            self.storage.buildah("rm", name)


@dataclass(frozen=True)
class Container:
    """A container, whose commands run as the image's user, with an empty /tmp each.

    Attributes:
        image: what it was made of.
        name: given by Buildah.
        root: its files, seen from outside.
        options: of every command that runs inside.
    """

    image: Image
    name: str
    root: Path
    options: tuple[str, ...] = ()

    def on(self, home: Path, variables: Mapping[str, object], *, writable: bool = False) -> "Container":
        """Return the same container for commands on a home.

        Args:
            home: directory that is mounted as /data.
            variables: further environment variables.
            writable: whether the home can be written.
        """
        options = [part for name, value in variables.items() for part in ("--env", f"{name}={value}")]
        options += ["--mount", "type=tmpfs,destination=/tmp,tmpfs-mode=1777"]
        options += ["--volume", f"{home}:/data{'' if writable else ':ro'}"]
        return replace(self, options=tuple(options))

    def start(self) -> "subprocess.Popen[bytes]":
        """Start the image's own command, in a session of its own."""
        command = ["buildah", "run", *self.options, self.name, "--", *self.image.config["Cmd"]]
        return subprocess.Popen(command, env=self.image.storage.environment, start_new_session=True)

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command inside to its end."""
        full = ["buildah", "run", *self.options, self.name, "--", *command]
        return subprocess.run(full, env=self.image.storage.environment, capture_output=True, text=True, check=False)

    def healthy(self) -> bool:
        """Whether the image's health check passes."""
        kind, *check = self.image.config["Healthcheck"]["Test"]
        return self.run(*(["sh", "-c", *check] if kind == "CMD-SHELL" else check)).returncode == 0

    def written(self) -> list[Path]:
        """Files outside of /data and /tmp that belong to the image's user: none if its root can be read-only."""
        own = (path for path in self.root.rglob("*") if path.lstat().st_uid == USER)
        return [path for path in own if path.relative_to(self.root).parts[0] not in {"data", "tmp", "proc"}]
