"""Which version of a page an answer is. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

UNREADABLE = "unreadable"
"""The version of a page that is listed only so that it is reported."""

_LASTMOD = "lastmod:"


def of_sitemap(lastmod: str) -> str:
    """The version that a sitemap tells."""
    return _LASTMOD + lastmod


def of_headers(headers: Mapping[str, str]) -> str | None:
    """The version that a page's headers tell: its ETag, else Last-Modified; None without either."""
    if etag := headers.get("etag"):
        return f"etag:{etag}"
    if modified := headers.get("last-modified"):
        return f"modified:{modified}"
    return None


def of_answer(headers: Mapping[str, str], content: bytes, listed: str = "") -> str:
    """The version of content that was read, told in the way in which it was listed.

    A sitemap's lastmod stays: the answer does not tell another one.
    """
    if listed.startswith(_LASTMOD):
        return listed
    if listed.startswith("modified:") and (modified := headers.get("last-modified")):
        return f"modified:{modified}"
    if listed.startswith("sha256:"):
        return _digest(content)
    return of_headers(headers) or _digest(content)


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
