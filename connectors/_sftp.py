"""What is asked over SFTP, version 3, as every server speaks it; reading alone. Blocks: for a worker thread.

https://datatracker.ietf.org/doc/html/draft-ietf-secsh-filexfer-02
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import IO, NamedTuple

_VERSION = 3
_LARGEST_PACKET = 1 << 20
"""Servers send a quarter of it at most."""
_PART = 1 << 15
"""Bytes that every server gives in answer to one request."""
_AT_ONCE = 64
"""Requests that are sent before their answers are read: few enough to fit into a pipe that nobody empties."""
_FOR_READING = 1


class _Ask(IntEnum):
    INIT = 1
    OPEN = 3
    CLOSE = 4
    READ = 5
    FSTAT = 8
    OPENDIR = 11
    READDIR = 12
    REALPATH = 16
    STAT = 17


class _Say(IntEnum):
    VERSION = 2
    STATUS = 101
    HANDLE = 102
    DATA = 103
    NAME = 104
    ATTRS = 105


class _Flag(IntEnum):
    SIZE = 0x1
    OWNER = 0x2
    MODE = 0x4
    TIMES = 0x8
    MORE = 0x80000000


class Failure(IntEnum):
    """Why a server did not do what one request asks for; other numbers mean FAILURE."""

    EOF = 1
    NO_SUCH_FILE = 2
    PERMISSION_DENIED = 3
    FAILURE = 4


class Ended(Exception):
    """The other side has hung up."""


class Garbled(Exception):
    """What the other side says is not SFTP."""


class Attributes(NamedTuple):
    """What a server tells of a file; None for what it does not."""

    size: int | None = None
    mode: int | None = None
    """As `stat` has it, with the kind of file."""
    modified: int | None = None
    """Seconds since 1970."""


class Entry(NamedTuple):
    """What is in a folder. `about` is of a link itself, not of its target."""

    name: bytes
    about: Attributes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reply:
    kind: int
    body: bytes

    @property
    def failure(self) -> Failure:
        """Of a status."""
        if self.kind != _Say.STATUS:
            raise Garbled
        code = _number(self.body, 0)
        return Failure(code) if code in {*Failure} else Failure.FAILURE


class Session:
    """A conversation with a server, over what leads to it and what comes from it."""

    def __init__(self, sending: IO[bytes], receiving: IO[bytes]) -> None:
        """Asks nothing yet: `greet` is first."""
        self._sending = sending
        self._receiving = receiving
        self._number = 0
        self.packets = 0
        """That came so far."""

    def greet(self) -> None:
        """Begin the conversation.

        Raises:
            Ended: there is nobody, or not for us.
            Garbled: what is there is no server of SFTP.
        """
        self._send(struct.pack(">BI", _Ask.INIT, _VERSION))
        kind, body = self._packet()
        if kind != _Say.VERSION or len(body) < 4 or struct.unpack_from(">I", body)[0] < _VERSION:
            raise Garbled

    def found(self, paths: Sequence[bytes]) -> list[tuple[bytes | Failure, Attributes | Failure]]:
        """Where each path leads, from the root on and without links, and what is there."""
        asked = [(kind, _text(path)) for path in paths for kind in (_Ask.REALPATH, _Ask.STAT)]
        replies = self._all(asked)
        return [
            (_entries(real)[0].name if real.kind == _Say.NAME else real.failure, _attributes(about))
            for real, about in zip(replies[::2], replies[1::2], strict=True)
        ]

    def folders(self, paths: Sequence[bytes]) -> list[list[Entry] | Failure]:
        """All that is in each folder: whole, or why it cannot be told."""
        found: list[list[Entry] | Failure] = []
        for start in range(0, len(paths), _AT_ONCE):
            found += self._folders(paths[start : start + _AT_ONCE])
        return found

    def open(self, path: bytes) -> bytes | Failure:
        """A handle for reading a file. Servers have few: `close` it."""
        [reply] = self._all([(_Ask.OPEN, _text(path) + struct.pack(">II", _FOR_READING, 0))])
        return _handle(reply)

    def close(self, handle: bytes) -> None:
        """Give a handle back."""
        self._all([(_Ask.CLOSE, _text(handle))])

    def told(self, handle: bytes) -> Attributes | Failure:
        """What an open file is like now."""
        [reply] = self._all([(_Ask.FSTAT, _text(handle))])
        return _attributes(reply)

    def read(self, handle: bytes, size: int) -> bytes | Failure:
        """What an open file holds, up to one byte more than the size that it is said to have."""
        parts: list[bytes] = []
        count = 0
        while count <= size:
            starts = range(count, min(size, count + _PART * _AT_ONCE), _PART)
            wanted = [(at, min(_PART, size - at)) for at in starts]
            if len(wanted) < _AT_ONCE:
                wanted.append((size, 1))
            asked = [(_Ask.READ, _text(handle) + struct.pack(">QI", at, most)) for at, most in wanted]
            for (_, most), reply in zip(wanted, self._all(asked), strict=True):
                if reply.kind != _Say.DATA:
                    return b"".join(parts) if reply.failure is Failure.EOF else reply.failure
                part, _ = _taken(reply.body, 0)
                if not 0 < len(part) <= most:
                    raise Garbled
                parts.append(part)
                count += len(part)
                if len(part) < most:
                    break  # what was asked for behind it leaves a gap: ask again from here
        return b"".join(parts)

    def _folders(self, paths: Sequence[bytes]) -> list[list[Entry] | Failure]:
        opened = [_handle(reply) for reply in self._all([(_Ask.OPENDIR, _text(path)) for path in paths])]
        found: list[list[Entry] | Failure] = [[] if isinstance(one, bytes) else one for one in opened]
        handles = {number: one for number, one in enumerate(opened) if isinstance(one, bytes)}
        reading = dict(handles)
        while reading:
            asked = [(_Ask.READDIR, _text(handle)) for handle in reading.values()]
            for number, reply in zip(list(reading), self._all(asked), strict=True):
                so_far = found[number]
                if reply.kind == _Say.NAME and isinstance(so_far, list):
                    so_far += _entries(reply)
                    continue
                del reading[number]
                if reply.failure is not Failure.EOF:
                    found[number] = reply.failure
        self._all([(_Ask.CLOSE, _text(handle)) for handle in handles.values()])
        return found

    def _all(self, asked: Sequence[tuple[_Ask, bytes]]) -> list[_Reply]:
        """The replies to many requests, in their order, for which is waited only now and then."""
        replies: list[_Reply] = []
        for start in range(0, len(asked), _AT_ONCE):
            replies += self._some(asked[start : start + _AT_ONCE])
        return replies

    def _some(self, asked: Sequence[tuple[_Ask, bytes]]) -> Iterator[_Reply]:
        first = self._number
        self._number += len(asked)
        packets = [
            struct.pack(">BI", kind, number % 2**32) + body
            for number, (kind, body) in enumerate(asked, first)
        ]
        self._send(*packets)
        waiting = {number % 2**32: place for place, number in enumerate(range(first, self._number))}
        replies: dict[int, _Reply] = {}
        while waiting:
            said, body = self._packet()
            if len(body) < 8:
                raise Garbled
            place = waiting.pop(struct.unpack_from(">I", body)[0], None)
            if place is None:
                raise Garbled
            replies[place] = _Reply(kind=said, body=body[4:])
        return (replies[place] for place in sorted(replies))

    def _send(self, *packets: bytes) -> None:
        try:
            self._sending.write(b"".join(_text(packet) for packet in packets))
            self._sending.flush()
        except (OSError, ValueError) as error:  # ValueError: it was closed on our side
            raise Ended from error

    def _packet(self) -> tuple[int, bytes]:
        length, kind = struct.unpack(">IB", self._exactly(5))
        if not 1 <= length <= _LARGEST_PACKET:
            raise Garbled
        body = self._exactly(length - 1)
        self.packets += 1
        return kind, body

    def _exactly(self, count: int) -> bytes:
        try:
            read = self._receiving.read(count)
        except (OSError, ValueError) as error:
            raise Ended from error
        if len(read) < count:
            raise Ended
        return read


def _text(text: bytes) -> bytes:
    return struct.pack(">I", len(text)) + text


def _taken(body: bytes, at: int) -> tuple[bytes, int]:
    """A text, and where it ends."""
    size = _number(body, at)
    if at + 4 + size > len(body):
        raise Garbled
    return body[at + 4 : at + 4 + size], at + 4 + size


def _number(body: bytes, at: int, form: str = ">I") -> int:
    try:
        [number] = struct.unpack_from(form, body, at)
    except struct.error:
        raise Garbled from None
    return int(number)


def _handle(reply: _Reply) -> bytes | Failure:
    return _taken(reply.body, 0)[0] if reply.kind == _Say.HANDLE else reply.failure


def _attributes(reply: _Reply) -> Attributes | Failure:
    return _about(reply.body, 0)[0] if reply.kind == _Say.ATTRS else reply.failure


def _entries(reply: _Reply) -> list[Entry]:
    at, found = 4, []
    for _ in range(_number(reply.body, 0)):
        name, at = _taken(reply.body, at)
        _, at = _taken(reply.body, at)  # as `ls -l` writes it
        about, at = _about(reply.body, at)
        found.append(Entry(name, about))
    if not found:
        raise Garbled
    return found


def _about(body: bytes, at: int) -> tuple[Attributes, int]:
    """Attributes, and where they end."""
    flags = _number(body, at)
    at += 4
    told: dict[_Flag, int] = {}
    widths: Sequence[tuple[_Flag, str, int, Callable[[int], int]]] = (
        (_Flag.SIZE, ">Q", 8, int),
        (_Flag.OWNER, ">Q", 8, int),
        (_Flag.MODE, ">I", 4, int),
        (_Flag.TIMES, ">Q", 8, lambda both: both & 0xFFFFFFFF),  # last read, last written
    )
    for flag, form, width, value in widths:
        if flags & flag:
            told[flag] = value(_number(body, at, form))
            at += width
    if flags & _Flag.MORE:
        count = _number(body, at)
        at += 4
        for _ in range(2 * count):
            _, at = _taken(body, at)
    about = Attributes(told.get(_Flag.SIZE), told.get(_Flag.MODE), told.get(_Flag.TIMES))
    return about, at
