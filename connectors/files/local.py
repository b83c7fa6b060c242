"""Documents in a folder of this machine."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import anyio.to_thread

from connectors.files.settings import FilesSettings
from connectors.folder import NAME_NOT_UTF8, Walk, file_version, inside, resolved
from connectors.media_types import media_type
from pipeline.errors import ItemUnreadable, SourceUnavailable
from pipeline.records import ItemRef, RawDocument

_BATCH = 1000
"""Items listed per visit to the worker thread."""
_READS = 3
"""How often a file is read again when it changes meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesConnector:
    """Lists and reads the files below a folder.

    A key is the path relative to the folder, with `/` between the names; a version is the modification time
    (ns) and the size. Links to files are followed where their target is inside the folder. Links to folders
    are not: what they show is outside, or is listed under its own path already. A file whose name is not
    UTF-8 is listed under an escaped key, and refused by `load`.
    """

    source: str
    settings: FilesSettings

    async def list_items(self) -> AsyncIterator[ItemRef]:
        """Every file that the settings include, in the order of the keys.

        Raises:
            SourceRefused: the folder is not there, is no folder, or may not be read.
            SourceUnavailable: a folder inside could not be read, so that the listing is not complete.
        """
        root = await anyio.to_thread.run_sync(resolved, self._path, self._where())
        settings = self.settings
        walk = Walk(
            source=self.source,
            root=root,
            include=settings.include,
            exclude=settings.exclude,
            hidden=settings.hidden,
        ).items()
        while batch := await anyio.to_thread.run_sync(lambda: list(islice(walk, _BATCH))):
            for ref in batch:
                yield ref

    async def load(self, ref: ItemRef) -> RawDocument:
        """The file as it is now, with the version that belongs to the content that was read.

        Raises:
            ItemUnreadable: it vanished, may not be read, is too large, or does not hold still.
            SourceUnavailable: the whole folder vanished.
        """
        return await anyio.to_thread.run_sync(self._load, ref)

    @property
    def _path(self) -> Path:
        return self.settings.path or Path()

    def _where(self) -> str:
        return f"sources.{self.source}.path: {self._path}"

    def _load(self, ref: ItemRef) -> RawDocument:
        if ref.version == NAME_NOT_UTF8:
            raise ItemUnreadable("its name is not UTF-8 (the key shows the bytes escaped): rename the file")
        path = self._path / ref.key
        try:
            version, content = self._read(path)
        except FileNotFoundError as error:
            if not self._path.is_dir():
                raise SourceUnavailable(f"{self._where()} vanished while it was read") from error
            raise ItemUnreadable(f"{path} vanished after it was listed") from error
        except OSError as error:
            raise ItemUnreadable(f"{path} cannot be read: {error.strerror}") from error
        return RawDocument(
            ref=replace(ref, version=version, size=len(content)),
            content=content,
            media_type=media_type(ref.key),
            url=path.as_uri(),
        )

    def _read(self, path: Path) -> tuple[str, bytes]:
        """A version and the content that belongs to it."""
        root, target = os.path.realpath(self._path), os.path.realpath(path)
        if not inside(target, root):
            raise ItemUnreadable(f"{path} leads outside {self._path}")
        # Opening a pipe would wait for a writer; a link put in the target's place meanwhile is not followed.
        file = os.open(target, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(file, "rb") as stream:
            for _ in range(_READS):
                before = os.fstat(file)
                self._check(path, before)
                stream.seek(0)
                content = stream.read(before.st_size + 1)
                if file_version(before) == file_version(os.fstat(file)) and len(content) == before.st_size:
                    return file_version(before), content
        raise ItemUnreadable(f"{path} changed while it was read, {_READS} times over: ingest again later")

    def _check(self, path: Path, found: os.stat_result) -> None:
        if not stat.S_ISREG(found.st_mode):
            raise ItemUnreadable(f"{path} is not a file")
        most = self.settings.max_bytes
        if found.st_size > most:
            raise ItemUnreadable(
                f"{path} has {found.st_size:,} bytes, more than sources.{self.source}.max_bytes: {most:,}"
            )
