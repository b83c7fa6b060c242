"""Which service is asked, and who asks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx

from pipeline.errors import SettingsError

_NOT_THEIRS = frozenset({"authorization", "content-type", "content-length", "host", "transfer-encoding"})
"""Headers that are not the user's to set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Which service, and who asks."""

    service: str
    """As people call it, for messages."""
    base_url: str
    api_key: str = field(repr=False)
    """May be empty, for a server that asks for none."""
    key_name: str
    """Where the user keeps the key, for messages: the name of an environment variable."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Sent with every request, such as HTTP-Referer and X-Title: printable ASCII."""


def address(account: Account) -> httpx.URL:
    """Where the service is.

    Raises:
        SettingsError: that is no address.
    """
    try:
        url = httpx.URL(account.base_url)
    except httpx.InvalidURL as error:
        raise SettingsError(f"base_url {account.base_url!r} is no address: {error}") from error
    if url.scheme not in {"http", "https"} or not url.host:
        raise SettingsError(
            f"base_url {account.base_url!r} must begin with http:// or https:// and name a host"
        )
    return url


def _authorization(account: Account) -> dict[str, str]:
    if not account.api_key:
        return {}
    if not re.fullmatch(r"[!-~]+", account.api_key):
        # httpx and h11 would quote the value in their errors.
        raise SettingsError(f"{account.key_name} holds a blank, a line break or a letter that no key has")
    return {"Authorization": f"Bearer {account.api_key}"}


def headers(account: Account) -> dict[str, str]:
    """What is sent of the account with every request.

    Raises:
        SettingsError: the key or a header cannot be sent.
    """
    return {**_own(account), **_authorization(account)}


def _own(account: Account) -> dict[str, str]:
    """The user's headers, if they can be sent. No value is quoted: it may hold what nobody should read."""
    for name, value in account.headers.items():
        if not re.fullmatch(r"[A-Za-z0-9-]+", name) or name.lower() in _NOT_THEIRS:
            raise SettingsError(
                f"a header {name!r} cannot be set: HTTP-Referer or X-Title, for instance, can"
            )
        if not re.fullmatch(r"[!-~]([ -~]*[!-~])?", value):
            raise SettingsError(
                f"the value for {name} must be printable ASCII on one line, with no blank at either end"
            )
        if account.api_key and account.api_key in value:
            raise SettingsError(f"the value for {name} holds the key from {account.key_name}")
    return dict(account.headers)
