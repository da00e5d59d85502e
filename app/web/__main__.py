"""Start the web app: ``python -m app.web`` (``make app``)."""

import os
import signal
import subprocess
import sys

from ml.errors import DataError
from orchestration.config.settings import PROJECT_ROOT, settings
from orchestration.runtime.ports import require_free
from orchestration.runtime.terminal import tolerate_any_terminal

_HOST = "127.0.0.1"
_STOP_SECONDS = 10


def main() -> int:
    """Serve until Ctrl-C or SIGTERM and return the exit status."""
    tolerate_any_terminal()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have set it to be ignored
    try:
        port = settings().app_port
        require_free(_HOST, port, "APP_PORT")
    except DataError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"Web app  http://{_HOST}:{port}  (Ctrl-C stops it)\n")
    sys.stdout.flush()
    script = str(PROJECT_ROOT / "app" / "movie_rec_app.py")
    command = [sys.executable, "-m", "streamlit", "run", script, "--server.address", _HOST, "--server.port", str(port)]
    process = subprocess.Popen(  # noqa: S603
        command,
        cwd=PROJECT_ROOT,
        env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT)},
        stdout=subprocess.DEVNULL,
        # A session of its own, so that Ctrl-C reaches it only through _stop.
        start_new_session=True,
    )
    try:
        return process.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        _stop(process)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End the server, so that nothing stays on the port."""
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


if __name__ == "__main__":
    sys.exit(main())
