"""The tables of several settings files, asked at once and looked over as one.

What fails says whose tables it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Protocol, TypeVar

from pipeline.errors import DocweaveError
from pipeline.query_named import Named
from pipeline.records import EmbeddingSpace, LatestRun, Spending
from pipeline.stored import Stored, StoredMarks


class HasName(Protocol):
    """Says which tables it is about."""

    @property
    def name(self) -> str:
        """Theirs; empty where they are the only ones."""


T = TypeVar("T", bound=HasName)
Answer = TypeVar("Answer")


async def of_each(tables: Sequence[T], ask: Callable[[T], Awaitable[Answer]]) -> list[Answer]:
    """What each answers, all asked at once.

    Raises:
        DocweaveError: what the first to fail raised. It says whose it is, where there are several.
    """

    async def one(table: T) -> Answer:
        with naming(table.name):
            return await ask(table)

    return [await one(tables[0])] if len(tables) == 1 else await asyncio.gather(*map(one, tables))


@contextmanager
def naming(name: str) -> Iterator[None]:
    """What is raised within says whose tables it was."""
    try:
        yield
    except DocweaveError as error:
        if not name:
            raise
        told = copy(error)  # others may be waiting for the same one
        told.args = (f"{name}: {error}", *error.args[1:])
        told.tables = name
        raise told from error


class Surveyed(Protocol):
    """What a look over all documents needs of a reader. All is as in `pipeline.protocols.Reader`."""

    async def space(self) -> EmbeddingSpace | None:
        """Of the stored vectors; None also where there are several."""

    async def version(self) -> str:
        """Another one after every write."""

    async def spending(self) -> list[Spending]:
        """What was paid."""

    async def runs(self) -> list[LatestRun]:
        """How the latest run over each source went."""

    def every(self) -> AsyncIterator[StoredMarks]:
        """The marks of every document."""

    def stored(
        self, source: str, keys: Sequence[str] | None = None, *, access: Collection[str] | None = None
    ) -> AsyncIterator[Stored]:
        """The source's documents."""


class Several:
    """The tables of several settings files, looked over as one. Satisfies `Surveyed`."""

    def __init__(self, tables: Sequence[Named]) -> None:
        self._tables = tables

    async def space(self) -> EmbeddingSpace | None:
        """Of the stored vectors; None where they are of several. Tables without any do not count."""
        spaces = {one for one in await of_each(self._tables, lambda one: one.space()) if one}
        return spaces.pop() if len(spaces) == 1 else None

    async def version(self) -> str:
        """Another one after every write to any."""
        return " ".join(await of_each(self._tables, lambda one: one.version()))

    async def spending(self) -> list[Spending]:
        """What was paid, oldest first."""
        found = await of_each(self._tables, lambda one: one.spending())
        return sorted((one for some in found for one in some), key=lambda one: one.at)

    async def runs(self) -> list[LatestRun]:
        """How the latest run over each source went."""
        return [one for some in await of_each(self._tables, lambda one: one.runs()) for one in some]

    async def every(self) -> AsyncIterator[StoredMarks]:
        """The marks of every document."""
        for table in self._tables:
            with naming(table.name):
                async for one in table.every():
                    yield one

    async def stored(
        self, source: str, keys: Sequence[str] | None = None, *, access: Collection[str] | None = None
    ) -> AsyncIterator[Stored]:
        """The source's documents."""
        for table in self._tables:
            with naming(table.name):
                async for one in table.stored(source, keys, access=access):
                    yield one
