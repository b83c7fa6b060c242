"""Documents in the lines of JSON Lines files."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import IO, cast

import anyio.to_thread

from connectors.rows.row import Reading, check_readable
from connectors.rows.row_files import RowFiles, cut_short, in_batches
from connectors.rows.settings import JsonlSettings
from connectors.spool import Spool
from pipeline.errors import ItemUnreadable, SourceRefused, SourceUnavailable
from pipeline.records import ItemRef, RawDocument

_BOM = b"\xef\xbb\xbf"
_PART = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonlConnector:
    """Lists the lines of files, read as a stream; the lines wait on disk until they are loaded.

    A line that is no JSON, or has no key, is listed as `FILE:NUMBER`, so that it is reported. A file that
    ends in the middle of a line is not complete: then the listing fails.
    """

    source: str
    settings: JsonlSettings
    _spool: Spool = field(default_factory=Spool)

    async def list_items(self) -> AsyncIterator[ItemRef]:
        """Every line of every file, in their order.

        Raises:
            SourceRefused: no such file, bad credentials, or two lines with one key.
            SourceUnavailable: a file could not be read to its end.
        """
        files = RowFiles(source=self.source, settings=self.settings)
        self._spool.clear()
        for name in await files.listed():
            async for ref in in_batches(self._listed(files, name)):
                yield ref

    async def load(self, ref: ItemRef) -> RawDocument:
        """The line as it was listed.

        Raises:
            ItemUnreadable: it is broken, or was not listed in this run.
        """
        check_readable(ref)
        return await anyio.to_thread.run_sync(self._load, ref)

    def _load(self, ref: ItemRef) -> RawDocument:
        if ref.key not in self._spool:
            raise ItemUnreadable(f"{ref.key} was not listed in this run")
        return self._reading.document(ref, json.loads(self._spool.get(ref.key)))

    @property
    def _reading(self) -> Reading:
        return Reading(source=self.source, settings=self.settings)

    def _listed(self, files: RowFiles, name: str) -> Generator[ItemRef]:
        reading = self._reading
        most = int(self.settings.max_bytes)
        opened = files.opened(name)
        with closing(opened.file), self._unpacking(files, name, opened.file) as file:
            for number, line in enumerate(_lines(file, most), 1):
                place = f"{name}:{number}"
                if line is None:
                    yield reading.broken(place, f"has more than sources.{self.source}.max_bytes: {most:,}")
                    continue
                if not line.strip():
                    continue
                try:
                    ref = reading.listed(json.loads(line), place)
                except (ValueError, RecursionError):
                    if not line.endswith(b"\n"):
                        raise cut_short(files.where(), name) from None
                    ref = reading.broken(place, "is no JSON")
                if ref.key in self._spool:
                    raise SourceRefused(f"{files.where()}: {place} has the key {ref.key!r} of another line")
                self._spool.put(ref.key, line)
                yield ref

    @contextmanager
    def _unpacking(self, files: RowFiles, name: str, file: IO[bytes]) -> Iterator[IO[bytes]]:
        try:
            yield cast("IO[bytes]", gzip.GzipFile(fileobj=file)) if name.endswith(".gz") else file
        except EOFError:
            raise cut_short(files.where(), name) from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise SourceRefused(f"{files.where()}: {name} is no whole gzip file") from error
        except OSError as error:
            raise SourceUnavailable(f"{files.where()}: {name} cannot be read: {error.strerror}") from error


def _lines(file: IO[bytes], most: int) -> Iterator[bytes | None]:
    """The lines, None for one that is too long: it is passed over, and not kept."""
    first = True
    while line := file.readline(most + 1):
        if len(line) > most and not line.endswith(b"\n"):
            while (rest := file.readline(_PART)) and not rest.endswith(b"\n"):
                pass
            yield None
        else:
            yield line.removeprefix(_BOM) if first else line
        first = False
