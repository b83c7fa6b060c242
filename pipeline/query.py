"""Question to hits: by vector, by words, or by both; then reranked, thinned out and cut into pages."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from pipeline import query_rank
from pipeline.errors import EmbedError, SettingsError
from pipeline.query_around import Around, widened
from pipeline.query_rank import Fusion, Place, Ranked, Weights, fuse, place_of
from pipeline.query_tables import Asker, Candidates, Searched, Table, Together, put_to
from pipeline.records import Filter, Hit

__all__ = [
    "Around",
    "Asker",
    "Found",
    "Fusion",
    "Mode",
    "Question",
    "Reranker",
    "Table",
    "Weights",
    "find",
    "find_in",
    "search",
]

log = logging.getLogger(__name__)

DEPTHS = (50, 400, 4_000)
"""How many hits each side of a search brings in: the next where the page or what is thinned out wants more.
What one depth ranks, the next only adds to: a hit has the same place whatever page is asked for."""
RERANKED = 50
"""So many of the best hits a reranker is given."""


class Mode(StrEnum):
    """How a question is matched with chunks."""

    HYBRID = "hybrid"
    """Both, fused: the default."""
    VECTOR = "vector"
    """By meaning."""
    TEXT = "text"
    """By words."""


class Reranker(Protocol):
    """Reads question and passage together, which says more of them than their vectors."""

    async def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        """How well each text answers, as 0 … 1.

        Raises:
            EmbedError: by its `recovery`, what the caller does next.
        """

    async def aclose(self) -> None:
        """Give back what it holds open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked, of which chunks, and what is made of the hits."""

    text: str
    mode: Mode = Mode.HYBRID
    limit: int = 10
    offset: int = 0
    """So many of the best hits are passed over: those of the pages before."""
    where: Filter = field(default_factory=Filter)
    fusion: Fusion = "scores"
    """How both sides of a hybrid search become one order."""
    weights: Weights = field(default_factory=Weights)
    min_score: float | None = None
    """Only hits of at least this relevance, which is on one scale for all questions: the reranker's score, or
    else the similarity of the vectors (0 … 1)."""
    per_document: int | None = None
    """At most so many hits of one document."""
    deduplicate: bool = False
    """Of several chunks with the same text, the best alone."""
    diversity: float = 0.0
    """0 … 1: how much a hit is held back for being like a better one (maximal marginal relevance)."""
    around: Around = field(default_factory=Around)
    """What is given beside each hit."""
    rerank: bool = True
    """Whether a reranker is asked, if there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A page of hits."""

    hits: list[Hit]
    """Best first."""
    more: bool
    """Whether there are hits after these."""
    around: Mapping[Place, tuple[Hit, ...]]
    """Of each hit, the chunks of its document that it is widened to, in order, itself among them."""
    reranked: bool = False


async def search(reader: Searched, embedder: Asker | None, question: Question) -> list[Hit]:
    """The chunks that answer best, best first.

    Raises:
        DocweaveError: as `find`.
    """
    return (await find(reader, embedder, question)).hits


async def find(
    reader: Searched, embedder: Asker | None, question: Question, reranker: Reranker | None = None
) -> Found:
    """The page of hits that is asked for, best first. All is asked of one snapshot.

    `embedder` may be None for a search by words alone.

    Raises:
        DocweaveError: as `find_in`.
    """
    return await find_in([Table(reader=reader, embedder=embedder)], question, reranker)


async def find_in(tables: Sequence[Table], question: Question, reranker: Reranker | None = None) -> Found:
    """The page of hits that is asked for, best first, of all these tables. Of each, one snapshot is asked.

    Where there are several, no two of them have a source of the same name.

    Raises:
        SettingsError: what is asked for cannot be had in this mode.
        SpaceMismatch: an embedder's vectors cannot be compared with the stored ones.
        StoreRefused: there is nothing to search yet.
        EmbedError: the question could not be embedded.
        StoreError: a table cannot be read. What the others answer is not told, then.
    """
    by_words = question.mode is Mode.TEXT
    together = await put_to(tables, question.text, by_words=by_words)
    reranker = reranker if question.rerank else None
    if by_words and question.min_score is not None and reranker is None:
        raise SettingsError("a search by words has no scale for min_score: use the mode hybrid or vector")
    asked = _Asked(together, question, reranker)
    end = question.offset + question.limit
    ranked, reranked = await asked.ranked(end + 1)
    hits = await asked.told(ranked[question.offset : end])
    return Found(
        hits=hits,
        more=len(ranked) > end,
        around=await widened(together, hits, question.around, access=question.where.access),
        reranked=reranked,
    )


class _Asked:
    """One question, put as deeply as its page wants it."""

    def __init__(self, tables: Together, question: Question, reranker: Reranker | None) -> None:
        self._tables = tables
        self._question = question
        self._reranker = reranker

    async def ranked(self, wanted: int) -> tuple[Sequence[Ranked | Hit], bool]:
        """At least so many of the best, if there are; and whether a reranker has ordered them.

        They are rows until something has to look at what they hold.
        """
        asked = self._question
        found: Sequence[Ranked | Hit] = []
        scores: dict[Place, float] | None = None
        for number, depth in enumerate(DEPTHS):
            if depth < wanted and depth != DEPTHS[-1]:
                continue
            candidates = await self._tables.candidates(
                asked.text, asked.where, depth, by_words=asked.mode is not Mode.VECTOR
            )
            order = self._order(candidates, DEPTHS[: number + 1])
            if self._looks_at_hits:
                hits = await self._taken(order)
                if scores is None:
                    scores = await self._rerank(hits[:RERANKED])
                found = self._thinned(hits, scores)
            else:
                found = order
            if len(found) >= wanted or candidates.fewer_than(depth):
                break
        return found, bool(scores)

    async def told(self, page: Sequence[Ranked | Hit]) -> list[Hit]:
        """The hits of a page."""
        rows = [one for one in page if isinstance(one, Ranked)]
        return await self._taken(rows) if rows else [one for one in page if isinstance(one, Hit)]

    @property
    def _looks_at_hits(self) -> bool:
        """Whether more than their ranks decides which hits there are."""
        asked = self._question
        thinned = asked.deduplicate or asked.diversity or asked.per_document is not None
        return bool(thinned or asked.min_score is not None or self._reranker is not None)

    async def _taken(self, rows: Sequence[Ranked]) -> list[Hit]:
        taken = await self._tables.take([one.row for one in rows])
        return [one.told_of(hit) for one, hit in zip(rows, taken, strict=True)]

    def _order(self, found: Candidates, depths: Sequence[int]) -> list[Ranked]:
        """All of these by rank; what a lesser depth has seen comes first, as that has ranked it."""
        order: dict[int, Ranked] = {}
        for depth in depths:
            near, worded = self._tables.ranked(found, depth)
            match self._question.mode:
                case Mode.VECTOR:
                    ranked = query_rank.by_vector(near)
                case Mode.TEXT:
                    ranked = query_rank.by_words(worded)
                case Mode.HYBRID:
                    ranked = fuse(near, worded, self._question.fusion, self._question.weights)
            for one in ranked:
                order.setdefault(one.row, one)
        return list(order.values())

    async def _rerank(self, hits: Sequence[Hit]) -> dict[Place, float]:
        """What the reranker gives the best. Where it does not answer, nothing: the hits stay as they are."""
        if self._reranker is None or not hits:
            return {}
        texts = ["\n\n".join([*dict.fromkeys([hit.title, *hit.heading_path]), hit.text]) for hit in hits]
        try:
            scores = await self._reranker.scores(self._question.text, texts)
        except EmbedError as error:
            if self._question.min_score is not None and self._question.mode is Mode.TEXT:
                raise  # there is no other scale
            log.warning("hits are not reranked: %s", error)
            return {}
        return {place_of(hit): score for hit, score in zip(hits, scores, strict=True)}

    def _thinned(self, order: list[Hit], scores: Mapping[Place, float]) -> list[Hit]:
        question = self._question
        by_reranker = bool(scores) or question.mode is Mode.TEXT
        if scores:
            order = query_rank.reranked(order, scores)
        if question.min_score is not None:
            relevance = [hit.rerank_score if by_reranker else hit.similarity for hit in order]
            order = query_rank.at_least(order, question.min_score, relevance)
        if question.deduplicate:
            order = query_rank.each_text_once(order)
        if question.diversity:
            first, rest = order[: DEPTHS[0]], order[DEPTHS[0] :]
            order = [*query_rank.diverse(first, question.diversity, self._tables.spaces_of(first)), *rest]
        if question.per_document is not None:
            order = query_rank.of_each_document(order, question.per_document)
        return order
