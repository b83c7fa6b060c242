"""Who may read a page: those whom it and everything above it are restricted to.

A restriction does not widen one above it: a reader must pass each of them (Confluence's documentation of page
restrictions). One without users and groups is none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from pipeline.errors import ItemUnreadable

Access: TypeAlias = tuple[str, ...] | None
"""Labels; None where nothing restricts: then the settings' hold."""
Level: TypeAlias = frozenset[str]
"""Whom one page, or folder, is restricted to; empty: it is not."""

UNDISCLOSED = "undisclosed"
"""The label of a page of which it is not known who may read it."""
NOBODY_KNOWN: Access = (UNDISCLOSED,)
EXPANDED = "restrictions.read.restrictions.user,restrictions.read.restrictions.group"
"""What makes a content of REST API v1 tell its read restrictions."""


class Readers:
    """The restrictions of many pages; what was not told with them is asked for once."""

    def __init__(self, ask: Callable[[str], Awaitable[Level]]) -> None:
        """Knows none yet.

        Args:
            ask: The restriction of the content with this id. Raises ItemUnreadable where it is not told.
        """
        self._ask = ask
        self._levels: dict[str, Level] = {}

    def note(self, content: Mapping[str, Any]) -> None:
        """Keep what is told with a page; nothing, where that is not all."""
        level = told(content)
        if level is not None:
            self._levels[str(content["id"])] = level

    async def of(self, *keys: str) -> Access:
        """Who passes the restrictions of all of these: a page, and what is above it.

        Who belongs to a group is not known: a user who is named here, and a group there, are not the same.

        Raises:
            SourceError: Confluence does not answer.
        """
        restricted = [level for key in keys if (level := await self._level(key))]
        if not restricted:
            return None
        return tuple(sorted(frozenset.intersection(*restricted))) or NOBODY_KNOWN

    async def _level(self, key: str) -> Level:
        if key not in self._levels:
            try:
                self._levels[key] = await self._ask(key)
            except ItemUnreadable:  # nothing said is not the same as open to all
                self._levels[key] = frozenset({UNDISCLOSED})
        return self._levels[key]


def told(content: Mapping[str, Any]) -> Level | None:
    """What a content's read restrictions say; None where they are not there, or not whole."""
    try:
        parts = of_read(content["restrictions"]["read"])
    except (KeyError, TypeError):
        return None
    return None if any(map(goes_on, parts)) else labels(parts)


def of_read(restriction: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The lists of users and of groups.

    Raises:
        KeyError: one is not there.
        TypeError: one is no list.
    """
    users, groups = restriction["restrictions"]["user"], restriction["restrictions"]["group"]
    if not isinstance(users["results"], list) or not isinstance(groups["results"], list):
        raise TypeError
    return users, groups


def goes_on(part: Mapping[str, Any]) -> bool:
    """Whether a list of users or groups may have more than is told here."""
    there, start = len(part["results"]), part.get("start") or 0
    limit, total = part.get("limit"), part.get("totalSize")
    full = there and isinstance(limit, int) and there >= limit
    return bool(full or (isinstance(total, int) and start + there < total))


def labels(parts: Iterable[Mapping[str, Any]]) -> Level:
    """The labels of users and groups."""
    return frozenset(label for part in parts for one in part["results"] for label in _labels(one))


def mark(access: Access) -> str:
    """Stands for the labels in a page's version; nothing, where nothing restricts it."""
    if access is None:
        return ""
    return hashlib.blake2b(json.dumps([*access], ensure_ascii=True).encode(), digest_size=8).hexdigest()


def _labels(one: Mapping[str, Any]) -> Iterator[str]:
    """Of a user the e-mail address, if it is told, and the id that everybody has; of a group its name."""
    if one.get("type") == "group":
        yield f"group:{one['name']}" if one.get("name") else UNDISCLOSED
        return
    if one.get("email"):
        yield str(one["email"]).lower()
    name = one.get("accountId") or one.get("username") or one.get("userKey")
    yield f"user:{name}" if name else UNDISCLOSED
