"""What a reader in a worker process hands back, and how it travels."""

from __future__ import annotations

import json
from dataclasses import dataclass


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

    def packed(self) -> bytes:
        """As JSON, and no pickle: what a process sends that met a hostile file is only ever data."""
        parts = [[part.number, part.text] for part in self.parts]
        packed = json.dumps({"parts": parts, "title": self.title, "syntax": self.syntax}, ensure_ascii=False)
        return packed.encode("utf-8", errors="surrogatepass")

    @classmethod
    def unpacked(cls, packed: bytes) -> Extract:
        """The reverse of `packed`."""
        fields = json.loads(packed.decode("utf-8", errors="surrogatepass"))
        return cls(
            parts=tuple(Part(number=number, text=text) for number, text in fields["parts"]),
            title=fields["title"],
            syntax=fields["syntax"],
        )


class Unreadable(Exception):
    """Why a reader gives a document up, in words for the user: "is protected by a password"."""
