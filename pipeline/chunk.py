"""Text to chunks: langchain's recursive splitting, within the sections, by the tokens of the model.

Three steps. *Parts*: the sections of the document; one too small to stand alone is joined with its neighbour.
*Cuts*: a part over the limit goes through the splitter. *Mending*: an orphan that the splitter left is joined
with its neighbour, or the two are cut more evenly.

Offsets are computed, never searched for: without overlap and without stripping, the splitter's pieces follow
each other without a gap, so their lengths say where they stand.
"""

from __future__ import annotations

import functools
import math
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise

from pipeline.records import Chunk, Document
from pipeline.splitter import HEADING, glued, splitter
from pipeline.tokens import VOCABULARY, count

_OUR_VERSION = 1  # raise it when the same text comes to be chunked differently by code of ours
_LEAST_MAX_TOKENS = 16  # one character can be 12 tokens: three of four bytes each, after NFC
_CHARS_A_TOKEN = 6  # rarely more than this
_SHARES = (0.55, 0.65, 0.8)  # of two spans that are cut anew: how large the first may be
_UNIT_A_PAGE = re.compile("presentation|powerpoint|spreadsheet|excel")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    """A passage without blank borders."""

    start: int
    end: int
    tokens: int
    """The true count if it is within the limit; else any number over the limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A section, or several joined ones."""

    span: _Span
    depth: int
    """How deep the last of its headings stands."""
    bare: bool
    """It is a heading and no more."""


class Chunker:
    """Cuts documents into chunks of at most `max_tokens`, which do not overlap.

    A chunk keeps to its section. Only a section below `merge_below` tokens is joined with the one that
    follows (the one before, where the next leaves its chapter), if the two fit into one chunk; a heading
    without text of its own always goes with what follows. The heading path of a chunk is that of the section
    that gives most of its characters: the other headings stand in its text, where a search finds them anyway.

    Every character but white space is in exactly one chunk. A chunk's page is the one in which it starts;
    slides and sheets bound chunks as sections do. A syntax that langchain does not know is split as plain
    text.

    Raises:
        ValueError: a limit that cannot be kept.
    """

    def __init__(self, *, max_tokens: int = 512, merge_below: int = 48) -> None:
        if max_tokens < _LEAST_MAX_TOKENS:
            raise ValueError(f"max_tokens is {max_tokens}; it must be {_LEAST_MAX_TOKENS} or more")
        if not 0 <= merge_below <= max_tokens:
            raise ValueError(f"merge_below is {merge_below}; it must be from 0 to max_tokens ({max_tokens})")
        self.max_tokens = max_tokens
        self.merge_below = merge_below

    @property
    def recipe(self) -> str:
        """Names what would make the same document chunk differently."""
        splitters = version("langchain-text-splitters")
        settings = f"max_tokens={self.max_tokens} merge_below={self.merge_below}"
        return f"chunk {_OUR_VERSION}; langchain-text-splitters {splitters}; {VOCABULARY}; {settings}"

    def chunk(self, document: Document) -> tuple[Chunk, ...]:
        """The document's chunks, in order; none where it is blank."""
        spans = _Cutting(document, max_tokens=self.max_tokens, merge_below=self.merge_below).spans()
        lines = _lines(document, spans)
        sections = [section.start for section in document.sections]
        pages = [page.start for page in document.pages]
        return tuple(
            Chunk(
                ordinal=ordinal,
                line=first,
                last_line=last,
                anchor=_anchor(document.anchor, first, last),
                start=span.start,
                end=span.end,
                text=document.text[span.start : span.end],
                tokens=span.tokens,
                heading_path=_heading_path(document, sections, span),
                page=document.pages[bisect_right(pages, span.start) - 1].number if pages else None,
            )
            for ordinal, (span, (first, last)) in enumerate(zip(spans, lines, strict=True))
        )


