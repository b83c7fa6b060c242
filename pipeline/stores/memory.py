"""The store held in memory: small and obvious, the reference that every other store must match."""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
import numpy as np

from pipeline.digest import copy_of
from pipeline.errors import StoreBusy, StoreUnavailable
from pipeline.protocols import Lost
from pipeline.records import (
    Chunk,
    Column,
    DocumentState,
    Embedded,
    EmbeddingSpace,
    Filter,
    Generation,
    Hit,
    LatestRun,
    Prepared,
    Ranking,
    Span,
    Spending,
    Vector,
    Vectors,
)
from pipeline.stored import About, Moment, Stored, StoredChunk, StoredMarks, address
from pipeline.stores._columns import Filled, check_columns, check_condition, holds
from pipeline.stores._holding import true_of
from pipeline.stores._shape import check_groups, check_keys, check_question, check_space, check_vectors

log = logging.getLogger(__name__)

K1, B = 1.2, 0.75
"""BM25's usual constants: how soon repeated words stop to count, and how much long texts are held back."""


class MemoryStore:
    """Everything in dictionaries. A write takes effect between two awaits, so it is always whole."""

    def __init__(
        self, space: EmbeddingSpace, journal_bytes: int = 2_000_000_000, columns: Sequence[Column] = ()
    ) -> None:
        check_space(space)
        check_columns(columns)
        self._columns = columns
        self._space = space
        self._journal_bytes = journal_bytes
        self._documents: dict[tuple[str, str], Embedded] = {}
        self._states: dict[tuple[str, str], DocumentState] = {}
        self._journal: dict[str, Vectors] = {}
        self._spending: list[Spending] = []
        self._runs: dict[str, LatestRun] = {}
        self._lease = anyio.Semaphore(1)  # which, unlike a lock, belongs to no task
        self._doing = ""

    @asynccontextmanager
    async def lease(
        self, doing: str, *, wait: float = 0, tell: Callable[[str], None] = log.info
    ) -> AsyncIterator[str]:
        """Be the only one who writes until the block ends.

        Raises:
            StoreBusy: another is at it for more than `wait` seconds.
        """
        try:
            self._lease.acquire_nowait()
        except anyio.WouldBlock:
            tell(f"waiting for another run, which is {self._doing}")
            with anyio.move_on_after(wait) as waiting:
                await self._lease.acquire()
            if waiting.cancelled_caught:
                raise StoreBusy(f"another run has the store: it is {self._doing}") from None
        self._doing = doing
        try:
            yield doing
        finally:
            self._lease.release()

    @asynccontextmanager
    async def join(self, lease: str) -> AsyncIterator[None]:
        """Write under a lease that somebody else has, until the block ends."""
        if self._lease.value or lease != self._doing:
            raise StoreUnavailable(f"nobody has the store for {lease}")
        yield

    async def snapshot(self) -> MemoryStore:
        """The documents as they are now."""
        taken = MemoryStore(self._space, self._journal_bytes, self._columns)
        taken._documents = dict(self._documents)
        taken._states = dict(self._states)
        return taken

    async def space(self) -> EmbeddingSpace | None:
        """The space of the stored vectors."""
        return self._space

    async def version(self) -> str:
        """Of the documents' marks and rows."""
        return str(hash((frozenset(self._states.values()), frozenset(map(id, self._documents.values())))))

    async def nearest(self, vector: Vector, *, limit: int, where: Filter) -> list[Hit]:
        """The chunks whose vectors are nearest, best first: by cosine, bits by Hamming distance.

        By cosine, zero vectors are near to nothing.

        Raises:
            StoreRefused: the vector is not of the store's space.
        """
        check_question(vector, self._space)
        by_bits = self._space.encoding == "binary"
        return _best(
            (
                (_by_bits(vector, stored) if by_bits else _cosine(vector, stored), prepared, chunk, stored)
                for prepared, chunk, stored in self._rows(where)
                if by_bits or (vector.any() and stored.any())
            ),
            limit,
        )

    async def matching(self, text: str, *, limit: int, where: Filter) -> list[Hit]:
        """The chunks that hold words of `text`, in their text or their headings, best first by BM25."""
        everything = [_words(prepared, chunk) for prepared, chunk, _ in self._rows(Filter())]
        length = sum(map(len, everything)) / max(1, len(everything))
        asked = set(_split(text))
        weight = {}
        for word in asked:
            holding = sum(word in words for words in everything)
            weight[word] = math.log(1 + (len(everything) - holding + 0.5) / (holding + 0.5))
        scored = []
        for prepared, chunk, vector in self._rows(where):
            words = _words(prepared, chunk)
            counts = Counter(words)
            damping = K1 * (1 - B + B * len(words) / length) if length else K1
            score = sum(weight[w] * counts[w] * (K1 + 1) / (counts[w] + damping) for w in asked if counts[w])
            if score:
                scored.append((score, prepared, chunk, vector))
        return _best(iter(scored), limit)

    async def rank_nearest(self, vector: Vector, *, limit: int, where: Filter) -> Ranking:
        """As `nearest`, as rows."""
        return self._ranking(await self.nearest(vector, limit=limit, where=where))

    async def rank_matching(self, text: str, *, limit: int, where: Filter) -> Ranking:
        """As `matching`, as rows."""
        return self._ranking(await self.matching(text, limit=limit, where=where))

    async def take(self, rows: Sequence[int]) -> list[Hit]:
        """The chunks of these rows, in this order."""
        every = list(self._rows(Filter()))
        return _best(((0.0, *every[number]) for number in rows), len(rows))

    def _ranking(self, hits: Sequence[Hit]) -> Ranking:
        numbers = {
            (prepared.state.source, prepared.state.key, chunk.ordinal): number
            for number, (prepared, chunk, _) in enumerate(self._rows(Filter()))
        }
        return {numbers[hit.source, hit.key, hit.ordinal]: hit.score for hit in hits}

    async def passages(self, spans: Sequence[Span], *, where: Filter) -> list[Hit]:
        """The chunks of these spans that a search with this filter may see: by document, in order."""
        found = [
            (0.0, prepared, chunk, vector)
            for prepared, chunk, vector in self._rows(where)
            if any(_spans(span, prepared, chunk) for span in spans)
        ]
        hits = [replace(hit, vector=None) for hit in _best(iter(found), len(found))]
        return sorted(hits, key=lambda hit: (hit.source, hit.key, hit.ordinal))

    async def columns(self) -> Sequence[Column]:
        """The columns of metadata that a filter can put conditions to."""
        return self._columns

    async def filled(self) -> Mapping[str, tuple[int, int]]:
        """Of each column: how many documents have a value in it, and how many one that does not fit."""
        counting = Filled(self._columns)
        for document in self._documents.values():
            counting.count(document.prepared.metadata)
        return counting.counts()

    async def counts(self, access: Collection[str] | None = None) -> Mapping[str, tuple[int, int]]:
        """Documents and chunks of each source that has any, that somebody with these labels may see."""
        counted: dict[str, tuple[int, int]] = {}
        for (source, _), document in sorted(self._documents.items()):
            if not _may_see(access, document.prepared):
                continue
            documents, chunks = counted.get(source, (0, 0))
            counted[source] = (documents + 1, chunks + sum(len(g.chunks) for g in document.prepared.groups))
        return counted

    async def sources(self) -> list[str]:
        """Every source that has a document."""
        return sorted({source for source, _ in self._documents})

    async def keys(self, source: str) -> set[str]:
        """Of every stored document of the source."""
        return {key for name, key in self._documents if name == source}

    async def stored(
        self, source: str, keys: Sequence[str] | None = None, *, access: Collection[str] | None = None
    ) -> AsyncIterator[Stored]:
        """The source's documents, in the order of their keys."""
        for place in sorted(self._documents):
            wanted = place[0] == source and (keys is None or place[1] in keys)
            if wanted and _may_see(access, self._documents[place].prepared):
                yield _as_stored(self._documents[place], self._states[place], self._space)

    async def history(self, source: str, key: str) -> list[Moment]:  # noqa: ARG002 - as every store's
        """No past is kept."""
        return []

    async def copies(self) -> list[StoredMarks]:
        """The marks of the documents that are stored without rows, as copies of others."""
        return [one async for one in self.every() if copy_of(one.state.row_key)]

    async def holding(self, group_keys: Sequence[str]) -> list[StoredMarks]:
        """The marks of the documents that have rows, and whose first group is one of these."""
        return [
            one
            async for one in self.every()
            if set(one.state.group_keys[:1]) & set(group_keys) and not copy_of(one.state.row_key)
        ]

    async def every(self) -> AsyncIterator[StoredMarks]:
        """The marks of every stored document."""
        for place in list(self._documents):
            [marks] = _as_stored(self._documents[place], self._states[place], self._space).marks
            yield marks

    async def spending(self) -> list[Spending]:
        """What was paid, run by run, oldest first."""
        return sorted(self._spending, key=lambda spending: spending.at)

    async def runs(self) -> list[LatestRun]:
        """How the latest run over each source went, by source."""
        return [self._runs[source] for source in sorted(self._runs)]

    async def generations(self) -> Sequence[Generation]:
        """There is one."""
        documents = len(self._documents)
        return [Generation(role="live", number=0, space=self._space, documents=documents, since=None)]

    async def marks(self, source: str) -> dict[str, tuple[str, str]]:
        """(version, recipe) of every stored document of the source, by key."""
        return {s.key: (s.version, s.recipe) for s in self._states.values() if s.source == source}

    async def states(self, source: str, keys: Sequence[str]) -> dict[str, DocumentState]:
        """What is known of these documents; keys that are not stored are left out."""
        return {key: self._states[source, key] for key in keys if (source, key) in self._states}

    async def vectors(self, group_keys: Sequence[str]) -> dict[str, Vectors]:
        """Vectors that were paid for already, under whatever document or in the journal.

        Unknown keys are left out.
        """
        stored = {
            key: vectors
            for document in self._documents.values()
            for key, vectors in zip(document.prepared.owed_keys, document.vectors, strict=True)
        }
        known = self._journal | stored
        return {key: known[key].copy() for key in group_keys if key in known}

    async def journal(self, vectors: Mapping[str, Vectors]) -> None:
        """Keep vectors by group key as soon as they are paid for, whatever becomes of their documents.

        Raises:
            StoreRefused: they are not of the store's space.
        """
        check_groups(vectors, self._space)
        if self._journal_bytes:
            for key, array in vectors.items():
                self._journal.pop(key, None)  # what is kept again is the newest
                self._journal[key] = array.copy()

    async def spent(self, spending: Spending) -> None:
        """Keep what a run paid."""
        self._spending.append(spending)

    async def ran(self, run: LatestRun) -> None:
        """Keep how a run went, in place of the one before it over the same source."""
        before = self._runs.get(run.source)
        self._runs[run.source] = run.following(before)

    async def others_done(self) -> None:
        """Nobody else writes."""

    async def replace(self, documents: Sequence[Embedded]) -> None:
        """Store these documents in place of what was stored under their keys.

        Raises:
            StoreRefused: a document has not as many vectors as chunks, or they are of another width.
        """
        check_keys(documents)
        check_vectors(documents, self._space)
        for document in documents:
            state = document.prepared.state
            self._documents[state.source, state.key] = document
            self._states[state.source, state.key] = state

    async def touch(self, states: Sequence[DocumentState]) -> None:
        """Store new marks; the rows stay as they are. What is not stored is left out."""
        self._states |= {
            (state.source, state.key): state for state in states if (state.source, state.key) in self._states
        }

    async def remove(self, source: str, keys: Sequence[str]) -> None:
        """Remove these documents' rows."""
        for key in keys:
            self._documents.pop((source, key), None)
            self._states.pop((source, key), None)

    async def drop_columns(self, names: Sequence[str]) -> None:
        """Have these columns no longer; names that are no columns are left out."""
        self._columns = [column for column in self._columns if column.name not in names]

    async def upkeep(self) -> None:
        """Let the oldest of the journal go, where it is over its size."""
        kept = sum(array.nbytes for array in self._journal.values())
        for key in list(self._journal):
            if kept <= self._journal_bytes:
                return
            kept -= self._journal.pop(key).nbytes

    async def stage(self) -> int:
        """Nothing is ever built beside: there is one generation."""
        return 0

    async def publish(
        self, *, sources: Collection[str] | None = None, may: Callable[[Lost], None] = lambda _: None
    ) -> None:
        """Nothing is ever built beside."""

    def _rows(self, where: Filter) -> Iterator[tuple[Prepared, Chunk, Vector]]:
        conditions = [(one, check_condition(one, self._columns)) for one in where.conditions]
        for document in self._documents.values():
            metadata = document.prepared.metadata
            if _seen(document.prepared, where) and all(holds(*one, metadata) for one in conditions):
                for group, vectors in zip(document.prepared.groups, document.vectors, strict=True):
                    for chunk, vector in zip(group.chunks, vectors, strict=True):
                        clause = where.clause
                        if clause is None or true_of(clause, document.prepared, chunk, self._columns):
                            yield document.prepared, chunk, vector


