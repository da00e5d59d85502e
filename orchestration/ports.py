"""Ports that servers listen on."""

import socket

from ml.errors import DataError


def listen(host: str, port: int, setting: str) -> socket.socket:
    """A socket bound to an address. Raises DataError naming the setting where the address cannot be had."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise DataError(f"port {port} is in use; stop what uses it or set {setting} ({error})") from error
    return bound


def require_free(host: str, port: int, setting: str) -> None:
    """Raises DataError naming the setting where nothing can listen there."""
    listen(host, port, setting).close()
