"""Documents in the lines of JSON Lines files."""

from __future__ import annotations

import gzip
import json
import threading
import zlib
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import IO, cast

import anyio.to_thread

from connectors.rows.remembered import Listed
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

    A file that has not changed since the last run is not read, unless one of its lines is to be loaded.

    A line that is no JSON, or has no key, is listed as `FILE:NUMBER`, so that it is reported. A file that
    ends in the middle of a line is not complete: then the listing fails.
    """

    source: str
    settings: JsonlSettings
    _spool: Spool = field(default_factory=Spool)
    _unread: dict[str, str] = field(default_factory=dict)
    """The files of rows that were listed without reading them."""
    _turn: threading.Lock = field(default_factory=threading.Lock)

    async def list_items(self) -> AsyncIterator[ItemRef]:
        """Every line of every file, in their order.

        Raises:
            SourceRefused: no such file, bad credentials, or two lines with one key.
            SourceUnavailable: a file could not be read to its end.
        """
        files = RowFiles(source=self.source, settings=self.settings)
        self._spool.clear()
        self._unread.clear()
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
        with self._turn:
            if (name := self._unread.get(ref.key)) is not None:
                self._read_at_last(name)
        if ref.key not in self._spool:
            raise ItemUnreadable(f"{ref.key} is in no file, or no longer")
        return self._reading.document(ref, json.loads(self._spool.get(ref.key)))

    @property
    def _reading(self) -> Reading:
        return Reading(source=self.source, settings=self.settings)

    def _listed(self, files: RowFiles, name: str) -> Generator[ItemRef]:
        """The rows of a file; if it has not changed since the last run, without reading it."""
        remembered = files.remembered(name)
        opened = files.opened(name)
        with closing(opened.file):
            known = remembered.rows(opened.version)
            if known is not None:
                for row in known:
                    self._check_new(files, name, row.key)
                    self._unread[row.key] = name
                    yield ItemRef(source=self.source, key=row.key, version=row.version)
                return
            with remembered.keeping(opened.version) as keep:
                for ref, line in self._read(files, name, opened.file):
                    self._check_new(files, name, ref.key)
                    self._spool.put(ref.key, line)
                    keep(Listed(ref.key, ref.version, 0))
                    yield ref

    def _check_new(self, files: RowFiles, name: str, key: str) -> None:
        if key in self._spool or key in self._unread:
            raise SourceRefused(f"{files.where()}: {name} has the key {key!r} of another row")

    def _read_at_last(self, name: str) -> None:
        """Put the lines of a file on disk that was listed without reading it."""
        files = RowFiles(source=self.source, settings=self.settings)
        opened = files.opened(name)
        with closing(opened.file):
            for ref, line in self._read(files, name, opened.file):
                self._spool.put(ref.key, line)
        for key in [key for key, file in self._unread.items() if file == name]:
            del self._unread[key]

    def _read(self, files: RowFiles, name: str, opened: IO[bytes]) -> Iterator[tuple[ItemRef, bytes]]:
        """Every line that is not empty, and what is listed of it."""
        reading = self._reading
        most = int(self.settings.max_bytes)
        with self._unpacking(files, name, opened) as file:
            for number, line in enumerate(_lines(file, most), 1):
                place = f"{name}:{number}"
                if line is None:
                    why = f"has more than sources.{self.source}.max_bytes: {most:,}"
                    yield reading.broken(place, why), b""
                    continue
                if not line.strip():
                    continue
                try:
                    ref = reading.listed(json.loads(line), place)
                except (ValueError, RecursionError):
                    if not line.endswith(b"\n"):
                        raise cut_short(files.where(), name) from None
                    ref = reading.broken(place, "is no JSON")
                yield ref, line

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
