"""Documents in the rows of Parquet files."""

from __future__ import annotations

import pickle
import threading
from collections.abc import AsyncIterator, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, NamedTuple

import anyio.to_thread

from connectors.rows.remembered import Listed
from connectors.rows.row import Reading, check_readable
from connectors.rows.row_files import RowFiles, in_batches
from connectors.rows.settings import ParquetSettings
from connectors.spool import Spool
from pipeline.errors import ItemUnreadable, SourceRefused, SourceUnavailable
from pipeline.records import ItemRef, RawDocument

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

_ROWS = 256
"""Rows that are decoded at once."""
_BUFFER = 1 << 20
"""Bytes of a column that are read at once."""
_GROUPS = 8
"""Row groups whose rows are kept on disk: rows are loaded in about the order of the listing."""


class _Place(NamedTuple):
    """Where a row is."""

    name: str
    group: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ParquetConnector:
    """Lists the rows of files by row groups, of the columns that are needed alone.

    With a `version_field`, a listing reads no texts. When a row is loaded, the rows of its group are read
    and wait on disk for their turn. A row without a key is listed as `FILE:NUMBER`, so that it is reported.
    """

    source: str
    settings: ParquetSettings
    _places: dict[str, _Place] = field(default_factory=dict)
    _versions: dict[str, str] = field(default_factory=dict)
    """Of the files, as they were when their rows were listed."""
    _kept: dict[_Place, Spool] = field(default_factory=dict)
    """The latest groups that were read, the oldest first."""
    _turn: threading.Lock = field(default_factory=threading.Lock)

    async def list_items(self) -> AsyncIterator[ItemRef]:
        """Every row of every file, in their order.

        Raises:
            SourceRefused: no such file or column, bad credentials, no Parquet, or two rows with one key.
            SourceUnavailable: a file could not be read to its end.
        """
        for kept in (self._places, self._versions, self._kept):
            kept.clear()
        for name in await self._files.listed():
            async for ref in in_batches(self._listed(name)):
                yield ref

    async def load(self, ref: ItemRef) -> RawDocument:
        """The row as it is in its file now; where it was read not long ago, as it was then.

        Raises:
            ItemUnreadable: it is gone, or too large.
            SourceError: as `list_items`.
        """
        check_readable(ref)
        return await anyio.to_thread.run_sync(self._load, ref)

    @property
    def _files(self) -> RowFiles:
        return RowFiles(source=self.source, settings=self.settings)

    @property
    def _reading(self) -> Reading:
        return Reading(source=self.source, settings=self.settings)

    def _listed(self, name: str) -> Generator[ItemRef]:
        """The rows of a file; where they are is kept."""
        remembered = self._files.remembered(name)
        opened = self._files.opened(name, ahead=0)
        self._versions[name] = opened.version
        with opened.file:
            known = remembered.rows(opened.version)
            if known is not None:
                for row in known:
                    yield self._placed(row, name)
                return
            with remembered.keeping(opened.version) as keep:
                for row in self._read(opened.file, name):
                    ref = self._placed(row, name)
                    keep(row)
                    yield ref

    def _placed(self, row: Listed, name: str) -> ItemRef:
        if row.key in self._places:
            raise SourceRefused(f"{self._files.where()}: {name} has the key {row.key!r} of another row")
        self._places[row.key] = _Place(name, row.group)
        return ItemRef(source=self.source, key=row.key, version=row.version)

    def _read(self, opened: IO[bytes], name: str) -> Iterator[Listed]:
        with self._parquet(opened, name) as file:
            number = 0
            for group in range(file.num_row_groups):
                for row in self._rows(file, name, group, self.settings.columns(listing=True)):
                    number += 1
                    ref = self._reading.listed(row, f"{name}:{number}")
                    yield Listed(ref.key, ref.version, group)

    def _load(self, ref: ItemRef) -> RawDocument:
        with self._turn:
            row = self._row(ref.key)
        return self._reading.document(ref, row)

    def _row(self, key: str) -> Mapping[str, object]:
        """The row with this key, of the groups that are kept or read now."""
        place = self._places.get(key)
        if place is None:
            raise ItemUnreadable(f"{key} was not listed in this run")
        if place not in self._kept:
            opened = self._files.opened(place.name, ahead=0)
            with opened.file:
                changed = opened.version != self._versions[place.name]
                if not changed:
                    with self._parquet(opened.file, place.name) as file:
                        self._keep(file, place)
            if changed:
                self._list_again(place.name)
                return self._row(key)
        kept = self._kept[place]
        if key not in kept:
            raise ItemUnreadable(f"{key} is in {place.name} no more")
        row: Mapping[str, object] = pickle.loads(kept.get(key))  # noqa: S301 - written by ourselves, below
        return row

    def _keep(self, file: ParquetFile, place: _Place) -> None:
        """Put the rows of a group on disk, in place of those that were read longest ago."""
        while len(self._kept) >= _GROUPS:
            del self._kept[next(iter(self._kept))]
        spool = Spool()
        for row in self._rows(file, place.name, place.group, self.settings.columns(listing=False)):
            spool.put(self._reading.listed(row, "").key, pickle.dumps(row))
        self._kept[place] = spool

    def _list_again(self, name: str) -> None:
        """Find the rows of a file that has changed since it was listed."""
        for key in [key for key, place in self._places.items() if place.name == name]:
            del self._places[key]
        for place in [place for place in self._kept if place.name == name]:
            del self._kept[place]
        for _ in self._listed(name):
            pass

    def _rows(
        self, file: ParquetFile, name: str, group: int, columns: Sequence[str]
    ) -> Iterator[Mapping[str, object]]:
        found = file.schema_arrow.names
        if missing := [column for column in columns if column not in found]:
            raise SourceRefused(
                f"{self._files.where()}: {name} has no column {missing[0]}; it has {', '.join(found)}"
            )
        for batch in file.iter_batches(_ROWS, row_groups=[group], columns=columns, use_threads=False):
            yield from batch.to_pylist()

    @contextmanager
    def _parquet(self, opened: IO[bytes], name: str) -> Iterator[ParquetFile]:
        """The file as pyarrow has it. What that raises in the block is translated."""
        import pyarrow as pa  # noqa: PLC0415 - not for whoever only reads settings
        from pyarrow.parquet import ParquetFile  # noqa: PLC0415 - as above

        try:
            yield ParquetFile(opened, pre_buffer=False, buffer_size=_BUFFER)
        except pa.ArrowInvalid as error:
            raise SourceRefused(f"{self._files.where()}: {name} is no whole Parquet file") from error
        except (pa.ArrowException, OSError) as error:
            raise SourceUnavailable(f"{self._files.where()}: {name} cannot be read") from error
