"""Add the headers by which browsers protect what the service answers."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

DOCS, DOCS_FILES = "/docs", "/static-offline-docs"  # paths of Swagger UI and of its files
_COMMON = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_NOTHING = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
# Swagger UI's page starts it with a script of its own, styles elements, and has images in its style sheet.
_OF_DOCS = (
    b"content-security-policy",
    b"default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    b"connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
)
_NO_STORE = (b"cache-control", b"no-store")  # lists are personal, and the rest changes


class Protected:
    """Add security headers to each response, and forbid to store it unless it is a file.

    Args:
        app: the wrapped application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request; called by the server."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        own = [*_COMMON, _OF_DOCS if scope["path"] == DOCS else _NOTHING]

        async def send_protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = message["headers"]
                is_file = scope["path"].startswith(f"{DOCS_FILES}/")
                stored = is_file or any(name == b"cache-control" for name, _ in given)
                message["headers"] = [*given, *own] if stored else [*given, *own, _NO_STORE]
            await send(message)

        await self._app(scope, receive, send_protected)
