"""Chunks to groups, groups to requests: the service's limits and nothing else. Pure."""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise, takewhile

from pipeline import tokens
from pipeline.records import (
    SEPARATOR_TOKENS,
    Chunk,
    EmbedGroup,
    EmbedLimits,
    EmbedRequest,
    Grouping,
    Lead,
)

CONTEXT_SHARE = 8
"""Neither a lead nor the overlap on one side takes more than one part in so many of a group."""


def group_chunks(
    title: str, text: str, chunks: Sequence[Chunk], limits: EmbedLimits, grouping: Grouping
) -> tuple[EmbedGroup, ...]:
    """One group where the document fits in one, else windows of it, in order.

    Each chunk belongs to one group's `chunks`. A window also sees what stands around it, and a lead, so that
    it is not read as if it were all there is. Windows are cut where the text itself says, see `_cuts`: after
    an edit, those that are not near it stay as they were, and need not be embedded again.

    For a service without context each chunk is a group, with its lead.

    Args:
        title: Of the document.
        text: Of the document: a lead may quote its opening.
        chunks: All of the document's, in order.
        limits: Of the service.
        grouping: How what does not fit is divided.

    Raises:
        ValueError: a single chunk is over the limit of a group; such a chunk size does not fit the service.
    """
    if not chunks:
        return ()
    contextual = limits.group_chunks > 1
    if contextual and len(chunks) <= limits.group_chunks and _tokens(chunks) <= limits.group_tokens:
        return (EmbedGroup(title=title, chunks=tuple(chunks)),)
    share = limits.group_tokens // CONTEXT_SHARE
    leads = _Leads(title, text, grouping.lead, min(grouping.lead_tokens, share))
    overlap = min(grouping.overlap_tokens, share) if contextual else 0
    beside = limits.group_chunks // CONTEXT_SHARE
    room = limits.group_tokens - leads.room - 2 * overlap
    most = max(1, limits.group_chunks - 2 * beside - 1)
    groups: list[EmbedGroup] = []
    for start, end in pairwise(_cuts(chunks, room, most)):
        lead, lead_tokens = leads.of(chunks[start])
        groups.append(
            EmbedGroup(
                title=title,
                chunks=tuple(chunks[start:end]),
                before=_within(chunks[max(0, start - beside) : start], overlap, from_the_end=True),
                after=_within(chunks[end : end + beside], overlap),
                lead=lead,
                lead_tokens=lead_tokens,
            )
        )
    return tuple(groups)


def halved(group: EmbedGroup) -> tuple[EmbedGroup, ...]:
    """The group in two, for a service that counts more tokens in it than we do.

    Each half sees a little of the other. A group of one chunk is left with that chunk alone. Empty where
    nothing can be left out. Depends on nothing but the group: the same one always has the same halves.
    """
    if len(group.chunks) == 1:
        bare = EmbedGroup(title=group.title, chunks=group.chunks)
        return (bare,) if group.parts > 1 else ()
    whole = _tokens(group.chunks)
    sums = list(accumulate(chunk.tokens + SEPARATOR_TOKENS for chunk in group.chunks))
    middle = min(range(1, len(sums)), key=lambda end: abs(2 * sums[end - 1] - whole))
    first, second = group.chunks[:middle], group.chunks[middle:]
    overlap = group.tokens // (2 * CONTEXT_SHARE)
    lead = tokens.beginning(group.lead or group.title, overlap).strip()
    lead_tokens = tokens.count(lead)
    return tuple(
        EmbedGroup(
            title=group.title, chunks=chunks, before=before, after=after, lead=lead, lead_tokens=lead_tokens
        )
        for chunks, before, after in (
            (first, _within(group.before, overlap, from_the_end=True), _within(second, overlap)),
            (second, _within(first, overlap, from_the_end=True), _within(group.after, overlap)),
        )
    )


class _Leads:
    """What the groups of one document are told of it."""

    def __init__(self, title: str, text: str, kind: Lead, most: int) -> None:
        self._title = title
        self._kind = kind
        self._most = most
        self._known: dict[str, tuple[str, int]] = {}
        if kind is Lead.OPENING:
            self._title = f"{title}\n\n{text}"

    @property
    def room(self) -> int:
        """The tokens that a lead may take, separator included."""
        return 0 if self._kind is Lead.NONE else self._most + SEPARATOR_TOKENS

    def of(self, first: Chunk) -> tuple[str, int]:
        """The lead of a group that begins with this chunk, and its tokens."""
        if self._kind is Lead.NONE:
            return "", 0
        headings = first.heading_path if self._kind is Lead.HEADINGS else ()
        whole = "\n".join(dict.fromkeys([self._title, *headings]))
        if whole not in self._known:
            lead = tokens.beginning(whole, self._most).strip()
            self._known[whole] = lead, tokens.count(lead)
        return self._known[whole]