def _as_stored(document: Embedded, state: DocumentState, space: EmbeddingSpace) -> Stored:
    prepared = document.prepared
    about = About(
        title=prepared.title,
        url=prepared.url,
        media_type=prepared.media_type,
        metadata=prepared.metadata,
        access=prepared.access,
    )
    keyed = list(enumerate(zip(prepared.owed_keys, prepared.groups, strict=True)))
    chunks = tuple(
        StoredChunk(chunk=chunk, about=about, group_key=key, group_ordinal=number)
        for number, (key, group) in keyed
        for chunk in group.chunks
    )
    marks = StoredMarks(
        state=state,
        about=about,
        chunk_count=len(chunks),
        tokens=sum(group.tokens for group in prepared.groups),
        updated_at=None,
    )
    return Stored(
        source=state.source,
        key=state.key,
        marks=(marks,),
        chunks=chunks,
        vectors=np.concatenate([np.empty((0, space.width), space.dtype), *document.vectors]),
    )


def _may_see(access: Collection[str] | None, prepared: Prepared) -> bool:
    """Whether somebody with these labels may see it."""
    return access is None or not prepared.access or not set(access).isdisjoint(prepared.access)


def _seen(prepared: Prepared, where: Filter) -> bool:
    if not _may_see(where.access, prepared):
        return False
    if where.sources and prepared.state.source not in where.sources:
        return False
    return all(
        name in prepared.metadata and _equal(prepared.metadata[name], value)
        for name, value in where.metadata.items()
    )


