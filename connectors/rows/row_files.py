"""The files that rows are in."""

from __future__ import annotations

import io
import os
import re
from collections.abc import AsyncIterator, Generator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple, TypeVar

import anyio
import anyio.to_thread

from connectors.cache_folder import cache_file
from connectors.choice import Choice
from connectors.folder import Walk, file_version, resolved
from connectors.objects import Objects
from connectors.range_file import RangeFile
from connectors.rows.remembered import Remembered
from connectors.rows.settings import RowsSettings
from connectors.storage import address
from pipeline.errors import ItemUnreadable, SourceRefused, SourceUnavailable

_SPECIAL = re.compile(r"[*?\[{]")
_BATCH = 1000
"""Rows that are listed per visit to the worker thread."""
_AHEAD = 4 << 20
"""Bytes that are asked for at once where each read is a request."""

_RECIPE = {
    "type",
    "key_field",
    "version_field",
    "text_field",
    "title_field",
    "url_field",
    "metadata_fields",
    "max_bytes",
}
"""Settings on which keys and versions depend."""

Item = TypeVar("Item")


class Opened(NamedTuple):
    """A file that is read."""

    file: IO[bytes]
    version: str
    """Another one, once it has changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFiles:
    """The files that the settings name: one, or all that match."""

    source: str
    settings: RowsSettings

    async def listed(self) -> list[str]:
        """The files' names, in their order, below the folder that all are in.

        Raises:
            SourceRefused: there is none.
            SourceUnavailable: the listing is not complete.
        """
        _, pattern = self._split()
        if self.settings.url is None:
            found = await anyio.to_thread.run_sync(self._in_folder)
        elif _SPECIAL.search(pattern):
            choice = Choice(include=[pattern])
            found = sorted([ref.key async for ref in self._objects().listed(choice)])
        else:
            found = [pattern]
        if not found:
            raise SourceRefused(f"{self.where()}: no file matches")
        return found

    def opened(self, name: str, *, ahead: int = _AHEAD) -> Opened:
        """One of the files. Blocks: for a worker thread.

        Args:
            name: As listed.
            ahead: Bytes that are read at once in object storage; 0 where the reader reads in large parts.

        Raises:
            SourceRefused: it is not there, or may not be read.
            SourceUnavailable: it cannot be read now.
        """
        if self.settings.url is not None:
            try:
                part = self._objects().opened(name)
            except ItemUnreadable as error:
                raise SourceRefused(f"{self.where()}: {error}") from error
            return Opened(_buffered(part, ahead), part.version)
        path = Path(self._split()[0]) / name
        try:
            file = path.open("rb")
        except FileNotFoundError as error:
            raise SourceRefused(f"{self.where()}: {path} does not exist") from error
        except OSError as error:
            raise SourceRefused(f"{self.where()}: {path} cannot be read: {error.strerror}") from error
        return Opened(file, file_version(os.fstat(file.fileno())))

    def remembered(self, name: str) -> Remembered:
        """What was listed of the file. Another, once the settings read its rows in another way. Blocks."""
        recipe = self.settings.model_dump_json(include=_RECIPE)
        file = cache_file(self.source, self.settings.cache, "cache", [self.where(), name, recipe])
        return Remembered(file)

    def where(self) -> str:
        """What a message begins with."""
        if self.settings.url is not None:
            return f"sources.{self.source}.url: {self.settings.url}"
        return f"sources.{self.source}.path: {self.settings.path}"

    def _in_folder(self) -> list[str]:
        folder, pattern = self._split()
        if not _SPECIAL.search(pattern) or (Path(folder) / pattern).exists():
            return [pattern]
        root = resolved(Path(folder), self.where())
        return [ref.key for ref in Walk(source=self.source, root=root, include=[pattern]).items()]

    def _split(self) -> tuple[str, str]:
        """The folder whose name is plain, and the pattern or the name below it."""
        whole = str(self.settings.path) if self.settings.url is None else address(self.settings.url).path
        names = whole.split("/")
        plain = next((place for place, name in enumerate(names) if _SPECIAL.search(name)), len(names) - 1)
        return "/".join(names[:plain]) or ("/" if self.settings.url is None else ""), "/".join(names[plain:])

    def _objects(self) -> Objects:
        at = address(self.settings.url or "")
        return Objects(
            source=self.source, at=at._replace(path=self._split()[0]), options=self.settings.options
        )


def _buffered(part: RangeFile, ahead: int) -> IO[bytes]:
    return io.BufferedReader(part, ahead) if ahead else part  # type: ignore[return-value]


async def in_batches(rows: Generator[Item]) -> AsyncIterator[Item]:
    """What a generator that blocks gives, made in a thread; it is closed in any case."""
    try:
        while batch := await anyio.to_thread.run_sync(lambda: list(islice(rows, _BATCH))):
            for item in batch:
                yield item
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(rows.close)


def cut_short(where: str, name: str) -> SourceUnavailable:
    """What is said of a file that ends in the middle of a row."""
    return SourceUnavailable(
        f"{where}: {name} ends in the middle of a row, so that the listing is not complete"
    )
