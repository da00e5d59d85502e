"""Build the images and write each one's bill of materials and size: ``python deploy/images.py`` (``make images``).

Needs only Python and Docker, Podman or Buildah.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGETS = ("pipeline", "service", "app")
BUILDERS = ("docker", "podman", "buildah")
_BILL = "opt/venv/sbom.cdx.json"


def main(arguments: Sequence[str]) -> int:
    """Build what is asked for and return the exit status."""
    options = _options(arguments)
    if not options.builder:
        sys.stderr.write(f"error: none of {', '.join(BUILDERS)} is on the PATH; install one of them\n")
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    for target in options.targets or TARGETS:
        image = f"recommender-{target}:{options.tag}"
        built = subprocess.run(build_command(target, image, options), cwd=ROOT, check=False)  # noqa: S603
        if built.returncode:
            sys.stderr.write(f"error: {image} was not built; the reason is above\n")
            return built.returncode
        content, size = _bill_and_size(options.builder, image)
        bill = options.out / f"{target}.cdx.json"
        bill.write_bytes(content)
        (options.out / f"{target}.json").write_text(json.dumps({"image": image, "bytes": size}) + "\n", "utf-8")
        sys.stdout.write(f"{image}: {size / 1e6:,.0f} MB uncompressed; bill of materials: {bill}\n")
    return 0


def build_command(target: str, image: str, options: argparse.Namespace) -> list[str]:
    """Return the command that builds an image."""
    command = [options.builder, "build", "--file", "deploy/Dockerfile", "--target", target, "--tag", image]
    if options.builder != "docker":  # the other two do not find the file beside the Dockerfile, or know health checks
        command += ["--ignorefile", "deploy/Dockerfile.dockerignore", "--format", "docker"]
    for name, value in (("BASE", options.base), ("EXTRAS", options.extras)):
        command += ["--build-arg", f"{name}={value}"] if value else []
    for name, file in (("pip.conf", options.pip_conf), ("ca.pem", options.ca)):
        command += ["--secret", f"id={name},src={file}"] if file else []
    return [*command, "."]


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="images.py", description="Build the images.")
    parser.add_argument("targets", nargs="*", metavar="target", help=f"{', '.join(TARGETS)}; default: all")
    found = next((name for name in BUILDERS if shutil.which(name)), None)
    parser.add_argument("--builder", choices=BUILDERS, default=found, help="default: the first one on the PATH")
    parser.add_argument("--base", help="base image; default: that of deploy/Dockerfile")
    parser.add_argument("--extras", help="extras of pyproject.toml, separated by commas; default: deploy/Dockerfile's")
    parser.add_argument("--tag", default="latest")
    parser.add_argument("--pip-conf", type=Path, help="pip.conf with another index")
    parser.add_argument("--ca", type=Path, help="certificates, which pip.conf names as /run/secrets/ca.pem")
    parser.add_argument("--out", type=Path, default=ROOT / "var" / "images", help="default: var/images")
    options = parser.parse_args(arguments)
    if wrong := [target for target in options.targets if target not in TARGETS]:
        parser.error(f"{', '.join(wrong)}: expected some of {', '.join(TARGETS)}")
    for file in (options.pip_conf, options.ca):
        if file and not file.is_file():
            parser.error(f"{file}: no such file")
    if options.extras and len(options.targets) != 1:
        parser.error("--extras: name the one target that they are for")
    return options


def _bill_and_size(builder: str, image: str) -> tuple[bytes, int]:
    """Return an image's bill of materials and the bytes of its files or layers, uncompressed."""
    if builder == "buildah":
        return _in_buildah(image)
    bill = _output(builder, "run", "--rm", "--entrypoint", "cat", image, f"/{_BILL}")
    return bill, int(_output(builder, "image", "inspect", "--format", "{{.Size}}", image))


def _in_buildah(image: str) -> tuple[bytes, int]:
    container = _output("buildah", "from", "--pull-never", image).decode().strip()
    try:
        root = Path(_output("buildah", "mount", container).decode().strip())
        size = sum(path.lstat().st_size for path in root.rglob("*") if path.is_symlink() or path.is_file())
        return (root / _BILL).read_bytes(), size
    finally:
        _output("buildah", "rm", container)


def _output(*command: str) -> bytes:
    return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout  # noqa: S603


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
