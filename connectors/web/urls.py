"""One URL for one page. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from urllib.parse import unquote_plus, urlsplit, urlunsplit

from connectors._url import host_of, on_the_wire

TRACKING = (
    "utm_*",
    "fbclid",
    "gclid",
    "gclsrc",
    "dclid",
    "gbraid",
    "wbraid",
    "msclkid",
    "yclid",
    "twclid",
    "ttclid",
    "igshid",
    "mc_cid",
    "mc_eid",
    "mkt_tok",
    "_ga",
    "_gl",
    "_hsenc",
    "_hsmi",
    "ref_src",
    "phpsessid",
    "jsessionid",
)
"""Parameters that say who follows a link and from where, not what it shows."""

_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_SESSION = re.compile(r";jsessionid=[^/;]*", re.IGNORECASE)


def canonical(url: str, dropped: Sequence[str] = TRACKING) -> str | None:
    """The URL as it is requested and kept: equal for what RFC 3986 calls equivalent.

    Scheme and host in lower case, no default port, no fragment, no dot segments, escapes only where they
    must be. Without the parameters that `dropped` names (lower case, with `*`); the others keep their order.
    A slash at the end stays as it is: with and without are two pages for some servers.

    Returns:
        None for what is no http or https URL, or holds a user name.
    """
    try:
        parts = urlsplit(on_the_wire(url.strip()))
    except ValueError:
        return None
    host = host_of(urlunsplit(parts))
    if parts.scheme not in ("http", "https") or not host or "@" in urlsplit(url.strip()).netloc:
        return None
    path = _without_dots(_ESCAPE.sub(_plainest, _SESSION.sub("", parts.path)))
    query = _ESCAPE.sub(_plainest, _kept(parts.query, dropped))
    return urlunsplit((parts.scheme, host, path, query, ""))


def path_of(url: str) -> str:
    """The path as globs see it: without the slash before, escapes undone; `/docs/` is docs/index.html."""
    path = unquote_plus(urlsplit(url).path.replace("+", "%2B")).removeprefix("/")
    return path + "index.html" if not path or path.endswith("/") else path


def _kept(query: str, dropped: Sequence[str]) -> str:
    pairs = (pair for pair in query.split("&") if pair)
    return "&".join(pair for pair in pairs if not _is_dropped(pair.partition("=")[0], dropped))


def _is_dropped(name: str, dropped: Sequence[str]) -> bool:
    plain = unquote_plus(name).lower()
    return any(fnmatchcase(plain, pattern) for pattern in dropped)


def _plainest(escape: re.Match[str]) -> str:
    character = chr(int(escape[0][1:], 16))
    return character if character in _UNRESERVED else escape[0].upper()


def _without_dots(path: str) -> str:
    """RFC 3986, section 5.2.4."""
    names = path.split("/")
    kept: list[str] = []
    for name in names:
        if name == "..":
            if len(kept) > 1:
                kept.pop()
        elif name != ".":
            kept.append(name)
    if names[-1] in (".", ".."):
        kept.append("")
    joined = "/".join(kept)
    return joined if joined.startswith("/") else "/" + joined
