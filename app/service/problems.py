"""Convert errors to RFC 9457 problem documents."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response

from app.service.schemas import Problem
from ml.errors import DataError, NotFoundError

MEDIA_TYPE = "application/problem+json"
_MOST_ERRORS, _LONGEST_LOCATION = 20, 200  # so a response is not much longer than its request


class UnavailableError(Exception):
    """The service is temporarily unable to answer.

    Args:
        detail: why, and what to do.
        retry_after: seconds after which to retry.
    """

    def __init__(self, detail: str, retry_after: int) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI descriptions of these status codes."""
    schema = {"schema": _self_contained(Problem)}
    return {status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: schema}} for status in statuses}


def _self_contained(model: type[BaseModel]) -> Any:
    """Return a JSON schema with its parts in place: a reference would count from the root of the whole description."""
    schema = model.model_json_schema()
    parts = schema.pop("$defs", {})

    def resolved(value: Any) -> Any:
        if isinstance(value, dict) and "$ref" in value:
            return resolved(parts[value["$ref"].rpartition("/")[2]])
        if isinstance(value, dict):
            return {key: resolved(each) for key, each in value.items()}
        return [resolved(each) for each in value] if isinstance(value, list) else value

    return resolved(schema)


def install(app: FastAPI) -> None:
    """Install handlers that convert errors a caller can act on; the middleware converts all others."""

    @app.exception_handler(NotFoundError)
    async def not_found(request: Request, error: NotFoundError) -> Response:
        return problem(request, 404, str(error.args[0]))

    @app.exception_handler(DataError)
    async def bad_data(request: Request, error: DataError) -> Response:
        return problem(request, 422, str(error))

    @app.exception_handler(UnavailableError)
    async def unavailable(request: Request, error: UnavailableError) -> Response:
        return problem(request, 503, str(error), headers={"Retry-After": str(error.retry_after)})

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        found = error.errors()
        errors = [
            {"location": ".".join(map(str, each["loc"]))[:_LONGEST_LOCATION], "message": each["msg"]}
            for each in found[:_MOST_ERRORS]
        ]
        detail = "; ".join(f"{each['location']}: {each['message']}" for each in errors)
        more = f"; and {len(found) - len(errors)} more" if len(found) > len(errors) else ""
        return problem(request, 422, detail + more, errors=errors)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        return problem(request, error.status_code, str(error.detail), headers=error.headers)


def problem(
    request: Request,
    status: int,
    detail: str,
    errors: list[dict[str, str]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return a response with a problem document."""
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": quote(request.scope["path"]),
    }
    body = orjson.dumps(document if errors is None else {**document, "errors": errors})
    return Response(body, status, headers, MEDIA_TYPE)
