"""What an audit finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pipeline.records import JsonValue


class Kind(StrEnum):
    """What is wrong."""

    ORPHAN = "orphan"
    """Chunks of a document that the documents table does not know."""
    DOUBLED = "doubled"
    """A row that stands there twice."""
    MISSING = "missing"
    """Chunks that are not there."""
    MARKS = "marks"
    """The documents table tells other groups or counts than the chunks do."""
    OFFSETS = "offsets"
    """Chunks that overlap, or are not as long as their offsets say."""
    ROW = "row"
    """What stands beside the vectors is not what was written: title, address, metadata, headings, offsets."""
    TEXT = "text"
    """The texts of a group are not those that its digest was made of."""
    VECTOR = "vector"
    """A vector that none can be: NULL, zero, not finite, or not of the space."""
    EMBEDDING = "embedding"
    """A group that came out otherwise when it was embedded again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is not as it must be."""

    kind: Kind
    source: str
    key: str
    reason: str
    cosine: float | None = None
    """Of `EMBEDDING`: of the stored vector and its new one, where they are least alike."""

    def as_json(self) -> dict[str, JsonValue]:
        """For a program to read."""
        plain: dict[str, JsonValue] = {
            "kind": self.kind.value,
            "source": self.source,
            "key": self.key,
            "reason": self.reason,
        }
        return plain if self.cosine is None else {**plain, "cosine": self.cosine}
