"""What a service's answer means, and what the caller does about it. Pure.

RETRY   408, 409, 425, 429, 5xx
SPLIT   413, and a 400 or 422 that speaks of tokens, length or size
ABORT   401, 402, 403, 404, a 429 that speaks of money, a 400 or 422 that blames a setting, all else
SKIP    any other 400 or 422, and a 403 that blames what was sent

An error within a reply of status 200 has the status that its code says, but that it is asked again where
nothing but the input would be to blame: such errors are upstreams' failures more often than not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
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
_SETTING = re.compile(
    r"\b(invalid_model|model_not_found|model|dimensions|encoding_format|input_type|provider)\b"
)
_SETTING_SAID = re.compile(
    r"not a valid model|no such model|unknown model|unsupported model"
    r"|\bmodel\b.{0,80}\b(does not|doesn't) (exist|support)|\bmodel\b.{0,80}\bnot (found|available)"
    r"|\b(dimensions|encoding_format|input_type)\b|matryoshka",
    re.IGNORECASE,
)
_MODERATED = re.compile(r"moderation|flagged|content_policy|refusal|\bblocked\b", re.IGNORECASE)


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
    if status == HTTPStatus.FORBIDDEN and _MODERATED.search(f"{said} {kind}"):
        return InputRefused
    if status not in {400, 422} or _SETTING.search(kind) or _SETTING_SAID.search(said):
        return ServiceRefused
    return RequestTooLarge if _SIZE.search(f"{said} {kind}") else InputRefused


def classify_within_200(code: int, said: str, kind: str) -> type[EmbedError]:
    """The error that an answer with status 200 stands for, if it holds an error instead of data.

    Args:
        code: The status that the error names; 0 for none.
        said: As for `classify`.
        kind: As for `classify`.
    """
    if code < HTTPStatus.BAD_REQUEST:
        return ServiceUnavailable
    cause = classify(code, said, kind)
    return ServiceUnavailable if cause is InputRefused else cause


def complaint(body: JsonValue) -> tuple[str, str]:
    """What the service says, and of what kind it is (its type, code, parameter or place).

    Knows `{"error": {"message", "type", "code", "param"}}`, `{"error": "…"}`, `{"message": "…"}`, FastAPI's
    `{"detail": "…"}` and `{"detail": [{"loc", "msg", "type"}]}`, and what OpenRouter has in
    `error.metadata` of the upstream. What was sent is left alone: FastAPI's `input`, OpenRouter's
    `flagged_input`.
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
            kinds += _texts(item.get("type"), item.get("code"), item.get("param"), item.get("loc"))
            upstream, kind = _upstream(item.get("metadata"))
            said.append(upstream)
            kinds += kind
    return "; ".join(part for part in said if part), " ".join(kinds)


def retry_after(headers: Mapping[str, str], body: JsonValue = None) -> float | None:
    """Seconds to wait, from either form of Retry-After (RFC 9110, 10.2.3) or from OpenRouter's body.

    Returns:
        None where there is none of them.
    """
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", value):
        return float(value)
    moment = _date(value)
    if moment is None:
        return _retry_after_seconds(body)
    # By the service's own clock where it tells: ours may be wrong.
    now = _date(headers.get("Date", "")) or datetime.now(UTC)
    return max(0.0, (moment - now).total_seconds())


def _retry_after_seconds(body: JsonValue) -> float | None:
    error = body.get("error") if isinstance(body, dict) else None
    metadata = error.get("metadata") if isinstance(error, dict) else None
    seconds = metadata.get("retry_after_seconds") if isinstance(metadata, dict) else None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < 1e9:
        return None
    return float(seconds)


def _upstream(metadata: JsonValue) -> tuple[str, list[str]]:
    """What the upstream said, and of what kind it is.

    https://openrouter.ai/docs/api/reference/errors-and-debugging
    """
    if not isinstance(metadata, dict):
        return "", []
    raw, kinds = metadata.get("raw"), _texts(metadata.get("error_type"), metadata.get("path"))
    if metadata.get("reasons"):
        kinds.append("moderation")
    said = raw if isinstance(raw, str) else ""
    try:
        parsed: JsonValue = json.loads(said) if said else raw
    except ValueError:
        parsed = None
    if isinstance(parsed, dict):
        said, kind = complaint(parsed)
        kinds.append(kind)
    if not said or said.lstrip().startswith("<"):  # a page for people
        return "", kinds
    name = metadata.get("provider_name")
    return (f"{name}: {said}" if isinstance(name, str) and name else said), kinds


def _texts(*values: JsonValue) -> list[str]:
    """Those that are texts or numbers, or lists of these."""
    flat: Iterable[JsonValue] = (
        part for value in values for part in (value if isinstance(value, list) else [value])
    )
    return [str(part) for part in flat if isinstance(part, str | int) and not isinstance(part, bool)]


def _date(value: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