class _Cutting:
    """One document on its way to chunks."""

    def __init__(self, document: Document, *, max_tokens: int, merge_below: int) -> None:
        self.document = document
        self.text = document.text
        self.max_tokens = max_tokens
        self.merge_below = merge_below

    def spans(self) -> list[_Span]:
        """What becomes the chunks, in order."""
        spans: list[_Span] = []
        for part in self._joined(self._parts()):
            fits = part.span.tokens <= self.max_tokens
            cut = [part.span] if fits else self._mended(self._split(part.span, self.max_tokens))
            if spans and cut and self._has_orphan(spans[-1], cut[0]):
                together = self._union(spans[-1], cut[0])
                if together.tokens <= self.max_tokens:
                    spans[-1:], cut[:1] = [], [together]
            spans += cut
        return spans

    def _parts(self) -> list[_Part]:
        """The sections, blank ones left out; slides and sheets make sections of their own."""
        sections = {section.start: len(section.heading_path) for section in self.document.sections} or {0: 0}
        starts = set(sections)
        if _UNIT_A_PAGE.search(self.document.media_type):
            starts |= {page.start for page in self.document.pages}
        parts = []
        depth = 0
        for start, end in pairwise([*sorted(starts), len(self.text)]):
            depth = sections.get(start, depth)
            if span := self._span(start, end):
                headed = start in sections and depth > 0
                bare = headed and HEADING.fullmatch(self.text, start, end) is not None
                parts.append(_Part(span=span, depth=depth, bare=bare))
        return parts

    def _joined(self, parts: list[_Part]) -> list[_Part]:
        """The parts, small ones joined to a neighbour."""
        done: list[_Part] = []
        rest = parts[::-1]
        while rest:
            part = rest.pop()
            while rest and self._is_small(part):
                after = self._together(part, rest[-1])
                leaves_chapter = rest[-1].depth < part.depth and not part.bare
                if after is None or (leaves_chapter and done and self._together(done[-1], part)):
                    break
                rest.pop()
                part = after
            before = self._together(done[-1], part) if done and self._is_small(part) else None
            if before:
                done[-1] = before
            else:
                done.append(part)
        return done

    def _is_small(self, part: _Part) -> bool:
        return part.bare or part.span.tokens < self.merge_below

    def _together(self, part: _Part, following: _Part) -> _Part | None:
        """Both as one, if they fit into a chunk. A bare heading and its text are cut later if they do not."""
        span = self._union(part.span, following.span)
        if span.tokens > self.max_tokens and not part.bare:
            return None
        return _Part(span=span, depth=following.depth, bare=part.bare and following.bare)

    def _union(self, one: _Span, other: _Span) -> _Span:
        tokens = one.tokens + other.tokens
        if tokens <= self.max_tokens:
            tokens = self._count(one.start, other.end)
        return _Span(start=one.start, end=other.end, tokens=tokens)

    def _span(self, start: int, end: int) -> _Span | None:
        """That much of the text, without blank borders; None where it is blank.

        The indentation of a first line stays: it is part of what code and lists say.
        """
        passage = self.text[start:end]
        end = start + len(passage.rstrip())
        first = start + len(passage) - len(passage.lstrip())
        if first >= end:
            return None
        line = self.text.rfind("\n", 0, first) + 1
        start = line if line >= start else first
        return _Span(start=start, end=end, tokens=self._count(start, end))

    def _count(self, start: int, end: int) -> int:
        """True up to the limit. What is over it will be cut: it need not be read to its end."""
        few = start + _CHARS_A_TOKEN * self.max_tokens
        if few < end and (tokens := count(self.text[start:few])) > self.max_tokens:
            return tokens
        return count(self.text[start:end])

    def _split(self, span: _Span, max_tokens: int) -> list[_Span]:
        """The passage in spans of at most so many tokens, by langchain's splitter."""
        pieces = splitter(self.document.syntax, max_tokens).split_text(self._glued[span.start : span.end])
        spans: list[_Span] = []
        position = span.start
        for piece in pieces:
            spans += self._fitting(position, position + len(piece))
            position += len(piece)
        return spans

    def _fitting(self, start: int, end: int) -> Iterator[_Span]:
        """The piece, cut in the middle if it has more tokens than its own pieces had together."""
        span = self._span(start, end)
        if span and span.tokens > self.max_tokens:
            middle = (span.start + span.end) // 2
            cut = self.text.rfind(" ", (span.start + middle) // 2, middle)
            cut = middle if cut < 0 else cut
            yield from self._fitting(span.start, cut)
            yield from self._fitting(cut, span.end)
        elif span:
            yield span

    def _mended(self, spans: list[_Span]) -> list[_Span]:
        """The spans, small ones joined to a neighbour or filled from it."""
        done: list[_Span] = []
        for span in spans:
            if done and self._has_orphan(done[-1], span):
                done[-1:] = self._evened(done[-1], span)
            else:
                done.append(span)
        return done

    def _has_orphan(self, one: _Span, other: _Span) -> bool:
        return min(one.tokens, other.tokens) < self.merge_below

    def _evened(self, one: _Span, other: _Span) -> list[_Span]:
        """Both as one if that fits; else cut anew where that makes the smaller of the two larger."""
        together = self._union(one, other)
        if together.tokens <= self.max_tokens:
            return [together]
        best = [one, other]
        for share in _SHARES:
            if _least(best) >= self.merge_below:
                break
            spans = self._split(together, min(self.max_tokens, math.ceil(share * together.tokens)))
            if len(spans) == len(best) and _least(spans) > _least(best):
                best = spans
        return best

    @functools.cached_property
    def _glued(self) -> str:
        return glued(self.document)


def _least(spans: list[_Span]) -> int:
    return min(span.tokens for span in spans)


def _lines(document: Document, spans: Sequence[_Span]) -> Iterator[tuple[int | None, int | None]]:
    """The first and last line of each span, in the content that the document was read from."""
    line, counted = document.first_line, 0
    for span in spans:
        if line is None:
            yield None, None
            continue
        first = line + document.text.count("\n", counted, span.start)
        line, counted = first + document.text.count("\n", span.start, span.end), span.end
        yield first, line


def _anchor(template: str | None, first: int | None, last: int | None) -> str | None:
    if template is None or first is None:
        return None
    return template.replace("{line}", str(first)).replace("{last_line}", str(last))


def _heading_path(document: Document, starts: list[int], span: _Span) -> tuple[str, ...]:
    """The path of the section that gives most of the span, the first of those that give as much."""
    first = max(bisect_right(starts, span.start) - 1, 0)
    sections = document.sections[first : bisect_right(starts, span.end - 1)]
    most = max(
        sections,
        key=lambda section: min(section.end, span.end) - max(section.start, span.start),
        default=None,
    )
    return most.heading_path if most else ()
