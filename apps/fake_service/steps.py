"""How one request is answered, when not as it should be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from apps.fake_service.spoils import Spoil


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """How one request is answered: as it should be, unless something here says otherwise."""

    name: str = ""
    """What the log calls it."""
    status: int = 200
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    spoil: Spoil | None = None
    """Changes the right reply before it is sent."""
    cut: bool = False
    """Send half of the body, as if that were all."""
    dropped: bool = False
    """Close the connection instead of answering."""
    reset: Literal["", "before", "middle"] = ""
    """Reset the connection instead of answering, or after half of the body."""
    delay_seconds: float = 0.0
    trickle_seconds: float = 0.0
    """Send the body little by little, over so long."""


GOOD = Step()


def status(code: int, said: str = "made to fail", **headers: str) -> Step:
    """Refuse; `retry_after="3"` becomes the header Retry-After."""
    return Step(
        status=code,
        body=json.dumps({"error": {"message": said, "code": code}}).encode(),
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


def error_with_200(said: str = "upstream failed") -> Step:
    """An error that does not look like one."""
    return Step(body=json.dumps({"error": {"message": said, "code": 502}}).encode())
