"""A file elsewhere, of which parts are read."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any


class RangeFile(io.RawIOBase):
    """A file of which every read is one request. Blocks."""

    def __init__(self, part: Callable[[int, int], bytes], *, version: str, size: int) -> None:
        """Takes what gives the bytes from a start to an end."""
        super().__init__()
        self._part = part
        self._place = 0
        self.version = version
        self.size = size

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """How far it is read."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go on there; see `io.IOBase.seek`."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self.size}[whence]
        self._place = max(0, start + offset)
        return self._place

    def readinto(self, buffer: Any, /) -> int:
        """Fill the buffer, or as much of it as there are bytes left."""
        view = memoryview(buffer).cast("B")
        end = min(self._place + len(view), self.size)
        if end <= self._place:
            return 0
        content = self._part(self._place, end)
        view[: len(content)] = content
        self._place += len(content)
        return len(content)
