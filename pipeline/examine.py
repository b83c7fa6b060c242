"""One stored document, checked against itself and against the settings. Pure.

Proven by digests: that its texts are those that its vectors were computed for (`group_key`), and that all
that stands beside them is what was written (`row_key`). No digest is kept of a vector itself: see
docs/audit.md.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from pipeline import digest, tokens
from pipeline.findings import Finding, Kind
from pipeline.protocols import Embedder
from pipeline.records import (
    Chunk,
    EmbeddingSpace,
    EmbedGroup,
    Grouping,
    JsonValue,
    Vectors,
)
from pipeline.regroup import Kept, is_told_blanks, proven
from pipeline.stored import About, Stored, StoredMarks

LOSSY_FROM = 2**64
"""From here on, JSON in the tables holds whole numbers as floats."""
UNIT = 0.01
"""How far from 1 the length of a float16 vector may be."""
NAMED = 5
"""Places that a reason names; of more it tells how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Treatment:
    """How documents are treated by the settings of today."""

    embedder: Embedder
    grouping: Grouping
    recipes: Mapping[str, str]
    """By source: none for one that the settings do not name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenGroup:
    """A group whose texts are those that its digest was made of, and whose vectors could be right."""

    key: str
    group: EmbedGroup
    vectors: Vectors
    """As they are stored."""


@dataclass(slots=True, kw_only=True)
class Examined:
    """What one document's rows tell."""

    findings: list[Finding] = field(default_factory=list)
    proven: list[ProvenGroup] = field(default_factory=list)
    other_settings: bool = False
    """It was made by other settings, or another version: only what is true of every document was checked."""
    dropped: bool = False
    """A repair took its marks: the next ingest reads it anew."""
    unproven: str = ""
    """What can be neither proven nor refuted."""


def examine(stored: Stored, treatment: Treatment) -> Examined:
    """Check one document."""
    return _Examination(stored, treatment).examined()


