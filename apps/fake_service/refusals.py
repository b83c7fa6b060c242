"""What a service says when it does not answer, each in its own shape."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence


class Refusal(Exception):
    """What the service says to a request that it will not answer. Never quotes what was sent."""

    def __init__(
        self,
        status: int,
        said: str,
        *,
        about: Sequence[str | int] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(said)
        self.said = said
        self.status = status
        self.about = about
        """Where in the body, for a 422."""
        self.headers = headers or {}

    def for_path(self, path: str) -> tuple[int, bytes]:
        """Status and body as the service behind this path writes them."""
        if path.startswith("/api/"):
            # OpenRouter documents no 422: what a body should not say is a 400.
            status = 400 if self.status == 422 else self.status
            return status, self._as_openrouter(status)
        return self.status, self._as_perplexity()

    def _as_perplexity(self) -> bytes:
        if self.status == 422:  # as FastAPI writes it
            detail = [{"loc": ["body", *self.about], "msg": self.said, "type": "value_error"}]
            return json.dumps({"detail": detail}).encode()
        return json.dumps({"error": {"message": self.said, "code": self.status}}).encode()

    def _as_openrouter(self, status: int) -> bytes:
        metadata: dict[str, object] = {"provider_name": "Stand-in"}
        if self.about:
            metadata["path"] = list(self.about)
        seconds = self.headers.get("Retry-After", "")
        if seconds.isdigit():
            metadata["retry_after_seconds"] = int(seconds)
        error = {"code": status, "message": self.said, "metadata": metadata}
        return json.dumps({"error": error}).encode()
