"""Addresses as they may be shown: without what they say of credentials."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

_CREDENTIALS = re.compile(r"//[^/?#\s]+@")
"""What stands before the host in an address: up to the last "@", as a client reads it."""


def without_credentials(text: str) -> str:
    """The text, each address in it without what stands before its host."""
    return _CREDENTIALS.sub("//", text)


def bare(address: str) -> str:
    """An address without what may open it: who asks, and how."""
    parts = urlsplit(address)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
