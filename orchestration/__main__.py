"""The project's commands: ``python -m orchestration <one of COMMANDS> ...`` (``make`` calls them)."""

import errno
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import dagster as dg

from ml.errors import DataError, NotFoundError
from ml.files import TEMPORARY_NAME
from orchestration.runtime.terminal import tolerate_any_terminal

COMMANDS = ("run", "paper", "tune", "months", "rollback", "withdraw", "export", "ui", "metrics", "instance", "execute")
_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)


def main(arguments: Sequence[str]) -> int:
    """Run a command; gives the exit status. An error that a user can act on is one line, without a traceback."""
    tolerate_any_terminal()
    command, *rest = arguments or [""]
    try:
        if command not in COMMANDS:
            raise DataError(f"command {command!r}; expected one of {', '.join(COMMANDS)}")
        status: int = importlib.import_module(f"orchestration.cli.{command}").main(*rest)
    except (DataError, NotFoundError, dg.Failure) as error:
        sys.stderr.write(f"error: {_text(error)}\n")
        return 1
    except OSError as error:
        if error.errno not in _NOT_WRITABLE or not error.filename:
            raise
        path = Path(os.fsdecode(error.filename))
        place = path.parent if TEMPORARY_NAME.fullmatch(path.name) else path
        told = f"{place}: no permission ({error.strerror}); make it writable, or set PIPELINE_HOME to another directory"
        sys.stderr.write(f"error: {told}\n")
        return 1
    return status


def _text(error: Exception) -> str:
    if isinstance(error, dg.Failure):
        return error.description or "failed"
    return str(error.args[0])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
