"""The tables that one question is put to, as if they were one: those of one settings file, or of several.

Which of their scores may be compared says docs/adr/0014.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol

from pipeline import query_rank
from pipeline.errors import NothingStored, SpaceMismatch
from pipeline.query_rank import Place, place_of
from pipeline.query_several import of_each
from pipeline.records import EmbeddingSpace, Filter, Hit, Ranking, Span, Vector


class Asker(Protocol):
    """What a question needs of an embedder."""

    @property
    def space(self) -> EmbeddingSpace:
        """Of the vector."""

    async def embed_query(self, text: str) -> Vector:
        """As `Embedder.embed_query`."""


class Searched(Protocol):
    """What a question needs of a reader. All is as in `pipeline.protocols.Reader`."""

    async def snapshot(self) -> Searched:
        """The chunks as they are now."""

    async def space(self) -> EmbeddingSpace | None:
        """Of the stored vectors."""

    async def rank_nearest(self, vector: Vector, *, limit: int, where: Filter) -> Ranking:
        """By vector."""

    async def rank_matching(self, text: str, *, limit: int, where: Filter) -> Ranking:
        """By words."""

    async def take(self, rows: Sequence[int]) -> list[Hit]:
        """The chunks of rows that were ranked."""

    async def passages(self, spans: Sequence[Span], *, where: Filter) -> list[Hit]:
        """The chunks of these spans."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What a question is put to."""

    reader: Searched
    embedder: Asker | None
    """None: it is searched by words alone."""
    name: str = ""
    """Where there are several: what is raised begins with it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """A table as it is now, and the question as a vector of its space. Equal to itself alone."""

    name: str
    reader: Searched
    space: EmbeddingSpace
    vector: Vector | None
    """None: it is searched by words alone."""


async def put_to(tables: Sequence[Table], text: str, *, by_words: bool) -> Together:
    """Snapshots of the tables, and the question's vector in the space of each.

    Raises:
        SpaceMismatch: an embedder's vectors cannot be compared with the stored ones.
        NothingStored: there is nothing to search yet.
        EmbedError: the question could not be embedded.
    """

    async def part(table: Table) -> Part:
        reader = await table.reader.snapshot()
        space = await reader.space()
        if space is None:
            raise NothingStored("there is nothing to search yet: run `docweave ingest` first")
        vector = None if by_words else await _vector(table.embedder, text, space)
        return Part(name=table.name, reader=reader, space=space, vector=vector)

    return Together(await of_each(tables, part))


async def _vector(embedder: Asker | None, text: str, stored: EmbeddingSpace) -> Vector:
    if embedder is None:
        raise ValueError("a search by vector needs an embedder")
    if stored != embedder.space:
        raise SpaceMismatch(
            f"the tables hold vectors of {stored}, and the settings ask with {embedder.space}; "
            "these cannot be compared. Ask with the stored model, or build the tables anew with "
            "`docweave ingest --rebuild`"
        )
    return await embedder.embed_query(text)


@dataclass(frozen=True, slots=True)
class Candidates:
    """What each part ranks, best first."""

    near: Sequence[Ranking]
    worded: Sequence[Ranking]

    def fewer_than(self, depth: int) -> bool:
        """Whether no part has so many, so that there are no more."""
        return all(len(one) < depth for one in (*self.near, *self.worded))


class Together:
    """All parts as one. Its rows are those of the parts, numbered so that each is told by its number."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self._part_of: dict[Place, Part] = {}

    async def candidates(self, text: str, where: Filter, depth: int, *, by_words: bool) -> Candidates:
        """So many of each part by vector, and so many by words, if asked for.

        Raises:
            StoreError: a table cannot be read.
        """

        async def near(part: Part) -> Ranking:
            if part.vector is None:
                return {}
            return await part.reader.rank_nearest(part.vector, limit=depth, where=where)

        async def worded(part: Part) -> Ranking:
            return await part.reader.rank_matching(text, limit=depth, where=where) if by_words else {}

        return Candidates(*await asyncio.gather(of_each(self._parts, near), of_each(self._parts, worded)))

    def ranked(self, found: Candidates, depth: int) -> tuple[Ranking, Ranking]:
        """What all parts have within this depth, as rows of one table: by vector, and by words."""
        near = [_first(one, depth) for one in found.near]
        worded = [_first(one, depth) for one in found.worded]
        return nearest(near, [part.space for part in self._parts], depth), merged(worded, depth)

    async def take(self, rows: Sequence[int]) -> list[Hit]:
        """The chunks of these rows, in this order, with their vectors and similarities.

        Raises:
            StoreError: a table cannot be read.
        """
        own: dict[Part, list[int]] = {part: [] for part in self._parts}
        for row in rows:
            of_part, number = divmod(row, len(self._parts))
            own[self._parts[number]].append(of_part)

        async def taken(part: Part) -> Iterator[Hit]:
            hits = await part.reader.take(own[part])
            self._part_of |= dict.fromkeys(map(place_of, hits), part)
            if part.vector is not None:
                alike = query_rank.similarities(hits, part.vector, part.space)
                hits = [replace(hit, similarity=one) for hit, one in zip(hits, alike, strict=True)]
            return iter(hits)

        found = await of_each(self._parts, taken)
        return [next(found[row % len(self._parts)]) for row in rows]

    async def passages(self, spans: Sequence[Span], *, where: Filter) -> list[Hit]:
        """As `Reader.passages`.

        Raises:
            StoreError: a table cannot be read.
        """
        found = await of_each(self._parts, lambda part: part.reader.passages(spans, where=where))
        return [hit for hits in found for hit in hits]

    def spaces_of(self, hits: Sequence[Hit]) -> list[EmbeddingSpace]:
        """Of each hit's vector: of hits that were taken."""
        return [self._part_of[place_of(hit)].space for hit in hits]


def nearest(rankings: Sequence[Ranking], spaces: Sequence[EmbeddingSpace], most: int) -> Ranking:
    """By vector, what is found in each part as rows of one table. Pure.

    Similarities of one space are compared, and the best `most` of it taken. Those of several spaces are not:
    what is first in each stands before what is second in any.

    Args:
        rankings: Of each part.
        spaces: Of each part's vectors.
        most: So many of each space.
    """
    every = [
        merged([one if other == space else {} for one, other in zip(rankings, spaces, strict=True)], most)
        for space in dict.fromkeys(spaces)
    ]
    return every[0] if len(every) == 1 else _first_best(map(query_rank.by_rank, every))


def merged(rankings: Sequence[Ranking], most: int) -> Ranking:
    """What is found in each part as rows of one table, by what they are ranked by, best first. Pure."""
    parts = len(rankings)
    if parts == 1:
        return _first(rankings[0], most)
    numbered = [
        {row * parts + number: score for row, score in one.items()} for number, one in enumerate(rankings)
    ]
    return _first(_first_best(numbered), most)


def _first_best(rankings: Iterable[Mapping[int, float]]) -> Ranking:
    """All of these, none in two of which; of the same score, in the order of the rankings."""
    rows = (row for one in rankings for row in one.items())
    return dict(sorted(rows, key=lambda row: -row[1]))


def _first(ranking: Ranking, most: int) -> Ranking:
    return ranking if len(ranking) <= most else dict(islice(ranking.items(), most))