class _Examination:
    def __init__(self, stored: Stored, treatment: Treatment) -> None:
        self._stored = stored
        self._chunks = [row.chunk for row in stored.chunks]
        self._treatment = treatment
        self._found = Examined()

    def examined(self) -> Examined:
        if self._is_known_once():
            [marks] = self._stored.marks
            self._found.dropped = not marks.state.recipe
            if not self._found.dropped:
                self._check(marks)
        return self._found

    def _check(self, marks: StoredMarks) -> None:
        today = self._treatment.recipes.get(self._stored.source)
        self._found.other_settings = marks.state.recipe != today
        if of := digest.copy_of(marks.state.row_key):
            self._is_a_copy(of)
            return
        row_holds = self._row_holds(marks)
        whole = self._is_whole(marks, row_holds=row_holds)
        in_order = self._is_in_order()
        self._same_about(marks.about)
        groups_hold = self._groups_hold(marks) if whole else False
        sound = self._sound_vectors()
        if self._found.other_settings or not whole:
            return
        if in_order and not row_holds:
            self._row_is_other(marks.about)
        if groups_hold:
            self._prove(marks, sound)

    def _is_a_copy(self, of: tuple[str, str]) -> None:
        """It has no rows of its own."""
        if self._chunks:
            self._add(
                Kind.MARKS, f"is a copy of {'/'.join(of)}, and has {_count(len(self._chunks), 'chunk')}"
            )

    def _add(self, kind: Kind, reason: str) -> None:
        finding = Finding(kind=kind, source=self._stored.source, key=self._stored.key, reason=reason)
        self._found.findings.append(finding)

    def _is_known_once(self) -> bool:
        """Each row is there once. Where not, nothing else can be told."""
        rows, chunks = len(self._stored.marks), len(self._chunks)
        times = Counter(chunk.ordinal for chunk in self._chunks)
        doubled = [ordinal for ordinal, count in times.items() if count > 1]
        if not rows:
            self._add(Kind.ORPHAN, f"{_count(chunks, 'chunk')}, and the documents table has no such document")
        if rows > 1:
            self._add(Kind.DOUBLED, f"stands in the documents table {rows} times")
        if doubled and rows:
            self._add(Kind.DOUBLED, f"{_named('chunk', doubled)} more than once")
        return rows == 1 and not doubled

    def _row_holds(self, marks: StoredMarks) -> bool:
        """Whether `row_key` is the digest of what is stored: of every chunk's place, too."""
        about = marks.about
        every = [EmbedGroup(title=about.title, chunks=tuple(self._chunks))]
        now = digest.row_key(about.title, about.url, about.media_type, about.metadata, every, about.access)
        return now == marks.state.row_key

    def _is_whole(self, marks: StoredMarks, *, row_holds: bool) -> bool:
        """Whether the chunks are those that were written, by their number."""
        there = [chunk.ordinal for chunk in self._chunks]
        count = len(there)
        gaps = sorted(set(range(max(there, default=-1) + 1)) - set(there))
        if gaps or (count < marks.chunk_count and not row_holds):
            reason = f"{count} of {max(marks.chunk_count, count + len(gaps))} chunks are there"
            self._add(Kind.MISSING, reason + (f"; {_named('chunk', gaps)} missing" if gaps else ""))
            return False
        if there != list(range(count)):
            self._add(Kind.OFFSETS, "a chunk has no ordinal")
            return False
        if count != marks.chunk_count:
            self._add(Kind.MARKS, f"chunk_count is {marks.chunk_count}, and {_count(count, 'chunk')} there")
        return True

    def _is_in_order(self) -> bool:
        """Whether the offsets can be those of the texts."""
        wrong = [
            chunk.ordinal
            for chunk in self._chunks
            if not 0 <= chunk.start < chunk.end
            or len(chunk.text) != chunk.end - chunk.start
            or not chunk.text.strip()
        ]
        overlapping = [after.ordinal for one, after in pairwise(self._chunks) if after.start < one.end]
        if wrong:
            self._add(Kind.OFFSETS, f"{_named('chunk', wrong)} not as long as the offsets say")
        if overlapping:
            self._add(Kind.OFFSETS, f"{_named('chunk', overlapping)} before the end of the one before")
        return not (wrong or overlapping)

    def _same_about(self, about: About) -> None:
        """The chunks repeat what the documents table says of the document."""
        other = [row.chunk.ordinal for row in self._stored.chunks if row.about != about]
        if other:
            reason = "has another title, address, type, metadata or access than the documents table"
            self._add(Kind.ROW, f"{_named('chunk', other, verb='')}: {reason}")

    def _groups_hold(self, marks: StoredMarks) -> bool:
        """Whether the chunks are of the groups that the documents table names."""
        rows = self._stored.chunks
        keys = tuple(rows[run.start].group_key for run in self._stored.groups)
        numbers = [rows[run.start].group_ordinal for run in self._stored.groups]
        if keys != marks.state.group_keys or numbers != list(range(len(keys))):
            self._add(Kind.MARKS, "the documents table names other groups than the chunks do")
            return False
        return True

    def _sound_vectors(self) -> set[int]:
        """The places of the chunks whose vector can be one."""
        wrong = dict(_wrong_vectors(self._stored, self._treatment.embedder.space))
        for reason in dict.fromkeys(wrong.values()):
            places = [self._chunks[place].ordinal for place, why in wrong.items() if why == reason]
            self._add(Kind.VECTOR, f"{_named('chunk', places, verb='')}: the vector {reason}")
        return set(range(len(self._chunks))) - wrong.keys()

    def _row_is_other(self, about: About) -> None:
        if _is_lossy(about, self._chunks):
            self._found.unproven = "what stands beside the vectors: not all of it can be stored as it was"
        else:
            reason = "what stands beside the vectors is not what was written: row_key is of something else"
            self._add(Kind.ROW, reason)

    def _prove(self, marks: StoredMarks, sound: set[int]) -> None:
        """Make the groups anew and compare their digests."""
        runs = self._stored.groups
        keys = marks.state.group_keys
        kept = [
            Kept(key=key, first=run.start, size=run.stop - run.start)
            for key, run in zip(keys, runs, strict=True)
        ]
        treatment = self._treatment
        groups = proven(marks.about.title, self._chunks, kept, treatment.embedder, treatment.grouping)
        refuted = [number for number, group in enumerate(groups) if group is None]
        for number, (one, group) in enumerate(zip(kept, groups, strict=True)):
            run = runs[number]
            if group and sound.issuperset(range(run.start, run.stop)):
                vectors = self._stored.vectors[run]
                self._found.proven.append(ProvenGroup(key=one.key, group=group, vectors=vectors))
        if refuted:
            self._not_proven(marks, refuted)
        elif sum(group.tokens for group in groups if group) != marks.tokens:
            self._add(Kind.MARKS, f"tokens is {marks.tokens:,}, and its groups have another number")

    def _not_proven(self, marks: StoredMarks, refuted: Sequence[int]) -> None:
        groups = len(marks.state.group_keys)
        among = f"{_named('group', refuted, verb='')} of {groups}"
        if _is_lossy(marks.about, self._chunks):
            self._found.unproven = "its texts: not all of them can be stored as they were"
        elif len(refuted) == groups and self._may_be_blanks(groups):
            self._found.unproven = "its texts: the white space of its opening is not known"
        else:
            self._add(Kind.TEXT, f"{among}: its texts are not those that its digest was made of")

    def _may_be_blanks(self, groups: int) -> bool:
        """Whether white space that is not stored may be all that keeps the digests from coming out."""
        embedder, grouping = self._treatment.embedder, self._treatment.grouping
        return is_told_blanks(self._chunks, embedder, grouping, groups) and all(
            len(chunk.text) == chunk.end - chunk.start and tokens.count(chunk.text) == chunk.tokens
            for chunk in self._chunks
        )


