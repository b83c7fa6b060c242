"""A small world to ingest: a source, an oracle for an embedder, a store, and what tests ask of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pipeline import digest
from pipeline.budget import Budget
from pipeline.chunk import Chunker
from pipeline.ingest import ingest_source
from pipeline.parse import DocumentParser
from pipeline.prepare import Pipeline
from pipeline.protocols import Parser, Store
from pipeline.records import Filter, Grouping
from pipeline.report import SourceReport
from pipeline.stores.memory import MemoryStore
from tests.fakes import MemorySource, OracleEmbedder


@dataclass
class World:
    """A source, an embedder and a store, and what a test asks of them."""

    store: Store
    items: MemorySource = field(default_factory=MemorySource)
    embedder: OracleEmbedder = field(default_factory=OracleEmbedder)
    parser: Parser = field(default_factory=DocumentParser)
    chunker: Chunker = field(default_factory=lambda: Chunker(max_tokens=64))
    metadata: dict[str, Any] = field(default_factory=dict)
    grouping: Grouping = field(default_factory=Grouping)
    budgets: Sequence[Budget] = ()
    copies_once: bool = False
    sent: Counter[str] = field(default_factory=Counter)
    """How often each group was embedded, over all runs."""

    @property
    def pipeline(self) -> Pipeline:
        return Pipeline(
            parser=self.parser,
            chunker=self.chunker,
            embedder=self.embedder,
            store=self.store,
            grouping=self.grouping,
            copies_once=self.copies_once,
        )

    async def ingest(self) -> SourceReport:
        self.embedder.requests.clear()
        self.items.loaded.clear()
        try:
            return await ingest_source(
                self.items, self.pipeline, metadata=self.metadata, budgets=self.budgets
            )
        finally:
            self.sent.update(self.sent_now)

    @property
    def sent_now(self) -> list[str]:
        """The keys of the groups that the last run embedded."""
        groups = [group for request in self.embedder.requests for group in request.groups]
        return [digest.group_key(group, self.embedder) for group in groups]

    def assert_nothing_was_paid_twice(self) -> None:
        assert max(self.sent.values()) == 1

    async def content(self) -> dict[str, Any]:
        return await content(self.store, self.items.source, self.embedder)

    async def fresh(self) -> dict[str, Any]:
        """What a first ingest of the same items gives."""
        other = replace(
            self,
            store=MemoryStore(self.embedder.space),
            embedder=OracleEmbedder(space=self.embedder.space, limits=self.embedder.limits),
            budgets=(),
            sent=Counter(),
        )
        await other.ingest()
        return await other.content()

    async def assert_fresh(self) -> None:
        assert await self.content() == await self.fresh()


async def content(store: Store, source: str, embedder: OracleEmbedder) -> dict[str, Any]:
    """Everything that a store tells of a source: states, rows and vectors, in a comparable form."""
    marks = await store.marks(source)
    states = await store.states(source, sorted(marks))
    zero = np.ones(embedder.space.dimensions, dtype=np.int8)
    hits = await store.nearest(zero, limit=100_000, where=Filter(sources=(source,)))
    vectors = await store.vectors(sorted({key for s in states.values() for key in s.group_keys}))
    return {
        "marks": marks,
        "states": states,
        "access": {one.key: one.marks[0].about.access async for one in store.stored(source)},
        "rows": sorted((replace(hit, score=0) for hit in hits), key=lambda hit: (hit.key, hit.ordinal)),
        "vectors": {key: array.tolist() for key, array in vectors.items()},
    }


Open = Callable[[OracleEmbedder], Awaitable[Store]]


def text(name: str, sections: int = 4) -> str:
    parts = (
        f"## Part {n} of {name}\n\nIt says {n} things about {name}. {f'{name} {n} ' * 30}\n"
        for n in range(sections)
    )
    return "\n".join([f"# The {name} policy\n", *parts])