def _cuts(chunks: Sequence[Chunk], room: int, most: int) -> list[int]:
    """Where windows of at most `room` tokens and `most` chunks begin and end: from 0 to the last chunk's end.

    A cut is before a chunk whose digest is the smallest of all within a third of a window to both sides. That
    depends on nothing farther away; an edit therefore moves the cuts near it and no others. Where two cuts
    are more than a window apart, what is between them is filled up from the front.
    """
    at = [0, *accumulate(chunk.tokens + SEPARATOR_TOKENS for chunk in chunks)]
    horizon, margin = room // 3, room // 6
    marks = [_mark(chunk) for chunk in chunks]
    cuts = [0]
    for place in range(1, len(chunks)):
        if min(at[place], at[-1] - at[place]) <= margin:
            continue  # too near to an end
        first = max(1, bisect_left(at, at[place] - horizon))
        last = min(len(chunks), bisect_right(at, at[place] + horizon))
        ahead = min(marks[place + 1 : last], default=marks[place])
        if marks[place] <= ahead and all(mark > marks[place] for mark in marks[first:place]):
            cuts += _filled(chunks, cuts[-1], place, room, most)
    return cuts + _filled(chunks, cuts[-1], len(chunks), room, most)


def _filled(chunks: Sequence[Chunk], start: int, end: int, room: int, most: int) -> list[int]:
    """The ends of as few windows as hold these chunks, filled from the front."""
    ends: list[int] = []
    taken = 0
    for place in range(start, end):
        needed = chunks[place].tokens + SEPARATOR_TOKENS
        if needed > room:
            over = f"{needed} tokens with its separator, and a group has room for {room}"
            raise ValueError(f"chunk {chunks[place].ordinal} is too large to embed: {over}")
        if taken + needed > room or place - start == most:
            ends.append(place)
            start, taken = place, 0
        taken += needed
    return [*ends, end]


def _within(chunks: Sequence[Chunk], most: int, *, from_the_end: bool = False) -> tuple[Chunk, ...]:
    """As many of the first chunks (or of the last ones) as have at most `most` tokens."""
    taken = 0

    def fits(chunk: Chunk) -> bool:
        nonlocal taken
        taken += chunk.tokens + SEPARATOR_TOKENS
        return taken <= most

    kept = tuple(takewhile(fits, reversed(chunks) if from_the_end else chunks))
    return kept[::-1] if from_the_end else kept


def _tokens(chunks: Iterable[Chunk]) -> int:
    return sum(chunk.tokens + SEPARATOR_TOKENS for chunk in chunks)


def _mark(chunk: Chunk) -> bytes:
    return hashlib.blake2b(chunk.text.encode("utf-8", "surrogatepass"), digest_size=8).digest()


class Packer:
    """Fills requests with groups as they come, up to the limits of the service.

    Keeps a few requests open and puts each group where the least room is left: a stream of groups fills
    its requests nearly as well as if all were known beforehand, in bounded memory. A request that is as good
    as full is not kept waiting.
    """

    OPEN_REQUESTS = 8

    def __init__(self, limits: EmbedLimits) -> None:
        self.limits = limits
        """May change between two calls: what is open already stays as it is."""
        self._open: list[_OpenRequest] = []

    def add(self, group: EmbedGroup) -> EmbedRequest | None:
        """Take a group in; give a request that is as full as it will get, where there is one."""
        fitting = [request for request in self._open if request.fits(group, self.limits)]
        if fitting:
            taker = max(fitting, key=lambda request: request.tokens)
            taker.add(group)
        else:
            taker = _OpenRequest(group)
            self._open.append(taker)
        if taker.is_full(self.limits):
            return self._close(taker)
        if len(self._open) > self.OPEN_REQUESTS:
            return self._close(max(self._open[:-1], key=lambda request: request.tokens))
        return None

    def flush(self) -> list[EmbedRequest]:
        """Give what is still open, packed anew: now that no more comes, the largest groups go first."""
        rest = [group for request in self._open for group in request.groups]
        packed: list[_OpenRequest] = []
        for group in sorted(rest, key=lambda group: group.tokens, reverse=True):
            fitting = [request for request in packed if request.fits(group, self.limits)]
            if fitting:
                max(fitting, key=lambda request: request.tokens).add(group)
            else:
                packed.append(_OpenRequest(group))
        self._open = []
        return [request.close() for request in packed]

    def _close(self, request: _OpenRequest) -> EmbedRequest:
        self._open.remove(request)
        return request.close()


class _OpenRequest:
    FULL = 0.99

    def __init__(self, group: EmbedGroup) -> None:
        self.groups = [group]
        self.tokens = group.tokens
        self.parts = group.parts

    def fits(self, group: EmbedGroup, limits: EmbedLimits) -> bool:
        return (
            self.tokens + group.tokens <= limits.request_tokens
            and self.parts + group.parts <= limits.request_chunks
            and len(self.groups) < limits.request_groups
        )

    def is_full(self, limits: EmbedLimits) -> bool:
        return (
            self.tokens >= self.FULL * limits.request_tokens
            or self.parts >= limits.request_chunks
            or len(self.groups) >= limits.request_groups
        )

    def add(self, group: EmbedGroup) -> None:
        self.groups.append(group)
        self.tokens += group.tokens
        self.parts += group.parts

    def close(self) -> EmbedRequest:
        return EmbedRequest(groups=tuple(self.groups))
