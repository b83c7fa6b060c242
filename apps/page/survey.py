"""What there is, at one look over all documents that somebody may see; and a map of a sample of them.

A look reads a row of every document. It is made in a thread with an event loop of its own, so that questions
do not wait for it, once for each state of the tables and each set of labels.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeAlias, TypeVar

import anyio
import anyio.to_thread
import numpy as np

from apps.page.projection import flat, mean_of
from pipeline.query_desk import Access
from pipeline.query_several import Surveyed
from pipeline.stored import About, StoredMarks

KEPT = 16
"""Looks that are kept, of as many states of the tables and sets of labels."""
NEWEST = 20
"""Documents that were written last."""
MOST_POINTS = 1_500
MOST_CHUNKS = 20_000
"""Passages whose vectors are read for a map."""

Place: TypeAlias = tuple[str, str]
"""Source, key."""
Ranked = TypeVar("Ranked", bound="tuple[object, ...]")


@dataclass(slots=True, kw_only=True)
class SourceSeen:
    """What somebody sees of a source."""

    documents: int = 0
    chunks: int = 0
    tokens: int = 0
    newest: datetime | None = None
    oldest: datetime | None = None

    def add(self, marks: StoredMarks) -> None:
        """One more document."""
        self.documents += 1
        self.chunks += max(0, marks.chunk_count)
        self.tokens += max(0, marks.tokens)
        at = marks.updated_at
        if at is not None:
            self.newest = max(self.newest or at, at)
            self.oldest = min(self.oldest or at, at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """All documents that somebody sees."""

    sources: dict[str, SourceSeen]
    newest: list[StoredMarks]
    """The last written first."""
    sample: list[Place]
    """By a digest of what they are: of the same documents, always the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A document on the map."""

    source: str
    key: str
    title: str
    x: float
    y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Map:
    """Documents near each other where their vectors are."""

    documents: int
    """That there are: the points may be a sample."""
    points: list[Point]
    explained: tuple[float, float]
    """What the two directions hold of all that the vectors differ by: 0 … 1."""


@dataclass(slots=True)
class Surveys:
    """Looks and maps, each made once."""

    _made: OrderedDict[tuple[str, str, Access], asyncio.Task[Survey | Map]] = field(
        default_factory=OrderedDict
    )

    async def survey(self, reader: Surveyed, access: Access) -> Survey:
        """What somebody with these labels sees.

        Raises:
            StoreError: the tables cannot be read.
        """
        made = await self._once("survey", reader, access, lambda: survey(reader, access))
        assert isinstance(made, Survey)  # noqa: S101 - by its name
        return made

    async def map(self, reader: Surveyed, access: Access) -> Map:
        """A map of what somebody with these labels sees.

        Raises:
            StoreError: as `survey`.
        """
        seen = await self.survey(reader, access)
        made = await self._once("map", reader, access, lambda: mapped(reader, access, seen))
        assert isinstance(made, Map)  # noqa: S101 - by its name
        return made

    async def _once(
        self, what: str, reader: Surveyed, access: Access, make: Callable[[], Awaitable[Survey | Map]]
    ) -> Survey | Map:
        labels = None if access is None else tuple(sorted(set(access)))
        key = (what, await reader.version(), labels)
        task = self._made.get(key)
        if task is None or (task.done() and (task.cancelled() or task.exception())):
            task = asyncio.create_task(_in_thread(make))
            task.add_done_callback(_looked_at)
            self._made[key] = task
            while len(self._made) > KEPT:
                self._made.popitem(last=False)
        self._made.move_to_end(key)
        # Whoever gives up waiting does not take it from the others.
        return await asyncio.shield(task)


def _looked_at(task: asyncio.Task[Survey | Map]) -> None:
    """Everybody may have given up waiting."""
    if not task.cancelled():
        task.exception()


async def _in_thread(make: Callable[[], Awaitable[Survey | Map]]) -> Survey | Map:
    async def run() -> Survey | Map:
        return await make()

    return await anyio.to_thread.run_sync(lambda: anyio.run(run))


async def survey(reader: Surveyed, access: Access) -> Survey:
    """Look at every document once. Memory grows with the sample alone."""
    sources: dict[str, SourceSeen] = {}
    newest: list[tuple[datetime, int, StoredMarks]] = []
    sample: list[tuple[int, int, int, Place]] = []
    number = 0
    async for marks in reader.every():
        if not may_see(access, marks.about):
            continue
        number += 1
        place = marks.state.source, marks.state.key
        sources.setdefault(place[0], SourceSeen()).add(marks)
        _keep(newest, (marks.updated_at or datetime.min.replace(tzinfo=UTC), number, marks), NEWEST)
        if marks.chunk_count > 0:
            _keep(sample, (-_drawn(place), number, marks.chunk_count, place), MOST_POINTS)
    chosen, chunks = [], 0
    for _, _, count, place in sorted(sample, reverse=True):
        if chunks + count <= MOST_CHUNKS:
            chosen.append(place)
            chunks += count
    return Survey(
        sources=dict(sorted(sources.items())),
        newest=[marks for _, _, marks in sorted(newest, reverse=True)],
        sample=chosen,
    )


def may_see(access: Collection[str] | None, about: About) -> bool:
    """As searches have it: what has one of these labels, or none at all."""
    return access is None or not about.access or not set(access).isdisjoint(about.access)


def _keep(heap: list[Ranked], one: Ranked, most: int) -> None:
    """Of these and those before, the greatest."""
    if len(heap) < most:
        heapq.heappush(heap, one)
    else:
        heapq.heappushpop(heap, one)


def _drawn(place: Place) -> int:
    return int.from_bytes(
        hashlib.blake2b(repr(place).encode("utf-8", "surrogatepass"), digest_size=7).digest()
    )


async def mapped(reader: Surveyed, access: Access, seen: Survey) -> Map:
    """Read the sample's vectors, and lay them flat."""
    space = await reader.space()
    by_source: dict[str, list[str]] = {}
    for source, key in seen.sample:
        by_source.setdefault(source, []).append(key)
    named, means = [], []
    for source, keys in by_source.items():
        async for stored in reader.stored(source, sorted(keys), access=access):
            if space is not None and stored.chunks:
                named.append((source, stored.key, stored.chunks[0].about.title))
                means.append(mean_of(stored.vectors, space))
    places, explained = flat(np.stack(means) if means else np.empty((0, 2), np.float32))
    return Map(
        documents=sum(one.documents for one in seen.sources.values()),
        points=[
            Point(source=source, key=key, title=title, x=round(float(x), 4), y=round(float(y), 4))
            for (source, key, title), (x, y) in zip(named, places, strict=True)
        ],
        explained=explained,
    )
