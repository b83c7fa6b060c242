"""What the pipeline asks of the outside world. The consumer owns the interface."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeAlias, runtime_checkable

from pipeline.records import (
    Column,
    Contained,
    Document,
    DocumentState,
    Embedded,
    EmbeddingSpace,
    EmbedGroup,
    EmbedLimits,
    EmbedReply,
    EmbedRequest,
    Filter,
    Generation,
    Hit,
    ItemRef,
    LatestRun,
    Ranking,
    RawDocument,
    Span,
    Spending,
    Vector,
    Vectors,
)
from pipeline.stored import Moment, Stored, StoredMarks

Lost: TypeAlias = Mapping[str, tuple[int, int]]
"""Of each live source: how many documents a switch would lose, and how many there are."""


class Connector(Protocol):
    """Reads one source."""

    @property
    def source(self) -> str:
        """The name that the settings give the source."""

    def list_items(self) -> AsyncIterator[ItemRef]:
        """Every item, without its content, each key once.

        Raises rather than ends early: what a complete listing lacks is removed from the store.

        Raises:
            SourceError: the listing is not complete.
        """

    async def load(self, ref: ItemRef) -> RawDocument:
        """One item's content.

        Raises:
            ItemUnreadable: this item alone cannot be read.
            SourceError: the source as a whole cannot.
        """


@runtime_checkable
class Shaping(Protocol):
    """A connector whose settings decide what a document is made of."""

    @property
    def recipe(self) -> str:
        """Names those settings, with their values: after a change of one, every document is read anew."""


@runtime_checkable
class ListsTheNewest(Protocol):
    """A connector whose listing may be no more than the newest items, as a feed's is."""

    @property
    def keeps_vanished(self) -> bool:
        """Whether what it lists no more stays in the store."""


class Parser(Protocol):
    """Turns bytes into text with structure."""

    @property
    def recipe(self) -> str:
        """Names what would make the same bytes parse differently: libraries, their versions, settings."""

    async def parse(self, raw: RawDocument) -> Document:
        """The document's text, sections and pages.

        Raises:
            ParseError: this document cannot be parsed.
        """

    async def children(self, raw: RawDocument) -> Contained:
        """The documents that an item holds; for most, none.

        Raises:
            ParseError: the item is broken.
        """


class Embedder(Protocol):
    """Computes vectors, a group at a time."""

    @property
    def space(self) -> EmbeddingSpace:
        """What its vectors may be compared with."""

    @property
    def limits(self) -> EmbedLimits:
        """What one request may hold."""

    @property
    def usd_per_million_tokens(self) -> float:
        """The list price, for estimates."""

    @property
    def recipe(self) -> str:
        """Names what else, beside space and limits, would make it embed the same document differently."""

    def reads(self, group: EmbedGroup) -> Iterable[str]:
        """Every string that the group's vectors depend on, in order: of each part that is sent, and options.

        `group_key` is made of these: what is not among them may change without a call being paid.
        """

    async def embed(self, request: EmbedRequest) -> EmbedReply:
        """One array for each group, in order.

        Raises:
            EmbedError: by its `recovery`, what the caller does next.
        """

    async def embed_query(self, text: str) -> Vector:
        """A question as a vector of the same space, asked in the space's own way.

        Raises:
            EmbedError: as `embed`.
        """

    async def aclose(self) -> None:
        """Give back what it holds open."""


