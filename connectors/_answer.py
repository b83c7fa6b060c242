"""What an HTTP source answered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from connectors._url import shown
from pipeline.errors import SourceUnavailable
from pipeline.records import JsonValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back at last."""

    url: str
    """Of what is answered: redirects are followed. Without a fragment."""
    status: int
    headers: Mapping[str, str]
    """By names in lower case."""
    content: bytes

    @property
    def media_type(self) -> str:
        """As the server says, without parameters, in lower case; empty where it does not."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def charset(self) -> str:
        """As the server says; empty where it does not."""
        for parameter in self.headers.get("content-type", "").split(";")[1:]:
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "charset":
                return value.strip().strip("\"'").lower()
        return ""

    def json(self) -> JsonValue:
        """The content as JSON.

        Raises:
            SourceUnavailable: it is none, as from something between us and the service.
        """
        try:
            value: JsonValue = json.loads(self.content)
        except ValueError:
            value, whole = None, False
        else:
            whole = True
        if not whole:
            raise SourceUnavailable(
                f"{shown(self.url)} answered {self.status} with {len(self.content):,} bytes "
                f"of {self.media_type or 'no media type'} that are no JSON"
            )
        return value
