"""Files in a ZIP archive: on this machine, or in object storage, of which only what is needed is read."""

from __future__ import annotations

import io
import threading
import zipfile
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import quote

import anyio.to_thread

from connectors.choice import Choice
from connectors.folder import file_version
from connectors.media_types import media_type
from connectors.objects import Objects
from connectors.storage import Address
from pipeline.errors import ItemUnreadable, SourceRefused, SourceUnavailable
from pipeline.records import ItemRef, RawDocument

_AHEAD = 1 << 18
"""Bytes that are read at once where each read is a request."""
_ENCRYPTED = 0x1


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """The files below a folder of an archive. A version is the checksum, the size and the date."""

    source: str
    at: Address
    objects: Objects
    """The bucket that it is in."""
    _open: list[tuple[str, zipfile.ZipFile]] = field(default_factory=list)
    """The archive, and the version of its file. Nobody closes it: others may be reading."""
    _turn: threading.Lock = field(default_factory=threading.Lock)

    async def listed(self, choice: Choice) -> AsyncIterator[ItemRef]:
        """Every file that is chosen, in the order of the keys; of two under one name the later.

        Raises:
            SourceRefused: there is no such archive, or it is none.
            SourceUnavailable: it cannot be read now.
        """
        for ref in await anyio.to_thread.run_sync(self._listed, choice):
            yield ref

    async def load(self, ref: ItemRef, most: int) -> RawDocument:
        """The file as it is in the archive now.

        Raises:
            ItemUnreadable: it is gone, too large, damaged or encrypted.
            SourceError: as `listed`.
        """
        return await anyio.to_thread.run_sync(self._load, ref, most)

    def _listed(self, choice: Choice) -> list[ItemRef]:
        start = f"{self.at.inside}/" if self.at.inside else ""
        archive = self._opened(anew=True)
        found = {member.filename: member for member in archive.infolist() if not member.is_dir()}
        refs = [
            self._ref(name[len(start) :], member)
            for name, member in found.items()
            if name.startswith(start) and choice.has(name[len(start) :])
        ]
        return sorted(refs, key=lambda ref: ref.key)

    def _load(self, ref: ItemRef, most: int) -> RawDocument:
        name = f"{self.at.inside}/{ref.key}" if self.at.inside else ref.key
        archive = self._opened()
        try:
            member = archive.getinfo(name)
        except KeyError as error:
            raise ItemUnreadable(f"{ref.key} vanished from {self._shown()}") from error
        if member.flag_bits & _ENCRYPTED:
            raise ItemUnreadable(f"{ref.key} is encrypted in {self._shown()}")
        content = self._content(archive, member, ref.key, most)
        found = self._ref(ref.key, member)
        return RawDocument(
            ref=replace(ref, version=found.version, size=found.size),
            content=content,
            media_type=media_type(ref.key),
            url=f"zip:{quote(self._shown())}!/{quote(name)}",
        )

    def _content(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo, key: str, most: int) -> bytes:
        """The member unpacked, no further than the limit, whatever size it claims to have."""
        content = b""
        if member.file_size <= most:
            try:
                with archive.open(member) as file:
                    content = file.read(most + 1)
            except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError) as error:
                raise ItemUnreadable(f"{key} is damaged in {self._shown()}: {error}") from error
        size = max(member.file_size, len(content))
        if size > most:
            raise ItemUnreadable(
                f"{key} has {size:,} bytes, more than sources.{self.source}.max_bytes: {most:,}"
            )
        return content

    def _ref(self, key: str, member: zipfile.ZipInfo) -> ItemRef:
        date = "".join(f"{part:02}" for part in member.date_time)
        version = f"{member.CRC:08x}-{member.file_size}-{date}"
        return ItemRef(source=self.source, key=key, version=version, size=member.file_size)

    def _opened(self, *, anew: bool = False) -> zipfile.ZipFile:
        """The archive as it is now. One in object storage is only asked for changes when it is listed."""
        mark = self._mark()
        with self._turn:
            if anew or not self._open or self._open[0][0] != mark:
                self._open[:] = [(mark, self._archive())]
            return self._open[0][1]

    def _mark(self) -> str:
        if self.at.scheme != "file":
            return ""
        try:
            return file_version(Path(self.at.path).stat())
        except FileNotFoundError as error:
            raise SourceRefused(f"{self._where()} does not exist") from error
        except OSError as error:
            raise SourceUnavailable(f"{self._where()} cannot be read: {error.strerror}") from error

    def _archive(self) -> zipfile.ZipFile:
        try:
            if self.at.scheme == "file":
                return zipfile.ZipFile(self.at.path)
            file = io.BufferedReader(self.objects.opened(self.at.path), _AHEAD)
            return zipfile.ZipFile(cast("BinaryIO", file))
        except zipfile.BadZipFile as error:
            raise SourceRefused(f"{self._where()} is no whole ZIP archive: {error}") from error
        except ItemUnreadable as error:
            raise SourceRefused(f"{self._where()}: {error}") from error
        except OSError as error:
            raise SourceUnavailable(f"{self._where()} cannot be read: {error.strerror}") from error

    def _shown(self) -> str:
        return self.at.path if self.at.scheme == "file" else f"{self.at.root}/{self.at.path}"

    def _where(self) -> str:
        return f"sources.{self.source}.url: {self._shown()}"
