"""Receive the alerts of a home, or hang."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

_HOST = "127.0.0.1"


class Webhook:
    """A server that accepts posts; while ``hangs`` is set, it does not answer them.

    Attributes:
        posts: how many it has answered at once. Who had to wait may have gone.
    """

    def __init__(self) -> None:
        self.posts = 0
        self._answers = threading.Event()
        self._answers.set()
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                hung = not webhook._answers.is_set()
                webhook._answers.wait()
                webhook.posts += not hung
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer((_HOST, 0), Handler)
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        """Return its address."""
        return f"http://{_HOST}:{self._server.server_port}/hook"

    def hang(self, hangs: bool) -> None:
        """Stop answering, or answer again."""
        (self._answers.clear if hangs else self._answers.set)()

    def __enter__(self) -> "Webhook":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.hang(False)
        self._server.shutdown()
        self._server.server_close()
