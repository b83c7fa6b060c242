"""Messages through a pipe: two lengths, a head and a body. What both ends of a worker's pipes speak."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence

_LENGTHS = struct.Struct("<IQ")
_AT_ONCE = 256 * 1024
_MOST_KEPT = 2**20  # of room, for a message that was larger


def framed(head: bytes, body: bytes) -> list[bytes]:
    """A message in pieces, as `os.writev` takes them; the body is not copied."""
    return [_LENGTHS.pack(len(head), len(body)) + head, body]


def rest(pieces: Sequence[bytes | memoryview], written: int) -> list[bytes | memoryview]:
    """What is left of pieces of which so many bytes were written."""
    left: list[bytes | memoryview] = []
    for piece in pieces:
        if written < len(piece):
            left.append(memoryview(piece)[written:])
        written = max(0, written - len(piece))
    return left


class Inbox:
    """What has come through a pipe, and was not taken yet."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._held = bytearray(_AT_ONCE)
        self._start = self._end = 0  # of what is held

    @property
    def begun(self) -> bool:
        """Whether a part of something is there."""
        return self._start < self._end

    def fill(self) -> bool:
        """Read what is there, or some of it; whether there may be more.

        Raises:
            BlockingIOError: nothing is, and the pipe does not wait.
            EOFError: nothing will ever be.
        """
        if self._end == len(self._held):
            self._make_room()
        with memoryview(self._held) as held, held[self._end :] as free:
            read = os.readv(self._pipe, [free])
        if not read:
            raise EOFError
        self._end += read
        return self._end == len(self._held)

    def next(self, *, head_at_most: int = 2**32, body_at_most: int = 2**63) -> tuple[bytes, bytes] | None:
        """The next message, if all of it is there.

        Raises:
            EOFError: it is longer than it may be: there is no use in listening on.
        """
        start = self._start + _LENGTHS.size
        if self._end < start:
            return None
        head, body = _LENGTHS.unpack_from(self._held, self._start)
        if head > head_at_most or body > body_at_most:
            raise EOFError
        end = start + head + body
        if self._end < end:
            return None
        with memoryview(self._held) as held:
            message = bytes(held[start : start + head]), bytes(held[start + head : end])
        self._start = end
        if not self.begun:
            self._start = self._end = 0
            if len(self._held) > _MOST_KEPT:
                self._held = bytearray(_AT_ONCE)
        return message

    def _make_room(self) -> None:
        """Behind what is held: by moving it to the front, or where it fills most of the room, more of it."""
        held = self._end - self._start
        self._held[:held] = self._held[self._start : self._end]
        self._start, self._end = 0, held
        if 2 * held > len(self._held):
            self._held += bytes(len(self._held))
