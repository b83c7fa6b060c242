"""Readers and embedders that questions are put to for as long as a process lives.

The one way in for every face (HTTP, and what speaks other protocols), so that all give the same hits.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace

import anyio.to_thread

from pipeline import tokens
from pipeline.clauses import AllOf, Clause, Own, Test, mapped
from pipeline.protocols import Embedder, Reader
from pipeline.query import Found, Question, Reranker, Table, find_in
from pipeline.query_columns import all_columns, check_columns, declared_in
from pipeline.query_context import Context, candidates, fitted
from pipeline.query_named import Named, may_have
from pipeline.query_several import Several, Surveyed, naming, of_each
from pipeline.records import Column, EmbeddingSpace, Hit, Vector
from pipeline.stored import About, Stored

CACHED_QUESTIONS = 2_048
"""How many questions' vectors are kept: at 1,024 int8 codes, two megabytes."""
_WEB = Test(Own("url"), "~", ("{http,https}://**",))
Access = tuple[str, ...] | None
"""The labels of whoever asks; None: they may see everything."""


@dataclass(slots=True)
class Asked:
    """The vectors of the questions that were asked last. One that is being embedded is not embedded twice."""

    embedder: Embedder
    most: int = CACHED_QUESTIONS
    found: int = 0
    """Questions that were among them."""
    embedded: int = 0
    _kept: OrderedDict[str, Vector] = field(default_factory=OrderedDict)
    _coming: dict[str, asyncio.Task[Vector]] = field(default_factory=dict)

    @property
    def space(self) -> EmbeddingSpace:
        """Of the vectors."""
        return self.embedder.space

    async def embed_query(self, text: str) -> Vector:
        """The question's vector.

        Raises:
            EmbedError: as `Embedder.embed_query`. What failed is tried anew the next time.
        """
        if text in self._kept:
            self.found += 1
            self._kept.move_to_end(text)
            return self._kept[text]
        coming = self._coming.get(text)
        if coming is None:
            self.embedded += 1
            coming = asyncio.create_task(self._embed(text))
            self._coming[text] = coming
            coming.add_done_callback(lambda task: self._came(text, task))
        # Whoever gives up waiting does not take it from the others.
        return await asyncio.shield(coming)

    async def _embed(self, text: str) -> Vector:
        vector = await self.embedder.embed_query(text)
        self._kept[text] = vector
        while len(self._kept) > self.most:
            self._kept.popitem(last=False)
        return vector

    def _came(self, text: str, task: asyncio.Task[Vector]) -> None:
        self._coming.pop(text, None)
        if not task.cancelled():
            task.exception()  # looked at, though everybody may have given up waiting


@dataclass(slots=True, kw_only=True)
class Tables:
    """The tables of one settings file, and what embeds the questions to them."""

    open_reader: Callable[[], Awaitable[Reader]]
    embedder: Embedder | None
    """None: they are searched by words alone."""
    name: str = ""
    """Where a desk has others too: each of their sources is called `name.source`."""
    _reader: Reader | None = None
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def snapshot(self) -> Reader | Named:
        """As they are now, opened by the first who asks; where that failed, by the next.

        Raises:
            StoreError: the store cannot be reached or read.
        """
        async with self._opening:
            if self._reader is None:
                self._reader = await self.open_reader()
        now = await self._reader.snapshot()
        return Named(self.name, now) if self.name else now


