"""Items to prepared documents: load, parse, chunk, group, mark. Nothing here is paid for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TypeAlias

import anyio
import anyio.to_thread
from anyio.abc import ObjectReceiveStream, ObjectSendStream

from pipeline import digest
from pipeline.chunk import Chunker
from pipeline.contained import UNFINISHED, Containers, within
from pipeline.errors import DocweaveError, ParseError, Recovery
from pipeline.given import check_given
from pipeline.pack import group_chunks
from pipeline.protocols import Connector, Embedder, Parser, Store
from pipeline.records import Document, DocumentState, Grouping, ItemRef, Metadata, Prepared, RawDocument
from pipeline.report import SourceReport

READERS = 8
"""Items that are loaded, parsed and chunked at the same time."""
LOOKUP = 256
"""Items whose stored states are looked up together."""
THREAD_CHARACTERS = 50_000
"""From this length on a text is chunked in a thread, so that replies are served meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """The parts that a run is made of."""

    parser: Parser
    chunker: Chunker
    embedder: Embedder
    store: Store
    grouping: Grouping = field(default_factory=Grouping)
    concurrency: int = 4
    """Embedding requests in flight, at most."""
    journal: bool = True
    """Whether what was paid is kept and noted: of no use where embedding costs nothing."""
    copies_once: bool = False
    """Whether of the documents that have one text and the same labels only one is stored with rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What reading an owed item gave."""

    state: DocumentState | None
    """As stored; None for a key that the store does not know."""
    now: Prepared | DocumentState
    """Its new marks alone where the content is as it was."""


Owed: TypeAlias = tuple[ItemRef, DocumentState | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparer:
    """Reads a source's owed items. Items that fail are reported and left out."""

    connector: Connector
    pipeline: Pipeline
    metadata: Metadata
    """Added to each document's own."""
    report: SourceReport
    containers: Containers = field(default_factory=Containers)
    listed: list[ItemRef] = field(default_factory=list)
    """All that the source lists."""

    @property
    def recipe(self) -> str:
        """The mark of how documents are treated today."""
        parts = self.pipeline
        return digest.recipe(
            parts.parser.recipe,
            parts.chunker.recipe,
            parts.embedder,
            parts.grouping,
            self.metadata,
            self.connector,
            copies_once=parts.copies_once,
        )

    async def run(self, refs: Sequence[ItemRef], out: ObjectSendStream[Found]) -> None:
        """Read the items, several at a time, in no particular order; close `out` at the end.

        Raises:
            DocweaveError: one that is not about a single item.
        """
        owed_in, owed_out = anyio.create_memory_object_stream[Owed](LOOKUP)
        recipe = self.recipe
        async with out, anyio.create_task_group() as tasks:
            for _ in range(READERS):
                tasks.start_soon(self._read_all, owed_out.clone(), out, recipe)
            owed_out.close()
            async with owed_in:
                for batch in _batched(refs, LOOKUP):
                    keys = [ref.key for ref in batch]
                    states = await self.pipeline.store.states(self.connector.source, keys)
                    for ref in batch:
                        await owed_in.send((ref, states.get(ref.key)))

    async def _read_all(
        self, owed: ObjectReceiveStream[Owed], out: ObjectSendStream[Found], recipe: str
    ) -> None:
        async with owed:
            async for ref, state in owed:
                with self._reported(ref.key):
                    with self.report.timed("reading"):
                        raw = await self.connector.load(ref)
                    with self._reported(ref.key, raw.url):
                        now = await self._read(raw, state, recipe)
                        if isinstance(now, Prepared):
                            now = await self._opened(raw, now, out)
                        await out.send(Found(state=state, now=now))

    @contextmanager
    def _reported(self, key: str, url: str | None = None) -> Iterator[None]:
        """Report what is wrong with one document, and go on."""
        try:
            yield
        except DocweaveError as error:
            if error.recovery is not Recovery.SKIP:
                raise
            self.report.fail(key, error, url)
            _let_go(error)

    async def _opened(self, raw: RawDocument, now: Prepared, out: ObjectSendStream[Found]) -> Prepared:
        """The item, once all that it holds was read and sent on; unfinished until all of that is stored."""
        contained = self.containers.apart(await self.pipeline.parser.children(raw))
        if not (contained.documents or contained.refused or raw.ref.key in self.containers.held):
            return now
        children = [within(child, raw) for child in contained.documents]
        content_keys = {child.ref.key: digest.content_key(child) for child in children}
        self.containers.open(raw.ref, contained, content_keys)
        self.report.owed += len(children) + len(contained.refused)
        for key, reason in contained.refused.items():
            self.report.fail(key, ParseError(reason))
        states = await self.pipeline.store.states(self.connector.source, list(content_keys))
        for child in children:
            state = states.get(child.ref.key)
            with self._reported(child.ref.key, child.url):
                found = await self._read(child, state, now.state.recipe)
                await out.send(Found(state=state, now=found))
        return replace(now, state=replace(now.state, version=UNFINISHED))

    async def _read(
        self, raw: RawDocument, state: DocumentState | None, recipe: str
    ) -> Prepared | DocumentState:
        check_given(raw)
        content_key = digest.content_key(raw)
        known = state and (state.content_key, state.recipe) == (content_key, recipe)
        if state and known and state.version != UNFINISHED:
            return replace(state, version=raw.ref.version)
        with self.report.timed("parsing"):
            document = await self.pipeline.parser.parse(raw)
            access = digest.labels(raw.access or ())
            if len(document.text) < THREAD_CHARACTERS:
                return self._prepare(document, access, content_key, recipe)
            return await anyio.to_thread.run_sync(self._prepare, document, access, content_key, recipe)

    def _prepare(
        self, document: Document, access: tuple[str, ...], content_key: str, recipe: str
    ) -> Prepared:
        parts = self.pipeline
        chunks = parts.chunker.chunk(document)
        groups = group_chunks(document.title, document.text, chunks, parts.embedder.limits, parts.grouping)
        # What the settings say counts, whatever a page's own front matter has.
        metadata = {**document.metadata, **self.metadata}
        state = DocumentState(
            source=document.ref.source,
            key=document.ref.key,
            version=document.ref.version,
            recipe=recipe,
            content_key=content_key,
            group_keys=tuple(digest.group_key(group, parts.embedder) for group in groups),
            row_key=digest.row_key(
                document.title, document.url, document.media_type, metadata, groups, access
            ),
        )
        return Prepared(
            state=state,
            title=document.title,
            url=document.url,
            media_type=document.media_type,
            metadata=metadata,
            groups=groups,
            access=access,
        )


def _let_go(error: BaseException) -> None:
    """Forget which frames raised it: where one holds it in turn, what was read would stay in memory."""
    chain = [error]
    while chain:
        one = chain.pop()
        one.__traceback__ = None
        chain += [why for why in (one.__cause__, one.__context__) if why and why.__traceback__]


def _batched(refs: Sequence[ItemRef], size: int) -> Iterator[list[ItemRef]]:
    rest = iter(refs)
    while batch := list(islice(rest, size)):
        yield batch
