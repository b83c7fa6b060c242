"""Where a database is, and what its failures are called here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from pipeline.errors import StoreRefused, StoreUnavailable

REFUSALS = re.compile(
    r"permission ?denied|access ?denied|unauthori[sz]ed|forbidden|invalid ?access ?key"
    r"|signature ?does ?not ?match|no space left|storage ?full|quota"
    r"|read-only file system|no ?such ?bucket|unable to created? |status: 40[13]\b",
    re.IGNORECASE,
)
"""What waiting does not mend."""
PASSING = re.compile(
    r"conflict|concurrent|contention|retr(y|ies)|time[d ]?-?out|connect|\bio\b|\bi/o\b|unavailable|os error"
    r"|not found|object at location",  # a file of a version that was cleaned up while it was read
    re.IGNORECASE,
)
"""What may be gone when it is tried again."""
SOURCE_LINE = re.compile(r",? ?(location: .*|\S*\.cargo/.*)", re.DOTALL)
"""Where in LanceDB's own code an error arose: of no use to a reader."""
OBJECT_STORE_SAYS = re.compile(r"<Message>([^<]+)</Message>")
"""The part of an object store's answer that is meant for people."""
LONGEST = 300


@dataclass(frozen=True, slots=True)
class Place:
    """A database's address and the options that open it."""

    uri: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def at(cls, uri: str, options: Mapping[str, str]) -> Place:
        """A folder's path is made absolute: LanceDB takes any address that begins with "db" for its cloud."""
        return cls(uri if "://" in uri else str(Path(uri).expanduser().absolute()), options)

    def __str__(self) -> str:
        """The address, without what it may say of credentials."""
        if "://" not in self.uri:
            return self.uri
        parts = urlsplit(self.uri)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))

    @contextmanager
    def during(self, what: str) -> Iterator[None]:
        """Translate what LanceDB and Arrow raise.

        Raises:
            StoreUnavailable: a commit conflict or an outage.
            StoreRefused: no permission, no space, or data that LanceDB will not take.
        """
        try:
            yield
        except (ValueError, RuntimeError, OSError) as error:  # the core raises these three for everything
            reason = self._plain(str(error) or type(error).__name__)
            message = f"{self}: cannot {what}: {reason}"
            if REFUSALS.search(str(error)):
                raise StoreRefused(message) from error
            if isinstance(error, OSError) or PASSING.search(str(error)):
                raise StoreUnavailable(message) from error
            raise StoreRefused(message) from error

    def _plain(self, reason: str) -> str:
        """The library's words, in one line, without the options' values."""
        if said := OBJECT_STORE_SAYS.search(reason):
            reason = said[1]
        text = " ".join(SOURCE_LINE.sub("", reason).split())
        text = text.replace(self.uri, str(self))
        for value in self.options.values():
            if len(value) > 4:
                text = text.replace(value, "…")
        # What was tried stands at the beginning, and what came of it at the end.
        return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"
