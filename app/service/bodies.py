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

# A pair has 5 values, 6 strings and, besides strings and spaces, at most 36 characters. Twice as much and more is
# parsed, so that the response to a batch of slightly too many pairs is the usual one.
_BESIDE_PAIRS, _VALUES_PER_PAIR, _CHARACTERS_PER_PAIR = 4096, 10, 72


def queued_route(
    submit: Callable[[Callable[[], Response]], "Future[Response]"], check: Callable[[bytes], None] = lambda body: None
) -> type[APIRoute]:
    """Return the class of a route whose body is received here and whose everything else is done in a queue.

    The endpoint must not wait for anything that belongs to the server's event loop: it has one of its own.

    Args:
        submit: puts work into the queue; raises UnavailableError where it is full.
        check: refuses a body that takes too long to parse; only needed where the limit on its bytes does not do that.
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
                    check(body)
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
        RequestValidationError: there are too many values or strings, or numbers of too many digits.
    """
    try:
        text = body.decode(json.detect_encoding(body), "surrogatepass")  # as json.loads decodes it
    except UnicodeDecodeError:
        return  # not parsed
    most = _BESIDE_PAIRS + _VALUES_PER_PAIR * max_pairs
    text = text.replace("\\\\", "").replace('\\"', "")  # quotes that are left start or end a string
    if text.count('"') <= 2 * most:
        outside = "".join(text.split('"')[::2])
        for space in " \n\r\t":
            outside = outside.replace(space, "")
        values = sum(map(outside.count, ",[{"))  # each value but the first follows one of these
        if values <= most and len(outside) <= _BESIDE_PAIRS + _CHARACTERS_PER_PAIR * max_pairs:
            return
    told = f"Value error, expected at most {max_pairs:,} pairs, got far more JSON than they need; send smaller batches"
    raise RequestValidationError([{"type": "value_error", "loc": ("body",), "msg": told}])
