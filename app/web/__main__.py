"""Start the web app: ``python -m app.web`` (``make app``)."""

import os
import socket
import subprocess
import sys

from orchestration.settings import PROJECT_ROOT, Settings

_HOST = "127.0.0.1"


def main() -> int:
    """Serve until Ctrl-C; gives the exit status."""
    port = Settings().app_port
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            sys.stderr.write(f"error: port {port} is in use; stop what uses it or set APP_PORT\n")
            return 1
    sys.stdout.write(f"Web app  http://{_HOST}:{port}  (Ctrl-C stops it)\n")
    sys.stdout.flush()
    script = str(PROJECT_ROOT / "app" / "movie_rec_app.py")
    command = [sys.executable, "-m", "streamlit", "run", script, "--server.address", _HOST, "--server.port", str(port)]
    process = subprocess.Popen(  # noqa: S603
        command, cwd=PROJECT_ROOT, env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}, stdout=subprocess.DEVNULL
    )
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.wait()
        return 0


if __name__ == "__main__":
    sys.exit(main())
