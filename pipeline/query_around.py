"""What stands around a hit in its document: the chunks beside it, its section, or its page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal, Protocol, TypeAlias

from pipeline.query_rank import Place, place_of
from pipeline.records import Filter, Hit, Span

Unit: TypeAlias = Literal["nothing", "chunks", "section", "page"]

FARTHEST = 40
"""Chunks to each side that a section or a page is looked for in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """How far a hit is widened."""

    unit: Unit = "nothing"
    """section: the chunks around it that stand under the same headings. page: those of the same page."""
    chunks: int = 1
    """To each side, where the unit is chunks."""

    @property
    def reach(self) -> int:
        """Chunks to each side that are looked at."""
        if self.unit == "chunks":
            return self.chunks
        return 0 if self.unit == "nothing" else FARTHEST


class HasPassages(Protocol):
    """What is asked for the chunks beside hits."""

    async def passages(self, spans: Sequence[Span], *, where: Filter) -> list[Hit]:
        """As `pipeline.protocols.Reader.passages`."""


async def widened(
    reader: HasPassages, hits: Sequence[Hit], around: Around, *, access: tuple[str, ...] | None
) -> Mapping[Place, tuple[Hit, ...]]:
    """Of each hit, the chunks that it is widened to, in order, itself among them. One query for all.

    `access` is that of whoever asks: what they may not see stands around nothing, though they asked for
    other things by a filter.

    Raises:
        StoreError: the tables cannot be read.
    """
    if not around.reach or not hits:
        return {}
    spans = [
        Span(
            source=hit.source,
            key=hit.key,
            first=max(0, hit.ordinal - around.reach),
            last=hit.ordinal + around.reach,
        )
        for hit in hits
    ]
    there = await reader.passages(spans, where=Filter(access=access))
    by_document: dict[tuple[str, str], dict[int, Hit]] = {}
    for one in there:
        by_document.setdefault((one.source, one.key), {})[one.ordinal] = one
    return {place_of(hit): _run(hit, by_document.get((hit.source, hit.key), {}), around) for hit in hits}


def _run(hit: Hit, chunks: Mapping[int, Hit], around: Around) -> tuple[Hit, ...]:
    """The chunks around the hit without a gap, as far as they belong to it."""

    def belonging(ordinals: Iterable[int]) -> list[Hit]:
        there = takewhile(chunks.__contains__, ordinals)
        return list(takewhile(lambda one: _belongs(one, hit, around.unit), map(chunks.__getitem__, there)))

    below = belonging(range(hit.ordinal - 1, hit.ordinal - around.reach - 1, -1))
    above = belonging(range(hit.ordinal + 1, hit.ordinal + around.reach + 1))
    return (*reversed(below), hit, *above)


def _belongs(chunk: Hit, hit: Hit, unit: Unit) -> bool:
    if unit == "section":
        return chunk.heading_path == hit.heading_path
    return unit == "chunks" or (hit.page is not None and chunk.page == hit.page)


class Passage(Protocol):
    """A chunk, or a hit."""

    @property
    def start(self) -> int:
        """In characters of the document's text."""

    @property
    def end(self) -> int:
        """As `start`."""

    @property
    def text(self) -> str:
        """All of it."""


def joined(chunks: Sequence[Passage]) -> str:
    """The text of chunks that follow each other; for the white space between two, a line break or two."""
    parts: list[str] = []
    for before, chunk in zip([None, *chunks], chunks, strict=False):
        if before is not None and chunk.start > before.end:
            parts.append("\n\n" if chunk.start - before.end > 1 else "\n")
        parts.append(chunk.text)
    return "".join(parts)
