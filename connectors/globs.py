r"""Globs over POSIX paths, as regular expressions.

`*` and `?` stay within one name, `[ab]` and `[!ab]` are one character, `**` is any number of folders, also
none, `{a,b}` is either. A pattern matches from the root on: `*.md` is a file at the top, `**/*.md` one
anywhere. `docs/` means `docs/**`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_PARTS = re.compile(r"\*|\?|\[!?\]?[^\]/]*\]|.", re.DOTALL)
_BRACES = re.compile(r"\{([^{}]*,[^{}]*)\}")
_MOST_ALTERNATIVES = 1000


def check(pattern: str) -> str:
    """The pattern, if it can match anything.

    Raises:
        ValueError: it cannot be meant; says why.
    """
    names = pattern.removesuffix("/").split("/")
    if not pattern.strip("/"):
        raise ValueError("is empty: ** matches everything")
    if pattern.startswith("/") or "\\" in pattern:
        raise ValueError("is matched against paths relative to the root, with / between the names")
    if {"", ".", ".."} & set(names):
        raise ValueError("has an empty name, '.' or '..' in it: paths are relative to the root and plain")
    if any("**" in name and name != "**" for name in names):
        raise ValueError("** stands for whole folders and alone between slashes: **/*.md, not **.md")
    try:
        matching([pattern])
    except re.error as error:
        raise ValueError(f"cannot be read: {error.msg}") from error
    return pattern


def expand(pattern: str) -> list[str]:
    """`a.{md,pdf}` is `a.md` and `a.pdf`.

    Raises:
        ValueError: it would be too many.
    """
    done, waiting = [], [pattern]
    while waiting:
        head = waiting.pop()
        if braces := _BRACES.search(head):
            before, after = head[: braces.start()], head[braces.end() :]
            waiting += [before + choice + after for choice in reversed(braces[1].split(","))]
        else:
            done.append(head)
        if len(done) + len(waiting) > _MOST_ALTERNATIVES:
            raise ValueError(f"its braces make more than {_MOST_ALTERNATIVES:,} patterns")
    return done


def matching(patterns: Iterable[str]) -> re.Pattern[str]:
    """Matches (with `fullmatch`) the paths that any of the patterns matches."""
    return _any(_path(names) for names in _split(patterns))


def reaching(patterns: Iterable[str]) -> re.Pattern[str]:
    """Matches (with `fullmatch`) the folders below which a path could match any of the patterns."""
    return _any(_folders(names) for names in _split(patterns))


def _split(patterns: Iterable[str]) -> list[list[str]]:
    plain = [choice for pattern in patterns for choice in expand(pattern)]
    return [(pattern + "**" if pattern.endswith("/") else pattern).split("/") for pattern in plain]


def _any(expressions: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(expressions) or r"(?!)", re.DOTALL)


def _path(names: Sequence[str]) -> str:
    *folders, last = names
    above = "".join("(?:[^/]+/)*" if name == "**" else _name(name) + "/" for name in folders)
    return above + (".+" if last == "**" else _name(last))


def _folders(names: Sequence[str]) -> str:
    first, *rest = names
    if first == "**":
        return ".*"
    return f"{_name(first)}(?:/{_folders(rest)})?" if rest else "(?!)"


def _name(name: str) -> str:
    return "".join(_part(part) for part in _PARTS.findall(name))


def _part(part: str) -> str:
    if part == "*":
        return "[^/]*"
    if part == "?":
        return "[^/]"
    negated = part.startswith("[!")
    inside = part[2 if negated else 1 : -1]
    if not inside:
        return re.escape(part)
    inside = re.sub(r"[\[\]^&|~]", lambda found: "\\" + found[0], inside)
    return f"[^/{inside}]" if negated else f"(?!/)[{inside}]"
