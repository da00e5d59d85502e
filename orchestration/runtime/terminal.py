"""Output of commands on terminals of any encoding."""

import sys


def tolerate_any_terminal() -> None:
    """Write characters that the terminal's encoding lacks as escapes; movie titles have such characters."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not where a test has replaced it
            stream.reconfigure(errors="backslashreplace")


def has_all_characters() -> bool:
    """Whether standard output can show any character."""
    return (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")
