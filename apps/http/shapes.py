"""Errors as the apps read them that call the paths of other APIs; everywhere else, as ours."""

from __future__ import annotations

from http import HTTPStatus

DIFY = "/retrieval"
OPENAI = "/v1/vector_stores/"
_DIFY_CODES = {401: 1002, 403: 1002, 404: 2001}
"""1001: no key of the right form; 1002: not let in; 2001: no such knowledge. Others are the status."""


def error_content(path: str, status: int, code: str, message: str) -> dict[str, object]:
    """The body of an error, for whoever calls this path."""
    if path == DIFY:
        return {"error_code": _DIFY_CODES.get(status, status), "error_msg": message}
    error: dict[str, object] = {"code": code, "message": message}
    if path.startswith(OPENAI):
        ours = status >= HTTPStatus.INTERNAL_SERVER_ERROR
        error |= {"type": "server_error" if ours else "invalid_request_error", "param": None}
    return {"error": error}
