"""Ask a server on this machine whether it is alive: ``python deploy/healthcheck.py <port> <path>``."""

import http.client
import sys

_SECONDS = 4  # less than a health check's timeout, so that the reason is shown


def main(port: str, path: str) -> int:
    """Return 0 if the answer has status 200, else 1. It never goes through a proxy.

    Args:
        port: of the server on 127.0.0.1.
        path: to ask for.
    """
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=_SECONDS)
    try:
        connection.request("GET", path)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        sys.stderr.write(f"port {port}: no answer to {path} ({error})\n")
        return 1
    sys.stderr.write(f"port {port}: status {status} for {path}\n")
    return 0 if status == http.client.OK else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
