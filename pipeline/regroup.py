"""The groups of a stored document, made anew from its rows: do their digests come out as they are stored?

All that a group's digest is made of stands in the document's rows, with one exception. A group that is only
a part of its document may be told how the document begins, and the white space between two chunks is not
stored: it is guessed, until a digest comes out. A digest of 128 bits does not come out by chance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product

from pipeline import digest, tokens
from pipeline.pack import CONTEXT_SHARE, group_chunks, halved
from pipeline.protocols import Embedder
from pipeline.records import SEPARATOR_TOKENS, Chunk, EmbedGroup, Grouping, Lead

GUESSES = 500
"""How many ways are tried in which white space may stand between the first chunks of a document, …"""
PROBED = 4
"""… each for so many of its groups: one that is damaged does not keep the others from being proven."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A group as it is stored: its digest, and which chunks' vectors it keeps."""

    key: str
    first: int
    """The ordinal of its first chunk."""
    size: int


def proven(
    title: str, chunks: Sequence[Chunk], stored: Sequence[Kept], embedder: Embedder, grouping: Grouping
) -> list[EmbedGroup | None]:
    """For each stored group the group that it is the digest of, as these chunks and settings make it.

    Args:
        title: Of the document.
        chunks: All of the document's, in order.
        stored: Its groups, in order.
        embedder: Tells limits, and what it reads of a group.
        grouping: How documents are divided.

    Returns:
        None for a group that these chunks do not make.
    """
    try:
        groups = group_chunks(title, "", chunks, embedder.limits, grouping)
    except ValueError:  # a chunk that is too large for a group: it was another one
        return [None] * len(stored)
    found = _matched(stored, groups, embedder)
    is_whole = len(groups) == 1 and embedder.limits.group_chunks > 1  # and is told nothing
    if None not in found or grouping.lead is not Lead.OPENING or is_whole:
        return found
    missing = [kept for kept, group in zip(stored, found, strict=True) if group is None][:PROBED]
    most = min(grouping.lead_tokens, embedder.limits.group_tokens // CONTEXT_SHARE)
    for opening in islice(dict.fromkeys(_leads(title, chunks, most)), GUESSES):
        led = [replace(group, lead=opening, lead_tokens=tokens.count(opening)) for group in groups]
        if any(_matched(missing, led, embedder)):
            return _matched(stored, led, embedder)
    return found


def is_told_blanks(chunks: Sequence[Chunk], embedder: Embedder, grouping: Grouping, groups: int) -> bool:
    """Whether white space that is not stored is a part of what each group of a document is told."""
    whole = groups == 1 and embedder.limits.group_chunks > 1
    return grouping.lead is Lead.OPENING and not whole and (len(chunks) > 1 or chunks[0].start > 0)


def _leads(title: str, chunks: Sequence[Chunk], most: int) -> Iterator[str]:
    """What may have been said of the document's opening: the likeliest first."""
    first: list[Chunk] = []
    room = most
    for chunk in chunks:
        first.append(chunk)
        room -= chunk.tokens + SEPARATOR_TOKENS
        if room < 0:
            break
    ends = [0, *(chunk.end for chunk in first)]
    gaps = [list(_blanks(chunk.start - end)) for chunk, end in zip(first, ends, strict=False)]
    for blanks in product(*gaps):
        text = "".join(blank + chunk.text for blank, chunk in zip(blanks, first, strict=True))
        yield tokens.beginning(f"{title}\n\n{text}", most).strip()


def _blanks(length: int) -> Iterator[str]:
    """White space of this length: the likeliest first, each once."""
    yield from dict.fromkeys(
        [
            "\n" * length,
            *(" " * blanks + "\n" * (length - blanks) for blanks in range(1, length + 1)),
            *("\n" * lines + " " * (length - lines) for lines in range(1, length)),
            *("\n" * before + " " + "\n" * (length - before - 1) for before in range(1, length - 1)),
            "\t" + "\n" * (length - 1) if length else "",
        ]
    )


def _matched(
    stored: Sequence[Kept], groups: Sequence[EmbedGroup], embedder: Embedder
) -> list[EmbedGroup | None]:
    """For each stored group the one of these with its digest, or the part of one: see `pack.halved`."""
    rest = list(reversed(groups))
    found: list[EmbedGroup | None] = []
    for kept in stored:
        group = _standing_at(kept, rest)
        while group and digest.group_key(group, embedder) != kept.key:
            parts = halved(group)  # a service may have counted too much in a group of one chunk
            group = parts[0] if len(parts) == 1 else None
        found.append(group)
    return found


def _standing_at(kept: Kept, rest: list[EmbedGroup]) -> EmbedGroup | None:
    """Take the group out of `rest` that keeps the same chunks, halving what was divided for the service."""
    while rest and rest[-1].chunks[0].ordinal <= kept.first:
        group = rest.pop()
        begins, size = group.chunks[0].ordinal, len(group.chunks)
        if begins + size <= kept.first:
            continue
        if (begins, size) == (kept.first, kept.size):
            return group
        parts = halved(group)
        if len(parts) < 2:
            continue
        rest += reversed(parts)
    return None
