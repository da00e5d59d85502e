"""Read the API keys, and find whose key a request has.

The file has one key a line, ``<name>: <key>``. A name may have several keys, so that a client can change to a new one.
"""

import asyncio
import hashlib
import hmac
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from ml.errors import DataError

SHORTEST, LONGEST = 32, 256  # characters of a key
_STEPS = 10  # different distances between neighbors; 200,000 random keys of 32 hexadecimal digits have 12 or more
_MOST_KEYS = 256  # each request is compared with all of them
_LARGEST = 2**17  # bytes of a file
_LINE = re.compile(r"([a-z0-9][a-z0-9_-]{0,63})\s*:\s*(\S+)")
_KEY = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750, section 2.1
NEW_KEY = "openssl rand -hex 32"
_POLL_SECONDS = 1.0


class Keys:
    """The keys that are valid now; only their digests are kept.

    Args:
        path: the file.

    Raises:
        DataError: the file cannot be used. Names it and the line, never a key.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names: dict[bytes, str] = {}
        self.refresh()

    @property
    def names(self) -> list[str]:
        """Names that have a key, sorted."""
        return sorted(set(self._names.values()))

    def name_of(self, key: bytes) -> str | None:
        """Return whose key it is; None for a wrong one. How long it takes tells nothing about the right ones."""
        digest, found = hashlib.sha256(key).digest(), None
        for known, name in self._names.items():
            if hmac.compare_digest(known, digest):
                found = name  # and go on
        return found

    def refresh(self) -> bool:
        """Read the file again and return whether keys have changed; they stay as they are where it raises DataError."""
        before = self._names
        self._names = dict(_parsed(self._path, _read(self._path)))
        return self._names != before

    async def watch(self, logger: Any, seconds: float = _POLL_SECONDS) -> None:
        """Refresh from time to time, until cancelled; log changes, and what is wrong with the file once."""
        told = ""
        while True:
            await asyncio.sleep(seconds)
            try:
                if await asyncio.to_thread(self.refresh):
                    logger.info("keys_changed", names=self.names)
                error = ""
            except DataError as found:
                error = str(found)
            except Exception as found:  # the task must go on; such an exception's text may have a key
                error = f"{self._path}: {type(found).__name__}"
            if error and error != told:
                logger.error("keys_not_read", error=f"{error}; the keys from before stay valid")
            told = error


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise DataError(f"{path}: the API keys cannot be read ({error.strerror}); see SERVE_KEYS_FILE") from error
    if len(content) > _LARGEST:
        raise DataError(f"{path}: expected API keys, at most {_LARGEST:,} bytes")
    return content


def _parsed(path: Path, content: bytes) -> Iterator[tuple[bytes, str]]:
    """Yield digest and name of each key. Raises DataError."""
    lines: dict[bytes, int] = {}
    for number, line in enumerate(content.split(b"\n"), 1):
        text = line.decode("latin-1").strip()
        if not text or text.startswith("#"):
            continue
        place = f"{path}, line {number}"
        found = _LINE.fullmatch(text)
        if found is None:
            raise DataError(f"{place}: expected <name>: <key>, the name of a-z, 0-9, - and _, at most 64 characters")
        if told := _weakness(found[2]):
            raise DataError(f"{place}: the key of {found[1]} {told}; make one with `{NEW_KEY}`")
        digest = hashlib.sha256(found[2].encode()).digest()
        if digest in lines:
            raise DataError(f"{place}: the key of {found[1]} is that of line {lines[digest]}; remove one of the lines")
        lines[digest] = number
        yield digest, found[1]
    if not 0 < len(lines) <= _MOST_KEYS:
        raise DataError(
            f"{path}: expected 1 to {_MOST_KEYS} API keys, found {len(lines)}; a line is <name>: <key>, "
            f"and `{NEW_KEY}` makes a key"
        )


def _weakness(key: str) -> str:
    """Return what is wrong with a key, without the key; nothing for a good one."""
    if not _KEY.fullmatch(key):
        return "has other characters than A-Z, a-z, 0-9, -, ., _, ~, + and / (and = at its end)"
    if not SHORTEST <= len(key) <= LONGEST:
        return f"has {len(key)} characters, expected {SHORTEST} to {LONGEST}"
    steps = {ord(after) - ord(before) for before, after in pairwise(key)}
    return "is too regular to be random" if len(steps) < _STEPS else ""
