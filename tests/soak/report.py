"""Write soak.json."""

import json
from pathlib import Path
from typing import Any

from ml.files import write_atomically


def write_report(path: Path, report: dict[str, Any]) -> None:
    """Write the report, with the number of nights of the longest year so far that had no violation."""
    before = json.loads(path.read_bytes()) if path.exists() else {}
    longest = max(before.get("longest_run", 0), 0 if report["violations"] else report["nights"])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps({**report, "longest_run": longest}, indent=2) + "\n").encode())