@dataclass(slots=True, kw_only=True)
class Desk:
    """Answers questions. What somebody may not see, no method gives them.

    It asks the tables of one settings file, or of several: all at once, as if they were one. If any of them
    does not answer, there is no answer, and what is raised begins with their name.
    """

    tables: Sequence[Tables]
    """At least one; if several, each with a name of its own."""
    reranker: Reranker | None = None
    only_web: bool = False
    """Whether links that are none of the web are left out: a file's says where on this machine it lies."""
    asked: dict[EmbeddingSpace, Asked] = field(init=False)
    """What embeds the questions: once in each space, whosever tables are of it."""

    def __post_init__(self) -> None:
        self.asked = {one.space: Asked(one) for one in reversed(self._embedders)}

    @property
    def _embedders(self) -> list[Embedder]:
        return [one.embedder for one in self.tables if one.embedder is not None]

    async def snapshot(self) -> Surveyed:
        """The tables as they are now.

        Raises:
            StoreError: a store cannot be reached or read.
        """
        taken = await of_each(self.tables, lambda one: one.snapshot())
        return taken[0] if len(taken) == 1 else Several([one for one in taken if isinstance(one, Named)])

    async def columns(self, sources: Sequence[str] = ()) -> Sequence[Column]:
        """What a filter can name: of several tables, all that any of them has.

        Args:
            sources: What the question is about: tables that have none of them are not asked.

        Raises:
            StoreError: as `snapshot`.
        """
        return all_columns(list((await self._columns(self._about(sources))).values()))

    async def search(self, question: Question) -> Found:
        """The page of hits that is asked for, best first.

        Raises:
            SettingsError: the filter names a column that not all of the tables have.
            DocweaveError: as `pipeline.query.find_in`.
        """
        if self.only_web:
            question = _asked_of_the_web(question)
        wanted = self._about(question.where.sources)
        if not wanted:
            return Found(hits=[], more=False, around={})
        if len(self.tables) > 1 and (names := declared_in(question.where.clause)):
            check_columns(await self._columns(wanted), names)
        found = await find_in(await of_each(wanted, self._put), question, self.reranker)
        return _of_the_web(found) if self.only_web else found

    def _about(self, sources: Sequence[str]) -> list[Tables]:
        """The tables that may have any of these sources; all, if none is named."""
        return [one for one in self.tables if may_have(one.name, sources)]

    async def _columns(self, tables: Sequence[Tables]) -> Mapping[str, Sequence[Column]]:
        async def columns(one: Tables) -> Sequence[Column]:
            return await (await one.snapshot()).columns()

        found = await of_each(tables, columns)
        return {one.name: columns for one, columns in zip(tables, found, strict=True)}

    async def _put(self, one: Tables) -> Table:
        embedder = None if one.embedder is None else self.asked[one.embedder.space]
        return Table(name=one.name, reader=await one.snapshot(), embedder=embedder)

    async def context(self, question: Question, *, most: int) -> Context:
        """The best context of at most so many tokens.

        Raises:
            DocweaveError: as `search`.
        """
        found = await self.search(candidates(question))
        # Counting reads a vocabulary the first time, and much text every time.
        return await anyio.to_thread.run_sync(lambda: fitted(found, tokens=most, count=tokens.count))

    async def document(self, source: str, key: str, *, access: Access) -> Stored | None:
        """A document as it is stored; None where there is none, or none that they may see.

        Raises:
            StoreError: as `snapshot`.
        """
        for one in self._about([source]):
            with naming(one.name):
                async for stored in (await one.snapshot()).stored(source, [key], access=access):
                    if stored.marks or stored.chunks:
                        return _document_of_the_web(stored) if self.only_web else stored
        return None

    async def counts(self, *, access: Access) -> Mapping[str, tuple[int, int]]:
        """Documents and chunks of each source of which they may see any.

        Raises:
            StoreError: as `snapshot`.
        """

        async def counts(one: Tables) -> Mapping[str, tuple[int, int]]:
            return await (await one.snapshot()).counts(access)

        found = await of_each(self.tables, counts)
        return {name: counted for some in found for name, counted in some.items()}

    async def spaces(self) -> Mapping[str, EmbeddingSpace | None]:
        """Of the stored vectors, by the tables' names; None while nothing is stored in them.

        Raises:
            StoreError: as `snapshot`.
        """

        async def space(one: Tables) -> EmbeddingSpace | None:
            return await (await one.snapshot()).space()

        found = await of_each(self.tables, space)
        return {one.name: space for one, space in zip(self.tables, found, strict=True)}

    async def aclose(self) -> None:
        """Give back what is held open: all of it, whatever is raised meanwhile. That is raised then."""
        async with AsyncExitStack() as held:
            for one in (self.reranker, *reversed(self._embedders)):
                if one is not None:
                    held.push_async_callback(one.aclose)


def web_link(url: str | None) -> str | None:
    """The link, if it is one of the web."""
    return url if url and url.lower().startswith(("https://", "http://")) else None


def _asked_of_the_web(question: Question) -> Question:
    """The same, where no test finds a link that is not told: patterns could guess it, sign by sign."""

    def of_the_web(test: Test) -> Clause:
        return AllOf((test, _WEB)) if test.place == _WEB.place else test

    if question.where.clause is None:
        return question
    clause = mapped(question.where.clause, of_the_web)
    return replace(question, where=replace(question.where, clause=clause))


def _of_the_web(found: Found) -> Found:
    def told(hit: Hit) -> Hit:
        return hit if hit.url is None else replace(hit, url=web_link(hit.url))

    around = {place: tuple(map(told, hits)) for place, hits in found.around.items()}
    return replace(found, hits=[told(hit) for hit in found.hits], around=around)


def _document_of_the_web(stored: Stored) -> Stored:
    def told(about: About) -> About:
        return replace(about, url=web_link(about.url))

    return replace(
        stored,
        marks=tuple(replace(one, about=told(one.about)) for one in stored.marks),
        chunks=tuple(replace(one, about=told(one.about)) for one in stored.chunks),
    )