def _equal(stored: object, wanted: object) -> bool:
    """As JSON has it: 3 and 3.0 are equal, 1 and true are not."""
    return stored == wanted and isinstance(stored, bool) == isinstance(wanted, bool)


def _spans(span: Span, prepared: Prepared, chunk: Chunk) -> bool:
    is_of = (span.source, span.key) == (prepared.state.source, prepared.state.key)
    return is_of and chunk.ordinal >= span.first and (span.last is None or chunk.ordinal <= span.last)


def _best(scored: Iterator[tuple[float, Prepared, Chunk, Vector]], limit: int) -> list[Hit]:
    ranked = sorted(scored, key=lambda found: -found[0])[:limit]
    return [
        Hit(
            source=prepared.state.source,
            key=prepared.state.key,
            ordinal=chunk.ordinal,
            text=chunk.text,
            score=score,
            title=prepared.title,
            heading_path=chunk.heading_path,
            page=chunk.page,
            start=chunk.start,
            end=chunk.end,
            url=address(prepared.url, chunk.anchor),
            metadata=prepared.metadata,
            media_type=prepared.media_type,
            tokens=chunk.tokens,
            line=chunk.line,
            last_line=chunk.last_line,
            vector=vector,
        )
        for score, prepared, chunk, vector in ranked
    ]


def _cosine(one: Vector, other: Vector) -> float:
    # int8 products overflow silently: widen first.
    a, b = one.astype(np.float64), other.astype(np.float64)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def _by_bits(one: Vector, other: Vector) -> float:
    """The cosine of the two vectors of signs."""
    differing = int(np.bitwise_count(one.astype(np.uint8) ^ other.astype(np.uint8)).sum())
    return 1 - 2 * differing / (8 * one.size)


def _words(prepared: Prepared, chunk: Chunk) -> list[str]:
    return _split("\n".join([*dict.fromkeys([prepared.title, *chunk.heading_path]), chunk.text]))


def _split(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
