"""What an HTTP status that is no answer means, and how long the server wants to be left alone. Pure."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Mapping
from http import HTTPStatus

from pipeline.errors import ItemUnreadable, SourceRefused, SourceUnavailable


class Oversize(Exception):
    """The cause of an ItemUnreadable: an answer of more bytes than the limit."""


class Throttle(Exception):
    """The cause of a SourceUnavailable: a server that asks to be left alone for so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"{seconds:.0f} s")
        self.seconds = seconds


def oversize(told: str) -> ItemUnreadable:
    """The error of an answer that is larger than the limit."""
    error = ItemUnreadable(told)
    error.__cause__ = Oversize()
    return error


def is_oversize(error: ItemUnreadable) -> bool:
    """Whether that is why an item cannot be read."""
    return isinstance(error.__cause__, Oversize)


def throttled(told: str, seconds: float) -> SourceUnavailable:
    """The error of a server that asks to be left alone for so many seconds, which may be none."""
    error = SourceUnavailable(told)
    error.__cause__ = Throttle(seconds)
    return error


def wait_asked_for(error: BaseException | None) -> float:
    """The seconds for which the server wants to be left alone."""
    cause = error.__cause__ if error else None
    return cause.seconds if isinstance(cause, Throttle) else 0.0


def refusal(
    where: str, status: int, headers: Mapping[str, str], *, with_credentials: bool
) -> SourceUnavailable | SourceRefused | ItemUnreadable:
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
        return throttled(f"{told}: too many requests", wait or 0.0)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        whose = "the credentials are not accepted" if with_credentials else "it wants credentials"
        return SourceRefused(f"{told}: {whose}")
    passing = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY)
    if status in passing or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return throttled(told, wait or 0.0)
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
