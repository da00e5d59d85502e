"""Parse requests' bodies in a queue of their own, so that other requests need not wait, and refuse elaborate ones.

FastAPI parses and validates a body on the event loop: twenty large batches at once would stop all responses for
seconds. A thread alone is not enough, since JSON's parser lets no other thread run before its end.
"""

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from app.service.limits import BYTES_BESIDE_PAIRS, max_body_bytes

_VALUES_PER_PAIR = 10  # a pair needs 5 values and 6 strings: twice that, so a slightly longer batch is told its limit


def queued_route(submit: Callable[[Callable[[], Response]], "Future[Response]"], max_pairs: int) -> type[APIRoute]:
    """Return the class of a route whose body is received here and whose everything else is done in a queue.

    The endpoint must not wait for anything that belongs to the server's event loop: it has one of its own.

    Args:
        submit: puts work into the queue; raises UnavailableError where it is full.
        max_pairs: largest number of pairs in a batch.
    """

    class QueuedRoute(APIRoute):
        def get_route_handler(self) -> Any:
            parse_and_answer = super().get_route_handler()

            async def receive_and_queue(request: Request) -> Response:
                try:
                    body = await request.body()  # kept by the request, for FastAPI to parse
                except ClientDisconnect as error:
                    raise HTTPException(400, "the client disconnected before the end of the body") from error

                def work() -> Response:
                    refuse_elaborate(body, max_pairs)
                    return asyncio.run(parse_and_answer(request))

                return await asyncio.wrap_future(submit(work))

            return receive_and_queue

    return QueuedRoute


def refuse_elaborate(body: bytes, max_pairs: int) -> None:
    """Refuse a body whose JSON takes much longer to parse than any batch; all that this takes is a few scans.

    Args:
        body: JSON or not, valid or not.
        max_pairs: largest number of pairs in a batch.

    Raises:
        RequestValidationError: there are too many values, or too many characters outside strings.
    """
    try:
        text = body.decode(json.detect_encoding(body), "surrogatepass")  # as json.loads decodes it
    except UnicodeDecodeError:
        return  # not parsed
    most = BYTES_BESIDE_PAIRS + _VALUES_PER_PAIR * max_pairs
    text = text.replace("\\\\", "").replace('\\"', "")  # quotes that are left start or end a string
    if text.count('"') <= 2 * most:
        outside = "".join(text.split('"')[::2])
        values = sum(map(outside.count, ",[{"))  # each value but the first follows one of these
        if values <= most and len(outside) <= max_body_bytes(max_pairs, strings=0):
            return
    told = f"Value error, expected at most {max_pairs:,} pairs, got far more JSON than they need; send smaller batches"
    raise RequestValidationError([{"type": "value_error", "loc": ("body",), "msg": told}])
