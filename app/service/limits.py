"""Limit what one client can use: bytes and time of a request, and time to read the response.

uvicorn alone waits forever for a request's head, for its body and for a client that does not read, and accepts heads
and bodies of any size.
"""

import asyncio
from collections.abc import Callable

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ml.schema import LONGEST_ID

CONNECTIONS = 512  # open at one time; requests on further ones get status 503
_BYTES_PER_PAIR = 256  # of a batch's JSON, indented or not, with a margin; without ids that are strings
_BYTES_PER_STRING = 4 * LONGEST_ID  # of an id that is a string, in UTF-8
_BYTES_BESIDE_PAIRS = 4096
MOST_LIKED = 100  # movies that a visitor can name in one request
MOST_FEATURES = 20  # features that a visitor can tell in one request
LONGEST_FEATURE = LONGEST_ID  # characters of a feature's name, and of its value
_BYTES_PER_LIKED = 64  # of an integer, indented or not, with a margin
_CLOSE = {"Connection": "close"}  # do not wait for the rest of the body


def max_body_bytes(max_pairs: int, strings: int) -> int:
    """Return the size in bytes of the longest body that a batch can need.

    Args:
        max_pairs: number of its pairs.
        strings: number of ids in a pair that are strings, 0 to 2.
    """
    return _BYTES_BESIDE_PAIRS + (_BYTES_PER_PAIR + _BYTES_PER_STRING * strings) * max_pairs


def max_visitor_bytes(strings: int) -> int:
    """Return the size in bytes of the longest body that a visitor's list can need.

    Args:
        strings: 1 if the movies' ids are strings, else 0.
    """
    features = 2 * 4 * LONGEST_FEATURE * MOST_FEATURES  # names and values, in UTF-8
    return _BYTES_BESIDE_PAIRS + features + (_BYTES_PER_LIKED + _BYTES_PER_STRING * strings) * MOST_LIKED


class BoundedBody:
    """Refuse a body that is too long (413) or takes too long (408), whether or not its length was declared.

    Args:
        app: the wrapped application; never gets more of a body than is allowed.
        max_bytes: returns the largest size of a body, by the request's path.
        seconds: time limit for a body to arrive.
    """

    def __init__(self, app: ASGIApp, max_bytes: Callable[[str], int], seconds: float = 30) -> None:
        self._app, self._max_bytes, self._seconds = app, max_bytes, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request; called by the server."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        deadline = asyncio.get_running_loop().time() + self._seconds
        size, complete, max_bytes = 0, False, self._max_bytes(scope["path"])

        async def receive_bounded() -> Message:
            nonlocal size, complete
            if complete:
                return await receive()  # waits until the client disconnects
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError as error:
                detail = f"the body did not arrive within {self._seconds:g} seconds"
                raise HTTPException(408, detail, _CLOSE) from error
            size += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if size > max_bytes:
                raise HTTPException(413, f"the body has more than {max_bytes} bytes; send less at a time", _CLOSE)
            return message

        await self._app(scope, receive_bounded, send)


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol, which also closes connections of slow clients and of endless heads."""

    head_seconds = 10.0  # from the connection, or the first byte after a response, to the end of a request's head
    response_seconds = 30.0  # without the client reading any of a response
    head_bytes = 64 * 1024
    headers_count = 100
    pipelined = 16  # requests that a client may send before their responses

    _in_head, _received = True, 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer for the first head."""
        super().connection_made(transport)
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._abort_unless("head", self.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel all timers."""
        for what in list(self._timers):
            self._cancel(what)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count the bytes of a head; close the connection if it is too long."""
        if "head" not in self._timers and (self.cycle is None or self.cycle.response_complete):
            self._abort_unless("head", self.head_seconds)  # or the end of a body that is no longer needed
        if self._in_head:
            self._received += len(data)
        super().data_received(data)
        if self._in_head and self._received > self.head_bytes:
            self.transport.abort()

    def on_message_begin(self) -> None:
        """Reset the counter at the start of a head."""
        self._in_head, self._received = True, 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Check the number of headers; an error makes the request invalid, status 400."""
        if len(self.headers) >= self.headers_count:
            raise ValueError("too many headers")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Cancel the head's timer; check the number of pipelined requests. Errors as above."""
        self._in_head = False
        self._cancel("head")
        if len(self.pipeline) >= self.pipelined:
            raise ValueError("too many pipelined requests")
        super().on_headers_complete()

    def pause_writing(self) -> None:
        """Start a timer when the client stops reading."""
        super().pause_writing()
        self._abort_unless("response read", self.response_seconds)

    def resume_writing(self) -> None:
        """Cancel the timer when the client reads again."""
        self._cancel("response read")
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, or start a timer for its unread response."""
        super().timeout_keep_alive_handler()  # waits until the client has read what was sent
        if self.transport.get_write_buffer_size():
            self._abort_unless("response read", self.response_seconds)

    def _abort_unless(self, what: str, seconds: float) -> None:
        self._timers[what] = self.loop.call_later(seconds, self.transport.abort)

    def _cancel(self, what: str) -> None:
        if what in self._timers:
            self._timers.pop(what).cancel()
