"""Docweave from Python: ask the tables that `docweave ingest` fills.

    from docweave import Index

    with Index.open("docweave.yaml") as index:
        for hit in index.search("How many days of parental leave do I have?", limit=5):
            print(hit.score, hit.title, hit.url, hit.text)

Made for notebooks and scripts: methods wait for their answers, whether or not an event loop is running.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from anyio.from_thread import BlockingPortal, start_blocking_portal

from apps.desk import desk_of, named_settings
from apps.http.models import ContextRequest, SearchRequest
from docweave.documents import Document, Passage
from pipeline.errors import DocweaveError, SettingsError
from pipeline.query import Found
from pipeline.query_context import Cited, Context
from pipeline.query_desk import Desk
from pipeline.records import Hit
from pipeline.stored import Stored

__all__ = [
    "Cited",
    "Context",
    "Document",
    "DocweaveError",
    "Found",
    "Hit",
    "Index",
    "Passage",
    "SettingsError",
    "Stored",
]


class Index:
    """The tables that settings name, open to be asked. Close it, or use it as a block.

    Its methods may be called by several threads at once. Options of `find`, `search` and `context` are those
    of the HTTP API, by the same names: mode, sources, where, fusion, vector_weight, text_weight, min_score,
    per_document, diversity, around, around_chunks, rerank (docs/search.md).
    """

    def __init__(self, desk: Desk, access: Sequence[str] | None = None) -> None:
        """Ask a desk. `access`: only what somebody with these labels may see; None: everything."""
        self._desk = desk
        self._access = None if access is None else tuple(access)
        self._is_closed = False
        self._held = ExitStack()
        self._portal: BlockingPortal = self._held.enter_context(start_blocking_portal())

    @classmethod
    def open(
        cls, config: str | Path = "docweave.yaml", *more: str | Path, access: Sequence[str] | None = None
    ) -> Self:
        """The tables that these settings name. Opens nothing before the first question.

        Args:
            config: The path of the YAML settings.
            more: Of others, whose tables are asked at the same time.
            access: Only what somebody with these access labels may see. None: everything.

        Raises:
            SettingsError: the settings cannot be meant, or a key is missing.
        """
        return cls(desk_of(named_settings([Path(config), *map(Path, more)])), access)

    def search(self, question: str, *, limit: int = 10, **options: Any) -> list[Hit]:
        """The passages that answer best, best first.

        Raises:
            DocweaveError: as `find`.
        """
        return self.find(question, limit=limit, **options).hits

    def find(self, question: str, **options: Any) -> Found:
        """A page of hits, with what stands around each, and whether there are more.

        Options also: limit, offset, deduplicate.

        Raises:
            SettingsError: an option or the filter cannot be meant.
            StoreError: the tables cannot be read, or are empty.
            EmbedError: the question could not be embedded.
        """
        asked = SearchRequest.of({"question": question, **options})

        async def answer() -> Found:
            return await self._desk.search(await asked.put_to(self._desk, self._access))

        return self._portal.call(answer)

    def context(self, question: str, *, tokens: int = 4_000, **options: Any) -> Context:
        """As much of what answers best as fits in so many tokens, in the documents' order, to be cited.

        Raises:
            DocweaveError: as `find`.
        """
        asked = ContextRequest.of({"question": question, "tokens": tokens, **options})

        async def answer() -> Context:
            question = await asked.put_to(self._desk, self._access)
            return await self._desk.context(question, most=asked.tokens)

        return self._portal.call(answer)

    def document(self, source: str, key: str) -> Document | None:
        """A document with its passages; None where there is none that may be seen.

        Raises:
            StoreError: the tables cannot be read.
        """

        async def answer() -> Stored | None:
            return await self._desk.document(source, key, access=self._access)

        stored = self._portal.call(answer)
        return None if stored is None else Document.of(stored)

    def sources(self) -> Mapping[str, tuple[int, int]]:
        """Documents and passages of each source that has any.

        Raises:
            StoreError: the tables cannot be read.
        """

        async def answer() -> Mapping[str, tuple[int, int]]:
            return await self._desk.counts(access=self._access)

        return self._portal.call(answer)

    def close(self) -> None:
        """Give back what is held open. It can be asked nothing more."""
        if not self._is_closed:
            self._is_closed = True
            with self._held:
                self._portal.call(self._desk.aclose)

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()
