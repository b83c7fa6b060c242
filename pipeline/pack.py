"""Chunks to groups, groups to requests: the service's limits and nothing else. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from pipeline.records import SEPARATOR_TOKENS, Chunk, EmbedGroup, EmbedLimits, EmbedRequest


def group_chunks(title: str, chunks: Sequence[Chunk], limits: EmbedLimits) -> tuple[EmbedGroup, ...]:
    """One group where the document fits in one, else windows of it, in order.

    A window ends at a place that the text itself chooses: of the boundaries that would make it at least
    half full, the one whose next chunk has the smallest digest. After an edit the following windows
    therefore soon end where they did, and need not be embedded again.

    Raises:
        ValueError: a single chunk is over the limit of a group; such a chunk size does not fit the service.
    """
    groups: list[EmbedGroup] = []
    rest = list(chunks)
    while rest:
        size = _window(rest, limits)
        groups.append(EmbedGroup(title=title, chunks=tuple(rest[:size])))
        rest = rest[size:]
    return tuple(groups)


def _window(chunks: Sequence[Chunk], limits: EmbedLimits) -> int:
    """How many of the first chunks make the next window."""
    tokens = size = 0
    ends: list[int] = []  # the sizes that would make it at least half full
    for size, chunk in enumerate(chunks):
        if tokens * 2 >= limits.group_tokens or size * 2 >= limits.request_chunks:
            ends.append(size)
        needed = chunk.tokens + SEPARATOR_TOKENS
        if tokens + needed > limits.group_tokens or size == limits.request_chunks:
            break
        tokens += needed
    else:
        return len(chunks)
    if size == 0:
        over = f"{needed} tokens with its separator, and a group holds {limits.group_tokens}"
        raise ValueError(f"chunk {chunks[0].ordinal} is too large to embed: {over}")
    return min(ends, key=lambda end: _mark(chunks[end])) if ends else size


def _mark(chunk: Chunk) -> bytes:
    return hashlib.blake2b(chunk.text.encode("utf-8", "surrogatepass"), digest_size=8).digest()


class Packer:
    """Fills requests with groups as they come, up to the limits of the service.

    Keeps a few requests open and puts each group where the least room is left: a stream of groups fills
    its requests nearly as well as if all were known beforehand, in bounded memory.
    """

    OPEN_REQUESTS = 8

    def __init__(self, limits: EmbedLimits) -> None:
        self._limits = limits
        self._open: list[_OpenRequest] = []

    def add(self, group: EmbedGroup) -> EmbedRequest | None:
        """Take a group in; give a request that is as full as it will get, where that makes one."""
        fitting = [request for request in self._open if request.fits(group, self._limits)]
        if fitting:
            max(fitting, key=lambda request: request.tokens).add(group)
            return None
        full = None
        if len(self._open) >= self.OPEN_REQUESTS:
            full = max(self._open, key=lambda request: request.tokens)
            self._open.remove(full)
        self._open.append(_OpenRequest(group))
        return full.close() if full else None

    def flush(self) -> list[EmbedRequest]:
        """Give what is still open, fullest first."""
        rest = sorted(self._open, key=lambda request: request.tokens, reverse=True)
        self._open = []
        return [request.close() for request in rest]


class _OpenRequest:
    def __init__(self, group: EmbedGroup) -> None:
        self.groups = [group]
        self.tokens = group.tokens
        self.chunks = len(group.chunks)

    def fits(self, group: EmbedGroup, limits: EmbedLimits) -> bool:
        return (
            self.tokens + group.tokens <= limits.request_tokens
            and self.chunks + len(group.chunks) <= limits.request_chunks
            and len(self.groups) < limits.request_groups
        )

    def add(self, group: EmbedGroup) -> None:
        self.groups.append(group)
        self.tokens += group.tokens
        self.chunks += len(group.chunks)

    def close(self) -> EmbedRequest:
        return EmbedRequest(groups=tuple(self.groups))
