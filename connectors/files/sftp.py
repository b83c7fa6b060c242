"""Files on a server of SFTP, asked through the program ssh."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar
from urllib.parse import quote, urlsplit

import anyio
import anyio.to_thread

from connectors._sftp import Attributes, Entry, Failure, Session
from connectors._ssh import Connection, Login
from connectors.choice import Choice
from connectors.folder import NAME_NOT_UTF8, key_name
from connectors.media_types import media_type
from connectors.storage import Address, StorageOptions
from pipeline.errors import ItemUnreadable, SourceRefused, SourceUnavailable
from pipeline.records import ItemRef, RawDocument

Result = TypeVar("Result")

_CONNECTIONS = 4
_READS = 3
"""How often a file is read again when it changes meanwhile."""
_DEEPEST = 100
"""Folders in folders: more than that go round in a circle."""
_HOME = "/~"
_WORDS = {Failure.NO_SUCH_FILE: "is not there, or no longer", Failure.PERMISSION_DENIED: "may not be read"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SftpFolder:
    """The files below a folder of a server. A version is the second of the last change, and the size.

    Links to files are followed where their target is inside the folder; links to folders are not.
    Connections are kept for the next item, and end with this.
    """

    source: str
    at: Address
    options: StorageOptions
    _idle: list[Connection] = field(default_factory=list)
    _turns: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(_CONNECTIONS))

    async def listed(self, choice: Choice) -> AsyncIterator[ItemRef]:
        """Every file that is chosen, in the order of the keys.

        Raises:
            SourceRefused: bad credentials, an unknown host key, no such folder.
            SourceUnavailable: the server does not answer, or did not tell all.
        """
        for ref in await self._asked(lambda session: self._reading(session).listed(choice)):
            yield ref

    async def load(self, ref: ItemRef, most: int) -> RawDocument:
        """The file as it is now, with the version that belongs to the content.

        Raises:
            ItemUnreadable: it vanished, may not be read, is too large, or does not hold still.
            SourceError: as `listed`.
        """
        if ref.version == NAME_NOT_UTF8:
            raise ItemUnreadable("its name is not UTF-8 (the key shows the bytes escaped): rename the file")
        about, content = await self._asked(lambda session: self._reading(session).loaded(ref.key, most))
        return RawDocument(
            ref=replace(ref, version=_version(about), size=len(content)),
            content=content,
            media_type=media_type(ref.key),
            url=self.at.root + quote(f"{self.at.path.rstrip('/')}/{ref.key}"),
        )

    async def _asked(self, work: Callable[[Session], Result]) -> Result:
        """What comes of asking the server, by a connection that waits for work or a new one."""
        async with self._turns:
            while self._idle:
                connection = self._idle.pop()
                if connection.lives():
                    break
            else:
                connection = await anyio.to_thread.run_sync(Connection, self._login(), self._where())
            sound = False
            try:
                result = await anyio.to_thread.run_sync(connection.ask, work, abandon_on_cancel=True)
                sound = True
            except ItemUnreadable:
                sound = True
                raise
            finally:
                if sound:
                    self._idle.append(connection)
                else:
                    connection.close()
        return result

    def _reading(self, session: Session) -> _Reading:
        path = self.at.path
        at_home = path == _HOME or path.startswith(_HOME + "/")
        folder = "." + path.removeprefix(_HOME) if at_home else path
        return _Reading(session=session, source=self.source, folder=folder.encode(), where=self._where())

    def _login(self) -> Login:
        parts, options = urlsplit(self.at.root), self.options
        host = parts.netloc if parts.port is None else parts.netloc.rpartition(":")[0]
        return Login(
            host=host.strip("[]"),  # as it is written: ssh's aliases tell capital letters apart
            port=parts.port,
            user=options.username,
            password=options.password,
            private_key=options.private_key,
            passphrase=options.passphrase,
            known_hosts=options.known_hosts,
        )

    def _where(self) -> str:
        return f"sources.{self.source}.url: {self.at.root}{self.at.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """What is asked of one session. Blocks: for a worker thread."""

    session: Session
    source: str
    folder: bytes
    where: str
    """Begins the messages."""

    def listed(self, choice: Choice) -> list[ItemRef]:
        """The files that are chosen: the folders level by level, many of a level at a time."""
        root, refs = self._root(), []
        level = [("", root)]
        for _ in range(_DEEPEST):
            found: list[tuple[str, bytes, Attributes]] = []
            for (above, path), entries in zip(level, self._folders(level), strict=True):
                found += self._entries(above, path, entries)
            links = [one for one in found if _is(stat.S_ISLNK, one[2]) and choice.has(one[0])]
            files = [one for one in found if _is(stat.S_ISREG, one[2]) and choice.has(one[0])]
            refs += [self._ref(*one) for one in (*files, *self._targets(links, root))]
            level = [
                (f"{key}/", path)
                for key, path, about in found
                if _is(stat.S_ISDIR, about) and choice.reaches(key)
            ]
            if not level:
                return sorted(refs, key=lambda ref: ref.key)
        raise SourceRefused(f"{self.where}: the folders go round in a circle: see {level[0][0]}")

    def loaded(self, key: str, most: int) -> tuple[Attributes, bytes]:
        """What is told of a file, and the content that belongs to it."""
        root = self._root(gone=SourceUnavailable)
        path = root.rstrip(b"/") + b"/" + key.encode()
        for _ in range(_READS):
            [(real, about)] = self.session.found([path])
            if isinstance(real, Failure) or isinstance(about, Failure):
                raise self._unreadable(key, about if isinstance(about, Failure) else real)
            if not _inside(real, root):
                raise ItemUnreadable(f"{key} leads outside of the folder")
            if not _is(stat.S_ISREG, about):
                raise ItemUnreadable(f"{key} is not a file")
            if (about.size or 0) > most:
                limit = f"more than sources.{self.source}.max_bytes: {most:,}"
                raise ItemUnreadable(f"{key} has {about.size:,} bytes, {limit}")
            after, content = self._content(key, real, about.size or 0)
            if after == about and len(content) == about.size:
                return about, content
        raise ItemUnreadable(f"{key} changed while it was read, {_READS} times over: ingest again later")

    def _content(self, key: str, path: bytes, size: int) -> tuple[Attributes | Failure, bytes]:
        """What a file holds up to its size and a byte, and what is told of it then."""
        handle = self.session.open(path)
        if isinstance(handle, Failure):
            raise self._unreadable(key, handle)
        content = self.session.read(handle, size)
        after = self.session.told(handle)
        self.session.close(handle)
        if isinstance(content, Failure):
            raise self._unreadable(key, content)
        return after, content

    def _root(self, gone: type[SourceRefused | SourceUnavailable] = SourceRefused) -> bytes:
        """The folder from the root on, without links."""
        [(real, about)] = self.session.found([self.folder])
        if isinstance(about, Failure) or isinstance(real, Failure):
            failure = about if isinstance(about, Failure) else real
            missing = failure is Failure.NO_SUCH_FILE
            words = "there is no such folder" if missing else "it may not be read"
            raise (gone if missing else SourceRefused)(f"{self.where}: {words}")
        if about.mode is None:
            raise SourceRefused(f"{self.where}: the server does not tell files and folders apart")
        if not _is(stat.S_ISDIR, about):
            raise SourceRefused(f"{self.where} is a file: give its folder, and its name as include")
        return real

    def _folders(self, level: Sequence[tuple[str, bytes]]) -> Iterator[list[Entry]]:
        for (above, _), entries in zip(level, self.session.folders([path for _, path in level]), strict=True):
            if isinstance(entries, Failure):
                raise self._incomplete(above, entries)
            yield entries

    def _entries(
        self, above: str, folder: bytes, entries: Sequence[Entry]
    ) -> Iterator[tuple[str, bytes, Attributes]]:
        """Keys and paths of what is in a folder. `above` begins the keys."""
        found = {entry.name: entry.about for entry in entries if entry.name not in (b"", b".", b"..")}
        names = {name: name.decode("utf-8", "surrogateescape") for name in sorted(found)}
        taken = set(names.values())
        for name, text in names.items():
            if b"/" in name:
                raise SourceRefused(f"{self.where}: the server lists what is no name, in {above or '.'}")
            yield above + key_name(text, taken), folder.rstrip(b"/") + b"/" + name, found[name]

    def _targets(
        self, links: Sequence[tuple[str, bytes, Attributes]], root: bytes
    ) -> Iterator[tuple[str, bytes, Attributes]]:
        """The links that lead to a file inside, with what is told of that."""
        told = self.session.found([path for _, path, _ in links])
        for (key, path, _), (real, about) in zip(links, told, strict=True):
            if isinstance(real, Failure) or not _inside(real, root):
                continue
            if isinstance(about, Attributes) and _is(stat.S_ISREG, about):
                yield key, path, about
            elif about is Failure.PERMISSION_DENIED:
                raise self._incomplete(key, about)

    def _ref(self, key: str, path: bytes, about: Attributes) -> ItemRef:
        by_key = path.endswith(b"/" + key.encode())  # as `loaded` will look for it
        version = _version(about) if by_key else NAME_NOT_UTF8
        return ItemRef(source=self.source, key=key, version=version, size=about.size)

    def _incomplete(self, key: str, failure: Failure) -> SourceUnavailable:
        words = _WORDS.get(failure, "cannot be read")
        return SourceUnavailable(
            f"{self.where}: {key or 'it'} {words}, and without it the listing is not complete; make it "
            "readable, or leave it out with exclude"
        )

    @staticmethod
    def _unreadable(key: str, failure: object) -> ItemUnreadable:
        known = failure if isinstance(failure, Failure) else Failure.FAILURE
        return ItemUnreadable(f"{key} {_WORDS.get(known, 'cannot be read')}")


def _is(kind: Callable[[int], bool], about: Attributes) -> bool:
    return kind(about.mode or 0)


def _inside(path: bytes, root: bytes) -> bool:
    """Whether a path without links is below the root."""
    return path.startswith(root.rstrip(b"/") + b"/")


def _version(about: Attributes) -> str:
    return f"{about.modified}-{about.size}"
