"""What a service's answer means, and what the caller does about it. Pure.

RETRY   408, 409, 425, 429, 5xx
SPLIT   413, and a 400 or 422 that speaks of tokens, length or size
ABORT   401, 402, 403, 404, a 429 that speaks of money, a 400 or 422 that blames a setting, all else
SKIP    any other 400 or 422
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from pipeline.errors import EmbedError, InputRefused, RequestTooLarge, ServiceRefused, ServiceUnavailable
from pipeline.records import JsonValue

_MAY_PASS = frozenset({408, 409, 425})
_MONEY = re.compile(r"quota|billing|\bcredits?\b|\bbalance\b|payment|\bfunds\b", re.IGNORECASE)
_PACE = re.compile(r"per[ _-]?(second|sec|minute|min|hour)|\b[rt]p[ms]\b|rate[ _-]?limit", re.IGNORECASE)
_SIZE = re.compile(
    r"tokens?\b|\blength|max_length|\bsize\b|too[ _](large|long|big|many)|exceed|at most", re.IGNORECASE
)
_SETTING = re.compile(r"\b(invalid_model|model_not_found|model|dimensions|encoding_format)\b")


def phrase(status: int) -> str:
    """The status in words."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no reason given"


def classify(status: int, said: str, kind: str) -> type[EmbedError]:
    """The error that an answer other than 200 stands for.

    Args:
        status: The HTTP status.
        said: What the service says of it; see `complaint`.
        kind: Of what kind it says that it is.
    """
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        spent = _MONEY.search(f"{said} {kind}") and not _PACE.search(said)
        return ServiceRefused if spent else ServiceUnavailable
    if status in _MAY_PASS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ServiceUnavailable
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return RequestTooLarge
    if status not in {400, 422} or _SETTING.search(kind):
        return ServiceRefused
    return RequestTooLarge if _SIZE.search(f"{said} {kind}") else InputRefused


def complaint(body: JsonValue) -> tuple[str, str]:
    """What the service says, and of what kind it is (its type, code, parameter or place).

    Knows `{"error": {"message", "type", "code", "param"}}`, `{"error": "…"}`, `{"message": "…"}`, and
    FastAPI's `{"detail": "…"}` and `{"detail": [{"loc", "msg", "type"}]}`. FastAPI's `input`, which is what
    was sent, is left alone.
    """
    if not isinstance(body, dict):
        return "", ""
    told = body.get("error") or body.get("detail") or body.get("message")
    items = told if isinstance(told, list) else [told]
    said: list[str] = []
    kinds: list[str] = []
    for item in items:
        if isinstance(item, str):
            said.append(item)
        elif isinstance(item, dict):
            said.append(str(item.get("message") or item.get("msg") or ""))
            loc = item.get("loc")
            place = loc if isinstance(loc, list) else []
            kinds += [str(part) for part in (item.get("type"), item.get("code"), item.get("param"), *place)]
    return "; ".join(part for part in said if part), " ".join(kinds)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from either form of Retry-After (RFC 9110, 10.2.3); None where there is neither."""
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", value):
        return float(value)
    moment = _date(value)
    if moment is None:
        return None
    # By the service's own clock where it tells: ours may be wrong.
    now = _date(headers.get("Date", "")) or datetime.now(UTC)
    return max(0.0, (moment - now).total_seconds())


def _date(value: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
