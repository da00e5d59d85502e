"""Ports that servers listen on."""

import errno
import socket

from ml.errors import DataError


def listen(host: str, port: int, setting: str) -> socket.socket:
    """A socket bound to an IPv4 or IPv6 address. Raises DataError that names the setting if it cannot be bound."""
    try:
        # Without the port: getaddrinfo would use the last 16 bits of a wrong one.
        family, kind, protocol, _, (address, _, *scope) = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise DataError(f"{host} port {port} is not an address ({error}); set {setting}") from error
    bound = socket.socket(family, kind, protocol)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((address, port, *scope))
    except (OSError, OverflowError) as error:
        bound.close()
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise DataError(f"port {port} is in use; stop what uses it or set {setting} ({error})") from error
        raise DataError(f"{host} port {port} cannot be used ({error}); set {setting}") from error
    return bound


def require_free(host: str, port: int, setting: str) -> None:
    """Raise DataError that names the setting if nothing can listen there."""
    listen(host, port, setting).close()
