"""Digests, by which a content is recognised."""

import hashlib


def digest(data: bytes) -> str:
    """What tells one content from another, 16 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()[:16]
