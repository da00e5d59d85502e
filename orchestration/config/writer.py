"""Which checkout writes to a home that is a URL.

Locks, the manifest, received files and the state of trainings are local to a checkout. In a local home they are the
home's own; two checkouts that write to the same URL would not see each other's.
"""

import json
import socket

from upath import UPath

from ml.errors import DataError
from ml.files import parse_json, write_atomically
from orchestration.config.settings import PROJECT_ROOT, settings

_FILE = "writer.json"


def claim_home() -> None:
    """Let this checkout be the one that writes to a home that is a URL; a local home needs no claim.

    Raises:
        DataError: another checkout has claimed the home.
    """
    home = settings().home
    if home.protocol in ("", "file"):
        return
    path, own = home / _FILE, {"host": socket.gethostname(), "checkout": str(PROJECT_ROOT)}
    if not path.exists():
        write_atomically(path, json.dumps(own).encode())
    if (found := _writer(path)) != own:
        raise DataError(
            f"{path}: the writer of this home is the checkout {found['checkout']} on {found['host']}; this is "
            f"{own['checkout']} on {own['host']}. Locks, ingested files and checkpoints are local, so only one may "
            f"write. To take over, end its runs for good, copy its {settings().local_home.name}/received to this "
            "checkout, and remove the file"
        )


def _writer(path: UPath) -> dict[str, str]:
    """Read who writes. Raises DataError."""
    found = parse_json(path.read_bytes(), str(path))
    if not isinstance(found, dict) or {type(found.get(name)) for name in ("host", "checkout")} != {str}:
        raise DataError(
            f"{path}: expected host and checkout of the home's writer, found {str(found)[:100]}; remove the file if no "
            "other checkout writes to this home"
        )
    return found
