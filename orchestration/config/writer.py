"""Which checkout writes to a home that is a URL.

Locks, the manifest, received files and the state of trainings are local to a checkout. In a local home they are the
home's own; two checkouts that write to the same URL would not see each other's.
"""

import json
import socket
from collections.abc import Mapping

from upath import UPath

from ml.errors import DataError
from ml.files import content, create, parse_json
from orchestration.config.settings import PROJECT_ROOT, settings

_FILE = "writer.json"


def claim_home() -> None:
    """Let this checkout be the one that writes to a home that is a URL; a local home needs no claim.

    Of two checkouts that claim a home at once, one succeeds.

    Raises:
        DataError: another checkout has claimed the home, or the home cannot be written.
    """
    if settings().is_home_local:
        return
    path, own = settings().home / _FILE, _own()
    try:
        found = _claimed(path, own)
    except DataError:
        raise
    except Exception as error:  # whatever the file system's driver raises
        raise DataError(
            f"{path}: the home cannot be written ({error}); check the address, that the bucket exists, and the "
            "credentials (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL, AWS_DEFAULT_REGION)"
        ) from error
    if found != own:
        raise DataError(
            f"{path}: the writer of this home is {_named(found)}; this is {_named(own)}. Locks, ingested files and "
            f"checkpoints are local, so only one may write. To take over, end its runs for good, copy its "
            f"{settings().local_home.name}/received to this checkout, and remove the file"
        )


def _own() -> dict[str, str]:
    """What tells this writer from others."""
    own = {"host": socket.gethostname(), "checkout": str(PROJECT_ROOT)}
    chosen = settings().pipeline_local_home
    return own | ({"local_home": str(chosen)} if chosen else {})


def _named(writer: Mapping[str, str]) -> str:
    local = f" with its local files in {writer['local_home']}" if "local_home" in writer else ""
    return f"the checkout {writer['checkout']} on {writer['host']}{local}"


def _claimed(path: UPath, own: Mapping[str, str]) -> dict[str, str]:
    """Claim the home if nobody has; gives its writer. Raises DataError, and whatever the driver raises."""
    data = json.dumps(own).encode()
    if not path.exists() and create(path, data) and create(path, data):
        path.unlink()
        raise DataError(
            f"{path}: the store wrote this file a second time on the condition that there is none, so it cannot keep "
            "two writers apart; expected one that supports conditional writes (the header If-None-Match)"
        )
    return _writer(path)


def _writer(path: UPath) -> dict[str, str]:
    """Read who writes. Raises DataError."""
    found = parse_json(content(path), str(path))
    if not isinstance(found, dict) or {type(found.get(name)) for name in ("host", "checkout")} != {str}:
        raise DataError(
            f"{path}: expected host and checkout of the home's writer, found {str(found)[:100]}; remove the file if no "
            "other checkout writes to this home"
        )
    return found
