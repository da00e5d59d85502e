"""What one client may cost: bytes and time of a request, and time to take the answer.

uvicorn alone waits for ever for a request's head, for its body and for a client that does not read, and takes heads and
bodies of any size.
"""

import asyncio

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

CONNECTIONS = 512  # at one time; requests on further ones get status 503
_BYTES_A_PAIR = 256  # of a batch's JSON, indented or not, with room
_BYTES_BESIDE_PAIRS = 4096
_CLOSE = {"Connection": "close"}  # what is left of the body is not waited for


def max_body_bytes(max_pairs: int) -> int:
    """The longest body that a batch of so many pairs can need."""
    return _BYTES_BESIDE_PAIRS + _BYTES_A_PAIR * max_pairs


class BoundedBody:
    """Refuses a body that is too long (413) or takes too long (408), whether its length was declared or not.

    Args:
        app: what answers; never gets more of a body than is allowed.
        max_bytes: of a body.
        seconds: in which it has to arrive.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, seconds: float = 30) -> None:
        self._app, self._max_bytes, self._seconds = app, max_bytes, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Called by the server."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        deadline = asyncio.get_running_loop().time() + self._seconds
        size, complete = 0, False

        async def receive_bounded() -> Message:
            nonlocal size, complete
            if complete:
                return await receive()  # which waits until the client is gone
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError as error:
                detail = f"the body did not arrive within {self._seconds:g} seconds"
                raise HTTPException(408, detail, _CLOSE) from error
            size += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if size > self._max_bytes:
                raise HTTPException(413, f"the body has more than {self._max_bytes} bytes; send less at a time", _CLOSE)
            return message

        await self._app(scope, receive_bounded, send)


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, that closes a connection whose client keeps it waiting or sends a head without end."""

    head_seconds = 10.0  # from the connection, or the first byte after an answer, to the end of a request's head
    answer_seconds = 30.0  # without the client taking anything of an answer
    head_bytes = 64 * 1024
    headers_count = 100
    pipelined = 16  # requests that a client may send before their answers

    _in_head, _received = True, 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there."""
        super().connection_made(transport)
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._end_without("head", self.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        for what in list(self._timers):
            self._got(what)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some bytes of a request."""
        if "head" not in self._timers and (self.cycle is None or self.cycle.response_complete):
            self._end_without("head", self.head_seconds)  # or the end of a body that nobody wants any more
        if self._in_head:
            self._received += len(data)
        super().data_received(data)
        if self._in_head and self._received > self.head_bytes:
            self.transport.abort()

    def on_message_begin(self) -> None:
        """A head begins."""
        self._in_head, self._received = True, 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; an error makes the request an invalid one, status 400."""
        if len(self.headers) >= self.headers_count:
            raise ValueError("too many headers")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """A head has ended; an error as above."""
        self._in_head = False
        self._got("head")
        if len(self.pipeline) >= self.pipelined:
            raise ValueError("too many requests before their answers")
        super().on_headers_complete()

    def pause_writing(self) -> None:
        """The client does not take what is sent."""
        super().pause_writing()
        self._end_without("answer taken", self.answer_seconds)

    def resume_writing(self) -> None:
        """The client has taken it."""
        self._got("answer taken")
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """No further request came."""
        super().timeout_keep_alive_handler()  # which waits until the client has taken what was sent
        if self.transport.get_write_buffer_size():
            self._end_without("answer taken", self.answer_seconds)

    def _end_without(self, what: str, seconds: float) -> None:
        self._timers[what] = self.loop.call_later(seconds, self.transport.abort)

    def _got(self, what: str) -> None:
        if what in self._timers:
            self._timers.pop(what).cancel()
