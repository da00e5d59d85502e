import socket

import pytest

from ml.errors import DataError
from orchestration.runtime.ports import listen


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_addresses_of_both_kinds_can_be_listened_on(host: str) -> None:
    if host == "::1" and not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with listen(host, 0, "PORT") as bound:
        bound.listen()
        with socket.create_connection((host, bound.getsockname()[1]), timeout=5):
            pass


def test_port_in_use_is_said_with_the_setting() -> None:
    with listen("127.0.0.1", 0, "PORT") as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(DataError, match=rf"port {port} is in use; stop what uses it or set PORT"):
            listen("127.0.0.1", port, "PORT")


@pytest.mark.parametrize(
    ("host", "port"),
    [("127.0.0.1", 70000), ("127.0.0.1", -1), ("no such host", 8000), ("192.0.2.1", 8000)],
)
def test_address_that_nothing_can_listen_on_is_said_with_the_setting(host: str, port: int) -> None:
    with pytest.raises(DataError, match=rf"{host} port {port} .*; set PORT"):
        listen(host, port, "PORT")
