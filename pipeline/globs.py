"""Globs over the paths that documents have, as regular expressions that Python and Rust read alike."""

from __future__ import annotations

import re

LONGEST = 500
"""Characters of a pattern."""

_PARTS = re.compile(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]/]*\]|.", re.DOTALL)
_STAND_FOR = {"**/": "(?:[^/]+/)*", "**": ".+", "*": "[^/]*", "?": "[^/]"}
_SIGNS = frozenset(r"\.+*?()|[]{}^$#&-~")
_NO_SIGN = r"[^\s\S]"


def expression(pattern: str) -> str:
    """What matches, as a whole, the paths that the pattern does.

    `*` and `?` stay within one name, `[ab]` and `[!ab]` are one character of a name, `**/` is any number of
    folders, also none, `**` is anything, `{a,b}` is either. `docs/` means `docs/**`.

    Raises:
        ValueError: it cannot be meant; says why.
    """
    if not pattern or len(pattern) > LONGEST:
        raise ValueError(f"a pattern has 1 to {LONGEST} characters")
    depth, made = 0, []
    for part in _PARTS.findall(pattern + "**" if pattern.endswith("/") else pattern):
        if part == "{" or (part == "}" and depth):
            depth += 1 if part == "{" else -1
            made.append("(?:" if part == "{" else ")")
        elif part == "," and depth:
            made.append("|")
        else:
            made.append(_STAND_FOR.get(part) or (_one_of(part) if len(part) > 2 else _plain(part)))
    if depth:
        raise ValueError("a brace is opened and not closed")
    return f"(?s)^(?:{''.join(made)})$"


def _one_of(part: str) -> str:
    """`[a-z]` or `[!a-z]`, which never match the slash between names."""
    negated = part.startswith("[!")
    inner = part[1 + negated : -1]
    chosen, place = "", 0
    while place < len(inner):
        is_range = inner[place + 1 : place + 2] == "-" and place + 2 < len(inner)
        chosen += _range(inner[place], inner[place + 2]) if is_range else _plain(inner[place])
        place += 3 if is_range else 1
    if negated:
        return f"[^/{chosen}]"
    return f"[{chosen}]" if chosen else _NO_SIGN


def _range(first: str, last: str) -> str:
    if first > last:
        raise ValueError(f"{first}-{last} runs backwards")
    if not first <= "/" <= last:
        return f"{_plain(first)}-{_plain(last)}"
    # Without the slash in the middle of it.
    below = f"{_plain(first)}-\\." if first < "/" else ""
    return below + (f"0-{_plain(last)}" if last > "/" else "")


def _plain(signs: str) -> str:
    return "".join(f"\\{sign}" if sign in _SIGNS else sign for sign in signs)
