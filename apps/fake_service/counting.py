"""How the stand-in counts tokens: exactly or by bytes, and each text once."""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable, Sequence

from pipeline import tokens

_MOST_KEPT = 500_000
_BYTES_PER_TOKEN = 5


def by_bytes(text: str) -> int:
    """A token for every five bytes: a fifth too few for English prose, and nearly free.

    Too few rather than too many: a client that keeps to the limits by its own count is not refused.
    """
    return -(-len(text.encode()) // _BYTES_PER_TOKEN)


class Counting:
    """Tokens of texts, remembered by their digest. Thread-safe."""

    def __init__(self, count: Callable[[str], int] = tokens.count, factor: float = 1.0) -> None:
        """Args: `factor` is what the service counts for one token of `count`."""
        self._count = count
        self._factor = factor
        self._known: dict[bytes, int] = {}
        # One thread counts at a time: tiktoken's threads get in each other's way (twice the time for the
        # same tokens), and the vocabulary is not loaded by each of the first ones.
        self._lock = threading.Lock()

    def groups(self, groups: Sequence[Sequence[str]]) -> list[int]:
        """Tokens of each group, with a separator between two texts."""
        with self._lock:
            return [self._group(texts) for texts in groups]

    def _group(self, texts: Sequence[str]) -> int:
        counted = sum(map(self._once, texts))
        return math.ceil(round(counted * self._factor, 6)) + len(texts) - 1

    def _once(self, text: str) -> int:
        key = hashlib.blake2b(text.encode(), digest_size=16).digest()
        number = self._known.get(key)
        if number is None:
            number = self._count(text)
            if len(self._known) >= _MOST_KEPT:
                self._known.clear()
            self._known[key] = number
        return number
