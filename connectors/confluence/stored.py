"""A page as it is stored, as HTML: what its authors wrote, and nothing that macros would take from elsewhere.

The format: https://confluence.atlassian.com/doc/confluence-storage-format-790796544.html
"""

from __future__ import annotations

import re
from html import escape

_TAG = re.compile(r"""(<(?:[^<>"']|"[^"<]*"|'[^'<]*')*>)""")
_OWN = re.compile(r"<(/?)(?:ac|ri|at):([\w-]+)")
_UNSEEN = frozenset({"adf-attribute", "adf-fallback", "placeholder", "task-id", "task-uuid", "task-status"})
"""What is no text, and what says the same once more for old editors."""
_PARAMETER = re.compile(r'\sac:name="(?:title|key)"')
"""Parameters that a reader sees: a panel's title, the words of a status, an issue of Jira."""
_TITLE = re.compile(r'\sri:(?:content-title|filename)="([^"]*)"')
_TIME = re.compile(r'<time\s[^<]*?datetime="([^"<]*)"[^<]*/>')
_AS = {"plain-text-body": "pre", "task-list": "ul", "task": "li"}
"""Elements of Confluence's own that HTML has under another name; of others what is in them is kept."""


def html(storage: str) -> str:
    """The storage format without what is Confluence's own, in one pass."""
    kept: list[str] = []
    hidden = 0  # how deep in an element that is left out
    link: int | None = None  # where the words of a link begin
    title = ""
    for part in _TAG.split(_escaped(storage)):
        own = _OWN.match(part)
        if own is None:
            if not hidden:
                day = _TIME.match(part)
                kept.append(day[1] if day else part)
            continue
        closes, name, alone = own[1], own[2], part.endswith("/>")
        if hidden or (not closes and not alone and _unseen(name, part)):
            hidden += 0 if alone else -1 if closes else 1
        elif name == "link" and not alone:
            if closes and link is not None and not _words(kept[link:]):
                kept.append(title)
            link, title = (None, "") if closes else (len(kept), "")
        elif named := _TITLE.search(part):
            title = named[1]
        elif name == "parameter" and closes:
            kept.append(" ")
        elif name in _AS and not alone:
            kept.append(f"<{closes}{_AS[name]}>")
    return "".join(kept)


def _escaped(storage: str) -> str:
    """Without sections of CDATA, which HTML does not have."""
    first, *others = storage.split("<![CDATA[")
    kept = [first]
    for other in others:
        inside, _, rest = other.partition("]]>")
        kept += escape(inside, quote=False), rest
    return "".join(kept)


def _unseen(name: str, tag: str) -> bool:
    return name in _UNSEEN or (name == "parameter" and not _PARAMETER.search(tag))


def _words(parts: list[str]) -> str:
    return "".join(part for part in parts if not part.startswith("<")).strip()
