"""What is below a folder of this machine."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from re import Pattern

from connectors import globs
from pipeline.errors import SourceRefused, SourceUnavailable
from pipeline.records import ItemRef

NAME_NOT_UTF8 = "name-not-utf-8"
"""The version of an item that is listed only so that it is reported."""


@dataclass(slots=True, kw_only=True)
class Walk:
    """One walk through a folder, in the order of the keys. Blocks: for a worker thread."""

    source: str
    root: str
    """Without links."""
    include: Sequence[str]
    exclude: Sequence[str] = ()
    hidden: bool = False
    _wanted: Pattern[str] = field(init=False)
    _reachable: Pattern[str] = field(init=False)
    _unwanted: Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        self._wanted = globs.matching(self.include)
        self._reachable = globs.reaching(self.include)
        self._unwanted = globs.matching(self.exclude)

    def items(self) -> Iterator[ItemRef]:
        """Every file that is wanted.

        Raises:
            SourceUnavailable: a folder could not be read, so that the listing is not complete.
        """
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
                seen = [entry for entry in entries if self.hidden or not entry.name.startswith(".")]
            kinds = [(entry, kind) for entry in seen if (kind := self._is_folder(entry)) is not None]
        except OSError as error:
            raise self._incomplete(folder, error) from error
        taken = {entry.name for entry in seen}
        found = [(key_name(entry.name, taken), entry, kind) for entry, kind in kinds]
        # A folder's keys go on with a slash, which sorts behind a space and before a letter.
        return sorted(found, key=lambda item: item[0] + "/" if item[2] else item[0])

    def _is_folder(self, entry: os.DirEntry[str]) -> bool | None:
        """None for a link to a folder, or one that leads outside, nowhere, or to itself."""
        if not entry.is_symlink():
            return entry.is_dir()
        if not inside(os.path.realpath(entry.path), self.root):
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
        mark = file_version(found) if _shown(entry.path) == entry.path else NAME_NOT_UTF8
        return ItemRef(source=self.source, key=key, version=mark, size=found.st_size)

    def _incomplete(self, path: str, error: OSError) -> SourceUnavailable:
        return SourceUnavailable(
            f"sources.{self.source}: {_shown(path)} cannot be read ({error.strerror}), and without it "
            "the listing is not complete; make it readable, or leave it out with exclude"
        )


def resolved(path: Path, where: str) -> str:
    """The folder without links, made sure of. `where` begins the messages.

    Raises:
        SourceRefused: it is not there, is no folder, or may not be read.
    """
    try:
        with os.scandir(path):
            return os.path.realpath(path)
    except FileNotFoundError as error:
        raise SourceRefused(f"{where} does not exist") from error
    except NotADirectoryError as error:
        raise SourceRefused(f"{where} is not a folder") from error
    except OSError as error:
        raise SourceRefused(f"{where} cannot be read: {error.strerror}") from error


def file_version(found: os.stat_result) -> str:
    """The time of the last change (ns) and the size."""
    return f"{found.st_mtime_ns}-{found.st_size}"


def inside(path: str, root: str) -> bool:
    """Whether a path without links is the root or below it."""
    return path == root or path.startswith(root.rstrip("/") + "/")


def key_name(name: str, taken: set[str]) -> str:
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
