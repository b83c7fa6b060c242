"""Keeps what a source gives with its listing until it is loaded: on disk, so that memory does not grow."""

from __future__ import annotations

import tempfile
import threading
import weakref
from typing import IO


class Spool:
    """Bytes by key, in a temporary file that nobody else sees and that ends with this object.

    For sources whose items cannot be asked for one by one. Threads may share it.
    """

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as this does
        weakref.finalize(self, self._file.close)
        self._places: dict[str, tuple[int, int]] = {}
        self._turn = threading.Lock()

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def put(self, key: str, content: bytes) -> None:
        """Keep the bytes under this key; of two under one key the later counts."""
        with self._turn:
            start = self._file.seek(0, 2)
            self._file.write(content)
            self._places[key] = (start, len(content))

    def get(self, key: str) -> bytes:
        """The bytes under this key.

        Raises:
            KeyError: there are none.
        """
        start, size = self._places[key]
        with self._turn:
            self._file.seek(start)
            return self._file.read(size)

    def clear(self) -> None:
        """Keep nothing any more: for a listing that begins anew."""
        with self._turn:
            self._places.clear()
            self._file.truncate(0)
