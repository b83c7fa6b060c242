"""What a client is told when it is not answered: one shape, and never a stack trace."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from apps.http.shapes import error_content
from pipeline.errors import (
    DocweaveError,
    EmbedError,
    InputRefused,
    NothingStored,
    Recovery,
    SettingsError,
    StoreError,
)

log = logging.getLogger(__name__)

CODES: Mapping[int, str] = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    421: "wrong_host",
    422: "invalid_request",
    429: "too_many_requests",
    500: "internal",
    503: "unavailable",
    504: "timed_out",
}
MOST_PROBLEMS = 5
"""Of one request, so many are told."""


class ApiError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str, *, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code or CODES[status]
        self.message = message


def answer(
    path: str, status: int, message: str, *, code: str = "", headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """An error as whoever calls this path reads it."""
    content = error_content(path, status, code or CODES.get(status, "error"), message)
    return JSONResponse(content, status_code=status, headers=dict(headers or {}))


def of(error: DocweaveError) -> ApiError:
    """What a client is told of an error of ours: what it can change in full, and of the rest no detail."""
    whose = f"{error.tables}: " if error.tables else ""
    match error:
        case SettingsError() | InputRefused():
            return ApiError(400, str(error))
        case StoreError() if error.recovery is Recovery.RETRY:
            said = "the tables cannot be reached just now: ask again later"
        case NothingStored():
            said = "nothing is stored yet: the first ingest has not ended"
        case StoreError():
            said = "the tables cannot be searched: the server's log says why"
        case EmbedError() if error.recovery is Recovery.RETRY:
            said = 'the question cannot be embedded just now: ask again, or in the mode "text"'
        case EmbedError():
            said = 'the question cannot be embedded: the server\'s log says why. Try the mode "text"'
        case _:
            return ApiError(500, "not foreseen: the server's log says why")
    return ApiError(503, f"{whose}{said}")


def logged(error: DocweaveError) -> ApiError:
    """The same; what a client is not told goes to the log."""
    told = of(error)
    if told.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("%s: %s", type(error).__name__, error)
    return told


def answer_errors(app: FastAPI) -> None:
    """Have every error of the app answered in that shape."""

    async def ours(request: Request, error: Exception) -> JSONResponse:
        told = logged(error) if isinstance(error, DocweaveError) else cast("ApiError", error)
        return answer(request.url.path, told.status, told.message, code=told.code)

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        return answer(request.url.path, 422, problems(cast("RequestValidationError", error).errors()))

    async def plain(request: Request, error: Exception) -> JSONResponse:
        refused = cast("HTTPException", error)
        return answer(request.url.path, refused.status_code, str(refused.detail), headers=refused.headers)

    async def unforeseen(request: Request, _: Exception) -> JSONResponse:
        return answer(request.url.path, 500, "not foreseen: the server's log says why")

    app.add_exception_handler(DocweaveError, ours)
    app.add_exception_handler(ApiError, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, plain)
    app.add_exception_handler(Exception, unforeseen)  # its traceback goes to the server's log


def problems(found: Sequence[Mapping[str, object]]) -> str:
    """What is wrong with a request, in one line: where, and what. Never what was given."""
    told = []
    for one in found[:MOST_PROBLEMS]:
        where = one.get("loc")
        steps = where[1:] if isinstance(where, tuple | list) else ()
        name = ".".join(str(step) for step in steps) or "the request"
        told.append(f"{name}: {str(one.get('msg', 'invalid')).removeprefix('Value error, ')}")
    more = f" (and {len(found) - MOST_PROBLEMS} more)" if len(found) > MOST_PROBLEMS else ""
    return "; ".join(told) + more
