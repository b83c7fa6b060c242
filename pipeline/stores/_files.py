"""The files of a database as such: in a folder, or as objects. For copying them; rows are LanceDB's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import anyio.to_thread

from pipeline.stores._conditional_put import opened_s3
from pipeline.stores._place import Place

if TYPE_CHECKING:
    from obstore.store import ObjectStore

PART = 8 << 20
"""Bytes that are read of a file at a time."""
PARTS = 2
"""Parts of a file that are written at the same time."""
PATIENCE = "300s"
"""For one request."""

Sizes: TypeAlias = dict[str, int]
"""Bytes of each file, by its path below the database."""


class Gone(Exception):
    """A file is no longer there."""


class Files:
    """Reads and writes whole files. Nothing is opened before the first call."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._store: ObjectStore | None = None

    async def sizes(self, below: str = "") -> Sizes:
        """All files, or those below a path that ends in a slash.

        Raises:
            StoreError: the storage does not answer, or turns us away.
        """
        if not await self._is_there():
            return {}
        store = self._opened()
        with self.place.during("list its files", *_errors()):
            listed = await store.list(below or None).collect_async()
        return {
            one["path"]: one["size"] for one in listed if "#" not in one["path"]
        }  # halves of LocalStore's

    async def folders(self) -> list[str]:
        """The names of what is below.

        Raises:
            StoreError: as `sizes`.
        """
        if not await self._is_there():
            return []
        store = self._opened()
        with self.place.during("list its tables", *_errors()):
            found = await store.list_with_delimiter_async()
        return sorted(path.rstrip("/").rpartition("/")[2] for path in found["common_prefixes"])

    async def read(self, path: str) -> bytes | None:
        """A small file; None where it is not there.

        Raises:
            StoreError: as `sizes`.
        """
        from obstore import exceptions  # noqa: PLC0415 - most runs copy nothing

        if not await self._is_there():
            return None
        store = self._opened()
        with self.place.during(f"read {path}", *_errors()):
            try:
                return bytes(await (await store.get_async(path)).bytes_async())
            except (exceptions.NotFoundError, FileNotFoundError):
                return None

    async def write(self, path: str, content: bytes) -> None:
        """Write a file, in place of one that is there.

        Raises:
            StoreError: as `sizes`.
        """
        store = self._opened()
        with self.place.during(f"write {path}", *_errors()):
            await store.put_async(path, content)

    async def copy(self, path: str, to: Files) -> None:
        """Copy a file, under the same path.

        Raises:
            Gone: it is not there.
            StoreError: as `sizes`, of either.
        """
        from obstore import exceptions  # noqa: PLC0415 - as above

        ours, theirs = self._opened(), to._opened()
        with self.place.during(f"read {path}", *_errors()):
            try:
                found = await ours.get_async(path)
                whole = await found.bytes_async() if found.meta["size"] <= PART else None
            except (exceptions.NotFoundError, FileNotFoundError) as error:
                raise Gone(path) from error
        with to.place.during(f"write {path}", *_errors()):
            if whole is not None:
                await theirs.put_async(path, whole)
            else:
                await theirs.put_async(path, found.stream(PART), chunk_size=PART, max_concurrency=PARTS)

    async def delete(self, paths: Sequence[str]) -> None:
        """Delete files.

        Raises:
            StoreError: as `sizes`.
        """
        store = self._opened()
        with self.place.during("delete files", *_errors()):
            if paths:
                await store.delete_async(list(paths))

    async def _is_there(self) -> bool:
        if "://" in self.place.uri:
            return True
        return await anyio.to_thread.run_sync(Path(self.place.uri).is_dir)

    def _opened(self) -> ObjectStore:
        if self._store is None:
            with self.place.during("open it", *_errors()):
                self._store = self._open()
        return self._store

    def _open(self) -> ObjectStore:
        from obstore.store import LocalStore, from_url  # noqa: PLC0415 - as above

        if "://" not in self.place.uri:
            return LocalStore(self.place.uri, mkdir=True)
        if self.place.uri.startswith("s3://"):
            return opened_s3(self.place, timeout=PATIENCE)
        options = dict(self.place.options)
        store: ObjectStore = from_url(self.place.uri, config=options)  # type: ignore[call-overload]
        return store


def _errors() -> tuple[type[Exception], ...]:
    from obstore import exceptions  # noqa: PLC0415 - as above

    return (exceptions.BaseError,)