def _wrong_vectors(stored: Stored, space: EmbeddingSpace) -> Iterator[tuple[int, str]]:
    """The places of vectors that are none of the space, and why."""
    vectors = stored.vectors
    if vectors.shape != (len(stored.chunks), space.width):
        yield from ((place, "is of another width") for place in range(len(stored.chunks)))
        return
    numbers = vectors.astype(np.float32)
    for place, vector in enumerate(numbers):
        if place in stored.without_vector:
            yield place, "is NULL"
        elif not np.isfinite(vector).all():
            yield place, "is not finite"
        elif space.encoding == "binary":
            continue
        elif not vector.any():
            yield place, "is zero"
        elif space.encoding == "int8" and not np.array_equal(vector, vector.astype(np.int8)):
            yield place, "is not of int8 codes"
        elif space.encoding == "float16" and abs(float(np.linalg.norm(vector)) - 1) > UNIT:
            yield place, "is not of length 1"


def _is_lossy(about: About, chunks: Sequence[Chunk]) -> bool:
    """Whether something may have been written that the tables cannot hold, and hold something else for.

    Half a surrogate pair becomes U+FFFD, a number that is not finite null, a very large one a float.
    """
    texts = [about.title, about.url or "", *(chunk.text for chunk in chunks)]
    texts += [heading for chunk in chunks for heading in chunk.heading_path]
    return any("\ufffd" in text for text in texts) or _lost_in_json(dict(about.metadata))


def _lost_in_json(value: JsonValue) -> bool:
    if isinstance(value, dict):
        return any(_lost_in_json(name) or _lost_in_json(part) for name, part in value.items())
    if isinstance(value, list):
        return any(map(_lost_in_json, value))
    if isinstance(value, str):
        return "\ufffd" in value
    return value is None or (isinstance(value, float) and (abs(value) >= LOSSY_FROM or math.isnan(value)))


def _named(what: str, places: Sequence[int], *, verb: str = "is") -> str:
    """As "chunks 3, 4 and 7 more are": the first places, and how many others."""
    one = len(places) == 1
    verb = ("is" if one else "are") if verb else ""
    shown = ", ".join(map(str, places[:NAMED]))
    more = f" and {len(places) - NAMED} more" if len(places) > NAMED else ""
    return f"{what if one else what + 's'} {shown}{more} {verb}".rstrip()


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")
