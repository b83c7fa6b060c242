"""What a reader in a worker process hands back, and how it travels.

As JSON and bytes, and no pickle: what a process sends that met a hostile file is only ever data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Protocol, Self, TypeAlias

from pipeline.records import Metadata

_ENCODER = json.JSONEncoder(ensure_ascii=False)

Option: TypeAlias = str | int | list[str]
Options: TypeAlias = Mapping[str, Option]
"""What a reader is told beside the content, by name."""


class Result(Protocol):
    """What a reader gives."""

    @property
    def size(self) -> int:
        """Characters of text, or bytes of what was taken out: what the worker's limit is on."""

    def packed(self) -> bytes:
        """As it travels."""

    @classmethod
    def unpacked(cls, packed: bytes) -> Self:
        """The reverse of `packed`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A page, slide or sheet, or the whole document where it has none of these."""

    text: str
    number: int | None = None
    """Counted from 1; None: the format has no pages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extract:
    """A document's text as its reader found it."""

    parts: tuple[Part, ...]
    title: str | None = None
    """What the format's own field for it says."""
    syntax: str = "markdown"
    metadata: Metadata = field(default_factory=dict)
    """What else the document says of itself, bounded."""
    language: str | None = None
    """The language that it declares; of use where its text is too short to tell."""
    line: int | None = None
    """As `Document.first_line`: where the text is the content's own."""

    @property
    def size(self) -> int:
        """Characters of text."""
        return sum(len(part.text) for part in self.parts)

    def packed(self) -> bytes:
        """A line of JSON, and behind it the texts, one after the other: JSON would read each letter."""
        texts = [part.text.encode("utf-8", errors="surrogatepass") for part in self.parts]
        fields = {
            "parts": [[part.number, len(text)] for part, text in zip(self.parts, texts, strict=True)],
            "title": self.title,
            "syntax": self.syntax,
            "metadata": dict(self.metadata),
            "language": self.language,
            "line": self.line,
        }
        return b"".join([_packed(fields), b"\n", *texts])

    @classmethod
    def unpacked(cls, packed: bytes) -> Extract:
        """The reverse of `packed`."""
        head, _, texts = packed.partition(b"\n")
        fields = json.loads(_text(head))
        parts = fields.pop("parts")
        ends = pairwise(accumulate((length for _, length in parts), initial=0))
        return cls(
            parts=tuple(
                Part(number=number, text=_text(texts[start:end]))
                for (number, _), (start, end) in zip(parts, ends, strict=True)
            ),
            **fields,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A document that another one holds."""

    name: str
    """Unlike any other's in the container. Of what an inner container holds: `inner!/name`."""
    content: bytes
    media_type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """What a container holds, in its order."""

    members: tuple[Member, ...]
    refused: tuple[tuple[str, str], ...] = ()
    """Names of what could not be taken out, and why."""

    @property
    def size(self) -> int:
        """Bytes of all members."""
        return sum(len(member.content) for member in self.members)

    def packed(self) -> bytes:
        """A line of JSON, and behind it the contents, one after the other."""
        fields = {
            "members": [[member.name, member.media_type, len(member.content)] for member in self.members],
            "refused": self.refused,
        }
        return b"".join([_packed(fields), b"\n", *(member.content for member in self.members)])

    @classmethod
    def unpacked(cls, packed: bytes) -> Members:
        """The reverse of `packed`."""
        head, _, contents = packed.partition(b"\n")
        fields = json.loads(_text(head))
        ends = pairwise(accumulate((length for _, _, length in fields["members"]), initial=0))
        return cls(
            members=tuple(
                Member(name=name, media_type=media_type, content=contents[start:end])
                for (name, media_type, _), (start, end) in zip(fields["members"], ends, strict=True)
            ),
            refused=tuple((name, reason) for name, reason in fields["refused"]),
        )


class Unreadable(Exception):
    """Why a reader gives a document up, in words for the user: "is protected by a password"."""


def _packed(fields: Mapping[str, object]) -> bytes:
    return _ENCODER.encode(fields).encode("utf-8", errors="surrogatepass")


def _text(packed: bytes) -> str:
    return packed.decode("utf-8", errors="surrogatepass")
