"""The few kinds of block that a sample document is written in, and the reader of their Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby


@dataclass(frozen=True, slots=True)
class Heading:
    """A line that opens a section; level 1 is the document's title."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Running text."""

    text: str


@dataclass(frozen=True, slots=True)
class Items:
    """A list, with numbers or with bullets."""

    texts: tuple[str, ...]
    numbered: bool


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells, the header row first."""

    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Notes:
    """What the speaker says beside a slide."""

    text: str


Block = Heading | Paragraph | Items | Table | Notes

_HEADING = re.compile(r"(#{1,3}) (.+)")
_ITEM = re.compile(r"(?:-|(\d+)\.) (.+)")


def read_blocks(markdown: str) -> list[Block]:
    """The blocks of a source text: a small part of Markdown, each block set off by blank lines.

    Headings to the third level, paragraphs, flat lists with an item a line, pipe tables, and quotes,
    which are a slide's notes. No markup inside a line.
    """
    return [_block(lines) for lines in _runs(markdown)]


def title_of(blocks: list[Block]) -> str:
    """The document's title, which every source opens with.

    Raises:
        ValueError: The first block is no heading of level 1.
    """
    match blocks:
        case [Heading(level=1, text=text), *_]:
            return text
    raise ValueError("a source opens with '# ' and its title")


def _runs(markdown: str) -> Iterator[list[str]]:
    for blank, lines in groupby(markdown.splitlines(), key=lambda line: not line.strip()):
        if not blank:
            yield list(lines)


def _block(lines: list[str]) -> Block:
    if heading := _HEADING.fullmatch(lines[0]):
        return Heading(len(heading[1]), heading[2])
    if items := _ITEM.fullmatch(lines[0]):
        return Items(tuple(line.split(" ", 1)[1] for line in lines), numbered=items[1] is not None)
    if lines[0].startswith("|"):
        rows = (tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines)
        return Table(tuple(row for row in rows if set("".join(row)) != {"-"}))
    if lines[0].startswith("> "):
        return Notes(" ".join(line.removeprefix("> ") for line in lines))
    return Paragraph(" ".join(lines))
