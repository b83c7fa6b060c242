"""What an HTTP status that is no answer means, and how long the server wants to be left alone. Pure."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Mapping
from http import HTTPStatus

from pipeline.errors import ItemUnreadable, SourceRefused, SourceUnavailable


class TooLarge(ItemUnreadable):
    """An answer of more bytes than the limit."""


class Throttled(SourceUnavailable):
    """A server that asks to be left alone for so many seconds, which may be none."""

    def __init__(self, message: str, *, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


def refusal(
    where: str, status: int, headers: Mapping[str, str], *, with_credentials: bool
) -> Throttled | SourceRefused | ItemUnreadable:
    """The error that a status means.

    Args:
        where: The URL as it may be shown.
        status: Neither 200 to 299 nor a redirect.
        headers: Of the answer, names in lower case.
        with_credentials: Whether any were sent.
    """
    told = f"{where} answered {status}{_phrase(status)}"
    wait = retry_after(headers)
    if status == HTTPStatus.TOO_MANY_REQUESTS or (status == HTTPStatus.FORBIDDEN and wait is not None):
        return Throttled(f"{told}: too many requests", seconds=wait or 0.0)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        whose = "the credentials are not accepted" if with_credentials else "it wants credentials"
        return SourceRefused(f"{told}: {whose}")
    passing = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY)
    if status in passing or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Throttled(told, seconds=wait or 0.0)
    return ItemUnreadable(told)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """What the server asks for, in seconds: by Retry-After, or by the moment when its window ends."""
    after, now = headers.get("retry-after", "").strip(), time.time()
    if after.isascii() and after.isdigit():
        return float(after[:9])
    if after:
        try:
            return max(0.0, email.utils.parsedate_to_datetime(after).timestamp() - now)
        except (ValueError, OverflowError):
            return None
    ends = headers.get("x-ratelimit-reset", "")
    if headers.get("x-ratelimit-remaining") == "0" and ends.isascii() and ends.isdigit():
        return max(0.0, float(ends[:12]) - now)
    return None


def _phrase(status: int) -> str:
    try:
        return f" {HTTPStatus(status).phrase}"
    except ValueError:
        return ""
