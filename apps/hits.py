"""Hits as a person reads them in a terminal: what, where, and the words around the answer."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

import typer

from apps.plain import one_line
from pipeline.query_highlight import matcher
from pipeline.records import Hit

SNIPPET_LINES = 3
INDENT = "    "
_WORD = re.compile(r"\w+")


def lines(hits: Sequence[Hit], question: str, *, width: int) -> list[str]:
    """The hits, best first, each with a blank line after it. Pure."""
    wanted = matcher(question)
    out: list[str] = []
    for rank, hit in enumerate(hits, start=1):
        out += _hit(rank, hit, wanted, width)
        out.append("")
    return out


def as_json(rank: int, hit: Hit) -> dict[str, object]:
    """A hit for a program to read: all but its vector."""
    told = asdict(replace(hit, vector=None))
    del told["vector"]
    return {"rank": rank, **told}


def location(hit: Hit) -> str:
    """Where the passage stands: its web address, or source/key and its lines, or characters of the text."""
    if hit.url and hit.url.startswith(("https:", "http:")):
        return one_line(hit.url)
    if hit.line is not None:
        return one_line(f"{hit.source}/{hit.key}:{hit.line}-{hit.last_line}")
    return one_line(f"{hit.source}/{hit.key}, characters {hit.start}-{hit.end}")


def path(hit: Hit) -> str:
    """The title and the headings above the passage, none twice in a row."""
    steps: list[str] = []
    for step in (hit.title, *hit.heading_path):
        if step and (not steps or steps[-1] != step):
            steps.append(step)
    return one_line(" › ".join(steps))


def snippet(hit: Hit, question: str, size: int) -> str:
    """At most about `size` characters of the passage, where the most of the question's words stand."""
    return one_line(_cut(_passage(hit), matcher(question), size))


def _hit(rank: int, hit: Hit, wanted: Callable[[str], str | None], width: int) -> list[str]:
    head = f"{rank:>2}  {hit.score:.3f}  "
    page = f"  page {hit.page}" if hit.page is not None else ""
    room = max(20, width - len(head) - len(page))
    title, *more = textwrap.wrap(path(hit), room) or [""]
    out = [f"{head}{typer.style(title, bold=True)}{page}"]
    out += [f"{' ' * len(head)}{typer.style(line, bold=True)}" for line in more]
    out.append(f"{INDENT}{typer.style(location(hit), dim=True)}")
    inner = max(20, width - len(INDENT) - 2)
    passage = one_line(_cut(_passage(hit), wanted, inner * SNIPPET_LINES - 12))
    for line in textwrap.wrap(passage, inner)[:SNIPPET_LINES]:
        out.append(f"{INDENT}  {_WORD.sub(lambda word: _emphasized(word[0], wanted), line)}")
    return out


def _passage(hit: Hit) -> str:
    """The text without the heading that it begins with, where that stands in the path already."""
    first, _, rest = hit.text.lstrip().partition("\n")
    heading = first.strip("#= \t\r")
    shown = heading == hit.title or heading in hit.heading_path
    return " ".join((rest if shown and rest.strip() else hit.text).split())


def _emphasized(word: str, wanted: Callable[[str], str | None]) -> str:
    return typer.style(word, bold=True) if wanted(word) else word


def _cut(text: str, wanted: Callable[[str], str | None], size: int) -> str:
    if len(text) <= size:
        return text
    found = [(m.start(), word) for m in _WORD.finditer(text) if (word := wanted(m[0]))]
    start = _densest(found, size * 3 // 4)
    # A quarter of the room goes to what stands before the first of them.
    start = max(0, min(start - size // 4, len(text) - size))
    stop = min(len(text), start + size)
    if start:
        start = text.find(" ", start, start + 40) + 1 or start
    if stop < len(text):
        stop = max(text.rfind(" ", stop - 40, stop), 0) or stop
    return f"{'… ' if start else ''}{text[start:stop]}{' …' if stop < len(text) else ''}"


def _densest(found: Sequence[tuple[int, str]], size: int) -> int:
    """Where a window of `size` characters begins that holds the most different words; 0 if there are none."""
    best, most = 0, 0
    for number, (start, _) in enumerate(found):
        words = set()
        for place, word in found[number:]:
            if place - start > size:
                break
            words.add(word)
        if len(words) > most:
            best, most = start, len(words)
    return best
