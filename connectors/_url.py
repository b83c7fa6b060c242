"""URLs, as they are compared, sent and shown. Pure."""

from __future__ import annotations

from urllib.parse import SplitResult, quote, urlsplit, urlunsplit

PORTS = {"http": 80, "https": 443}
_SAFE = "%/:=&?~#+!$,;'@()*[]"
"""What stays as it is in a path or query: all that has a meaning there, and escapes that are made already."""


def split(url: str) -> SplitResult | None:
    """The parts of a URL; None for what is none."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


def host_of(url: str) -> str:
    """The host, with the port where it is not the scheme's own; empty for what is no URL.

    In lower case and as IDNA has it, without the dot at the end.
    """
    parts = split(url)
    if parts is None or not parts.hostname:
        return ""
    try:
        name = _ascii(parts.hostname.rstrip("."))
    except UnicodeError:
        return ""
    return name if parts.port in (None, PORTS.get(parts.scheme)) else f"{name}:{parts.port}"


def origin(url: str) -> str:
    """The scheme and the host, as `host_of` has it."""
    parts = split(url)
    return f"{parts.scheme if parts else ''}://{host_of(url)}"


def shown(url: str) -> str:
    """A URL as errors show it: without the user name and password, the query and the fragment."""
    parts = split(url)
    if parts is None or not parts.netloc:
        return "what is no URL"
    query = "?…" if parts.query else ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{query}"


def on_the_wire(url: str) -> str:
    """The URL in ASCII: names as IDNA has them, everything else percent-encoded where it must be.

    Raises:
        ValueError: its host is no name.
    """
    parts = urlsplit(url)
    netloc = _ascii(parts.hostname or "")
    if parts.port is not None:
        netloc += f":{parts.port}"
    return urlunsplit((parts.scheme, netloc, quote(parts.path or "/", _SAFE), quote(parts.query, _SAFE), ""))


def _ascii(host: str) -> str:
    """A host as URLs have it.

    Raises:
        UnicodeError: it is no name.
    """
    if host.isascii():
        return f"[{host}]" if ":" in host else host
    import idna  # noqa: PLC0415 - seldom needed

    return idna.encode(host, uts46=True).decode("ascii")