class Reader(Protocol):
    """The query side of a store. Sees what the last commit wrote."""

    async def snapshot(self) -> Reader:
        """The chunks as they are now: all that one question asks, it asks of the same rows."""

    async def space(self) -> EmbeddingSpace | None:
        """The space of the stored vectors; None while nothing has been stored."""

    async def version(self) -> str:
        """Another one after every write to the chunks or the documents."""

    async def nearest(self, vector: Vector, *, limit: int, where: Filter) -> list[Hit]:
        """The chunks whose vectors are nearest by cosine, best first."""

    async def matching(self, text: str, *, limit: int, where: Filter) -> list[Hit]:
        """The chunks that hold the words of `text`, best first by BM25."""

    async def rank_nearest(self, vector: Vector, *, limit: int, where: Filter) -> Ranking:
        """What `nearest` finds, as rows: to be asked of a snapshot, of which alone their numbers hold."""

    async def rank_matching(self, text: str, *, limit: int, where: Filter) -> Ranking:
        """What `matching` finds, as rows: as `rank_nearest`."""

    async def take(self, rows: Sequence[int]) -> list[Hit]:
        """The chunks of rows that this snapshot ranked, in this order, with their vectors.

        Their scores mean nothing.
        """

    async def passages(self, spans: Sequence[Span], *, where: Filter) -> list[Hit]:
        """The chunks of these spans that a search with this filter may see: by document, in order.

        Their scores mean nothing.
        """

    async def columns(self) -> Sequence[Column]:
        """The columns of metadata that a filter can put conditions to."""

    async def filled(self) -> Mapping[str, tuple[int, int]]:
        """Of each column: how many documents have a value in it, and how many one that does not fit."""

    async def counts(self, access: Collection[str] | None = None) -> Mapping[str, tuple[int, int]]:
        """Documents and chunks of each source that has any, that somebody with these labels may see.

        `access` is as in `Filter`.
        """

    async def sources(self) -> list[str]:
        """Every source of which there is a row, be it an orphan."""

    async def keys(self, source: str) -> set[str]:
        """Of every stored document of the source."""

    def stored(
        self, source: str, keys: Sequence[str] | None = None, *, access: Collection[str] | None = None
    ) -> AsyncIterator[Stored]:
        """The source's documents row by row, in the order of their keys, whether or not they add up.

        `keys` names some of them; all of the source's if left out. `access` is as in `Filter`: what somebody
        with these labels may not see is left out as if it were not there.
        """

    async def history(self, source: str, key: str) -> list[Moment]:
        """When a document's marks changed, oldest first, as far as the past is kept."""

    async def copies(self) -> list[StoredMarks]:
        """The marks of the documents that are stored without rows, as copies of others."""

    async def holding(self, group_keys: Sequence[str]) -> list[StoredMarks]:
        """The marks of the documents that have rows, and whose first group is one of these."""

    def every(self) -> AsyncIterator[StoredMarks]:
        """The marks of every stored document, in no order."""

    async def spending(self) -> list[Spending]:
        """What was paid, run by run, oldest first."""

    async def runs(self) -> list[LatestRun]:
        """How the latest run over each source went, by source."""

    async def generations(self) -> Sequence[Generation]:
        """The generations that have their tables, the live one first."""


class Store(Reader, Protocol):
    """The ingest side. Every write is whole: readers see a document as it was or as it is."""

    def lease(
        self, doing: str, *, wait: float = 0, tell: Callable[[str], None] = ...
    ) -> AbstractAsyncContextManager[str]:
        """Be the only run that writes until the block ends. `tell` hears what is waited for.

        Gives what others, in other processes, `join` it by.

        Once another has taken the lease over, because nothing was heard of this run, writes raise
        StoreUnavailable.

        Raises:
            StoreBusy: another run has it, and has it still after `wait` seconds.
        """

    def join(self, lease: str) -> AbstractAsyncContextManager[None]:
        """Write beside others under a lease that somebody else has, until the block ends.

        Each writes other documents; upkeep is left to whoever has the lease.
        """

    async def marks(self, source: str) -> dict[str, tuple[str, str]]:
        """(version, recipe) of every stored document of the source, by key."""

    async def states(self, source: str, keys: Sequence[str]) -> dict[str, DocumentState]:
        """What is known of these documents; keys that are not stored are left out."""

    async def vectors(self, group_keys: Sequence[str]) -> dict[str, Vectors]:
        """Vectors that were paid for already, under whatever document or in the journal.

        Unknown keys are left out.
        """

    async def journal(self, vectors: Mapping[str, Vectors]) -> None:
        """Keep vectors by group key as soon as they are paid for, whatever becomes of their documents.

        Kept until the journal is over its size; `vectors` finds them.
        """

    async def spent(self, spending: Spending) -> None:
        """Keep what a run paid."""

    async def ran(self, run: LatestRun) -> None:
        """Keep how a run went, in place of the one before it over the same source."""

    async def others_done(self) -> None:
        """Wait while others that joined commit, where that can be told.

        What comes meanwhile can go into the same commit.
        """

    async def replace(self, documents: Sequence[Embedded]) -> None:
        """Store these documents in place of what was stored under their keys.

        All their chunks in one commit, then their states: a crash between the two costs no vector.
        """

    async def touch(self, states: Sequence[DocumentState]) -> None:
        """Store new marks; the rows stay as they are."""

    async def remove(self, source: str, keys: Sequence[str]) -> None:
        """Remove all rows of these documents, be they doubled or orphans."""

    async def drop_columns(self, names: Sequence[str]) -> None:
        """Have these columns no longer; names that are no columns are left out."""

    async def upkeep(self) -> None:
        """After a run that wrote: compact, and extend the indexes."""

    async def stage(self) -> int:
        """Make the tables that this store writes, so that others can join in; gives their generation."""

    async def publish(
        self, *, sources: Collection[str] | None = None, may: Callable[[Lost], None] = ...
    ) -> None:
        """Where this store was opened to rebuild beside the live tables: make it the live one.

        Without what it holds of other `sources`, where these are given; and if `may`, which is told what
        would be lost, does not raise.
        """
