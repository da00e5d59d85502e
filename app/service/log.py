"""Write the structured log: JSON lines on standard output."""

import json
import sys
from typing import Any

import structlog
from structlog.tracebacks import ExceptionDictTransformer

_TRACEBACKS = ExceptionDictTransformer(show_locals=False)  # values of variables may be what a person sent


def make_logger() -> Any:
    """Return a logger that writes each event as a line of JSON, with its time in UTC."""
    return structlog.wrap_logger(
        structlog.BytesLogger(sys.stdout.buffer),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(_TRACEBACKS),
            structlog.processors.JSONRenderer(serializer=_serialized),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
    )


def _serialized(event: Any, **_: Any) -> bytes:
    """Serialize in ASCII: input may contain terminal control sequences or Unicode line ends."""
    line = json.dumps(event, default=str, separators=(",", ":")).encode("ascii")
    return line.replace(b"\x7f", rb"\u007f")
