"""A reader and an embedder that questions are put to for as long as a process lives.

The one way in for every face (HTTP, and what speaks other protocols), so that all give the same hits.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import anyio.to_thread

from pipeline import tokens
from pipeline.protocols import Embedder, Reader
from pipeline.query import Found, Question, Reranker, find
from pipeline.query_context import Context, candidates, fitted
from pipeline.records import Column, EmbeddingSpace, Hit, Vector
from pipeline.stored import About, Stored

CACHED_QUESTIONS = 2_048
"""How many questions' vectors are kept: at 1,024 int8 codes, two megabytes."""
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
class Desk:
    """Answers questions. What somebody may not see, no method gives them."""

    open_reader: Callable[[], Awaitable[Reader]]
    embedder: Embedder
    reranker: Reranker | None = None
    only_web: bool = False
    """Whether links that are none of the web are left out: a file's says where on this machine it lies."""
    asked: Asked = field(init=False)
    _reader: Reader | None = None
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self.asked = Asked(self.embedder)

    async def snapshot(self) -> Reader:
        """The tables as they are now, opened by the first who asks; where that failed, by the next.

        Raises:
            StoreError: the store cannot be reached or read.
        """
        async with self._opening:
            if self._reader is None:
                self._reader = await self.open_reader()
        return await self._reader.snapshot()

    async def columns(self) -> Sequence[Column]:
        """What a filter can name.

        Raises:
            StoreError: as `snapshot`.
        """
        return await (await self.snapshot()).columns()

    async def search(self, question: Question) -> Found:
        """The page of hits that is asked for, best first.

        Raises:
            DocweaveError: as `pipeline.query.find`.
        """
        found = await find(await self.snapshot(), self.asked, question, self.reranker)
        return _of_the_web(found) if self.only_web else found

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
        reader = await self.snapshot()
        async for stored in reader.stored(source, [key], access=access):
            if stored.marks or stored.chunks:
                return _document_of_the_web(stored) if self.only_web else stored
        return None

    async def counts(self, *, access: Access) -> Mapping[str, tuple[int, int]]:
        """Documents and chunks of each source of which they may see any.

        Raises:
            StoreError: as `snapshot`.
        """
        return await (await self.snapshot()).counts(access)

    async def space(self) -> EmbeddingSpace | None:
        """Of the stored vectors; None while nothing is stored.

        Raises:
            StoreError: as `snapshot`.
        """
        return await (await self.snapshot()).space()

    async def aclose(self) -> None:
        """Give back what is held open."""
        await self.embedder.aclose()
        if self.reranker is not None:
            await self.reranker.aclose()


def web_link(url: str | None) -> str | None:
    """The link, if it is one of the web."""
    return url if url and url.lower().startswith(("https://", "http://")) else None


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


def seen_by(question: Question, access: Access) -> Question:
    """The same question, asked by somebody with these labels."""
    return replace(question, where=replace(question.where, access=access))
