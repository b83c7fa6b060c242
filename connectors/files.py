"""Documents in a folder of this machine."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from re import Pattern
from typing import Literal

import anyio.to_thread
from pydantic import ByteSize, Field

from connectors import globs
from connectors.media_types import DOCUMENTS, media_type
from connectors.settings import Glob, LocalPath, SharedSettings
from pipeline.errors import ItemUnreadable, SourceRefused, SourceUnavailable
from pipeline.records import ItemRef, RawDocument

_BATCH = 1000
"""Items listed per visit to the worker thread."""
_READS = 3
"""How often a file is read again when it changes meanwhile."""
_NAME_NOT_UTF8 = "name-not-utf-8"
"""The version of an item that is listed only so that it is reported."""


class FilesSettings(SharedSettings):
    """A folder of files."""

    type: Literal["files"] = Field(description="Files in a folder of this machine.")
    path: LocalPath = Field(description="The folder; relative to the YAML file.")
    include: list[Glob] = Field(
        default=[f"**/*.{{{','.join(DOCUMENTS)}}}"],
        min_length=1,
        description="Files to read, as globs over paths relative to the folder: * stays within one name, "
        "** is any number of folders, {a,b} is either. Left out: every format of documents that is parsed.",
    )
    exclude: list[Glob] = Field(
        default=[], description="Files to leave out. A glob that matches a folder leaves out all of it."
    )
    hidden: bool = Field(
        default=False, description="Also read files and folders whose names begin with a dot."
    )
    max_bytes: ByteSize = Field(
        default=ByteSize(50_000_000),
        description="Files larger than this are reported and left out: bytes, or as 20MB.",
    )


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
        root = await anyio.to_thread.run_sync(self._root)
        walk = _Walk(source=self.source, root=root, settings=self.settings).items()
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

    def _root(self) -> str:
        """The folder without links, made sure of."""
        path = self.settings.path
        try:
            with os.scandir(path):
                return os.path.realpath(path)
        except FileNotFoundError as error:
            raise SourceRefused(f"{self._where()} does not exist") from error
        except NotADirectoryError as error:
            raise SourceRefused(f"{self._where()} is not a folder") from error
        except OSError as error:
            raise SourceRefused(f"{self._where()} cannot be read: {error.strerror}") from error

    def _where(self) -> str:
        return f"sources.{self.source}.path: {self.settings.path}"

    def _load(self, ref: ItemRef) -> RawDocument:
        if ref.version == _NAME_NOT_UTF8:
            raise ItemUnreadable("its name is not UTF-8 (the key shows the bytes escaped): rename the file")
        path = self.settings.path / ref.key
        try:
            version, content = self._read(path)
        except FileNotFoundError as error:
            if not self.settings.path.is_dir():
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
        root, target = os.path.realpath(self.settings.path), os.path.realpath(path)
        if not _inside(target, root):
            raise ItemUnreadable(f"{path} leads outside {self.settings.path}")
        # Opening a pipe would wait for a writer; a link put in the target's place meanwhile is not followed.
        file = os.open(target, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(file, "rb") as stream:
            for _ in range(_READS):
                before = os.fstat(file)
                self._check(path, before)
                stream.seek(0)
                content = stream.read(before.st_size + 1)
                if _version(before) == _version(os.fstat(file)) and len(content) == before.st_size:
                    return _version(before), content
        raise ItemUnreadable(f"{path} changed while it was read, {_READS} times over: ingest again later")

    def _check(self, path: Path, found: os.stat_result) -> None:
        if not stat.S_ISREG(found.st_mode):
            raise ItemUnreadable(f"{path} is not a file")
        most = self.settings.max_bytes
        if found.st_size > most:
            raise ItemUnreadable(
                f"{path} has {found.st_size:,} bytes, more than sources.{self.source}.max_bytes: {most:,}"
            )


@dataclass(slots=True, kw_only=True)
class _Walk:
    """One walk through the folder, in the order of the keys. Blocks: for a worker thread."""

    source: str
    root: str
    """Without links."""
    settings: FilesSettings
    _wanted: Pattern[str] = field(init=False)
    _reachable: Pattern[str] = field(init=False)
    _unwanted: Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        self._wanted = globs.matching(self.settings.include)
        self._reachable = globs.reaching(self.settings.include)
        self._unwanted = globs.matching(self.settings.exclude)

    def items(self) -> Iterator[ItemRef]:
        return self._folder(self.root, "")

    def _folder(self, folder: str, above: str) -> Iterator[ItemRef]:
        """The files in and below a folder. `above` begins the keys."""
        for name, entry, is_folder in self._entries(folder):
            key = above + name
            if self._unwanted.fullmatch(key):
                continue
            if not is_folder:
                if self._wanted.fullmatch(key) and (ref := self._file(key, entry)):
                    yield ref
            elif self._reachable.fullmatch(key):
                yield from self._folder(entry.path, key + "/")

    def _entries(self, folder: str) -> list[tuple[str, os.DirEntry[str], bool]]:
        """What is in a folder: (name, entry, whether it is a folder), in the order of the keys."""
        try:
            with os.scandir(folder) as entries:
                seen = [entry for entry in entries if self.settings.hidden or not entry.name.startswith(".")]
            kinds = [(entry, kind) for entry in seen if (kind := self._is_folder(entry)) is not None]
        except OSError as error:
            raise self._incomplete(folder, error) from error
        taken = {entry.name for entry in seen}
        found = [(_key_name(entry.name, taken), entry, kind) for entry, kind in kinds]
        # A folder's keys go on with a slash, which sorts behind a space and before a letter.
        return sorted(found, key=lambda item: item[0] + "/" if item[2] else item[0])

    def _is_folder(self, entry: os.DirEntry[str]) -> bool | None:
        """None for a link to a folder, or one that leads outside, nowhere, or to itself."""
        if not entry.is_symlink():
            return entry.is_dir()
        if not _inside(os.path.realpath(entry.path), self.root):
            return None
        try:
            return None if stat.S_ISDIR(entry.stat().st_mode) else False
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP):
                return None
            raise

    def _file(self, key: str, entry: os.DirEntry[str]) -> ItemRef | None:
        """The item that a directory entry is; None for what is no file, or no longer there."""
        try:
            found = entry.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._incomplete(entry.path, error) from error
        if not stat.S_ISREG(found.st_mode):
            return None
        version = _version(found) if _shown(entry.path) == entry.path else _NAME_NOT_UTF8
        return ItemRef(source=self.source, key=key, version=version, size=found.st_size)

    def _incomplete(self, path: str, error: OSError) -> SourceUnavailable:
        return SourceUnavailable(
            f"sources.{self.source}: {_shown(path)} cannot be read ({error.strerror}), and without it "
            "the listing is not complete; make it readable, or leave it out with exclude"
        )


def _version(found: os.stat_result) -> str:
    return f"{found.st_mtime_ns}-{found.st_size}"


def _inside(path: str, root: str) -> bool:
    """Whether a path without links is the root or below it."""
    return path == root or path.startswith(root.rstrip("/") + "/")


def _key_name(name: str, taken: set[str]) -> str:
    """The name as it stands in a key: itself, or escaped and unlike any other in its folder."""
    if (shown := _shown(name)) == name:
        return name
    while shown in taken:
        shown += "~"
    taken.add(shown)
    return shown


def _shown(name: str) -> str:
    """The name with bytes that are no UTF-8 escaped, so that it can be stored and printed."""
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "backslashreplace")
